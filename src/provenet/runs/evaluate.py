"""Evaluate a bundle on labelled pictures."""

import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from provenet.data.holdout import Memory
from provenet.data.index import DataSet, ImageSet
from provenet.data.loader import Loader
from provenet.data.sources import open_data
from provenet.engines.choose import make_wish, open_engine
from provenet.errors import DataError
from provenet.evaluation.evaluate import BATCH_SIZE, evaluate
from provenet.metrics import Evaluation
from provenet.report.facts import EvaluatedPart, gather_mistakes
from provenet.runs.engines import work_on
from provenet.runs.pictures import open_sound_squares, refuse_or_note
from provenet.runs.report import check_report_path, evaluation_facts, find_run_folder, write_evaluation_report
from provenet.runs.watcher import Silent, Watcher, follow
from provenet.runtime import choose_device, place
from provenet.weights.bundle import Bundle, load_bundle
from provenet.weights.imagenet import named_as_in


def evaluate_bundle(
    bundle: Bundle | str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    split: str | None = None,
    skip_broken: bool = False,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "auto",
    report: str | os.PathLike[str] | None = None,
    watcher: Watcher | None = None,
) -> Evaluation:
    """How often the network is right on pictures it was not trained on. Classes are joined by name.

    `split` is `train`, `val`, `test` or `all`; by default `test`, else `val`, else all, but of the folder it was trained on only what
    was held out. `val` also finds what was held out of a set that has no validation pictures of its own.

    A network of ImageNet's thousand classes finds them by WordNet's numbers too, which are the names of that set's folders.

    `engine` and `precision` are names of engines/ways.py: what runs the network, by default what was measured to be fastest and right on
    this machine, where there are many pictures.

    `report` is an HTML file to write, with the confusions, the calibration and the worst mistakes as pictures.
    """
    watcher = watcher or Silent()
    wish = make_wish(engine, precision)
    report_path = check_report_path(report) if report is not None else None
    folder = None if isinstance(bundle, Bundle) else find_run_folder(bundle)
    bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    chosen_device = choose_device(device)
    started, started_at = datetime.now(UTC), time.perf_counter()
    on_problem = refuse_or_note(skip_broken=skip_broken, watcher=watcher)
    data_set = open_data(data, watcher.progress, on_problem, allow_missing=skip_broken)
    for note in data_set.notes:
        watcher.note(note)
    chosen = choose_split(data_set, split, bundle, watcher)
    images = chosen.images.with_classes(named_as_in(chosen.images.classes, bundle.classes))
    images = replace(images, classes=bundle.classes)
    squares, images = open_sound_squares(images, bundle.preprocessing, skip_broken=skip_broken, training=None, watcher=watcher)
    loader = Loader(squares, images.labels, bundle.preprocessing, batch_size=BATCH_SIZE, device=chosen_device)
    place(bundle.network, chosen_device)
    net = bundle.network.eval()
    work = work_on(images, bundle.preprocessing, chosen_device)
    running = open_engine(net, work, wish, progress=watcher.progress, note=watcher.note)
    batches = follow(loader.evaluation_batches(), "evaluating", len(loader), watcher)
    evaluation = evaluate(net, batches, bundle.classes, running)
    if report_path:
        seconds = time.perf_counter() - started_at
        part = EvaluatedPart(chosen.split, evaluation, gather_mistakes(evaluation, images), chosen.num_trained_on)
        facts = evaluation_facts(
            bundle, folder, data_set.name, images, part, device=chosen_device, way=running.way, started=started, seconds=seconds
        )
        write_evaluation_report(report_path, facts)
    return evaluation


class Chosen(NamedTuple):
    """The pictures to evaluate on, the split they are of, and how many of them the network was trained on."""

    split: str
    images: ImageSet
    num_trained_on: int = 0


def choose_split(data: DataSet, split: str | None, bundle: Bundle, watcher: Watcher) -> Chosen:
    """The pictures to evaluate on, never silently those that were trained on."""
    memory = read_memory(bundle)
    chosen = split or next(name for name in ("test", "val", "all", "train") if name in data.splits)
    source = next((name for name in ("train", "all") if name in data.splits), None)
    if chosen == "val" and "val" not in data.splits and memory and source:
        images = data.splits[source]
        held_out = ~memory.trained_on(images)
        if held_out.all():
            raise DataError(f"--split val: expected a split of its own or what was held out in training, and {data.name} has neither")
        return Chosen(chosen, images.select(np.flatnonzero(held_out)))
    if chosen not in data.splits:
        there = ", ".join(data.splits)
        raise DataError(f"--split {chosen}: expected a split that {data.name} has, which are: {there}; choose one, or leave --split out")
    images = data.splits[chosen]
    trained_on = memory.trained_on(images) if memory and chosen == source else np.zeros(len(images), dtype=bool)
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


def read_memory(bundle: Bundle) -> Memory | None:
    """What the bundle remembers of its training pictures, if anything."""
    data = bundle.provenance.get("data")
    return Memory.from_dict(data.get("memory")) if isinstance(data, dict) else None
