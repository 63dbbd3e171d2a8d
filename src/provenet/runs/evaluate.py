"""Evaluate a bundle on labelled pictures."""

import os

from provenet.data.index import DataSet, ImageSet, divide
from provenet.data.loader import Loader
from provenet.data.sources import open_data
from provenet.errors import DataError
from provenet.evaluation.evaluate import BATCH_SIZE, evaluate
from provenet.metrics import Evaluation
from provenet.runs.pictures import SPLIT_SEED, open_sound_squares
from provenet.runs.watcher import Silent, Watcher
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

    `split` is `train`, `val`, `test` or `all`; by default `test`, else `val`, else all, except that of the very folder it was
    trained on only the held-out part is used.
    """
    watcher = watcher or Silent()
    bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle)
    chosen_device = choose_device(device)
    data_set = open_data(data, watcher.progress)
    for note in data_set.notes:
        watcher.note(note)
    images = choose_split(data_set, split, bundle, watcher).with_classes(bundle.classes)
    squares, images = open_sound_squares(images, bundle.preprocessing, skip_broken=skip_broken, watcher=watcher)
    loader = Loader(squares, images.labels, bundle.preprocessing, batch_size=BATCH_SIZE, device=chosen_device)
    place(bundle.network, chosen_device)
    return evaluate(bundle.network, loader.evaluation_batches(), bundle.classes)


def choose_split(data: DataSet, split: str | None, bundle: Bundle, watcher: Watcher) -> ImageSet:
    """The pictures to evaluate on, never silently those that were trained on."""
    remembered = bundle.provenance.get("data") or {}
    held_out_from = remembered.get("held_out_from")
    if held_out_from in data.splits and split in (None, "val") and "val" not in data.splits and "test" not in data.splits:
        fraction = bundle.provenance.get("settings", {}).get("run", {}).get("val_fraction")
        divided = divide(data, val_fraction=fraction, seed=SPLIT_SEED) if isinstance(fraction, float) else None
        if divided and divided.val.fingerprint() == remembered.get("fingerprints", {}).get("val"):
            only = f"only the {len(divided.val):,} held-out pictures count (--split all for every one)"
            watcher.note(f"{data.name} is what this network was trained on: {only}")
            return divided.val
    if split is None:
        split = next(name for name in ("test", "val", "all", "train") if name in data.splits)
    if split == "all" and "all" not in data.splits:
        raise DataError(
            f"--split all: expected one folder of classes in {data.name}, found the splits {', '.join(data.splits)}; choose one of them"
        )
    if split not in data.splits:
        raise DataError(f"--split {split}: expected one of {', '.join(data.splits)}, which is what {data.name} has")
    return data.splits[split]
