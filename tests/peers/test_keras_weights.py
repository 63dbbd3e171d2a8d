"""Files that Keras writes, of each age and kind, read into our networks; and ours, loaded by Keras."""

import re

import h5py
import keras
import numpy as np
import pytest
import torch
from answers import agree, find_samples
from keras.src.legacy.saving import legacy_h5_format
from PIL import Image

from provenet.deploy.predictor import Predictor
from provenet.errors import WeightsError
from provenet.weights.bundle import load_bundle, save_bundle
from provenet.weights.export import export_weights
from provenet.weights.importer import import_weights
from provenet.weights.keras_names import KERAS

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")  # in Keras

CLASSES = 20
OF_2016 = {"W": "kernel", "b": "bias", "gamma": "gamma", "beta": "beta", "running_mean": "moving_mean", "running_std": "moving_variance"}


def build(name, weights=None, **more):
    keras.backend.clear_session()
    keras.config.set_floatx("float32")
    arguments = {"classes": CLASSES, "classifier_activation": None} | more
    return getattr(keras.applications, name)(weights=weights, **arguments)


def make(name, epsilon=None, *, biases_before_norms=True, **more):
    """Keras' network with biases and batch norms that matter: the statistics are near those of some pictures."""
    net, generator = build(name, **more), np.random.default_rng(0)
    norms = [layer for layer in net.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for layer in net.layers:
        for weight in layer.weights:
            if layer in norms:
                if weight.path.endswith("gamma"):
                    weight.assign(generator.uniform(0.5, 1.5, weight.shape))
                elif weight.path.endswith("beta"):
                    weight.assign(generator.normal(0, 0.1, weight.shape))
            elif weight.path.endswith("bias"):
                if biases_before_norms or not norms or layer.name == "predictions":
                    weight.assign(generator.normal(0, 0.05, weight.shape))
            else:
                weight.assign(generator.normal(0, np.sqrt(2 / np.prod(weight.shape[:-1])), weight.shape))
    for norm in norms:
        norm.momentum, norm.epsilon = 0.0, epsilon or norm.epsilon
    with torch.no_grad():
        net(torch.from_numpy(generator.normal(0, 60, (4, 224, 224, 3)).astype(np.float32)), training=bool(norms))
    for norm in norms:
        deviation = np.sqrt(values_of(norm.moving_variance))
        norm.moving_mean.assign(norm.moving_mean + generator.normal(0, 0.1, deviation.shape) * deviation)
        norm.moving_variance.assign(norm.moving_variance * generator.uniform(0.75, 1.25, deviation.shape))
    return net


def values_of(weight):
    return weight.value.detach().numpy()


def save_legacy(net, path):
    """As keras.applications has published weights since 2017: a group for each layer, its weights by their names."""
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, net)


def save_of_2018(net, path):
    """Today's names with the `:0` that TensorFlow's variables had, as most published files are."""
    save_legacy(net, path)
    with h5py.File(path, "a") as file:
        for group in file.values():
            names = [f"{name}:0" for name in group.attrs["weight_names"]]
            for name in names:
                group.move(name.removesuffix(":0"), name)
            group.attrs["weight_names"] = [name.encode() for name in names]


def name_of_2016(today):
    """conv2_block1_1_conv -> res2a_branch2a; a VGG's have not changed."""
    fixed = {"conv1_conv": "conv1", "conv1_bn": "bn_conv1"}
    if today == "predictions" or today in fixed:
        return fixed.get(today, today)
    parts = re.fullmatch(r"conv(\d)_block(\d+)_([0123])_(conv|bn)", today)
    if not parts:
        return today
    stage, block, number, kind = parts.groups()
    branch = "branch1" if number == "0" else f"branch2{'abc'[int(number) - 1]}"
    return f"{'res' if kind == 'conv' else 'bn'}{stage}{chr(96 + int(block))}_{branch}"


def save_of_2016(net, path):
    """As published before: `res2a_branch2a/res2a_branch2a_W:0`, and of a VGG `block1_conv1/block1_conv1_W_1:0`."""
    is_vgg = net.name.startswith("vgg")
    with h5py.File(path, "w") as file:
        names = []
        for layer in net.layers:
            name = name_of_2016(layer.name)
            name = "fc1000" if name == "predictions" and not is_vgg else name
            names.append(name.encode())
            group, written = file.create_group(name), []
            theirs = {weight.path.rpartition("/")[2]: weight for weight in layer.weights}
            for old, today in OF_2016.items():
                if today in theirs:
                    written.append(f"{name}_{old}{'_1' if is_vgg else ''}:0")
                    group[written[-1]] = values_of(theirs[today])
            group.attrs["weight_names"] = [each.encode() for each in written]
        file.attrs["layer_names"] = names


FORMATS = {
    "today's": (".weights.h5", lambda net, path: net.save_weights(path)),
    "whole model": (".h5", lambda net, path: net.save(path)),
    "published": (".h5", save_legacy),
}


def photographs(bundle):
    """What the bundle shows its network of three squares; and the same as Keras' own preprocessing gives it."""
    squares = [Image.open(path).convert("RGB").resize((bundle.preprocessing.resize,) * 2) for path in find_samples()[:3]]
    ours = torch.cat([Predictor(bundle, device="cpu").see(square) for square in squares])
    edge = (bundle.preprocessing.resize - bundle.preprocessing.size) // 2
    pixels = np.stack([np.asarray(square, np.float32) for square in squares])[:, edge : edge + 224, edge : edge + 224]
    theirs = torch.from_numpy(np.ascontiguousarray(keras.applications.resnet.preprocess_input(pixels)))  # it is the VGGs' too
    torch.testing.assert_close(ours.permute(0, 2, 3, 1), theirs, rtol=0, atol=1e-4)
    return ours, theirs


def compare(bundle, net):
    ours, theirs = photographs(bundle)
    with torch.no_grad():
        return agree(bundle.network(ours), net(theirs, training=False))


def same_weights(a, b):
    """By place: their names are numbered anew for each model of a process."""
    pairs = list(zip(a.weights, b.weights, strict=True))
    return all(np.array_equal(*map(values_of, pair)) for pair in pairs)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("ours", KERAS)
def test_what_keras_saves(ours, kind, tmp_path):
    ending, save = FORMATS[kind]
    net = make(KERAS[ours])
    path = tmp_path / f"net{ending}"
    save(net, path)
    bundle, report = import_weights(path)
    assert (report.network, report.fresh) == (ours, ())
    assert report.dialect == ("keras by number" if kind == "today's" else "keras")
    assert report.preprocessing.startswith("caffe")
    compare(bundle, net)


@pytest.mark.parametrize("ours", ["vgg16", "vgg19", "resnet50"])
def test_what_was_published_in_2016(ours, tmp_path):
    """When batch norm had Keras' usual epsilon, a hundred times today's."""
    net = make(KERAS[ours], epsilon=1e-3)
    save_of_2016(net, tmp_path / "net.h5")
    bundle, report = import_weights(tmp_path / "net.h5")
    assert (report.network, report.dialect) == (ours, "keras of 2016" if ours == "resnet50" else "keras")
    compare(bundle, net)


def test_what_was_published_in_2018(tmp_path):
    net = make("ResNet50")
    save_of_2018(net, tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5") as file:
        assert "conv2_block1_1_conv/conv2_block1_1_conv/kernel:0" in file
    bundle, report = import_weights(tmp_path / "net.h5")
    assert (report.network, report.dialect) == ("resnet50", "keras")
    compare(bundle, net)


@pytest.mark.parametrize("theirs", ["ResNet50V2", "MobileNet"])
def test_networks_that_we_lack_are_refused(theirs, tmp_path):
    """And not taken for one that we have, not even for one of as many layers."""
    net = build(theirs)
    for ending, save in FORMATS.values():
        path = tmp_path / f"net{ending}"
        save(net, path)
        for as_ in (None, "resnet50"):
            with pytest.raises(WeightsError) as caught:
                import_weights(path, as_)
            assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [".h5", ".weights.h5"])
@pytest.mark.parametrize("ours", KERAS)
def test_what_keras_loads(ours, ending, tmp_path):
    net = make(KERAS[ours], biases_before_norms=False)  # ours have none: they would be taken off the means
    save_legacy(net, tmp_path / "theirs.h5")
    bundle, _ = import_weights(tmp_path / "theirs.h5")
    (tmp_path / "theirs.h5").unlink()
    save_bundle(bundle, tmp_path / "model.safetensors")
    bundle = load_bundle(tmp_path / "model.safetensors")
    exported = tmp_path / f"ours{ending}"
    export_weights(bundle, "keras", exported)
    again = build(KERAS[ours])
    again.load_weights(exported)
    compare(bundle, again)
    assert same_weights(again, net)
    bundle_again, _ = import_weights(exported)
    mine, other = bundle.network.state_dict(), bundle_again.network.state_dict()
    assert all(torch.equal(mine[name], other[name]) for name in mine)


def test_a_file_without_its_classifier_is_refused_unless_that_is_named(tmp_path):
    net = make("ResNet50", include_top=False, pooling="avg")
    save_legacy(net, tmp_path / "notop.h5")
    with pytest.raises(WeightsError, match="fc") as caught:
        import_weights(tmp_path / "notop.h5")
    assert "\n" not in str(caught.value)
    bundle, report = import_weights(tmp_path / "notop.h5", "resnet50", without=["fc.*"])
    assert report.fresh == ("fc.weight", "fc.bias")
    ours, theirs = photographs(bundle)
    with torch.no_grad():
        agree(bundle.network.forward_features(ours).mean((2, 3)), net(theirs, training=False))
