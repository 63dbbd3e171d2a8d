"""torchvision's networks with our weights."""

import pytest
import torch
import torchvision.models as torchvision
from torch import nn

from comparison import copy_in_order, make_images, randomise
from provenet.models.catalog import build_network

SMALLER = 160  # pixels; neither minds another size than 224
RESNETS = {"resnet18": "resnet18", "resnet34": "resnet34", **{f"resnet{depth}_v1_5": f"resnet{depth}" for depth in (50, 101, 152)}}


@pytest.mark.parametrize(("name", "their_name"), RESNETS.items())
def test_resnet(name, their_name, comparisons):
    ours, theirs = build_network(name, num_classes=10), getattr(torchvision, their_name)(num_classes=10)
    images = make_images(ours)
    copy_in_order(randomise(ours, images), theirs)
    comparisons.modules_agree(f"torchvision {their_name}", ours, theirs, images, make_images(ours, SMALLER))


def test_alexnet(comparisons):
    ours, theirs = build_network("alexnet_owt", num_classes=10, init="trainable"), torchvision.alexnet(num_classes=10)
    images = make_images(ours)
    copy_in_order(randomise(ours, images), theirs)
    comparisons.modules_agree("torchvision alexnet", ours, theirs, images, make_images(ours, SMALLER))


@pytest.mark.parametrize("suffix", ["", "_bn"])
@pytest.mark.parametrize("depth", [11, 13, 16, 19])
def test_vgg(depth, suffix, comparisons):
    ours = build_network(f"vgg{depth}{suffix}", num_classes=10, init="trainable")
    theirs = getattr(torchvision, f"vgg{depth}{suffix}")(num_classes=10, init_weights=False)
    images = make_images(ours)
    copy_in_order(randomise(ours, images), theirs)
    comparisons.modules_agree(f"torchvision {ours.name}", ours, theirs, images, make_images(ours, SMALLER))


def copy_googlenet(ours, theirs):
    """By the authors' names of our layers and torchvision's of its own, where a unit is a convolution and its batch norm."""
    units = {
        "conv1": "conv1/7x7_s2",
        "conv2": "conv2/3x3_reduce",
        "conv3": "conv2/3x3",
        "aux1.conv": "loss1/conv",
        "aux2.conv": "loss2/conv",
    }
    branches = {"1": "1x1", "2.0": "3x3_reduce", "2.1": "3x3", "3.0": "5x5_reduce", "3.1": "5x5", "4.1": "pool_proj"}
    for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        units |= {f"inception{module}.branch{branch}": f"inception_{module}/{layer}" for branch, layer in branches.items()}
    full = {"fc": "loss3/classifier"}
    for head in (1, 2):
        full |= {f"aux{head}.fc1": f"loss{head}/fc", f"aux{head}.fc2": f"loss{head}/classifier"}
    copied = 0
    for their_name, our_name in (units | full).items():
        path = ours.authors_names[our_name]
        source, target = ours.get_submodule(path.removesuffix(".conv") if their_name in units else path), theirs.get_submodule(their_name)
        copy_in_order(source, target)
        copied += len(target.state_dict())
    assert copied == len(theirs.state_dict())


def test_googlenet(comparisons):
    ours = build_network("googlenet_bn", num_classes=10, init="trainable")
    theirs = torchvision.googlenet(num_classes=10, aux_logits=True, init_weights=False)
    images = make_images(ours)
    randomise(ours, images)
    copy_googlenet(ours, theirs)
    comparisons.modules_agree("torchvision googlenet", ours, theirs, images, make_images(ours, SMALLER))


def test_googlenet_in_training(comparisons):
    ours = build_network("googlenet_bn", num_classes=10, init="trainable")
    theirs = torchvision.googlenet(num_classes=10, aux_logits=True, init_weights=False)
    images = make_images(ours)
    randomise(ours, images)
    copy_googlenet(ours, theirs)
    for layer in (*ours.modules(), *theirs.modules()):
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0

    def logits(dtype):
        (weight, main), *heads = ours.train().to(dtype).training_logits(images.to(dtype))
        assert (weight, [head_weight for head_weight, _ in heads]) == (1.0, [0.3, 0.3])
        their_main, their_second, their_first = theirs.train().to(dtype)(images.to(dtype))
        return torch.stack([main, *(head for _, head in heads)]), torch.stack([their_main, their_first, their_second])

    comparisons.agree(ours.name, "torchvision googlenet, in training, with auxiliary heads", logits)
