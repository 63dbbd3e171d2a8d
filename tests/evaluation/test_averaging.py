"""Scores of many views, against averages that are worked out crop by crop, and the same however the work is divided."""

import numpy as np
import pytest
import torch
from PIL import Image

from provenet.data.loader import Loader, Share
from provenet.data.pictures import PictureFiles, PixelArray
from provenet.data.squares import open_squares
from provenet.errors import ImageError, ModelError
from provenet.evaluation.averaging import Cost, Runners, average_views
from provenet.evaluation.evaluate import compute_logits
from provenet.evaluation.views import VIEWS, Views, find_views
from provenet.models.catalog import build_network
from provenet.preprocessing import IMAGENET_PREPROCESSING, Preprocessing

GREY = Preprocessing(size=32, resize=28, channels=1, mean=(0.1,), std=(0.3,))


def net_of(name, **options):
    torch.manual_seed(5)
    net = build_network(name, init="trainable", **options).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    net.get_classifier().weight.data *= 0.1  # not too sure of itself, so that every score counts
    return net


def runners_of(net):
    return Runners(windows=net, maps=net.as_fully_convolutional())


@pytest.fixture
def photographs(tmp_path):
    """Four of different shapes, smooth enough that resizing matters little and large enough to be resized."""
    paths = []
    for seed, size in enumerate([(90, 60), (60, 90), (64, 64), (300, 40)]):
        coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(tmp_path / f"{seed}.png")
        paths.append(f"{seed}.png")
    return PictureFiles(tmp_path, paths)


def probabilities(net, pictures, views, preprocessing, **options):
    found = list(average_views(runners_of(net), pictures, views, preprocessing, **({"num_threads": 2} | options)))
    return torch.cat([part.logits for part in found]).exp(), np.concatenate([part.samples for part in found])


def test_center_is_what_everybody_else_sees(photographs):
    net = net_of("resnet20_cifar")
    preprocessing = net.input_spec.preprocessing.stored_at(36)
    squares, _ = open_squares(photographs, preprocessing, num_threads=1)
    loader = Loader(squares, np.zeros(4, np.int64), preprocessing, batch_size=64)
    expected = torch.cat([logits for logits, _ in compute_logits(net, loader.evaluation_batches())]).double().softmax(1)
    found, _ = probabilities(net, photographs, VIEWS["center"], preprocessing)
    assert torch.allclose(found, expected, rtol=1e-12)


def by_pillow(net, picture, crops, short, mirrored=True):
    """Softmax averaged over crops (left, top, side) of the picture with its shorter side at `short`, by Pillow and nothing of ours."""
    preprocessing = net.input_spec.preprocessing
    width, height = picture.size
    whole = picture.resize((short * width // min(width, height), short * height // min(width, height)), Image.Resampling.BILINEAR)
    scores = []
    for left, top, side in crops:
        crop = whole.crop((left, top, left + side, top + side))
        if side != preprocessing.size:
            crop = crop.resize((preprocessing.size, preprocessing.size), Image.Resampling.BILINEAR)
        for shown in (crop, crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)) if mirrored else (crop,):
            image = torch.from_numpy(np.array(shown)).permute(2, 0, 1).float() / 255
            image = (image - torch.tensor(preprocessing.mean)[:, None, None]) / torch.tensor(preprocessing.std)[:, None, None]
            with torch.inference_mode():
                scores.append(net(image[None])[0].double().softmax(0))
    return torch.stack(scores)


def test_ten_and_144_are_the_mean_of_their_crops(photographs):
    net = net_of("resnet20_cifar")  # sees 32 pixels: 256, 288, 320 and 352 are 37, 41, 46 and 50
    found, order = probabilities(net, photographs, VIEWS["ten"], net.input_spec.preprocessing)
    assert order.tolist() == [0, 1, 2, 3]
    for row, corner in ((0, (10, 0)), (1, (0, 10)), (2, (0, 0))):  # 55x37, 37x55, 37x37: 12 of 55 to the middle window, 2 back
        left, top = corner
        crops = [(left + x, top + y, 32) for x, y in ((0, 0), (5, 0), (0, 5), (5, 5), (2, 2))]
        expected = by_pillow(net, photographs.upright(row, 3), crops, 37).mean(0)
        assert torch.allclose(found[row], expected, atol=1e-6)
    found, _ = probabilities(net, photographs, VIEWS["144"], net.input_spec.preprocessing)
    scores = []
    for short, lefts in ((37, (0, 9, 18)), (41, (0, 10, 20)), (46, (0, 12, 23)), (50, (0, 12, 25))):  # 55, 61, 69 and 75 wide
        far = short - 32
        middle = round(far / 2)
        for left in lefts:
            crops = [(left + x, y, 32) for x, y in ((0, 0), (far, 0), (0, far), (far, far), (middle, middle))]
            scores.append(by_pillow(net, photographs.upright(0, 3), [*crops, (left, 0, short)], short))
    scores = torch.cat(scores)
    assert len(scores) == 144
    assert torch.allclose(found[0], scores.mean(0), atol=1e-6)


@pytest.mark.parametrize(("width", "height"), [(60, 44), (47, 71), (32, 32), (35, 36)])
def test_dense_of_an_unpadded_network_is_the_mean_of_crops_at_its_stride(width, height):
    """LeNet-5 pads nothing and strides 4: class scores over the map are those of every window at every fourth pixel."""
    net = net_of("lenet5_softmax")
    pixels = np.random.default_rng(0).integers(0, 256, (3, height, width), dtype=np.uint8)
    short = min(width, height)
    no_border = Preprocessing(size=32, resize=32, channels=1, mean=(0.1,), std=(0.3,))
    views = find_views(f"dense:{round(short * 224 / 32)}")
    found, _ = probabilities(net, PixelArray(pixels, "noise"), views, no_border)
    for row, picture in enumerate(pixels):
        both = []
        for shown in (picture, picture[:, ::-1]):
            image = no_border.normalise(torch.from_numpy(shown.copy())[None, :, :, None])
            windows = [
                image[:, :, top : top + 32, left : left + 32] for top in range(0, height - 31, 4) for left in range(0, width - 31, 4)
            ]
            with torch.inference_mode():
                both.append(net(torch.cat(windows)).double().mean(0).softmax(0))
        assert torch.allclose(found[row], torch.stack(both).mean(0), atol=1e-6)


@pytest.mark.parametrize("name", ["mirror", "ten", "144", "dense", "dense+crops", "multiscale"])
def test_nothing_depends_on_threads_or_processes_and_little_on_batches(name, photographs, monkeypatch):
    net = net_of("lenet5_softmax", in_channels=3)
    preprocessing = GREY.with_channels(3)
    pictures = PixelArray(np.random.default_rng(1).integers(0, 256, (150, 28, 28, 3), dtype=np.uint8), "noise")
    views = VIEWS[name]
    expected, order = probabilities(net, pictures, views, preprocessing, num_threads=1)
    assert order.tolist() == list(range(150))
    found, _ = probabilities(net, pictures, views, preprocessing, num_threads=5)
    assert torch.equal(found, expected)
    rows = torch.zeros_like(expected)
    for rank in range(3):
        found, order = probabilities(net, pictures, views, preprocessing, share=Share(rank, 3))
        rows[torch.from_numpy(order)] = found
    assert torch.equal(rows, expected)
    monkeypatch.setattr("provenet.evaluation.averaging.BATCH_SIZE", 7)
    found, _ = probabilities(net, pictures, views, preprocessing)
    assert (found - expected).abs().max() < 1e-5


def test_what_it_cost_is_counted(photographs):
    net = net_of("resnet20_cifar")
    cost = Cost()
    probabilities(net, photographs.select(np.array([2])), VIEWS["144"], net.input_spec.preprocessing, cost=cost)
    assert (cost.pictures, cost.passes) == (1, 48.0)  # a square: every view there three times is computed once
    cost = Cost()
    probabilities(net, photographs.select(np.array([0])), VIEWS["dense"], net.input_spec.preprocessing, cost=cost)
    assert cost.passes == 2 * 37 * 55 / 32**2


def test_a_strip_takes_no_memory(tmp_path):
    Image.new("RGB", (20_000, 2), "red").save(tmp_path / "strip.png")
    found, _ = probabilities(
        net_of("resnet20_cifar"), PictureFiles(tmp_path, ["strip.png"]), VIEWS["multiscale"], IMAGENET_PREPROCESSING.with_size(32)
    )
    assert found.sum() == pytest.approx(1)


def test_broken_pictures_are_an_error_or_passed_over(photographs, tmp_path):
    net = net_of("resnet20_cifar")
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"1\.png"):
        probabilities(net, photographs, VIEWS["ten"], net.input_spec.preprocessing)
    cost = Cost()
    found, order = probabilities(net, photographs, VIEWS["ten"], net.input_spec.preprocessing, cost=cost, skip_broken=True)
    assert order.tolist() == [0, 2, 3]
    assert list(cost.broken) == [1]
    assert len(found) == cost.pictures == 3


def test_answers_that_are_no_numbers_are_said(photographs):
    net = net_of("resnet20_cifar")
    net.get_classifier().bias.data[0] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        probabilities(net, photographs, VIEWS["ten"], net.input_spec.preprocessing)


def test_views_are_values():
    assert VIEWS["ten"] == find_views("ten")
    assert isinstance(find_views("dense:256"), Views)
