"""Caffe's public nets, written as .caffemodel files, are recognised and give the answers that their layers give.

No published file can be had here; `caffe_oracle` has the layers of the public prototxts and computes them itself.
"""

from functools import partial

import numpy as np
import pytest
import torch
from answers import agree, find_samples
from caffe_oracle import TRAIN, Net, alexnet, googlenet, nin_imagenet, resnet50, vgg16
from PIL import Image

from provenet.deploy.predictor import Predictor
from provenet.weights.importer import import_weights

CLASSES = 20
NETS = [
    ("alexnet_bvlc", partial(alexnet, norm_first=True), 227, False),
    ("caffenet", partial(alexnet, norm_first=False), 227, True),
    ("googlenet", googlenet, 224, False),
    ("googlenet", partial(googlenet, drop_in=TRAIN), 224, True),
    ("vgg16", vgg16, 224, True),
    ("nin_imagenet", nin_imagenet, 224, False),
    ("resnet50_caffe", resnet50, 224, False),
]
"""Ours, the layers, the pictures' side and whether the file is as of before 2014."""
ASIDE = {"googlenet": {f"loss{number}/{layer}" for number in (1, 2) for layer in ("conv", "fc", "classifier")}}
"""Layers that only training uses."""

TWINS = {"alexnet_floor", "caffenet_floor", "vgg16_bn"}
"""At 227 pools that round down are the same as those that round up; and without batch norm of its own a VGG is one with it folded."""


def squares(samples, side: int) -> list[Image.Image]:
    """Photographs as squares of so many pixels, so that nobody has to resize them."""
    return [Image.open(path).convert("RGB").resize((side, side)) for path in samples]


def as_caffe_sees(picture: Image.Image, size: int) -> torch.Tensor:
    """The middle, blue before green before red, 0 to 255, less BVLC's means: [3, size, size]."""
    edge = (picture.width - size) // 2
    pixels = np.asarray(picture)[edge : edge + size, edge : edge + size, ::-1].astype(np.float32)
    return torch.from_numpy(pixels - np.array([104, 117, 123], np.float32)).permute(2, 0, 1)


@pytest.mark.parametrize(("ours", "build", "size", "is_old"), NETS, ids=[f"{ours}{'-old' * is_old}" for ours, _, _, is_old in NETS])
def test_a_caffemodel_gives_the_answers_of_its_layers(ours, build, size, is_old, tmp_path):
    torch.manual_seed(0)
    net = Net(60 * torch.randn(2, 3, size, size))
    with torch.no_grad():
        logits = build(net, CLASSES)
    path = tmp_path / "net.caffemodel"
    net.write(path, old=is_old, size=size)
    bundle, report = import_weights(path)
    assert report.network == ours
    assert set(report.also_fit) <= TWINS
    assert set(report.left_out) == ASIDE.get(ours, set())
    rule = bundle.preprocessing
    assert (rule.size, rule.channel_order, rule.white) == (size, "BGR", 255)
    assert rule.mean == (104, 117, 123)
    pictures = squares(find_samples()[:3], rule.resize)
    seen = torch.cat([Predictor(bundle, device="cpu").see(picture) for picture in pictures])
    fed = torch.stack([as_caffe_sees(picture, size) for picture in pictures])
    torch.testing.assert_close(seen, fed, rtol=0, atol=1e-4)
    with torch.no_grad():
        expected = net.run(fed, logits).flatten(1)
        agree(bundle.network(seen), expected)
        with pytest.raises(AssertionError):  # the order of colours is not a matter of course
            agree(bundle.network(seen), net.run(fed.flip(1), logits).flatten(1))
    path.unlink()
