"""Training batches of random crops from JPEG photographs, beside torch's DataLoader with two workers and Pillow.

    python bench/crops.py [--photographs FOLDER] [--large-photographs FOLDER] [--only D1] [--quick]

Each side makes whole epochs of normalised float32 [16, 3, 224, 224] and labels: a part of 8 to 100 % of the area, aspect 3/4 to 4/3,
mirrored by chance, each drawn by its own rule (the baseline's draws again until a box fits, so its boxes are smaller; both means are
printed). Ours decodes in two threads of this process, the baseline in two processes that stay between epochs. First, what we cut from a
photograph decoded no larger than needed is compared with what Pillow resizes of the same box of the whole photograph. The allocator keeps
large blocks for both sides. Photographs are written where there are none, see photographs.py.
"""

import argparse
import os
import time
from collections.abc import Iterable
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from photographs import describe_photographs, photographs
from provenet.data.boxes import Box, choose_reduction, draw_box, place_on_grid
from provenet.data.distortion import Distortion
from provenet.data.index import ImageSet
from provenet.data.loader import Loader
from provenet.data.pictures import PictureFiles
from provenet.preprocessing import IMAGENET_PREPROCESSING
from provenet.runtime import prepare_process
from turns import print_setting, print_table, ratio_row, show_number, take_turns
from usual import UsualPhotographs, draw_usual_box

BATCH_SIZE, NUM_WORKERS, SIDE_PIXELS = 16, 2, 224
DISTORTION = Distortion(crop="area", area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), mirror=True)
BOXES_CHECKED, QUICK_BOXES_CHECKED = 480, 48
LARGEST_MEAN_DIFFERENCE = 1.0  # grey steps, over all boxes
ODD_DIFFERENCE = 3.0  # grey steps; a box that differs so much is shown
CASES = {  # width, height, photographs, how often each is in an epoch, rounds, goals
    "D1": (500, 375, 600, 2, 11, "1.6, 2.1, 3"),
    "D2": (4000, 3000, 24, 2, 7, "3, 3.8, 8"),
}


def main() -> None:
    """Both sizes: check, take turns, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, help="folder of JPEGs of 500x375")
    parser.add_argument("--large-photographs", type=Path, help="folder of JPEGs of 4000x3000")
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--quick", action="store_true", help="few rounds of few photographs")
    options = parser.parse_args()
    prepare_process()
    print_setting(f"Crops: random-resized {SIDE_PIXELS} px, batches of {BATCH_SIZE}, {NUM_WORKERS} threads beside {NUM_WORKERS} workers")
    folders = {"D1": options.photographs, "D2": options.large_photographs}
    rows = []
    for case, (width, height, number, repeats, rounds, goal) in CASES.items():
        if options.only in (None, case):
            if options.quick:
                number, repeats, rounds = number // 3, 1, 1
            with photographs(folders[case], count=number, width=width, height=height) as paths:
                print(f"{case}: {describe_photographs(paths)}, each {repeats} times an epoch")
                _check(paths, QUICK_BOXES_CHECKED if options.quick else BOXES_CHECKED)
                rows.append(_compare(case, paths * repeats, rounds, goal))
    print_table(["", "ours, images/s", "DataLoader, images/s", "ratio", "rounds", "floor, target, moonshot"], rows)


def _check(paths: list[Path], boxes: int) -> None:
    """Boxes drawn by our rule, cut by us and resized by Pillow: the mean difference of a pixel in grey steps, by reduction."""
    numbers = np.random.default_rng(0)
    images = _image_set(paths)
    differences: dict[int, list[float]] = {}
    areas: list[float] = []
    chosen: list[Box] = []
    used = paths[: min(len(paths), boxes, 120)]
    for index, path in enumerate(used):
        with Image.open(path) as opened:
            whole = opened.convert("RGB")
        for _ in range(-(-boxes // len(used))):
            words = numbers.integers(0, 2**32, 4).tolist()

            def choose(width: int, height: int, words: list[int] = words) -> Box:
                chosen.append(draw_box(DISTORTION, IMAGENET_PREPROCESSING, words, width, height))
                return chosen[-1]

            ours = images.pictures.crop(index, choose, SIDE_PIXELS, IMAGENET_PREPROCESSING)
            reduction = choose_reduction(chosen[-1], SIDE_PIXELS)
            left, top, width, height = place_on_grid(chosen[-1], reduction)
            box = (left, top, min(left + width, whole.width), min(top + height, whole.height))
            theirs = np.asarray(whole.resize((SIDE_PIXELS, SIDE_PIXELS), Image.Resampling.BILINEAR, box=box))
            difference = float(np.abs(ours.astype(np.int16) - theirs.astype(np.int16)).mean())
            differences.setdefault(reduction, []).append(difference)
            if difference > ODD_DIFFERENCE:
                print(f"Odd: {difference:.1f} grey steps in {path.name}, decoded at 1/{reduction}, {chosen[-1]}")
            areas.append(width * height / whole.width / whole.height)
    rows = [
        [f"1/{reduction}", str(len(found)), f"{np.mean(found):.3f}", f"{max(found):.3f}"]
        for reduction, found in sorted(differences.items())
    ]
    print_table(["decoded at", "boxes", "mean difference, grey steps", "worst photograph"], rows)
    mean = float(np.mean([value for found in differences.values() for value in found]))
    assert mean < LARGEST_MEAN_DIFFERENCE, (
        f"expected less than {LARGEST_MEAN_DIFFERENCE} grey steps between ours and Pillow's, found {mean}"
    )
    torch.manual_seed(0)
    usual = [draw_usual_box(whole.width, whole.height) for _ in range(2_000)]
    usual_area = float(np.mean([width * height / whole.width / whole.height for _, _, width, height in usual]))
    print(f"Mean part of the area in a box: ours {np.mean(areas):.2f}, the baseline's {usual_area:.2f}.\n", flush=True)


def _compare(case: str, paths: list[Path], rounds: int, goal: str) -> list[str]:
    images = _image_set(paths)
    mean_and_std: dict[str, tuple[float, float]] = {}
    loader = Loader.of(images, IMAGENET_PREPROCESSING, batch_size=BATCH_SIZE, num_threads=NUM_WORKERS, distortion=DISTORTION)
    usual = DataLoader(
        UsualPhotographs(paths, images.labels.tolist(), SIDE_PIXELS),
        num_workers=NUM_WORKERS,
        batch_size=BATCH_SIZE,
        shuffle=True,
        persistent_workers=True,
    )
    steps, epochs = -(-len(paths) // BATCH_SIZE), count()

    def ours() -> float:
        epoch = next(epochs)
        batches = loader.training_batches(epoch * steps, (epoch + 1) * steps)
        return _images_a_second(batches, partial(mean_and_std.__setitem__, "ours"))

    def theirs() -> float:
        return _images_a_second(usual, partial(mean_and_std.__setitem__, "the baseline's"))

    found = take_turns({"ours": ours, "theirs": theirs}, rounds)
    shown = "; ".join(f"{side} {show_number(mean)} and {show_number(std)}" for side, (mean, std) in mean_and_std.items())
    print(f"Mean and deviation of the pixels of the last epoch's first batch: {shown}.\n", flush=True)
    return ratio_row(case, found["ours"], found["theirs"], goal)


def _images_a_second(batches: Iterable[tuple[Tensor, Tensor]], note: "partial[None]") -> float:
    started, seen, first = time.perf_counter(), 0, None
    for images, labels in batches:
        first = images if first is None else first
        seen += len(images)
        assert images.dtype == torch.float32
        assert images.shape[1:] == (3, SIDE_PIXELS, SIDE_PIXELS)
        assert len(labels) == len(images)
    seconds = time.perf_counter() - started
    assert first is not None
    note((float(first.mean()), float(first.std())))
    return seen / seconds


def _image_set(paths: list[Path]) -> ImageSet:
    """Classes are the folders."""
    root = Path(os.path.commonpath([path.parent for path in paths]))
    classes = sorted({path.parent.name for path in paths})
    labels = np.array([classes.index(path.parent.name) for path in paths], np.int64)
    return ImageSet("photographs", tuple(classes), labels, PictureFiles(root, [str(path.relative_to(root)) for path in paths]))


if __name__ == "__main__":
    main()
