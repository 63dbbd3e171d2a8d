"""Evaluate networks on labelled pictures, shown in one way or in several."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from provenet.data.folder import find_pictures
from provenet.data.holdout import Memory
from provenet.data.index import DataSet, ImageSet
from provenet.data.pictures import PictureFiles
from provenet.data.sources import open_data
from provenet.engines.choose import make_wish
from provenet.engines.ways import EngineWish
from provenet.errors import DataError, ModelError, NotNumbersError, SettingsError, show_path
from provenet.evaluation.predictions import UNKNOWN, check_predictions_path
from provenet.evaluation.views import find_views
from provenet.metrics import Evaluation
from provenet.report.facts import EvaluatedPart
from provenet.report.gallery import gather_pictures
from provenet.runs.pictures import refuse_or_note
from provenet.runs.report import check_report_path, evaluation_facts, find_run_folder, write_evaluation_report
from provenet.runs.scores import Scored, score
from provenet.runs.tabulate import tabulate
from provenet.runs.watcher import SaidOnce, Silent, Watcher
from provenet.runtime import choose_device
from provenet.weights.bundle import Bundle, load_bundle
from provenet.weights.imagenet import named_as_in

Model = Bundle | str | os.PathLike[str]


def evaluate_bundle(
    bundle: Model,
    data: str | os.PathLike[str],
    *,
    views: str = "center",
    split: str | None = None,
    skip_broken: bool = False,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    predictions: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
    watcher: Watcher | None = None,
) -> Evaluation:
    """How often the network is right on pictures it was not trained on. Classes are joined by name.

    `views` is what it is shown of each picture, a name of evaluation/views.py: `center`, or more of it, as the papers did.

    `split` is `train`, `val`, `test` or `all`; by default `test`, else `val`, else all, but of the folder it was trained on only what
    was held out. `val` also finds what was held out of a set that has no validation pictures of its own.

    A network of ImageNet's thousand classes finds them by WordNet's numbers too, which are the names of that set's folders.

    `engine` and `precision` are names of engines/ways.py: what runs the network, by default what was measured to be fastest and right on
    this machine, where there are many pictures.

    `predictions` is a table to write (.csv or .parquet) with what it said of each picture; `report` an HTML file, with the confusions, the
    calibration before and after a temperature, and the mistakes and look-alike classes as pictures.
    """
    scored = score_models(
        [bundle], data, views=[views], split=split, skip_broken=skip_broken, device=device, engine=engine, precision=precision,
        predictions=predictions, report=report, watcher=watcher,
    )[0]  # fmt: skip
    if scored.evaluation is None:
        raise DataError(f"{scored.images.name}: expected pictures with labels, found none; what was said of them is in {predictions}")
    return scored.evaluation


def score_models(
    models: Sequence[Model],
    data: str | os.PathLike[str],
    *,
    views: Sequence[str] = ("center",),
    split: str | None = None,
    skip_broken: bool = False,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    predictions: str | os.PathLike[str] | None = None,
    report: str | os.PathLike[str] | None = None,
    names: Sequence[str] = (),
    trained_on: Sequence[Bundle] = (),
    on_failed: Callable[[str, ModelError], None] | None = None,
    prefers_held_out: bool = False,
    watcher: Watcher | None = None,
) -> list[Scored]:
    """Every network on the same pictures, in all these views, network after network.

    Pictures without labels are for `predictions` only. Several results have no `predictions`, and several networks no `report`; that of one
    in several views tells of the first and compares it with the others. `names` is what to call the networks, by default their files. What
    bundles in `trained_on` were trained on is left out too. A network that answers with no numbers is an error that names it, or is told to
    `on_failed` and left out. `prefers_held_out` takes validation pictures, or what was held out, where no split is asked for and there are
    any.
    """
    watcher = SaidOnce(watcher or Silent())
    wish: EngineWish = make_wish(engine, precision)
    ways = [find_views(name) for name in views]
    if len(models) * len(ways) != 1 and predictions:
        raise SettingsError("--predictions: expected one network and one kind of views, found several; evaluate one of them")
    if len(models) != 1 and report:
        raise SettingsError("--report: expected one network, found several; compare them, or evaluate one of them")
    if predictions is not None:
        check_predictions_path(Path(predictions))
    report_path = check_report_path(report) if report is not None else None
    bundles = [model if isinstance(model, Bundle) else load_bundle(model) for model in models]
    chosen_device = choose_device(device)
    started, started_at = datetime.now(UTC), time.perf_counter()
    chosen = _open(
        data, split, [*bundles, *trained_on], has_use=predictions is not None, prefers_held_out=prefers_held_out,
        skip_broken=skip_broken, watcher=watcher,
    )  # fmt: skip
    found = []
    for number, (model, bundle) in enumerate(zip(models, bundles, strict=True)):
        images = chosen.images
        if chosen.has_labels:
            images = images.with_classes(named_as_in(images.classes, bundle.classes))
        images = replace(images, classes=bundle.classes)
        name = names[number] if names else bundle.network.title if isinstance(model, Bundle) else show_path(model)
        run = partial(score, bundle, images, name=name, wish=wish, device=chosen_device, skip_broken=skip_broken, watcher=watcher)
        try:
            found += [run(way) for way in ways]
        except NotNumbersError as error:
            if on_failed is None:
                raise ModelError(f"{name}: {error}") from error
            on_failed(name, error)
    if not found:
        raise DataError("expected a network that answers with numbers, found none")
    if predictions is not None:
        _save_predictions(found[0], predictions)
    if report_path and found[0].evaluation:
        seconds = time.perf_counter() - started_at
        _write_report(report_path, found, models[0], bundles[0], chosen, device=chosen_device, started=started, seconds=seconds)
    return found


def _save_predictions(scored: Scored, path: str | os.PathLike[str]) -> None:
    if scored.predictions is None:
        raise SettingsError("--predictions: expected fewer pictures or classes, found more than fit into memory; take a part of them")
    scored.predictions.save(path)


def _write_report(
    path: Path,
    found: list[Scored],
    model: Model,
    bundle: Bundle,
    chosen: "Chosen",
    *,
    device: torch.device,
    started: datetime,
    seconds: float,
) -> None:
    """Of the first views of one network, compared with the others."""
    scored = found[0]
    assert scored.evaluation is not None
    part = EvaluatedPart(chosen.split, scored.evaluation, gather_pictures(scored.evaluation, scored.images), chosen.num_trained_on)
    facts = evaluation_facts(
        bundle, None if isinstance(model, Bundle) else find_run_folder(model), chosen.data_name, scored.images, part,
        views=scored.views.name, compared=tabulate(found, chosen.data_name) if len(found) > 1 else None,
        device=device, way=scored.way, started=started, seconds=seconds,
    )  # fmt: skip
    write_evaluation_report(path, facts)


class Chosen(NamedTuple):
    """The pictures to evaluate on, the split they are of, and how many of them were trained on."""

    split: str
    images: ImageSet
    num_trained_on: int = 0
    data_name: str = ""
    has_labels: bool = True


def _open(
    data: str | os.PathLike[str],
    split: str | None,
    bundles: Sequence[Bundle],
    *,
    has_use: bool,
    prefers_held_out: bool,
    skip_broken: bool,
    watcher: Watcher,
) -> Chosen:
    """The pictures to evaluate on; those of a folder without class folders have no labels, and are taken if there is use for them."""
    try:
        data_set = open_data(data, watcher.progress, refuse_or_note(skip_broken=skip_broken, watcher=watcher), allow_missing=skip_broken)
    except DataError as error:
        folder = Path(os.path.expanduser(data))
        if error.kind != "no classes" or not (paths := find_pictures(folder)[0]):
            raise
        if not has_use:
            raise DataError(
                f"{error}; or, to write what the network says of {len(paths):,} pictures without labels: --predictions FILE", error.kind
            ) from error
        watcher.note(f"{show_path(folder)} has no class folders: {len(paths):,} pictures without labels, predicted and not counted")
        images = ImageSet(show_path(folder), (), np.full(len(paths), UNKNOWN, np.int64), PictureFiles(folder, paths))
        return Chosen("all", images, data_name=show_path(folder), has_labels=False)
    for note in data_set.notes:
        watcher.note(note)
    memories = [read_memory(bundle) for bundle in bundles]
    return choose_split(data_set, split, memories, watcher, prefers_held_out=prefers_held_out)._replace(data_name=data_set.name)


def choose_split(
    data: DataSet, split: str | None, memories: Sequence[Memory | None], watcher: Watcher, *, prefers_held_out: bool = False
) -> Chosen:
    """The pictures to evaluate on, never silently those that any of the networks was trained on."""
    remembered = [memory for memory in memories if memory]
    source = next((name for name in ("train", "all") if name in data.splits), None)
    held_out = ~_trained_on(data.splits[source], remembered) if source else np.zeros(0, dtype=bool)
    has_val = "val" in data.splits or (held_out.any() and not held_out.all())
    chosen = split or next(name for name in ("test", "val", "all", "train") if name in data.splits)
    if split is None and prefers_held_out and has_val:
        chosen = "val"
    if chosen == "val" and "val" not in data.splits and remembered and source:
        if not has_val:
            raise DataError(f"--split val: expected a split of its own or what was held out in training, and {data.name} has neither")
        return Chosen(chosen, data.splits[source].select(np.flatnonzero(held_out)))
    if chosen not in data.splits:
        there = ", ".join(data.splits)
        raise DataError(f"--split {chosen}: expected a split that {data.name} has, which are: {there}; choose one, or leave --split out")
    images = data.splits[chosen]
    trained_on = ~held_out if chosen == source else np.zeros(len(images), dtype=bool)
    if not trained_on.any():
        return Chosen(chosen, images)
    count = f"{trained_on.sum():,} of the {len(images):,} pictures of {images.name}"
    if split:
        watcher.note(f"{count} were trained on: this is no measure of what the network does with new ones")
        return Chosen(chosen, images, int(trained_on.sum()))
    if trained_on.all():
        raise DataError(f"{images.name}: expected pictures that were not trained on, found none; give others, or --split {chosen}")
    watcher.note(f"{count} were trained on and do not count (--split {chosen} for every one)")
    return Chosen(chosen, images.select(np.flatnonzero(~trained_on)))


def _trained_on(images: ImageSet, memories: Sequence[Memory]) -> NDArray[np.bool_]:
    """Which pictures any of them was trained on, [N]."""
    return np.any([memory.trained_on(images) for memory in memories], axis=0) if memories else np.zeros(len(images), dtype=bool)


def read_memory(bundle: Bundle) -> Memory | None:
    """What the bundle remembers of its training pictures, if anything."""
    data = bundle.provenance.get("data")
    return Memory.from_dict(data.get("memory")) if isinstance(data, dict) else None
