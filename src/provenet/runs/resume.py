"""Go on with a run that was stopped or killed, from its newest sound snapshot, to the same weights."""

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from provenet.data.holdout import divide
from provenet.data.sources import open_data
from provenet.errors import DataError, ProvenetError, SettingsError, SnapshotError, show_path
from provenet.metrics import Evaluation
from provenet.runs.folder import RunFolder
from provenet.runs.pictures import SPLIT_SEED, refuse_or_note
from provenet.runs.session import SNAPSHOT_SECONDS, Run, build, carry_out, check_seconds, describe, open_splits
from provenet.runs.settings import RunSettings, read_settings
from provenet.runs.start import reopen_start
from provenet.runs.watcher import Silent, Watcher
from provenet.runtime import choose_device
from provenet.training.recorder import read_log
from provenet.training.settings import ADDED_LATER
from provenet.training.snapshot import SnapshotFolder
from provenet.transfer.settings import CACHED
from provenet.weights.bundle import load_bundle


def resume(
    run: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    device: str | None = None,
    snapshot_seconds: float = SNAPSHOT_SECONDS,
    watcher: Watcher | None = None,
) -> Run:
    """Go on with the run in the folder `run`; to the bit what it would have been, on the same device with the same number of threads.

    `data` says where the pictures are now, if they have moved; `device` is the run's own by default. A run that is complete is left as it
    is. Raises SettingsError, SnapshotError or DataError where the folder is no run, or the network or the pictures are not those of the
    snapshot any more.
    """
    watcher = watcher or Silent()
    check_seconds(snapshot_seconds)
    path = Path(run)
    if not os.path.isdir(path) or not os.path.exists(path / "settings.toml"):
        found = "no such file" if os.path.isdir(path) else "a file" if os.path.exists(path) else "no such folder"
        raise SettingsError(f"{show_path(path)}: expected the folder of a run, with its settings.toml, found {found}; begin one with train")
    settings = read_settings(path / "settings.toml")
    if any(event["event"] == "end" for event in read_log(path / "log.jsonl")):
        watcher.note(f"{show_path(path)}: this run is complete, nothing is left to do")
        SnapshotFolder(path / "snapshot").clear()  # a kill may have come between
        return _read_result(path, settings)
    folder = RunFolder(path)
    try:
        return _go_on(folder, settings, data, device, snapshot_seconds, watcher)
    finally:
        folder.release()


def _go_on(
    folder: RunFolder,
    settings: RunSettings,
    data: str | os.PathLike[str] | None,
    device: str | None,
    snapshot_seconds: float,
    watcher: Watcher,
) -> Run:
    snapshot = SnapshotFolder(folder.snapshots).read_newest(watcher.note)
    begun = snapshot.facts.get("run") if snapshot else next((event for event in read_log(folder.log) if event["event"] == "start"), None)
    begun = begun if isinstance(begun, dict) else {}
    if snapshot is None:
        watcher.note(f"{show_path(folder.path)}: no snapshot is there; the run begins again")
    _refuse_other_settings(folder, settings, _section(begun, "settings"))
    machine = _section(begun, "machine")
    chosen_device = _choose_device(device, str(machine.get("device", "auto")).partition(":")[0])
    try:
        skip_broken = settings.source.skip_broken
        on_problem = refuse_or_note(skip_broken=skip_broken, watcher=watcher)
        data_set = open_data(settings.source.data if data is None else data, watcher.progress, on_problem, allow_missing=skip_broken)
    except DataError as error:
        raise DataError(
            f"{error}; if the pictures have moved, say where to: provenet resume {shlex.quote(show_path(folder.path))} --data DATA"
        ) from error
    splits = divide(data_set, val_fraction=settings.source.val_fraction, seed=SPLIT_SEED)
    needs_weights = snapshot is None or (settings.transfer is not None and settings.transfer.mode == CACHED)  # else a snapshot has them
    start = reopen_start(settings.transfer, settings.source.model) if settings.transfer and needs_weights else None
    net = build(settings, len(splits.train.classes), start.bundle if start else None)
    opened = open_splits(settings, net, splits, chosen_device, watcher)
    provenance = describe(settings, splits, opened, chosen_device)
    if snapshot:
        provenance |= {name: _section(begun, name) for name in ("transfer", "cross_validation") if name in begun}
    _refuse_other_data(data_set.name, provenance["data"], _section(begun, "data"))
    for what, was, now in (
        ("processor", machine.get("processor"), provenance["machine"].get("processor")),
        ("threads", machine.get("threads"), torch.get_num_threads()),
        ("device", machine.get("device"), str(chosen_device)),
        ("torch", _section(begun, "versions").get("torch"), torch.__version__),
    ):
        if was not in (None, now):
            watcher.note(f"the run had {what} {was}, and goes on with {now}: its weights will agree but for rounding")
    try:
        return carry_out(
            folder,
            net,
            settings,
            data_set.name,
            opened,
            chosen_device,
            provenance=provenance,
            snapshot=snapshot,
            snapshot_seconds=snapshot_seconds,
            watcher=watcher,
        )
    except SnapshotError as error:
        raise SnapshotError(f"{show_path(folder.snapshots)}: {error}; give it the folder of its own run") from error


def _choose_device(asked: str | None, begun_on: str) -> torch.device:
    if asked is not None:
        return choose_device(asked)
    try:
        return choose_device(begun_on)
    except SettingsError as error:
        raise SettingsError(f"the run was on {begun_on!r}, which is not here; go on with --device cpu, or on another machine") from error


def _read_result(path: Path, settings: RunSettings) -> Run:
    metrics = _section(load_bundle(path).provenance, "metrics")
    try:
        test = Evaluation.from_dict(metrics["test"]) if metrics.get("test") else None
        return Run(path, settings, Evaluation.from_dict(metrics["val"]), test)
    except (KeyError, TypeError, ValueError) as error:
        raise ProvenetError(f"{show_path(path)}: expected the results of a complete run, found none; evaluate it") from error


def _section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = values.get(name)
    return found if isinstance(found, dict) else {}


def _refuse_other_settings(folder: RunFolder, settings: RunSettings, begun: Mapping[str, Any]) -> None:
    """The settings of the snapshot must be those of the folder: else one of the two is another run's, or was edited."""
    if not begun:
        return
    sections = settings.to_short_dict()
    for section in {**sections, **begun}:
        values, known = sections.get(section, {}), _section(begun, section)
        if section == "training":
            known = ADDED_LATER | known
        for name in {**values, **known}:  # a mean image may be there or not
            was, value = known.get(name), values.get(name)
            if was != json.loads(json.dumps(value)):
                raise SettingsError(
                    f"{show_path(folder.settings)}: expected {section}.{name} = {was!r}, with which the run began, found {value!r}; "
                    "put it back, or begin a new run with train --settings"
                )


def _refuse_other_data(name: str, now: Mapping[str, Any], begun: Mapping[str, Any]) -> None:
    """The pictures must be those that the run began with, to the pixel, and their classes too; says in which class they are not."""
    known, found = list(_section(_section(begun, "classes"), "train")), list(now["classes"]["train"])
    if begun and known != found:
        odd = next((label for label in [*known, *found] if label not in known or label not in found), known[0] if known else "")
        raise DataError(
            f"{name}: expected the {len(known)} classes that the run began with, found {len(found)}, not the same ({odd!r}); "
            "put them back, or begin a new run with train --settings"
        )
    for split in now["images"]:
        if not begun or _section(begun, "contents").get(split) == now["contents"][split]:
            continue
        was, there = _section(_section(begun, "classes"), split), now["classes"][split]
        changed = [
            f"{was.get(label, 0)} of {label!r}, found {there.get(label, 0)}"
            for label in {**was, **there}
            if was.get(label) != there.get(label)
        ]
        if changed:
            what = f"expected {changed[0]}" + (f" (and {len(changed) - 1} more classes differ)" if len(changed) > 1 else "")
        elif _section(begun, "fingerprints").get(split) != now["fingerprints"][split]:
            what = "expected the files that the run began with, found as many, but some of another name or size"
        else:
            what = "expected the pictures that the run began with, found files of the same names with other pixels"
        raise DataError(
            f"{name}: the {split} pictures have changed since the snapshot: {what}; put them back, or begin a new run with train --settings"
        )
