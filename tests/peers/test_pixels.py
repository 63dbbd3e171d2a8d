"""Evaluation's pixels against torchvision's Resize and CenterCrop, on real photographs: docs/data.md has the table."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

from provenet.data.decode import convert_picture, to_square
from provenet.preprocessing import Preprocessing, window

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
from photographs import find_samples  # noqa: E402

ROW = re.compile(r"^\| (\d+)x(\d+) \| (\d+), (\d+) \| ([\d.]+) \| ([\d.]+) \| (\d+) \| ([\d.]+) \|$", re.MULTILINE)
TABLE = [tuple(map(float, row)) for row in ROW.findall((ROOT / "docs/data.md").read_text(encoding="utf-8"))]


def cut(sample, width, height):
    """Its middle."""
    left, top = (sample.width - width) // 2, (sample.height - height) // 2
    return sample.crop((left, top, left + width, top + height))


@pytest.fixture(scope="module")
def samples():
    return [convert_picture(Image.open(path), 3) for path in find_samples()]


def ours(picture, resize, size, interpolation):
    preprocessing = Preprocessing(size=size, resize=resize, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, interpolation=interpolation)
    return window(torch.from_numpy(to_square(picture, preprocessing).copy())[None], size)[0].numpy().astype(int)


def theirs(resize, size, interpolation):
    return Compose([Resize(resize, InterpolationMode(interpolation), antialias=True), CenterCrop(size)])


def as_tensor(picture):
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)


def shift(length, short, resize, size):
    """How far apart the middles of both windows are along a side, in pixels of the stored square; by the two rules."""
    scaled = int(resize * length / short)
    their_middle = (round((scaled - size) / 2.0) + size / 2) * length / scaled
    our_middle = (length - short) // 2 + ((resize - size) // 2 + size / 2) * short / resize
    return abs(their_middle - our_middle) * resize / short


def test_the_table_is_there():
    assert len(TABLE) == 6
    assert {row[4] == 0 for row in TABLE} == {True, False}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]:.0f}x{row[1]:.0f}-{row[2]:.0f}-{row[3]:.0f}")
def test_pixels_differ_as_the_table_says(row, samples):
    (width, height, resize, size), (moved, mean, largest, tensor_mean) = map(int, row[:4]), row[4:]
    pictures = [cut(sample, width, height) for sample in samples]
    assert {picture.size for picture in pictures} == {(width, height)}
    transform = theirs(resize, size, "bilinear")
    our_pixels = np.stack([ours(picture, resize, size, "bilinear") for picture in pictures])
    of_pillow = np.stack([np.asarray(transform(picture)).astype(int) for picture in pictures])
    of_tensors = np.stack([transform(as_tensor(picture)).permute(1, 2, 0).numpy().astype(int) for picture in pictures])
    short = min(width, height)
    found = max(shift(length, short, resize, size) for length in (width, height))
    differences = abs(our_pixels - of_pillow)
    measured = (round(found, 2), round(differences.mean(), 2), differences.max(), round(abs(our_pixels - of_tensors).mean(), 2))
    print(row[:4], measured)
    assert measured == pytest.approx((moved, mean, largest, tensor_mean), abs=0.011)
    assert abs(of_pillow - of_tensors).max() == 1


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "size"), [(256, 224), (255, 223), (235, 224 - 1), (96, 96)])
def test_squares_are_the_same_to_the_bit(samples, interpolation, resize, size):
    for sample in samples:
        for side in (300, 299):
            picture = cut(sample, side, side)
            assert np.array_equal(ours(picture, resize, size, interpolation), np.asarray(theirs(resize, size, interpolation)(picture)))
