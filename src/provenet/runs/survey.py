"""Which network with weights suits these pictures: features of each, a head judged by cross-validation, and what it costs."""

import copy
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch

from provenet.checkup.sheets import plain_name
from provenet.data.index import ImageSet
from provenet.data.sources import open_data
from provenet.engines.choose import make_wish
from provenet.engines.engine import reference
from provenet.engines.ways import EngineWish
from provenet.errors import DataError, ProvenetError, SettingsError, show_path
from provenet.files import write_whole
from provenet.inspection.summary import summarize
from provenet.models.heads import LINEAR, adapt
from provenet.runs.engines import sample_of
from provenet.runs.features import features_of
from provenet.runs.folder import refuse_inside
from provenet.runs.pictures import leave_out_broken, refuse_or_note
from provenet.runs.watcher import Silent, Watcher
from provenet.runtime import choose_device, seeded
from provenet.surveying.found import Backbone, Survey
from provenet.surveying.page import render_page
from provenet.transfer.batches import FeatureLoader
from provenet.transfer.parts import FrozenPart, HeadPart
from provenet.transfer.solve import cross_validate
from provenet.weights.bundle import Bundle
from provenet.weights.create import open_weights
from provenet.weights.sources import EMBEDDED_TAG, list_sets
from provenet.weights.store import find_file, weight_folders

TIMED_IMAGES, TIMED_ROUNDS = 8, 3
MOST_CUTS = 8


@dataclass(frozen=True)
class _Candidate:
    """What can be tried; opened again when its turn comes, so that memory holds one network at a time."""

    weights: str
    network: str
    ends_after: str
    macs: int


class _OutOfTimeError(Exception):
    """The budget is spent."""


class _BrokenPictureError(DataError):
    """Pictures that no network can be tried on."""


def survey(
    data: str | os.PathLike[str],
    weights: Sequence[str] = (),
    *,
    cuts: int = 1,
    budget_minutes: float | None = None,
    output: str | os.PathLike[str] | None = None,
    engine: str = "auto",
    precision: str = "auto",
    skip_broken: bool = False,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> tuple[Survey, Path]:
    """Try each network with weights on these pictures, the quickest first; -> what was found, and the folder it is in.

    `weights` are bundles, run folders, files or tags; by default all published sets that are on this machine. `cuts` is how many stages to
    try of each, from the last before the head backwards. Pictures of a `test` split are not looked at. When the budget is spent, or with
    Ctrl-C, what was found so far is the answer; features are kept, so that the next time goes on there. `output` is a folder for
    `survey.html` and `survey.json`, by default surveys/DATA, written anew after each network.
    """
    watcher = watcher or Silent()
    wish, chosen_device, started_at = make_wish(engine, precision), choose_device(device), time.monotonic()
    if not 1 <= cuts <= MOST_CUTS:
        raise SettingsError(f"--cuts: expected 1 to {MOST_CUTS}, found {cuts}")
    if budget_minutes is not None and not 0 < budget_minutes < 1e6:
        raise SettingsError(f"--budget: expected minutes above 0, found {budget_minutes:g}")
    names = list(weights) or _on_this_machine(watcher)
    data_set = open_data(data, watcher.progress, refuse_or_note(skip_broken=skip_broken, watcher=watcher), allow_missing=skip_broken)
    sets = {name: images for name, images in data_set.splits.items() if name != "test"}
    if not sets:
        raise DataError(f"{data_set.name}: expected pictures to train on, found test pictures only")
    classes = max(sets.values(), key=len).classes
    sets = {name: images.with_classes(classes) for name, images in sets.items()}
    if len(classes) < 2:
        raise DataError(f"{data_set.name}: expected two classes or more, found {len(classes)}")
    folder = Path(output) if output is not None else Path("surveys", plain_name(data_set.name))
    refuse_inside(folder, os.fspath(data))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{show_path(folder)}: expected a folder to write to, found: {reason}; choose another --output") from error
    found = Survey(os.fspath(data), data_set.name, sum(map(len, sets.values())), len(classes), 0, (), skip_broken=skip_broken)
    deadline = started_at + 60 * budget_minutes if budget_minutes is not None else float("inf")
    candidates, refused = _candidates(names, cuts, watcher)
    found = replace(found, left_out=tuple(refused))
    for number, candidate in enumerate(candidates):
        what = f"{candidate.network} ({candidate.weights})" + (f" up to {candidate.ends_after}" if candidate.ends_after else "")
        watcher.note(f"{number + 1} of {len(candidates)}: {what}")
        try:
            is_first = not found.backbones
            hurried = _Hurried(watcher, deadline)
            backbone, folds, num_images = _try(candidate, sets, wish, skip_broken, chosen_device, hurried, is_first=is_first)
            ranked = sorted([*found.backbones, backbone], key=lambda each: (-each.top1, each.milliseconds))
            found = replace(found, backbones=tuple(ranked), folds=max(found.folds, folds), num_images=num_images)
        except (_OutOfTimeError, KeyboardInterrupt) as stopped:
            why = "the budget was spent" if isinstance(stopped, _OutOfTimeError) else "interrupted"
            left = tuple((each.weights, f"{why}; what was computed is kept") for each in candidates[number:])
            found = replace(found, left_out=(*found.left_out, *left))
            break
        except _BrokenPictureError:
            raise
        except ProvenetError as error:
            found = replace(found, left_out=(*found.left_out, (candidate.weights, str(error))))
        finally:
            found = replace(found, seconds=time.monotonic() - started_at)
            _write(found, folder)
    else:
        if not found.backbones:
            raise SettingsError(f"--weights: expected one that can be tried, found none: {found.left_out[0][1]}")
    return found, folder


class _Hurried(Silent):
    """Passes on what it is told, and stops the work when time is over: features that are computed are kept by then."""

    def __init__(self, watcher: Watcher, deadline: float) -> None:
        self.note = watcher.note  # type: ignore[method-assign]
        self._watcher, self._deadline = watcher, deadline

    def progress(self, what: str, done: int, total: int) -> None:
        """Raises _OutOfTimeError."""
        self._watcher.progress(what, done, total)
        if time.monotonic() > self._deadline:
            self._watcher.progress(what, total, total)
            raise _OutOfTimeError


def _on_this_machine(watcher: Watcher) -> list[str]:
    names = [found.tag for found in list_sets() if find_file(found) is not None]
    if names == [EMBEDDED_TAG]:
        folders = " or ".join(map(show_path, weight_folders()))
        watcher.note(
            f"{EMBEDDED_TAG} alone, which is in the package, is here to try ({folders}); name bundles or files, or fetch others "
            "(provenet weights list, provenet weights fetch TAG)"
        )
    return names


def _candidates(names: Sequence[str], cuts: int, watcher: Watcher) -> tuple[list[_Candidate], list[tuple[str, str]]]:
    """What can be tried, the quickest first; and what cannot, with the reason."""
    found, refused = [], []
    for number, name in enumerate(names):
        try:
            bundle = open_weights(name)
            macs = summarize(bundle.network).macs
            found += [_Candidate(name, bundle.network.name, ends_after, macs) for ends_after in _cuts(bundle, cuts)]
        except ProvenetError as error:
            refused.append((name, str(error)))
        watcher.progress("opening weights", number + 1, len(names))
    if not found:
        raise SettingsError(f"--weights: expected one that can be tried, found none: {refused[0][1]}")
    return sorted(found, key=lambda each: each.macs), refused


def _cuts(bundle: Bundle, count: int) -> Iterator[str]:
    """Where to cut, as `--ends-after` says it: first not at all."""
    yield ""
    net = bundle.network
    learning = [name for name, stage in net.stages.items() if any(True for _ in stage.parameters())][:-1]
    yield from list(reversed(learning))[1:count]


def _try(
    candidate: _Candidate,
    sets: dict[str, ImageSet],
    wish: EngineWish,
    skip_broken: bool,
    device: torch.device,
    watcher: Silent,
    *,
    is_first: bool,
) -> tuple[Backbone, int, int]:
    """-> what was found, in how many folds, and of how many pictures that can be decoded."""
    started_at = time.monotonic()
    bundle = open_weights(candidate.weights)
    num_classes = len(next(iter(sets.values())).classes)
    with seeded(0):  # the same head each time, so that the same features give the same answer
        net = adapt(bundle.network, num_classes=num_classes, head=LINEAR, ends_after=candidate.ends_after)
    net.to(device)
    part, head = FrozenPart(net).eval(), HeadPart(net)
    found = features_of(part, sets, bundle.preprocessing, wish, device=device, watcher=watcher)
    features, labels = [], []
    for name, images in sets.items():
        told = watcher if is_first else Silent()
        try:
            numbers = leave_out_broken(images, found[name].broken, skip_broken=skip_broken, is_trained_on=False, watcher=told)
        except DataError as error:
            raise _BrokenPictureError(str(error)) from error
        sound = images.select(numbers)
        batch = FeatureLoader(found[name], sound, batch_size=len(sound), device=device).undistorted()
        features.append(batch.images)
        labels.append(batch.labels)
    judged = cross_validate(lambda: copy.deepcopy(head), torch.cat(features), torch.cat(labels), progress=watcher.progress)
    if judged is None:
        raise DataError("no class has two pictures: nothing can be held out")
    largest = max(sets.values(), key=len)
    backbone = Backbone(
        weights=candidate.weights,
        network=candidate.network,
        cut=part.cut,
        ends_after=candidate.ends_after,
        num_features=int(np.prod(part.shape)),
        top1=judged.chosen_top1,
        interval=judged.interval,
        milliseconds=_milliseconds(part, largest, bundle, device),
        megabytes=sum(parameter.numel() for parameter in net.parameters()) * 4 / 1e6,
        seconds=time.monotonic() - started_at,
        num_computed=sum(each.num_computed for each in found.values()),
    )
    return backbone, judged.folds, sum(map(len, labels))


def _milliseconds(part: FrozenPart, images: ImageSet, bundle: Bundle, device: torch.device) -> float:
    few = sample_of(images, bundle.preprocessing, device)(TIMED_IMAGES)
    run, seconds = reference(part), []
    run(few)
    for _ in range(TIMED_ROUNDS):
        started_at = time.perf_counter()
        run(few).cpu()
        seconds.append(time.perf_counter() - started_at)
    return 1000 * median(seconds) / len(few)


def _write(found: Survey, folder: Path) -> None:
    write_whole(folder / "survey.json", json.dumps(found.to_dict(), ensure_ascii=False, indent=1).encode())
    write_whole(folder / "survey.html", render_page(found).encode("utf-8", "replace"))
