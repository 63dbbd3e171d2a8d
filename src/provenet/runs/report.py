"""The report of an evaluation: what is known of it, of the bundle, and of the run that the bundle came from."""

import contextlib
import os
import platform
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import torch

from provenet.data.index import ImageSet
from provenet.engines.ways import Way
from provenet.errors import SettingsError, show_path
from provenet.report.compared import Compared
from provenet.report.facts import EvaluatedPart, RunFacts
from provenet.report.guarded import table
from provenet.report.page import write_report
from provenet.runtime import describe_machine
from provenet.training.recorder import read_log
from provenet.version import __version__
from provenet.weights.bundle import Bundle


def check_report_path(report: str | os.PathLike[str]) -> Path:
    """The path, if a file can be there: said before the evaluation and not after it."""
    path = Path(os.path.expanduser(report))
    if not os.fspath(report) or os.path.isdir(path):
        raise SettingsError(f"--report {show_path(report)}: expected an HTML file to write, found a folder; add a name such as report.html")
    if os.path.exists(path) and not _is_report(path):
        raise SettingsError(f"--report {show_path(report)}: expected a new file or an earlier report, found another; choose another name")
    if not os.path.isdir(path.parent):
        raise SettingsError(f"--report {show_path(report)}: expected a folder to write into, found none; make it first")
    return path


def _is_report(path: Path) -> bool:
    """Whether a file is one of our pages, which the next one may replace."""
    if not os.path.isfile(path):
        return False
    with contextlib.suppress(OSError), path.open("rb") as file:
        return b'<meta name="generator" content="Provenet' in file.read(4096)
    return False


def write_evaluation_report(path: Path, facts: RunFacts) -> None:
    """Write the page. Raises SettingsError where it cannot be written."""
    try:
        write_report(path, facts)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"--report {show_path(path)}: expected to write it, found: {reason}; free some space or choose another"
        ) from error


def find_run_folder(bundle: str | os.PathLike[str]) -> Path:
    """Where the bundle is, and with it perhaps the log of its run."""
    return Path(bundle) if os.path.isdir(bundle) else Path(bundle).parent


def evaluation_facts(
    bundle: Bundle,
    folder: Path | None,
    data_name: str,
    images: ImageSet,
    part: EvaluatedPart,
    *,
    views: str,
    compared: Compared | None,
    device: torch.device,
    way: Way,
    started: datetime,
    seconds: float,
) -> RunFacts:
    """What the report of an evaluation says. The bundle and the log may be a stranger's."""
    provenance = bundle.provenance
    return RunFacts(
        title=f"{bundle.network.name} on {data_name}",
        model=bundle.network.name,
        num_parameters=bundle.network.num_parameters,
        classes=bundle.classes,
        state="evaluated",
        events=_read_log(folder, provenance) if folder else [],
        settings=table(provenance.get("settings")),
        data={
            "images": {part.split: len(images)},
            "classes": {part.split: images.counts()},
            "fingerprints": {part.split: images.fingerprint()},
        },
        trained_on=table(provenance.get("data")),
        machine=describe_machine(device) | {"engine": str(way)},
        versions={"provenet": __version__, "torch": torch.__version__, "python": platform.python_version()},
        started=started.isoformat(timespec="seconds"),
        finished=(started + timedelta(seconds=seconds)).isoformat(timespec="seconds"),
        seconds=seconds,
        parts=[part],
        views=views,
        compared=compared,
        temperature=bundle.temperature,
    )


def _read_log(folder: Path, provenance: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of the bundle's own run, if the log beside it is of that run: the same settings and the same data."""
    events = read_log(folder / "log.jsonl")
    start: dict[str, Any] = next((event for event in reversed(events) if event.get("event") == "start"), {})
    is_same = all(table(provenance.get(name)) and start.get(name) == provenance[name] for name in ("settings", "data"))
    return events if is_same else []
