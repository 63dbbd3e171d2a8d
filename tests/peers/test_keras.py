"""Keras' networks with our weights: images [N, H, W, C], kernels [H, W, in, out]."""

import keras
import pytest
import torch
from keras.src.backend.common import dtypes
from torch import nn

from comparison import make_images, randomise
from provenet.models.catalog import build_network

# Outside of TensorFlow, Keras computes batch norm and matrix products in float32 even in a float64 model: this table says so.
dtypes.BIT64_TO_BIT32_DTYPE["float64"] = "float64"

KERAS_EPSILON = 1.001e-5  # of its batch norm in ResNet; ours has PyTorch's 1e-5


def build_keras(name, dtype):
    keras.backend.clear_session()  # the model before this one
    precision = str(dtype).removeprefix("torch.")
    keras.config.set_floatx(precision)  # of the images
    keras.config.set_dtype_policy(precision)  # of the layers
    return getattr(keras.applications, name)(weights=None, classes=10, classifier_activation=None)


def logits(ours, theirs, images):
    return ours(images), theirs(images.permute(0, 2, 3, 1).contiguous(), training=False)


def kernel(weight):
    """[out, in, H, W] -> [H, W, in, out]."""
    return weight.permute(2, 3, 1, 0)


@pytest.mark.parametrize("depth", [16, 19])
def test_vgg(depth, comparisons):
    ours = build_network(f"vgg{depth}", num_classes=10, init="trainable")
    images = make_images(ours)
    randomise(ours, images)

    def compare(dtype):
        ours.to(dtype)
        theirs = build_keras(f"VGG{depth}", dtype)
        for layer in theirs.layers:
            if layer.name.startswith("block") and layer.weights:
                conv = ours.layer(layer.name.replace("block", "conv").replace("_conv", "_"))  # block1_conv2 -> conv1_2
                layer.set_weights([kernel(conv.weight), conv.bias])
        for name, full in {"fc1": ours.layer("fc6"), "fc2": ours.layer("fc7"), "predictions": ours.layer("fc8")}.items():
            weight = full.weight
            if name == "fc1":  # Keras flattens [H, W, C]
                weight = weight.view(4096, 512, 7, 7).permute(0, 2, 3, 1).reshape(4096, -1)
            theirs.get_layer(name).set_weights([weight.T, full.bias])
        return logits(ours, theirs, images.to(dtype))

    comparisons.agree(ours.name, f"Keras VGG{depth}", compare)


def set_resnet(theirs, ours, biases):
    """Our weights into Keras' ResNet. Its convolutions have a bias before batch norm, which moves the mean by as much."""
    places = {"conv1": "conv1.conv conv1.bn"}
    for stage_name, stage in list(ours.stages.items())[1:-2]:
        for block in (name for name, _ in stage.named_children() if name.startswith("block")):
            theirs_block, ours_block = f"{stage_name.removesuffix('_x')}_{block}", f"{stage_name}.{block}"
            places |= {f"{theirs_block}_{number}": f"{ours_block}.conv{number} {ours_block}.bn{number}" for number in (1, 2, 3)}
            if block == "block1":
                places[f"{theirs_block}_0"] = f"{ours_block}.shortcut.conv {ours_block}.shortcut.bn"
    assert {layer.name for layer in theirs.layers if layer.weights} == {
        "predictions", *(f"{place}_{kind}" for place in places for kind in ("conv", "bn"))
    }  # fmt: skip
    for place, (conv, norm) in ((place, map(ours.layer, paths.split())) for place, paths in places.items()):
        bias = biases * torch.randn_like(norm.running_mean)
        theirs.get_layer(f"{place}_conv").set_weights([kernel(conv.weight), bias])
        theirs.get_layer(f"{place}_bn").set_weights([norm.weight, norm.bias, norm.running_mean + bias, norm.running_var])
    theirs.get_layer("predictions").set_weights([ours.fc.weight.T, ours.fc.bias])


@pytest.mark.parametrize(("depth", "biases"), [(50, 0.0), (50, 0.5), (101, 0.0), (152, 0.0)])
def test_resnet(depth, biases, comparisons):
    ours = build_network(f"resnet{depth}", num_classes=10)
    for layer in ours.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = KERAS_EPSILON
    images = make_images(ours)
    randomise(ours, images)

    def compare(dtype):
        ours.to(dtype)
        theirs = build_keras(f"ResNet{depth}", dtype)
        set_resnet(theirs, ours, biases)
        return logits(ours, theirs, images.to(dtype))

    comparisons.agree(ours.name, f"Keras ResNet{depth}" + (", biases folded into the means" if biases else ""), compare)
