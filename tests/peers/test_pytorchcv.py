"""pytorchcv's networks with our weights, where they differ from the papers brought back to them, by layers of PyTorch only."""

import pytest
from pytorchcv.models import alexnet as pytorchcv_alexnet
from pytorchcv.models import nin_cifar as pytorchcv_nin
from pytorchcv.models import zfnet as pytorchcv_zfnet
from torch import nn

from comparison import PIXELS, copy_in_order, make_images, randomise
from provenet.models.catalog import build_network

# PyTorch divides alpha by the number of neighbours; these are five times the constants of the paper, and of CaffeNet.
PAPERS_NORM = {"alpha": 5e-4, "k": 2.0}
CAFFENET_NORM = {"alpha": 1e-4, "k": 1.0}


def normalise(net: nn.Module, *, norm_first: bool, alpha: float, k: float) -> None:
    """Give the first two stages a norm of these constants, before or after their pool.

    pytorchcv normalises first throughout, and its alpha is a fifth of the paper's.
    """
    for stage in (net.features.stage1, net.features.stage2):
        conv, pool = stage
        conv.use_lrn = False
        norm = nn.LocalResponseNorm(5, alpha=alpha, beta=0.75, k=k)
        stage.pop(1)
        stage.extend((norm, pool) if norm_first else (pool, norm))


def divide(net: nn.Module) -> None:
    """The second, fourth and fifth convolution in two groups, as on the two machines of the paper; pytorchcv has one tower."""
    for unit in (net.features.stage2.unit1, net.features.stage3.unit2, net.features.stage3.unit3):
        conv = unit.conv
        unit.conv = nn.Conv2d(conv.in_channels, conv.out_channels, conv.kernel_size, padding=conv.padding, groups=2)


@pytest.mark.parametrize(
    ("name", "groups", "norm_first", "norm", "adapted"),
    [
        ("alexnet", 2, True, PAPERS_NORM, "two groups, alpha"),
        ("alexnet_one_tower", 1, False, PAPERS_NORM, "pool before norm, alpha"),
        ("caffenet", 2, False, CAFFENET_NORM, "two groups, pool before norm, k"),
    ],
)
def test_alexnet(name, groups, norm_first, norm, adapted, comparisons):
    ours, theirs = build_network(name, num_classes=10, init="trainable"), pytorchcv_alexnet.alexnet(num_classes=10)
    if groups == 2:
        divide(theirs)
    normalise(theirs, norm_first=norm_first, **norm)
    images = make_images(ours, scale=PIXELS)
    copy_in_order(randomise(ours, images), theirs)
    comparisons.modules_agree(f"pytorchcv alexnet ({adapted})", ours, theirs, images)


def test_alexnet_owt(comparisons):
    ours, theirs = build_network("alexnet_owt", num_classes=10, init="trainable"), pytorchcv_alexnet.alexnetb(num_classes=10)
    images = make_images(ours)
    copy_in_order(randomise(ours, images), theirs)
    comparisons.modules_agree("pytorchcv alexnetb", ours, theirs, images)


@pytest.mark.parametrize(("name", "their_name"), [("zfnet", "zfnet"), ("zfnet_big", "zfnetb")])
def test_zfnet(name, their_name, comparisons):
    ours, theirs = build_network(name, num_classes=10, init="trainable"), getattr(pytorchcv_zfnet, their_name)(num_classes=10)
    normalise(theirs, norm_first=False, **PAPERS_NORM)
    images = make_images(ours, scale=PIXELS)
    copy_in_order(randomise(ours, images), theirs)
    comparisons.modules_agree(f"pytorchcv {their_name} (pool before norm, alpha)", ours, theirs, images)


def test_nin_cifar(comparisons):
    ours, theirs = build_network("nin_cifar", init="trainable"), pytorchcv_nin.nin_cifar10()
    # pytorchcv pads its pools by one; the authors' software pads none and rounds up
    theirs.features.stage2.pool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    theirs.features.stage3.pool3 = nn.AvgPool2d(3, stride=2, ceil_mode=True)
    images = make_images(ours)
    copy_in_order(randomise(ours, images), theirs)
    comparisons.modules_agree("pytorchcv nin_cifar10 (pools round up)", ours, theirs, images)
