"""What a checkup measures: channels against numpy, sizes and shapes by hand, the time of a pass."""

import numpy as np
import pytest
from PIL import Image

from conftest import build_flowers, photo, take
from provenet.checkup.channels import ChannelTotals
from provenet.data.sources import open_data
from provenet.preprocessing import CIFAR_PREPROCESSING
from provenet.runs.normalisation import measure


def test_channels_are_those_of_the_centred_squares_each_picture_alike(tmp_path):
    pictures = [Image.open(photo(tmp_path / f"{seed}.png", seed, size)) for seed, size in enumerate([(40, 40), (90, 33), (20, 64)])]
    squares = [np.asarray(pictures[0]), np.asarray(pictures[1])[:, 28:61], np.asarray(pictures[2])[22:42]]
    totals = sum((ChannelTotals.of(picture) for picture in pictures), ChannelTotals())
    mean = np.mean([(square / 255).mean((0, 1)) for square in squares], axis=0)
    square = np.mean([((square / 255) ** 2).mean((0, 1)) for square in squares], axis=0)
    assert totals.mean == pytest.approx(mean, abs=1e-9)
    assert totals.std == pytest.approx(np.sqrt(square - mean**2), abs=1e-9)
    assert sum((ChannelTotals.of(picture) for picture in reversed(pictures)), ChannelTotals()) == totals


def test_two_roads_to_the_channels_of_the_training_pictures(tmp_path, check):
    """A checkup and training measure the same where the pictures are of the network's size."""
    root = build_flowers(tmp_path / "flowers")
    measured = measure(CIFAR_PREPROCESSING.with_size(40), "mean and deviation", None, open_data(root).splits["train"])
    told = check(root).to_dict()["channels"]
    assert told["pictures"] == 44
    assert told["mean"] == pytest.approx(measured.mean, abs=6e-5)
    assert told["std"] == pytest.approx(measured.std, abs=6e-5)


def test_grey_pictures_have_one_channel(mini, tmp_path, check, class_folders):
    checkup = check(class_folders(per_class=25, classes=2))
    assert len(checkup.to_dict()["channels"]["mean"]) == 1
    assert "0 to 1 (grey): mean 0." in str(checkup)
    assert take(mini["train"], 1).pictures.native_channels() == 1


def test_histograms_of_sizes_and_shapes(tmp_path, check):
    root = build_flowers(tmp_path / "flowers")
    for seed, size in enumerate([(400, 300), (300, 400), (320, 180), (600, 128), (64, 64)]):
        photo(root / "train" / "daisy" / f"more{seed}.png", 9_000 + seed, size)
    checkup = check(root)
    histograms = checkup.to_dict()["histograms"]
    sides, shapes = histograms["shorter_side"], histograms["aspect_ratio"]
    assert len(sides["edges"]) == len(sides["counts"]) + 1
    assert len(shapes["edges"]) == len(shapes["counts"]) + 1
    assert sum(sides["counts"]) == sum(shapes["counts"]) == 59
    assert {edge: count for edge, count in zip(sides["edges"], sides["counts"], strict=False) if count} == {
        32: 54, 64: 1, 128: 2, 256: 2,
    }  # fmt: skip
    text = str(checkup)
    assert "shorter side in pixels: 32-47 54, 64-95 1, 128-191 2, 256-383 2" in text
    assert "width to height: 3:4 1, 1:1 55, 4:3 1, 16:9 1, over 4:1 1" in text
    page = checkup.page.read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert page.count("<rect") == 7 + 8  # from the first span that has any to the last


def test_the_time_of_a_pass_is_measured_where_there_is_something_to_decode(tmp_path, check):
    checkup = check(build_flowers(tmp_path / "flowers"))
    decoding = checkup.to_dict()["decoding"]
    assert 0 < decoding["seconds"] < 60
    assert f"to decode with {decoding['threads']} thread" in str(checkup)
    assert "the network's own time comes on top" in str(checkup)
    arrays = check("fashion-mini")
    assert arrays.to_dict()["decoding"] is None
    assert "to decode" not in str(arrays)
    assert "not among 7,000 of less than 48 pixels a side" in str(arrays)
