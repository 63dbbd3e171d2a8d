"""Evaluate a bundle on labelled pictures."""

import os

import numpy as np

from provenet.data.holdout import Memory
from provenet.data.index import DataSet, ImageSet
from provenet.data.loader import Loader
from provenet.data.sources import open_data
from provenet.errors import DataError
from provenet.evaluation.evaluate import BATCH_SIZE, evaluate
from provenet.metrics import Evaluation
from provenet.runs.pictures import open_sound_squares
from provenet.runs.watcher import Silent, Watcher, follow
from provenet.runtime import choose_device, place
from provenet.weights.bundle import Bundle, load_bundle


def evaluate_bundle(
    bundle: Bundle | str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    split: str | None = None,
    skip_broken: bool = False,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Evaluation:
    """How often the network is right on pictures it was not trained on. Classes are joined by name.

    `split` is `train`, `val`, `test` or `all`; by default `test`, else `val`, else all, but of the folder it was trained on only what
    was held out. `val` also finds what was held out of a set that has no validation pictures of its own.
    """
    watcher = watcher or Silent()
    bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    chosen_device = choose_device(device)
    data_set = open_data(data, watcher.progress)
    for note in data_set.notes:
        watcher.note(note)
    images = choose_split(data_set, split, bundle, watcher).with_classes(bundle.classes)
    squares, images = open_sound_squares(images, bundle.preprocessing, skip_broken=skip_broken, must_keep_classes=False, watcher=watcher)
    loader = Loader(squares, images.labels, bundle.preprocessing, batch_size=BATCH_SIZE, device=chosen_device)
    place(bundle.network, chosen_device)
    batches = follow(loader.evaluation_batches(), "evaluating", len(loader), watcher)
    return evaluate(bundle.network, batches, bundle.classes)


def choose_split(data: DataSet, split: str | None, bundle: Bundle, watcher: Watcher) -> ImageSet:
    """The pictures to evaluate on, never silently those that were trained on."""
    memory = read_memory(bundle)
    chosen = split or next(name for name in ("test", "val", "all", "train") if name in data.splits)
    source = next((name for name in ("train", "all") if name in data.splits), None)
    if chosen == "val" and "val" not in data.splits and memory and source:
        images = data.splits[source]
        held_out = ~memory.trained_on(images)
        if held_out.all():
            raise DataError(f"--split val: expected a split of its own or what was held out in training, and {data.name} has neither")
        return images.select(np.flatnonzero(held_out))
    if chosen not in data.splits:
        there = ", ".join(data.splits)
        raise DataError(f"--split {chosen}: expected a split that {data.name} has, which are: {there}; choose one, or leave --split out")
    images = data.splits[chosen]
    trained_on = memory.trained_on(images) if memory and chosen == source else np.zeros(len(images), dtype=bool)
    if not trained_on.any():
        return images
    count = f"{trained_on.sum():,} of the {len(images):,} pictures of {images.name}"
    if split:
        watcher.note(f"{count} were trained on: this is no measure of what the network does with new ones")
        return images
    if trained_on.all():
        raise DataError(f"{images.name}: expected pictures that were not trained on, found none; give others, or --split {chosen}")
    watcher.note(f"{count} were trained on and do not count (--split {chosen} for every one)")
    return images.select(np.flatnonzero(~trained_on))


def read_memory(bundle: Bundle) -> Memory | None:
    """What the bundle remembers of its training pictures, if anything."""
    data = bundle.provenance.get("data")
    return Memory.from_dict(data.get("memory")) if isinstance(data, dict) else None
