"""The ages of Keras' names lead to the same places of our networks; shapes as Keras has them, without memory for numbers."""

import re
from pathlib import Path

import pytest
from torch import nn

from provenet.errors import WeightsError
from provenet.models.catalog import build_on_meta
from provenet.weights.foreign import ForeignFile, ForeignTensor
from provenet.weights.keras_names import EPSILON_2016, EPSILON_TODAY, KERAS, keras_names
from provenet.weights.recognise import recognise

RESNETS = [name for name in KERAS if name.startswith("resnet")]

SAME_PLACES = {  # of ResNet-50, as the files of each age that Keras has published call them; the numbers from Keras' own summary
    "conv1.conv": ("conv1_conv", "conv1", "conv2d"),
    "conv1.bn": ("conv1_bn", "bn_conv1", "batch_normalization"),
    "conv2_x.block1.conv1": ("conv2_block1_1_conv", "res2a_branch2a", "conv2d_1"),
    "conv2_x.block1.conv2": ("conv2_block1_2_conv", "res2a_branch2b", "conv2d_2"),
    "conv2_x.block1.shortcut.conv": ("conv2_block1_0_conv", "res2a_branch1", "conv2d_3"),
    "conv2_x.block1.shortcut.bn": ("conv2_block1_0_bn", "bn2a_branch1", "batch_normalization_3"),
    "conv2_x.block1.conv3": ("conv2_block1_3_conv", "res2a_branch2c", "conv2d_4"),
    "conv2_x.block1.bn3": ("conv2_block1_3_bn", "bn2a_branch2c", "batch_normalization_4"),
    "conv2_x.block3.conv2": ("conv2_block3_2_conv", "res2c_branch2b", "conv2d_9"),
    "conv4_x.block6.bn1": ("conv4_block6_1_bn", "bn4f_branch2a", "batch_normalization_40"),
    "conv5_x.block3.conv3": ("conv5_block3_3_conv", "res5c_branch2c", "conv2d_52"),
    "fc": ("predictions", "fc1000", "dense"),
}


def layers_of(naming):
    """Path of ours -> the name of the layer there."""
    return {path: {place.name.partition("/")[0] for place in leaves.values()} for path, leaves in naming.layers.items()}


def as_keras_has_it(network, number, classes=10):
    """A file of Keras in the dialect of that number: kernels are [H, W, in, out] and [in, out], every convolution has a bias."""
    net = build_on_meta(network, num_classes=classes, init="trainable")
    tensors = {}
    for path, leaves in keras_names(net)[number].layers.items():
        weight = net.get_submodule(path).weight
        for leaf, place in leaves.items():
            shape = tuple(weight.shape) if leaf == "weight" else (len(weight),)
            shape = (*shape[:1:-1], shape[1], shape[0]) if len(shape) == 4 else shape[::-1]
            tensors[place.name] = ForeignTensor(shape, "float32", lambda: pytest.fail("nothing is read to recognise it"))
    return ForeignFile(Path("weights.h5"), "Keras HDF5", tensors)


def test_three_ages_of_names_are_the_same_places():
    ages = keras_names(build_on_meta("resnet50", init="trainable"))
    assert [(age.dialect, age.eps) for age in ages] == [
        ("keras", EPSILON_TODAY), ("keras of 2016", EPSILON_2016), ("keras by number", EPSILON_TODAY),
    ]  # fmt: skip
    for path, names in SAME_PLACES.items():
        assert [layers_of(age)[path] for age in ages] == [{name} for name in names], path


@pytest.mark.parametrize("network", RESNETS)
def test_the_names_of_2016_are_those_of_the_authors_spelt_anew(network):
    """By a rule that is written here a second time: stage, block and branch of today's name."""
    today, of_2016, _ = map(layers_of, keras_names(build_on_meta(network, init="trainable")))
    assert set(today) == set(of_2016)
    checked = 0
    for path, (name,) in today.items():
        parts = re.fullmatch(r"conv(\d)_block(\d+)_([0123])_(conv|bn)", name)
        if parts and (network == "resnet50" or parts[1] in "25"):  # the deeper two call blocks b1, b2 … where letters run out
            stage, block, number, kind = parts.groups()
            branch = "branch1" if number == "0" else f"branch2{'abc'[int(number) - 1]}"
            assert of_2016[path] == {f"{'res' if kind == 'conv' else 'bn'}{stage}{chr(96 + int(block))}_{branch}"}
            checked += 1
    assert checked == (104 if network == "resnet50" else 40)


@pytest.mark.parametrize("network", KERAS)
def test_numbers_count_each_class_of_layers_from_none(network):
    net = build_on_meta(network, init="trainable")
    numbered = layers_of(keras_names(net)[-1])
    for kind, called in ((nn.Conv2d, "conv2d"), (nn.BatchNorm2d, "batch_normalization"), (nn.Linear, "dense")):
        count = sum(isinstance(module, kind) for module in net.modules())
        names = {name for (name,) in numbered.values() if re.fullmatch(rf"{called}(_\d+)?", name)}
        assert names == {f"{called}_{k}" if k else called for k in range(count)}


@pytest.mark.parametrize(("network", "number"), [(name, number) for name in KERAS for number in range(3 if name in RESNETS else 2)])
def test_each_age_is_recognised_by_its_names(network, number):
    found = recognise(as_keras_has_it(network, number))
    dialects = ("keras", "keras of 2016", "keras by number") if network in RESNETS else ("keras", "keras by number")
    assert (found.net.name, found.dialect, found.net.num_classes) == (network, dialects[number], 10)
    assert (found.ours_left, found.theirs_left) == ((), ())


def test_a_layer_of_another_shape_is_named():
    file = as_keras_has_it("resnet50", 0)
    tensors = dict(file.tensors)
    name = "conv3_block2_2_conv/kernel"
    tensors[name] = ForeignTensor((5, 5, 128, 128), "float32", tensors[name].read)
    with pytest.raises(WeightsError, match=re.escape(f"{name} 5x5x128x128")) as caught:
        recognise(ForeignFile(file.path, file.format, tensors))
    assert "\n" not in str(caught.value)
