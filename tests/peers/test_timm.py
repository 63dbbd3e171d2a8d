"""timm's networks with our weights."""

import timm

from comparison import copy_in_order, make_images, randomise
from provenet.models.catalog import build_network


def test_resnet50(comparisons):
    ours, theirs = build_network("resnet50_v1_5", num_classes=10), timm.create_model("resnet50", num_classes=10)
    images = make_images(ours)
    copy_in_order(randomise(ours, images), theirs)
    comparisons.modules_agree("timm resnet50", ours, theirs, images)


def test_vgg16(comparisons):
    ours, theirs = build_network("vgg16", num_classes=10, init="trainable"), timm.create_model("vgg16", num_classes=10)
    images = make_images(ours)
    randomise(ours, images)
    # its first two fully connected layers are convolutions, over the 7x7 map and over one pixel
    for (name, tensor), (their_name, their_tensor) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        assert tensor.shape[0] == their_tensor.shape[0], (name, their_name)
        their_tensor.copy_(tensor.reshape(their_tensor.shape))
    comparisons.modules_agree("timm vgg16", ours, theirs, images)
