"""Training batches of a small set that is in memory, 60,000 grey pictures of 28x28, beside torch's DataLoader without workers.

    python bench/in_memory.py [--quick]

Each side makes one epoch of normalised float32 [128, 1, 28, 28] and labels, shuffled anew. The allocator keeps large blocks for all sides.
"""

import argparse
import time
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from provenet.data.builtin import DEBIAN_FOLDER
from provenet.data.idx import find_idx
from provenet.data.loader import Loader
from provenet.data.order import Order
from provenet.data.pictures import PixelArray
from provenet.data.sources import open_data
from provenet.data.squares import open_squares
from provenet.preprocessing import Preprocessing
from provenet.runtime import prepare_process
from turns import print_setting, print_table, ratio_row, take_turns
from usual import UsualGreyArray

ROUNDS = 11
SAMPLES, QUICK_SAMPLES, BATCH_SIZE, SIDE_PIXELS = 60_000, 12_000, 128, 28
MEAN, STD = 0.2860, 0.3530
PREPROCESSING = Preprocessing(size=SIDE_PIXELS, resize=SIDE_PIXELS, channels=1, mean=(MEAN,), std=(STD,))
GOALS = {"a data set item by item": "30, 60, 100", "TensorDataset of float32": "9, 14, 20"}


def main() -> None:
    """Check that all sides give the same pictures, take turns, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds of few pictures")
    quick = parser.parse_args().quick
    prepare_process()
    samples, rounds = (QUICK_SAMPLES, 2) if quick else (SAMPLES, ROUNDS)

    data = open_data("fashion-mnist" if len(find_idx(DEBIAN_FOLDER)) == 2 else "fashion-mini")
    images = data.splits["train"]
    images = images.select(np.arange(samples) % len(images))
    assert isinstance(images.pictures, PixelArray)
    squares, _ = open_squares(images.pictures, PREPROCESSING, num_threads=1)
    loader = Loader(squares, images.labels, PREPROCESSING, batch_size=BATCH_SIZE)
    item_by_item = UsualGreyArray(images.pictures.pixels[..., 0], images.labels, MEAN, STD)
    floats = torch.stack([item_by_item[number][0] for number in range(samples)])
    sets = {"a data set item by item": item_by_item, "TensorDataset of float32": TensorDataset(floats, torch.from_numpy(images.labels))}
    usual = {name: DataLoader(data_set, batch_size=BATCH_SIZE, shuffle=True) for name, data_set in sets.items()}

    print_setting(f"In memory: {samples:,} of {data.name}, {SIDE_PIXELS}x{SIDE_PIXELS} grey, batches of {BATCH_SIZE}")
    _check(loader, floats, images.labels)
    steps = -(-samples // BATCH_SIZE)
    epochs = iter(range(1, 10**6))  # a new one each time, as in training: its order is made anew

    def ours() -> float:
        epoch = next(epochs)
        return _images_a_second(loader.training_batches(epoch * steps, (epoch + 1) * steps))

    found = take_turns({"ours": ours, **{name: lambda side=side: _images_a_second(side) for name, side in usual.items()}}, rounds)  # type: ignore[misc]
    rows = [ratio_row(name, found["ours"], found[name], GOALS[name]) for name in usual]
    print_table(["D3: baseline", "ours, images/s", "baseline, images/s", "ratio", "rounds", "floor, target, moonshot"], rows)


def _images_a_second(batches: Iterable[tuple[Tensor, Tensor] | list[Tensor]]) -> float:
    started, seen = time.perf_counter(), 0
    for images, labels in batches:
        seen += len(images)
        assert len(images) == len(labels)
    return seen / (time.perf_counter() - started)


def _check(loader: Loader, floats: Tensor, labels: NDArray[np.int64]) -> None:
    """One epoch of ours has every picture once, each as the baseline has it."""
    samples, at, largest = len(labels), 0, 0.0
    steps = -(-samples // BATCH_SIZE)
    sequence = Order(samples, 0)
    order = torch.from_numpy(sequence.samples(sequence.places(0, steps * BATCH_SIZE)))
    for images, found in loader.training_batches(0, steps):
        assert images.dtype == torch.float32
        assert images.shape[1:] == floats.shape[1:]
        here = order[at : at + len(images)]
        assert torch.equal(found, torch.from_numpy(labels)[here])
        largest = max(largest, float((images - floats[here]).abs().max()))
        at += len(images)
    assert sorted(order[:samples].tolist()) == list(range(samples))
    assert largest < 1e-5, largest
    print(f"Checked: every picture once an epoch, labels equal, pixels within {largest:.1e} of the baseline's.\n", flush=True)


if __name__ == "__main__":
    main()
