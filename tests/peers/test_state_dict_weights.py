"""Files that torchvision and timm write, read into our networks; and ours, loaded by them."""

from collections import OrderedDict

import pytest
import timm
import torch
import torchvision.models as torchvision
from answers import agree, disturb, make_photographs
from safetensors.torch import save_file

from provenet.weights.bundle import load_bundle, save_bundle
from provenet.weights.export import export_weights
from provenet.weights.importer import import_weights
from provenet.weights.state_dict_names import TIMM, TORCHVISION

CLASSES = 100


def build_torchvision(name, classes=CLASSES, **more):
    arguments = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
    return getattr(torchvision, name)(num_classes=classes, **(arguments | more))


def compare(path, theirs, ours=None):
    """Import, and compare the answers to three photographs."""
    bundle, report = import_weights(path)
    if ours:
        assert report.network == bundle.network.name == ours
    images = make_photographs(bundle)
    with torch.no_grad():
        error = agree(bundle.network(images), theirs.eval()(images))
    return bundle, report, images, error


def assert_same(a, b):
    mine, other = a.state_dict(), b.state_dict()
    assert set(mine) == set(other)
    assert all(torch.equal(mine[name], other[name]) for name in mine)


@pytest.mark.parametrize(("ours", "theirs"), TORCHVISION.items())
def test_torchvision_there_and_back(ours, theirs, tmp_path):
    net = disturb(build_torchvision(theirs))
    path = tmp_path / "weights.pth"
    torch.save(net.state_dict(), path)
    bundle, report, images, _ = compare(path, net, ours)
    assert report.dialect in ("torchvision",)
    assert not report.fresh
    torch.save(net.state_dict(), path, _use_new_zipfile_serialization=False)  # as the older ones of its files are
    assert_same(import_weights(path)[0].network, bundle.network)

    save_bundle(bundle, tmp_path / "model.safetensors")
    exported = tmp_path / "exported.pth"
    export_weights(load_bundle(tmp_path / "model.safetensors"), "torchvision", exported)
    written, original = torch.load(exported, weights_only=True), net.state_dict()
    kept = {name for name in original if not name.startswith("aux")}
    assert set(written) == kept
    assert all(torch.equal(written[name], original[name]) for name in kept if not name.endswith("num_batches_tracked"))
    again = build_torchvision(theirs, **({"aux_logits": False} if theirs == "googlenet" else {}))
    again.load_state_dict(written)
    with torch.no_grad():
        agree(again.eval()(images), net(images))


@pytest.mark.parametrize(("ours", "theirs"), TIMM.items())
def test_timm_there_and_back(ours, theirs, tmp_path):
    net = disturb(timm.create_model(theirs, num_classes=CLASSES))
    path = tmp_path / "model.safetensors"
    save_file(net.state_dict(), path)
    bundle, report, images, _ = compare(path, net, ours)
    assert not report.fresh
    torch.save(net.state_dict(), tmp_path / "pytorch_model.bin")
    assert_same(import_weights(tmp_path / "pytorch_model.bin")[0].network, bundle.network)

    exported = tmp_path / "exported.safetensors"
    export_weights(bundle, "timm", exported)
    again = timm.create_model(theirs, num_classes=CLASSES, checkpoint_path=str(exported))
    assert all(
        torch.equal(tensor, net.state_dict()[name])
        for name, tensor in again.state_dict().items()
        if not name.endswith("num_batches_tracked")
    )
    with torch.no_grad():
        agree(again.eval()(images), net(images))


@pytest.mark.parametrize("wrapped", ["legacy", "bin", "state_dict and module.", "float16", "bfloat16", "float64", "compiled"])
def test_as_people_save_them(wrapped, tmp_path):
    net = disturb(build_torchvision("resnet18"))
    path, state = tmp_path / ("pytorch_model.bin" if wrapped == "bin" else "weights.pth"), net.state_dict()
    match wrapped:
        case "legacy" | "bin":
            torch.save(state, path, _use_new_zipfile_serialization=wrapped == "bin")
        case "state_dict and module.":
            optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
            inner = OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())
            torch.save({"epoch": 90, "arch": "resnet18", "state_dict": inner, "best_acc1": 1.0, "optimizer": optimizer.state_dict()}, path)
        case "compiled":
            torch.save({"model": {f"_orig_mod.{name}": tensor for name, tensor in state.items()}}, path)
        case _:
            kind = getattr(torch, wrapped)
            net.to(kind).float()
            torch.save({name: tensor.to(kind) if tensor.is_floating_point() else tensor for name, tensor in state.items()}, path)
    compare(path, net, "resnet18")


def test_torchvision_as_published_with_a_thousand_classes(tmp_path):
    net = disturb(build_torchvision("resnet50", 1000))
    path = tmp_path / "weights.pth"
    torch.save(net.state_dict(), path)
    bundle, report, *_ = compare(path, net, "resnet50_v1_5")
    assert "resnet50" in report.also_fit
    assert bundle.classes[:2] == ("tench", "goldfish")
    categories = torchvision.ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    assert list(bundle.classes) == categories
