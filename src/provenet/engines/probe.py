"""Which way runs a network fastest and right on this machine, measured in a process of its own.

Engines have died on processors that they did not know, taking the program with them (openvino#35943). So whatever is not torch itself is
first started elsewhere, on this very network and shape; what crashes there is named, and the rest goes on.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from provenet.engines.engine import Engine, build
from provenet.engines.findings import Probe, Trial
from provenet.engines.memory import what_it_depends_on
from provenet.engines.trial import ANSWERS, MOST_ROUNDS, WORK
from provenet.engines.ways import REFERENCE, WAYS, Way, why_absent
from provenet.errors import EngineError
from provenet.progress import Progress

STEP_SECONDS = 300.0
"""What one step of a trial may take before it counts as hung."""


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What ways are tried on, all normalised [_, C, S, S]."""

    images: Tensor
    """One batch: its size is that of all batches to come."""
    calibration: Tensor | None = None
    """What int8 is fitted to: at least a batch."""
    others: Tensor | None = None
    """What its labels are compared on."""


def measure(
    net: nn.Module,
    pictures: Pictures,
    ways: Iterable[Way] = WAYS,
    *,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> Probe:
    """Try the ways on this network and these pictures. What was converted stays in `folder`, where one is given.

    Raises EngineError where the network cannot be handed to another process.
    """
    wanted, trials = [way for way in ways if way != REFERENCE], []
    device = str(pictures.images.device)
    for way in list(wanted):
        missing = why_absent(way, device, len(pictures.images))
        if not missing and way.precision == "int8" and (pictures.calibration is None or pictures.others is None):
            missing = "int8 is fitted to pictures, and none are given"
        if missing:
            wanted.remove(way)
            trials.append(Trial(way, is_absent=True, why_not=missing))
    with tempfile.TemporaryDirectory(prefix="provenet-probe-") as own:
        place = folder or Path(own)
        while True:
            found, unfinished = _one_trial(net, pictures, wanted, place, progress)
            if unfinished is None:
                break
            way, why = unfinished
            if way == REFERENCE:
                raise EngineError(f"probe: {why} while the network itself was run; nothing can be compared with it")
            trials.append(Trial(way, why_not=why, has_died=True))
            wanted.remove(way)
    order = [REFERENCE, *(way for way in WAYS if way != REFERENCE)]
    judged = sorted([*trials, *(trial.judged() for trial in found)], key=lambda trial: order.index(trial.way))
    return Probe(tuple(pictures.images.shape), tuple(judged), what_it_depends_on(net, pictures.images))


def _one_trial(
    net: nn.Module, pictures: Pictures, ways: list[Way], folder: Path, progress: Progress | None
) -> tuple[list[Trial], tuple[Way, str] | None]:
    """What a process found; or, where it did not end well, which way it was at and what became of it."""
    answers = folder / ANSWERS
    answers.write_text("")
    work = {
        "net": net,
        "ways": [list(way) for way in ways],
        "threads": torch.get_num_threads(),
        "device": str(pictures.images.device),
        "images": pictures.images.cpu(),
        "calibration": pictures.calibration,
        "others": pictures.others,
    }
    try:
        torch.save(work, folder / WORK)
    except Exception as error:  # pickle raises what it likes
        raise EngineError(f"probe: this network cannot be handed to another process: {error}") from error
    found: dict[Way, dict[str, Any]] = {}
    at, seconds_at = REFERENCE, time.monotonic()
    num_steps = len(ways) + 1 + MOST_ROUNDS
    with (folder / "errors.txt").open("wb") as errors, answers.open() as lines:
        command = [sys.executable, "-m", "provenet.engines.trial", str(folder)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        try:
            for line in _lines_of(process, lines):
                if line is None:
                    if time.monotonic() - seconds_at > STEP_SECONDS:
                        return [], (at, f"hung for {STEP_SECONDS:.0f} seconds")
                    continue
                facts, seconds_at = json.loads(line), time.monotonic()
                at = Way(*facts.pop("way"))
                if "begins" not in facts:
                    known = found.setdefault(at, {"seconds": []})
                    if "seconds" in facts:
                        known["seconds"].append(facts.pop("seconds"))
                    known |= facts
                    if progress:
                        done = len(found) + len(found[REFERENCE]["seconds"])
                        progress("measuring ways to run the network", min(done, num_steps - 1), num_steps)
        finally:
            if process.poll() is None:
                process.kill()
            status = process.wait()
            if progress:
                progress("measuring ways to run the network", num_steps, num_steps)
    if status:
        return [], (at, _last_words(status, folder / "errors.txt"))
    return [_trial(way, facts) for way, facts in found.items()], None


def _trial(way: Way, facts: dict[str, Any]) -> Trial:
    if "failed" in facts:
        return Trial(way, why_not=facts["failed"])
    return Trial(way, **{**facts, "seconds": tuple(facts["seconds"])})


def _lines_of(process: "subprocess.Popen[bytes]", lines: Any) -> Iterator[str | None]:
    """Whole lines as they come, until the process has ended and all are read; None while nothing comes."""
    begun = ""
    while True:
        has_ended = process.poll() is not None
        begun += lines.readline()
        if begun.endswith("\n"):
            yield begun
            begun = ""
        elif has_ended:
            return
        else:
            yield None
            time.sleep(0.05)


def _last_words(status: int, errors: Path) -> str:
    if status < 0:
        return f"crashed with {signal.Signals(-status).name}"
    said = errors.read_text(errors="replace").strip().splitlines()
    return f"ended with status {status}" + (f": {said[-1][:200]}" if said else "")


def open_way(way: Way, net: nn.Module, example: Tensor, folder: Path, calibration: Tensor | None = None) -> Engine:
    """The way, opened in this process; raises EngineError for whatever goes wrong."""
    try:
        engine = build(way, net, example, folder, calibration)
        engine(example)
    except Exception as error:  # whatever their libraries raise
        raise EngineError(f"{way}: {' '.join(str(error).split())[:300]}") from error
    return engine
