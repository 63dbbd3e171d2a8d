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

ROW = re.compile(r"^\| (\d+)x(\d+) \| (\d+), (\d+) \| ([\d.]+) \| (\d+) \| ([\d.]+) \| (\d+) \|$", re.MULTILINE)
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


def differences(pictures, resize, size, interpolation):
    """Of our pixels from torchvision's, of Pillow's pictures and of tensors."""
    transform = theirs(resize, size, interpolation)
    for picture in pictures:
        found, of_pillow = ours(picture, resize, size, interpolation), np.asarray(transform(picture)).astype(int)
        of_tensors = transform(as_tensor(picture)).permute(1, 2, 0).numpy().astype(int)
        yield abs(found - of_pillow), abs(found - of_tensors)


def test_the_table_is_there():
    assert len(TABLE) == 5
    assert {row[1] > 4 * row[0] for row in TABLE} == {True, False}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]:.0f}x{row[1]:.0f}-{row[2]:.0f}-{row[3]:.0f}")
def test_pixels_differ_as_the_table_says(row, samples):
    width, height, resize, size = map(int, row[:4])
    pictures = [cut(sample, width, height) for sample in samples]
    assert {picture.size for picture in pictures} == {(width, height)}
    found = [np.stack(both) for both in zip(*differences(pictures, resize, size, "bilinear"), strict=True)]
    measured = [function(one) for one in found for function in (np.mean, np.max)]
    print(row[:4], measured)
    assert measured == pytest.approx(row[4:], abs=0.0051)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_are_the_same_to_the_bit_whatever_is_rounded(samples, interpolation):
    random = np.random.default_rng(len(interpolation))
    for number in range(200):
        short = int(random.integers(16, 300))
        sides = [short, int(random.integers(short, min(400, 4 * short) + 1))]
        picture = cut(samples[number % len(samples)], *random.permutation(sides).tolist())
        resize = int(random.integers(16, 300))
        size = int(random.integers(8, resize + 1))
        ((of_pillow, _),) = differences([picture], resize, size, interpolation)
        assert of_pillow.max() == 0, (picture.size, resize, size)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("resize", "size"), [(256, 224), (255, 223), (235, 224 - 1), (96, 96)])
def test_squares_are_the_same_to_the_bit(samples, interpolation, resize, size):
    for sample in samples:
        for side in (300, 299):
            picture = cut(sample, side, side)
            assert np.array_equal(ours(picture, resize, size, interpolation), np.asarray(theirs(resize, size, interpolation)(picture)))
