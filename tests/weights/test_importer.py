"""Weights under other names and in other cuts become the same network."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from provenet import create_model, import_weights
from provenet.errors import ModelError, SettingsError, WeightsError
from provenet.models.catalog import NETWORKS, build_network, build_on_meta
from provenet.preprocessing import PREPROCESSINGS
from provenet.weights.bundle import Bundle, is_bundle, load_bundle, save_bundle
from provenet.weights.by_names import AUTHORS, DIALECTS
from provenet.weights.export import export_weights
from provenet.weights.importer import _as_the_file_says
from provenet.weights.keras_names import keras_names
from provenet.weights.placing import Layer, Norm, _in_our_cut
from provenet.weights.state_dict_names import TIMM, TORCHVISION, authors_names, timm_names, torchvision_names


def disturbed(name, **more):
    """A network whose batch norms and biases are not as they begin."""
    torch.manual_seed(0)
    net = build_network(name, init="trainable", **more).eval()
    net.discard_training_parts()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.running_mean, std=0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
            if getattr(module, "bias", None) is not None:
                nn.init.normal_(module.bias, std=0.1)
    return net


def bundle_of(net, **more):
    return Bundle(net, tuple(f"class {k}" for k in range(net.num_classes)), net.input_spec.preprocessing, **more)


def named(net, namings, number=0):
    """The state of a network under a dialect's names."""
    arrays = {}
    for path, leaves in namings(net)[number].layers.items():
        for leaf, place in leaves.items():
            tensor = getattr(net.get_submodule(path), leaf, None)
            if tensor is not None:
                arrays[place.name] = torch.from_numpy(place.to_theirs(tensor.detach().numpy()).copy())
    return arrays


def same(a, b):
    mine, other = a.trained_state(), b.trained_state()
    assert set(mine) == set(other)
    assert all(torch.equal(mine[name], other[name]) for name in mine if not name.endswith("num_batches_tracked"))


@pytest.mark.parametrize("name", ["lenet5", "lenet5_softmax", "nin_cifar", "resnet20_cifar", "plain20_cifar", "resnet8_cifar"])
def test_a_state_dict_of_ours_is_recognised_with_its_classes_and_channels(name, tmp_path):
    net = disturbed(name, num_classes=10 if name == "lenet5" else 7)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    bundle, report = import_weights(tmp_path / "w.pth")
    assert (report.dialect, len(bundle.classes)) == ("provenet", net.num_classes)
    assert name in (report.network, *report.also_fit)
    if report.network != name:  # a plain network has the tensors of its residual twin
        bundle, report = import_weights(tmp_path / "w.pth", name)
    same(bundle.network, net)
    images = torch.randn(2, net.input_spec.channels, net.input_spec.size, net.input_spec.size)
    with torch.no_grad():  # the weights are the same to the bit; on a busy machine two runs of one network may differ in the last
        torch.testing.assert_close(bundle.network(images), net(images))


def test_the_classes_and_channels_of_a_file(tmp_path):
    net = disturbed("resnet20_cifar", num_classes=3, in_channels=1)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    bundle, _ = import_weights(tmp_path / "w.pth")
    assert (bundle.network.num_classes, bundle.network.input_spec.channels, bundle.preprocessing.channels) == (3, 1, 1)
    assert bundle.classes == ("class 0", "class 1", "class 2")


@pytest.mark.parametrize(("library", "suffix"), [("torchvision", ".pth"), ("timm", ".safetensors"), ("keras", ".h5")])
def test_there_and_back(library, suffix, tmp_path):
    net = disturbed("resnet50" if library == "keras" else "resnet18", num_classes=5)
    path = tmp_path / f"w{suffix}"
    advice = export_weights(bundle_of(net), library, path)
    assert "num_classes=5" in advice[0] or "classes=5" in advice[0]
    bundle, report = import_weights(path)
    assert report.network == net.name
    assert not report.fresh
    if library == "keras":  # which adds 1.001e-5 to the variance
        images = torch.randn(1, 3, 96, 96)
        with torch.no_grad():
            assert torch.allclose(bundle.network(images), net(images), rtol=1e-4, atol=1e-3)
        export_weights(bundle, library, tmp_path / "again.h5")
        again, _ = import_weights(tmp_path / "again.h5")
        same(again.network, bundle.network)
    else:
        same(bundle.network, net)


def test_every_network_of_every_library_has_a_place_for_every_parameter():
    """And no two parameters the same."""
    counted = 0
    for _, (namings, networks) in DIALECTS.items():
        for network in networks:
            if "1202" in network:
                continue
            net = build_on_meta(network, init="trainable")
            net.discard_training_parts()
            wanted = {name for name in net.state_dict() if not name.endswith("num_batches_tracked")}
            for naming in namings(net):
                places = {f"{path}.{leaf}": place for path, leaves in naming.layers.items() for leaf, place in leaves.items()}
                assert wanted <= set(places), (network, naming.dialect)
                assert all(place.is_optional for ours, place in places.items() if ours not in wanted)
                assert len({place.name for place in places.values()}) == len(places)
                counted += 1
    assert counted > 90
    assert set(TORCHVISION) | set(TIMM) | set(AUTHORS) <= set(NETWORKS)


def test_equal_tensors_are_told_and_a_name_decides(tmp_path):
    net = disturbed("resnet50", num_classes=4)
    save_file(named(net, torchvision_names), tmp_path / "w.safetensors")
    bundle, report = import_weights(tmp_path / "w.safetensors")
    assert (report.network, report.also_fit) == ("resnet50_v1_5", ("resnet50", "resnet50_caffe"))
    assert "the likeliest" in report.why
    assert "also fits resnet50, resnet50_caffe: --as names another" in str(report)
    bundle, report = import_weights(tmp_path / "w.safetensors", "resnet50")
    assert (report.network, report.also_fit, report.why) == ("resnet50", (), "--as names it")
    same(bundle.network, net)


@pytest.mark.parametrize("number", [0, 1])
def test_the_authors_names(number, tmp_path):
    net = disturbed("resnet50", num_classes=4)
    state = named(net, authors_names, number)
    assert "res4a_branch1.weight" in state
    assert ("scale4a_branch1.weight" in state) == (number == 1)
    save_file(state, tmp_path / "w.safetensors")
    bundle, report = import_weights(tmp_path / "w.safetensors")
    assert (report.network, report.dialect) == ("resnet50_caffe", "authors")
    assert bundle.preprocessing == PREPROCESSINGS["caffe"]
    same(bundle.network, net)
    same(import_weights(tmp_path / "w.safetensors", "resnet50")[0].network, net)


@pytest.mark.slow
def test_the_name_of_the_file_decides_between_equal_tensors(tmp_path):
    net = disturbed("caffenet", num_classes=4)
    state = named(net, authors_names)
    for file, network in (("bvlc_reference_caffenet.safetensors", "caffenet"), ("weights.safetensors", "alexnet_bvlc")):
        save_file(state, tmp_path / file)
        _, report = import_weights(tmp_path / file)
        assert report.network == network
        assert {report.network, *report.also_fit} == {"alexnet", "alexnet_bvlc", "alexnet_floor", "caffenet", "caffenet_floor"}


def test_what_is_left_over_on_either_side_is_an_error_unless_it_is_named(tmp_path):
    net = disturbed("resnet18", num_classes=4)
    state = named(net, torchvision_names)
    del state["fc.weight"], state["fc.bias"]
    state["head.0.weight"], state["head.0.bias"] = torch.ones(9, 512), torch.ones(9)
    path = tmp_path / "w.safetensors"
    save_file(state, path)
    with pytest.raises(WeightsError) as caught:
        import_weights(path)
    message = str(caught.value)
    assert "nearest to resnet18 as torchvision names it" in message
    assert "2 of its tensors are without a place (head.0.bias, head.0.weight)" in message
    assert "2 of ours are not in it (fc.weight, fc.bias)" in message
    with pytest.raises(WeightsError, match="2 of ours are not in it"):
        import_weights(path, without=["head.*"])
    bundle, report = import_weights(path, without=["head.*", "fc.*"])
    assert set(report.left_out) == {"head.0.weight", "head.0.bias"}
    assert report.fresh == ("fc.weight", "fc.bias")
    assert bundle.network.num_classes == 1000
    assert torch.equal(bundle.network.conv2_x.block1.conv1.weight, net.conv2_x.block1.conv1.weight)


def test_one_wrong_shape_is_named_with_its_shape(tmp_path):
    state = named(disturbed("resnet18", num_classes=4), torchvision_names)
    state["layer3.0.conv1.weight"] = torch.ones(256, 128, 5, 5)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(
        WeightsError, match=re.escape("layer3.0.conv1.weight 256x128x5x5") + ".*" + re.escape("conv4_x.block1.conv1.weight")
    ):
        import_weights(tmp_path / "w.safetensors")


def test_another_network_s_weights_are_refused_in_one_line(tmp_path):
    save_file({f"encoder.layer.{k}.attention.weight": torch.ones(4, 4) for k in range(200)}, tmp_path / "w.safetensors")
    for as_ in (None, "resnet18"):
        with pytest.raises(WeightsError, match="found 200 tensors of another") as caught:
            import_weights(tmp_path / "w.safetensors", as_)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="did you mean"):
        import_weights(tmp_path / "w.safetensors", "resnet17")


def test_values_that_are_no_numbers_are_refused(tmp_path):
    state = named(disturbed("resnet18", num_classes=4), torchvision_names)
    state["layer1.0.bn1.running_var"][3] = float("nan")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match=re.escape("conv2_x.block1.bn1.running_var: expected numbers")):
        import_weights(tmp_path / "w.safetensors")


def test_names_of_classes(tmp_path):
    path, names = tmp_path / "w.safetensors", tmp_path / "names.txt"
    save_file(named(disturbed("resnet18", num_classes=3), torchvision_names), path)
    names.write_text("猫\ndog\n\nred panda\n", encoding="utf-8")
    assert import_weights(path, classes=names)[0].classes == ("猫", "dog", "red panda")
    assert import_weights(path, classes=["a", "b", "c"])[0].classes == ("a", "b", "c")
    for given in (["a", "b"], ["a", "b", "b"], ["a", "b", "c\x1b"], tmp_path / "none.txt"):
        with pytest.raises(SettingsError):
            import_weights(path, classes=given)


def test_preprocessing_is_chosen_and_said(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file(named(disturbed("resnet18", num_classes=3), torchvision_names), path)
    bundle, report = import_weights(path)
    assert bundle.preprocessing == bundle.network.input_spec.preprocessing == PREPROCESSINGS["torch"]
    assert report.preprocessing == "torch, which is usual for torchvision"
    bundle, report = import_weights(path, preprocessing="tf")
    assert (bundle.preprocessing.mean, report.preprocessing) == ((0.5, 0.5, 0.5), "tf, as asked for")
    with pytest.raises(SettingsError, match="did you mean 'torch'"):
        import_weights(path, preprocessing="torhc")


def test_an_epsilon_of_their_own_travels_in_the_bundle(tmp_path):
    net = disturbed("resnet20_cifar")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1.001e-5
    save_bundle(bundle_of(net), tmp_path / "model.safetensors")
    again = load_bundle(tmp_path / "model.safetensors").network
    assert {module.eps for module in again.modules() if isinstance(module, nn.BatchNorm2d)} == {1.001e-5}
    save_bundle(bundle_of(disturbed("resnet20_cifar")), tmp_path / "usual.safetensors")
    assert b"epsilon" not in (tmp_path / "usual.safetensors").read_bytes()[:5000]


def test_a_bundle_is_imported_as_it_is(tmp_path):
    path = tmp_path / "model.safetensors"
    save_bundle(bundle_of(disturbed("resnet20_cifar"), provenance={"a": 1}), path)
    assert is_bundle(path)
    bundle, report = import_weights(path)
    assert (bundle.provenance, report.format) == ({"a": 1}, "bundle")
    with pytest.raises(WeightsError, match="expected weights of resnet18, found a bundle of resnet20_cifar"):
        import_weights(path, "resnet18")


def test_create_model_takes_files_and_bundles(tmp_path):
    net = disturbed("resnet18", num_classes=4)
    export_weights(bundle_of(net), "torchvision", tmp_path / "w.pth")
    same(create_model("resnet18", weights=tmp_path / "w.pth"), net)
    save_bundle(bundle_of(net), tmp_path / "model.safetensors")
    same(create_model("resnet18", weights=tmp_path / "model.safetensors"), net)
    other = create_model("resnet18", weights=tmp_path / "w.pth", num_classes=9)
    assert other.num_classes == 9
    assert torch.equal(other.conv1.conv.weight, net.conv1.conv.weight)
    assert other.input_spec.preprocessing == PREPROCESSINGS["torch"]
    with pytest.raises(WeightsError, match=r"expected names and shapes|nearest to"):
        create_model("resnet34", weights=tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="found none; check the path"):
        create_model("resnet34", weights=tmp_path / "none.pth")


def affine(layer, x):
    """What a layer of a file computes, in float64."""
    y = x @ layer.weight.astype(np.float64).T + (0 if layer.bias is None else layer.bias)
    norm = layer.norm
    return y if norm is None else (y - norm.mean) / np.sqrt(norm.variance + norm.eps) * norm.scale + norm.shift


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize("our_eps", [None, 1e-5])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("eps", [None, 1e-5, 1e-3])
def test_every_cut_of_a_layer_computes_the_same(has_bias, our_eps, bias, eps):
    random = np.random.default_rng(0)
    channels, inputs = 6, 4
    norm = eps and Norm(random.normal(size=6), random.uniform(0.001, 2, 6), random.normal(size=6), random.normal(size=6), eps)
    layer = Layer(random.normal(size=(channels, inputs)), random.normal(size=channels) if bias else None, norm)
    if our_eps is None and not has_bias and (bias or norm):
        with pytest.raises(WeightsError, match="this network cannot hold it"):
            _in_our_cut(layer, has_bias=False, eps=None)
        return
    values, rewritten = _in_our_cut(layer, has_bias=has_bias, eps=our_eps)
    assert ("bias" in values) == has_bias
    ours = Layer(values["weight"], values.get("bias"))
    if our_eps is not None:
        parts = (values[f"norm.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        ours = Layer(ours.weight, ours.bias, Norm(*parts, our_eps))
    x = random.normal(size=(5, inputs))
    assert np.allclose(affine(ours, x), affine(layer, x), rtol=1e-12, atol=1e-12)
    if (norm is not None, eps) == (our_eps is not None, our_eps) and has_bias == bias:
        assert not rewritten  # cut alike: every number is copied
        assert values["weight"] is layer.weight


def test_names_there_and_back_are_the_identity():
    for namings, name in ((torchvision_names, "googlenet_bn"), (timm_names, "vgg11"), (keras_names, "vgg16"), (keras_names, "resnet50")):
        net = build_on_meta(name, num_classes=5, init="trainable")
        for naming in namings(net):
            for path, leaves in naming.layers.items():
                for leaf, place in leaves.items():
                    tensor = getattr(net.get_submodule(path), leaf, None)
                    if tensor is None or tensor.numel() > 2**20:
                        continue
                    array = np.random.default_rng(0).normal(size=tuple(tensor.shape)).astype(np.float32)
                    from provenet.weights.foreign import ForeignTensor

                    written = place.to_theirs(array)
                    back = place.to_ours(ForeignTensor(written.shape, "float32", lambda written=written: written))
                    assert back.shape == back.read().shape == array.shape
                    assert np.array_equal(back.read(), array)


def test_the_report_is_json(tmp_path):
    save_file(named(disturbed("resnet18", num_classes=3), torchvision_names), tmp_path / "w.safetensors")
    bundle, report = import_weights(tmp_path / "w.safetensors")
    assert json.loads(json.dumps(report.to_dict()))["network"] == "resnet18"
    imported = bundle.provenance["imported"]
    assert (imported["file"], imported["dialect"], len(imported["sha256"])) == ("w.safetensors", "torchvision", 64)
    save_bundle(bundle, tmp_path / "model.safetensors")
    assert load_bundle(tmp_path / "model.safetensors").provenance == bundle.provenance
    assert load_file(tmp_path / "model.safetensors")


CAFFE = PREPROCESSINGS["caffe"]


@pytest.mark.parametrize(
    ("metadata", "mean", "deviation", "said"),
    [
        ({}, CAFFE.mean, 1, ""),
        ({"mean_value": "104, 117, 123"}, (104, 117, 123), 1, "the means that the file says"),
        (
            {"mean_value": "127.5", "scale": "0.0078125"},
            (127.5,) * 3,
            128,
            "the means that the file says and the scale that it says (0.0078125)",
        ),
        ({"scale": "0.00390625"}, (0, 0, 0), 256, "the scale that it says (0.00390625)"),
        (
            {"mean_file": "imagenet_mean.binaryproto"},
            CAFFE.mean,
            1,
            "usual means, as the file names a mean image (imagenet_mean.binaryproto) but does not hold it",
        ),
        ({"mean_value": "1, 2", "scale": "nan"}, CAFFE.mean, 1, ""),
    ],
)
def test_what_a_caffe_net_did_to_pictures_is_carried(metadata, mean, deviation, said):
    rule, what = _as_the_file_says(CAFFE, metadata)
    assert (rule.mean, rule.std, what) == (mean, (deviation,) * 3, said)
