"""A mean pixel by pixel: what is subtracted, by hand; what is written and read; and what strangers may write."""

import base64
import json
import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from provenet.data.colour import ColourMaps, apply_maps
from provenet.data.distort import distort
from provenet.data.distortion import Distortion
from provenet.data.loader import Loader
from provenet.data.random import Places
from provenet.data.squares import open_squares, stream_squares
from provenet.errors import SettingsError
from provenet.mean_image import MeanImage
from provenet.preprocessing import IMAGENET_PREPROCESSING, Preprocessing

RNG = np.random.default_rng(0)
COLOUR = Preprocessing(size=6, resize=8, channels=3, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
SUMS = RNG.integers(0, 255 * 7 + 1, (6, 6, 3))
LEVELS = SUMS / 7


def with_image(preprocessing=COLOUR, sums=SUMS, count=7, **changes):
    return replace(preprocessing, mean_image=MeanImage.from_sums(sums, count), **changes)


def pack(content):
    return base64.b64encode(zlib.compress(content)).decode()


def test_means_are_exact_to_half_of_a_256th():
    image = MeanImage.from_sums(SUMS, 7)
    assert np.abs(image.levels() - LEVELS).max() <= 1 / 512
    assert MeanImage.from_sums(np.array([[[255 * 10**9]]]), 10**9).levels().item() == 255
    halves = np.array([[[1]], [[3]]]).reshape(1, 2, 1)[:, :1]  # 1/512 of a level is half a part, which rounds up
    assert MeanImage.from_sums(halves, 512).levels().item() == 1 / 256


@pytest.mark.parametrize("order", ["RGB", "BGR"])
@pytest.mark.parametrize("white", [1.0, 255.0])
@pytest.mark.parametrize("num_images", [1, 3])
def test_the_mean_of_its_place_is_subtracted_from_each_pixel(order, white, num_images, monkeypatch):
    monkeypatch.setattr("provenet.preprocessing.VALUES_AT_ONCE", 2 * 6 * 6 * 3)  # two images at once, then one
    preprocessing = with_image(white=white, channel_order=order)
    windows = RNG.integers(0, 256, (num_images, 6, 6, 3), dtype=np.uint8)
    found = preprocessing.normalise(torch.from_numpy(windows))
    means, std = np.rint(LEVELS * 256) / 256, np.array(preprocessing.std)
    step = -1 if order == "BGR" else 1
    by_hand = (windows[..., ::step] - means[..., ::step]) * white / 255 / std
    assert found.shape == (num_images, 3, 6, 6)
    np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), by_hand, rtol=0, atol=2e-6 * white / 0.2)


def test_windows_of_another_size_lose_the_mean_by_channel():
    """As in a network at work on pictures larger than its window."""
    windows = torch.from_numpy(RNG.integers(0, 256, (2, 9, 6, 3), dtype=np.uint8))
    assert torch.equal(with_image().normalise(windows), COLOUR.normalise(windows))
    assert with_image().with_size(12) == COLOUR.with_size(12)
    assert with_image().with_size(6) == with_image()


def test_grey_is_the_mean_of_the_channels():
    grey = with_image().with_channels(1)
    assert np.abs(grey.mean_image.levels() - LEVELS.mean(2, keepdims=True)).max() <= 2 / 512
    assert grey.mean == pytest.approx((0.5,))
    again = grey.with_channels(3).mean_image.levels()
    assert again.shape == (6, 6, 3)
    assert (again == grey.mean_image.levels()).all()


def test_colours_are_cut_off_before_the_mean_is_subtracted():
    windows = torch.from_numpy(RNG.integers(0, 256, (4, 6, 6, 3), dtype=np.uint8))
    planes = windows.permute(3, 0, 1, 2).contiguous().float()
    brighter = ColourMaps(np.repeat(1.7 * np.eye(3)[None], 4, axis=0), np.full((4, 3), -0.1))
    by_hand = ((1.7 * windows.numpy() / 255 - 0.1).clip(0, 1) - with_image().mean_image.levels() / 255) / np.array(COLOUR.std)
    for order, step in (("RGB", 1), ("BGR", -1)):
        preprocessing = with_image(channel_order=order, std=COLOUR.std[::step])
        found = apply_maps(planes, brighter, preprocessing)
        np.testing.assert_allclose(found.permute(0, 2, 3, 1).numpy(), by_hand[..., ::step], rtol=0, atol=3e-6)


def test_an_erased_box_is_the_mean_image():
    places = Places(0, np.zeros(8, np.int64), np.arange(8))
    windows = torch.full((8, 6, 6, 3), 200, dtype=torch.uint8)
    erased = distort(windows, Distortion(erase=1.0, erase_area=(0.2, 0.3)), places, with_image())
    seen = (erased + with_image().mean_by_place(torch.device("cpu")).permute(2, 0, 1)) * torch.tensor(COLOUR.std).view(3, 1, 1) * 255
    means = torch.from_numpy(with_image().mean_image.levels()).permute(2, 0, 1).float().expand_as(seen)
    was_erased = erased == 0
    assert 0.1 < was_erased.float().mean() < 0.4
    torch.testing.assert_close(seen[was_erased], means[was_erased], rtol=0, atol=1e-3)
    torch.testing.assert_close(seen[~was_erased], torch.full_like(seen, 200)[~was_erased], rtol=0, atol=1e-3)


@pytest.mark.parametrize("distortion", [Distortion(), Distortion(shift_pixels=3, mirror=True)])
def test_a_loader_subtracts_it_in_memory_and_on_disk(mini, distortion):
    """Also where the window is larger than the stored square; moved and mirrored pictures lose the mean of where they are shown."""
    images = mini["train"].select(np.arange(300))
    plain = Preprocessing(size=32, resize=28, channels=1, mean=(0.0,), std=(1.0,), white=255.0)
    image = MeanImage.from_sums(RNG.integers(0, 255 * 9, (32, 32, 1)), 9)
    batches = []
    for preprocessing in (plain, replace(plain, mean_image=image)):
        for squares in (
            open_squares(images.pictures, preprocessing, num_threads=1)[0],
            stream_squares(images.pictures, preprocessing, num_threads=2),
        ):
            loader = Loader(squares, images.labels, preprocessing, batch_size=64)
            some = [*loader.training_batches(0, 6, seed=1, distortion=distortion), *loader.evaluation_batches()]
            batches.append(torch.cat([batch.images for batch in some]))
    shown, shown_from_disk, seen, seen_from_disk = batches
    assert torch.equal(shown, shown_from_disk)
    assert torch.equal(seen, seen_from_disk)
    by_hand = shown - torch.from_numpy(image.levels()).permute(2, 0, 1).float()
    assert len(seen) == 684
    torch.testing.assert_close(seen, by_hand, rtol=0, atol=1e-4)


def test_it_goes_through_json_and_old_settings_have_none():
    preprocessing = with_image()
    again = Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict())))
    assert again == preprocessing
    assert again.mean_image.levels().tobytes() == preprocessing.mean_image.levels().tobytes()
    assert hash(again) == hash(preprocessing)
    assert len(repr(again)) < 400
    assert "mean_image" not in COLOUR.to_dict()
    assert Preprocessing.from_dict(COLOUR.to_dict()) == COLOUR
    assert preprocessing.mean_image.fingerprint() == again.mean_image.fingerprint() != with_image(count=8).mean_image.fingerprint()


SOUND = MeanImage.from_sums(SUMS, 7).content
TAMPERED = {
    "no text": (5, "expected 6x6x3 means in at most 377 characters, found no text"),
    "null": (None, "found no text"),
    "empty": ("", "found only a part of them"),
    "not base64": ("猫" * 40, "expected means as base64 of zlib, found something else"),
    "base64 of something else": (base64.b64encode(bytes(40)).decode(), "expected means as base64 of zlib, found something else"),
    "cut short": (base64.b64encode(zlib.compress(SOUND)[:-20]).decode(), "found only a part of them"),
    "without its check": (base64.b64encode(zlib.compress(SOUND)[:-4]).decode(), "found only a part of them"),
    "more after it": (base64.b64encode(zlib.compress(SOUND) + b"x").decode(), "found more after them"),
    "too few": (pack(SOUND[:-2]), r"expected 6x6x3 means, 216 bytes, found 214"),
    "odd": (pack(SOUND[:-1]), "found 215"),
    "too many": (pack(SOUND + bytes(2)), "found more"),
    "a bomb": (pack(bytes(2**18)), "found more"),
    "a long text": ("A" * 10**6, "expected 6x6x3 means in at most 377 characters, found more"),
    "brighter than white": (pack(np.full(108, 255 * 256 + 1, "<u2").tobytes()), "expected means of 0 to 255 grey levels, found larger"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_strangers_write_is_refused_in_a_line(name):
    text, message = TAMPERED[name]
    with pytest.raises(SettingsError, match=message) as caught:
        Preprocessing.from_dict(COLOUR.to_dict() | {"mean_image": text})
    assert str(caught.value).startswith("preprocessing.mean_image: ")
    assert "\n" not in str(caught.value)


def test_a_bomb_takes_no_memory():
    """A quarter of a gigabyte in a third of a megabyte of text, which is less than an image of this shape may take."""
    packer = zlib.compressobj(1)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(256)) + packer.flush()
    text = base64.b64encode(bomb).decode()
    tracemalloc.start()
    with pytest.raises(SettingsError, match=r"expected 512x512x3 means, 1,572,864 bytes, found more"):
        MeanImage.from_text(text, 512, 3)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 2**23


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 513, "resize": 513}, "expected a window of 1 to 512 pixels, found 513"),
        ({"size": 10**9}, "expected a window of 1 to 512 pixels"),
        ({"size": 0}, "expected a window of 1 to 512 pixels, found 0"),
        ({"channels": 2}, "expected 1 .grey. or 3 .colour. channels, found 2"),
        ({"channels": 10**12}, "expected 1 .grey. or 3 .colour. channels"),
        ({"size": 5}, "expected 5x5x3 means in at most 288 characters, found more"),
        ({"channels": 1}, "expected 6x6x1 means in at most 182 characters, found more"),
    ],
)
def test_another_shape_is_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        Preprocessing.from_dict(with_image().to_dict() | changes)


def test_a_mean_image_belongs_to_its_window():
    with pytest.raises(SettingsError, match="expected one of the window, 224x224x3, found 6x6x3; measure it again"):
        replace(IMAGENET_PREPROCESSING, mean_image=with_image().mean_image)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no accelerator")
def test_an_accelerator_subtracts_the_same():
    windows = torch.from_numpy(RNG.integers(0, 256, (5, 6, 6, 3), dtype=np.uint8))
    on_device = with_image().normalise(windows.cuda()).cpu()
    torch.testing.assert_close(on_device, with_image().normalise(windows), rtol=0, atol=1e-5)


def test_the_road_of_accelerators_subtracts_the_same():
    """Its arithmetic, without one: a tensor that says it is elsewhere has no pixels, but shapes and layout are the same."""
    windows = torch.empty(5, 6, 6, 3, dtype=torch.uint8, device="meta")
    found = with_image().normalise(windows)
    assert (found.shape, found.stride(), found.dtype) == (
        (5, 3, 6, 6),
        with_image().normalise(torch.zeros_like(windows, device="cpu")).stride(),
        torch.float32,
    )
