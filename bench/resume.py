"""Going on at 90 % of an epoch of a million samples, beside skipping through what was seen before.

    python bench/resume.py [--quick]

Ours: a new loader, its state loaded, the first batch. Beside it: the same loader read from the start of the epoch, and torch's DataLoader
over a cheap data set read from the start. The next 100 batches must be bit for bit those of the run that was not interrupted. Every picture
is its own number, so no two are alike. Then the same place in the order of ten thousand million samples.
"""

import argparse
import json
import time
from collections import deque
from collections.abc import Iterable
from itertools import count, islice

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from provenet.data.loader import Batch, Loader
from provenet.data.order import Order
from provenet.data.pictures import PixelArray
from provenet.data.squares import open_squares
from provenet.preprocessing import Preprocessing
from provenet.runtime import prepare_process
from turns import divide, print_setting, print_table, show_number, show_spread, take_turns

ROUNDS = 7
SAMPLES, QUICK_SAMPLES, BATCH_SIZE, SIDE_PIXELS = 1_000_000, 300_000, 128, 2
BATCHES_COMPARED = 100
MANY_SAMPLES, ORDER_ROUNDS = 10**10, 101
PREPROCESSING = Preprocessing(size=SIDE_PIXELS, resize=SIDE_PIXELS, channels=1, mean=(0.0,), std=(1.0,), white=255.0)
GOAL = "100, 1,000"


class NumberedPixels(Dataset[tuple[Tensor, int]]):
    """An item costs next to nothing: a view of one tensor and a number."""

    def __init__(self, pixels: Tensor, labels: list[int]) -> None:
        self.pixels, self.labels = pixels, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.pixels[index], self.labels[index]


def main() -> None:
    """Take turns, compare the batches, print the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds of fewer samples")
    quick = parser.parse_args().quick
    prepare_process()
    samples, rounds = (QUICK_SAMPLES, 1) if quick else (SAMPLES, ROUNDS)
    step = samples * 9 // 10 // BATCH_SIZE
    print_setting(f"Resume: step {step:,} of an epoch of {samples:,} samples, batches of {BATCH_SIZE}")

    pixels = np.arange(samples, dtype="<u4").view(np.uint8).reshape(samples, SIDE_PIXELS, SIDE_PIXELS, 1)
    labels = np.arange(samples, dtype=np.int64) % 1000
    squares, _ = open_squares(PixelArray(pixels, "numbers"), PREPROCESSING, num_threads=1)
    usual = DataLoader(
        NumberedPixels(torch.from_numpy(pixels).permute(0, 3, 1, 2).float(), labels.tolist()), batch_size=BATCH_SIZE, shuffle=True
    )
    seeds = count()
    compared: list[int] = []

    def new_loader(seed: int) -> Loader:
        return Loader(squares, labels, PREPROCESSING, batch_size=BATCH_SIZE, seed=seed)

    seconds: dict[str, list[float]] = {"ours": [], "our own loader": [], "DataLoader": []}

    def take_ours_and_skip() -> float:
        """One seed a round, so that nothing is left over from the one before; -> the seconds of the skipping side."""
        seed = next(seeds)
        state = json.loads(json.dumps({**new_loader(seed).state_dict(), "next_step": step}))
        started = time.perf_counter()
        resumed = new_loader(seed)
        resumed.load_state_dict(state)
        batches = iter(resumed)
        first = next(batches)
        seconds["ours"].append(time.perf_counter() - started)
        after = [first, *islice(batches, BATCHES_COMPARED - 1)]

        uninterrupted = new_loader(seed)
        started = time.perf_counter()
        batches = iter(uninterrupted)
        _skip(batches, step)
        assert uninterrupted.state_dict() == state
        first = next(batches)
        took = time.perf_counter() - started
        _check_equal([first, *islice(batches, BATCHES_COMPARED - 1)], after)
        compared.append(len(after))
        return took

    def skip_through_data_loader() -> float:
        started = time.perf_counter()
        batches = iter(usual)
        _skip(batches, step)
        next(batches)
        return time.perf_counter() - started

    found = take_turns({"our own loader": take_ours_and_skip, "DataLoader": skip_through_data_loader}, rounds)
    found["ours"] = seconds["ours"][1:]
    print(f"Checked: {sum(compared):,} batches in {len(compared)} rounds equal bit for bit.\n")
    rows = [
        [f"D4: {name}", *(show_spread([1e3 * value for value in found[side]]) for side in ("ours", name)), ratio, str(rounds), GOAL]
        for name in ("our own loader", "DataLoader")
        for ratio in [f"**{show_spread(divide(found[name], found['ours']))}**"]
    ]
    print_table(["skipping through", "resumed, ms", "skipped, ms", "times faster", "rounds", "floor, target"], rows)
    times = [1e3 * _time_order(seed) for seed in range(ORDER_ROUNDS + 1)][1:]
    print(f"A batch at 90 % of {MANY_SAMPLES:,} samples: {show_spread(times)} ms, {ORDER_ROUNDS} rounds; moonshot < {show_number(10)} ms.")


def _skip(batches: Iterable[object], number: int) -> None:
    deque(islice(batches, number), maxlen=0)


def _check_equal(uninterrupted: list[Batch], resumed: list[Batch]) -> None:
    assert len(uninterrupted) == len(resumed) == BATCHES_COMPARED
    for there, here in zip(uninterrupted, resumed, strict=True):
        assert torch.equal(there.images, here.images)
        assert torch.equal(there.labels, here.labels)


def _time_order(seed: int) -> float:
    started = time.perf_counter()
    order = Order(MANY_SAMPLES, seed)
    samples = order.samples(order.places(MANY_SAMPLES * 9 // 10, BATCH_SIZE))
    took = time.perf_counter() - started
    assert len(np.unique(samples)) == BATCH_SIZE
    return took


if __name__ == "__main__":
    main()
