"""The bundle: what is written is read, and nothing that a stranger may send does harm."""

import json
import os
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from provenet.__main__ import run as run_command
from provenet.data.builtin import FASHION_CLASSES
from provenet.deploy.predictor import Predictor
from provenet.errors import BundleError, ModelError
from provenet.mean_image import MeanImage
from provenet.models.catalog import build_network
from provenet.runs.evaluate import evaluate_bundle
from provenet.weights.bundle import HEADER_KEY, Bundle, load_bundle, save_bundle
from provenet.weights.create import create_model

CLASSES = tuple("abcdefghij")


def make_bundle(name="lenet5"):
    torch.manual_seed(0)
    net = build_network(name, num_classes=10).eval()
    return Bundle(net, CLASSES, net.input_spec.preprocessing, {"settings": {"seed": 0}, "数据": "猫"})


def written(path, **changes):
    """A bundle's file with some of its header changed; None leaves a key out."""
    save_bundle(make_bundle(), path)
    header = json.loads(read_metadata(path)[HEADER_KEY]) | changes
    header = {key: value for key, value in header.items() if value is not None}
    save_file(load_file(path), path, metadata={HEADER_KEY: json.dumps(header)})
    return path


def read_metadata(path):
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length])["__metadata__"]


@pytest.mark.parametrize("name", ["lenet5", "lenet5_softmax", "resnet8_cifar", "resnet18", "resnet50_v1_5"])
def test_what_is_written_is_read(tmp_path, name):
    bundle = make_bundle(name)
    save_bundle(bundle, tmp_path / "model.safetensors")
    again = load_bundle(tmp_path / "model.safetensors")
    assert (again.network.name, again.classes, again.preprocessing, again.provenance) == (
        name,
        CLASSES,
        bundle.preprocessing,
        bundle.provenance,
    )
    assert all(torch.equal(again.network.state_dict()[key], value) for key, value in bundle.network.state_dict().items())
    size = bundle.preprocessing.size
    images = torch.randn(2, bundle.preprocessing.channels, size, size)
    assert torch.equal(again.network(images), bundle.network(images))
    assert all(parameter.requires_grad for parameter in again.network.parameters())
    assert not again.network.training


def with_mean_image(name="resnet8_cifar"):
    """A bundle whose pixels lose a mean each."""
    bundle = make_bundle(name)
    size, channels = bundle.preprocessing.size, bundle.preprocessing.channels
    image = MeanImage.from_sums(np.random.default_rng(0).integers(0, 255 * 7 + 1, (size, size, channels)), 7)
    return replace(bundle, preprocessing=replace(bundle.preprocessing, mean_image=image))


def test_a_mean_image_is_a_tensor_of_whole_numbers(tmp_path):
    bundle = with_mean_image()
    save_bundle(bundle, tmp_path / "a.safetensors")
    again, image = load_bundle(tmp_path / "a.safetensors"), bundle.preprocessing.mean_image
    assert again.preprocessing == bundle.preprocessing == again.network.input_spec.preprocessing
    assert "preprocessing.mean_image" not in again.network.state_dict()
    parts = load_file(tmp_path / "a.safetensors")["preprocessing.mean_image"]
    assert (parts.dtype, parts.shape) == (torch.uint16, (32, 32, 3))
    assert (parts.numpy() / 256 == image.levels()).all()
    header = json.loads(read_metadata(tmp_path / "a.safetensors")[HEADER_KEY])
    assert header["preprocessing"]["mean_image"] == image.fingerprint()
    save_bundle(again, tmp_path / "b.safetensors")
    assert (tmp_path / "b.safetensors").read_bytes() == (tmp_path / "a.safetensors").read_bytes()


def one_part_more(parts):
    parts = parts.numpy().copy()
    parts[3, 4, 1] ^= 1
    return torch.from_numpy(parts)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (one_part_more, "preprocessing.mean_image: expected the one of its header, found another"),
        (lambda parts: torch.full_like(parts, 65_535), "expected means of 0 to 255 grey levels, found larger ones"),
        (lambda parts: parts[:16, :16].clone(), "is [16, 16, 3] of U16, its network has [32, 32, 3] of U16"),
        (lambda parts: parts.float(), "is [32, 32, 3] of F32, its network has [32, 32, 3] of U16"),
        (lambda parts: None, "1 tensors are missing (preprocessing.mean_image)"),
    ],
    ids=["changed", "above white", "smaller", "of another type", "missing"],
)
def test_a_spoilt_mean_image_is_one_line_and_status_2(tmp_path, capsys, spoil, message):
    path = tmp_path / "a.safetensors"
    save_bundle(with_mean_image(), path)
    tensors, metadata = load_file(path), read_metadata(path)
    tensors["preprocessing.mean_image"] = spoil(tensors["preprocessing.mean_image"])
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, path, metadata=metadata)
    with pytest.raises(SystemExit) as ended:
        run_command(["evaluate", str(path), "fashion-mini"])
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert message in err


@pytest.mark.parametrize("described", [None, 7, [1], {"side": 32}, "x" * 10**6, "32x32x3 0000000000000000"])
def test_a_header_that_speaks_of_another_mean_image_is_refused(tmp_path, described):
    path = tmp_path / "a.safetensors"
    save_bundle(with_mean_image(), path)
    tensors, header = load_file(path), json.loads(read_metadata(path)[HEADER_KEY])
    header["preprocessing"]["mean_image"] = described
    save_file(tensors, path, metadata={HEADER_KEY: json.dumps(header)})
    with pytest.raises(BundleError, match=r"expected the one of its header, found another; the file is damaged") as caught:
        load_bundle(path)
    assert len(str(caught.value)) < 400
    del header["preprocessing"]["mean_image"]
    save_file(tensors, path, metadata={HEADER_KEY: json.dumps(header)})
    with pytest.raises(BundleError, match=r"1 unknown \(preprocessing.mean_image\)"):
        load_bundle(path)


def test_the_memory_layout_is_no_matter(tmp_path):
    bundle = make_bundle("resnet8_cifar")
    bundle.network.to(memory_format=torch.channels_last)
    save_bundle(bundle, tmp_path / "a.safetensors")
    assert torch.equal(load_bundle(tmp_path / "a.safetensors").network.fc.weight, bundle.network.fc.weight)


def test_a_run_folder_stands_for_its_bundle(tmp_path):
    save_bundle(make_bundle(), tmp_path / "model.safetensors")
    assert load_bundle(tmp_path).classes == CLASSES


def test_nothing_half_written_is_left(tmp_path):
    with pytest.raises(BundleError, match="expected to write the bundle"):
        save_bundle(make_bundle(), tmp_path / "no" / "such" / "folder.safetensors")
    save_bundle(make_bundle(), tmp_path / "model.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "expected bundle format 1, found another; it needs another version of provenet"),
        ({"format_version": "1"}, "expected a format version"),
        ({"architecture": "lenet6"}, "unknown network 'lenet6'; did you mean 'lenet5'"),
        ({"architecture": "lenet5_softmax"}, "tensors are missing"),
        ({"architecture": ["lenet5"]}, "the architecture is no word"),
        ({"architecture": None}, "expected 'architecture' in its header, found none"),
        ({"classes": list("abc")}, r"tensor output.codes is \[10, 84\] of F32, its network has \[3, 84\] of F32"),
        ({"classes": []}, "the classes are not a list"),
        ({"classes": "abcdefghij"}, "the classes are not a list"),
        ({"classes": ["a"] * 10}, "two classes have the same name"),
        ({"classes": [*"abcdefghi", "\x1b[31m"]}, "a class has control characters in its name"),
        ({"classes": [*"abcdefghi", "\ud800"]}, "a class has control characters in its name"),
        ({"classes": None}, "expected 'classes' in its header"),
        ({"preprocessing": {}}, "preprocessing: expected the keys"),
        ({"preprocessing": 5}, "preprocessing: expected the keys"),
        ({"provenance": []}, "the provenance no table"),
    ],
)
def test_headers_that_do_not_fit(tmp_path, changes, message):
    with pytest.raises(BundleError, match=message) as caught:
        load_bundle(written(tmp_path / "model.safetensors", **changes))
    assert str(tmp_path / "model.safetensors") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("size", 28, "preprocessing.size: expected at least 32 pixels, which is what the network takes, found 28"),
        ("size", 10**9, "expected 1 to 1024 pixels, found 1000000000"),
        ("channels", 2, "expected 1 .grey. or 3 .colour., found 2"),
        ("mean", [0.1, 0.2], "expected 1 values, one a channel, found 2"),
        ("size", 32.5, "expected a whole number of pixels"),
        ("std", [0.0], "std above 0"),
        ("std", [float("nan")], "std above 0"),
        ("white", "bright", "expected numbers for mean, std and white"),
        ("interpolation", "magic", "found 'RGB' and 'magic'"),
        ("fit", "stretch", "preprocessing.fit: expected 'short side' or 'squash', found 'stretch'"),
        ("fit", ["squash"], r"preprocessing.fit: expected 'short side' or 'squash', found \['squash'\]"),
    ],
)
def test_preprocessing_that_does_not_fit(tmp_path, key, value, message):
    values = make_bundle().preprocessing.to_dict() | {key: value}
    with pytest.raises(BundleError, match=message):
        load_bundle(written(tmp_path / "model.safetensors", preprocessing=values))


def damaged_files(folder):
    """Name -> what the message must say."""
    save_bundle(make_bundle(), folder / "whole")
    content = (folder / "whole").read_bytes()
    length = int.from_bytes(content[:8], "little")
    huge_tensor = json.dumps(
        {"__metadata__": {HEADER_KEY: "{}"}, "a": {"dtype": "F32", "shape": [10**12], "data_offsets": [0, 4 * 10**12]}}
    ).encode()
    files = {
        "cut": (content[:-100], "found one that cannot be read"),
        "cut-header": (content[: length // 2], "bytes of something else"),
        "empty": (b"", "found 0 bytes of something else"),
        "text": (b"hello, this is no bundle at all", "bytes of something else"),
        "long-header": (struct.pack("<Q", 2**31) + content[8:], "bytes of something else"),
        "no-json": (struct.pack("<Q", 16) + b"{" * 16 + bytes(64), "found one that cannot be read"),
        "huge-tensor": (struct.pack("<Q", len(huge_tensor)) + huge_tensor + bytes(64), "found one that cannot be read"),
        "pickle": (b"\x80\x04cos\nsystem\n(S'touch hacked'\ntR.", "bytes of something else"),
    }
    for name, (file_content, _) in files.items():
        (folder / name).write_bytes(file_content)
    save_file({"a": torch.zeros(3)}, folder / "foreign")
    save_file({"a": torch.zeros(3)}, folder / "no-header-json", metadata={HEADER_KEY: "[" * 100_000})
    os.mkfifo(folder / "pipe")
    return {name: message for name, (_, message) in files.items()} | {
        "pipe": "found something that is no file",
        "foreign": "found a safetensors file without its header",
        "no-header-json": "expected a header in JSON",
        "nowhere": "found nothing readable",
    }


def test_damaged_and_foreign_files(tmp_path):
    expected = damaged_files(tmp_path)
    assert len(expected) == 12
    for name, message in expected.items():
        with pytest.raises(BundleError, match=message) as caught:
            load_bundle(tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_weight_of_the_wrong_shape_or_value_is_named(tmp_path):
    save_bundle(make_bundle(), tmp_path / "a")
    metadata = read_metadata(tmp_path / "a")
    for change, message in (
        (
            lambda tensor: tensor[:3].contiguous(),
            r"tensor C1.conv.weight is \[3, 1, 5, 5\] of F32, its network has \[6, 1, 5, 5\] of F32",
        ),
        (lambda tensor: tensor.half(), "of F16"),
        (lambda tensor: tensor / 0, "tensor C1.conv.weight holds values that are no numbers"),
    ):
        tensors = load_file(tmp_path / "a")
        tensors["C1.conv.weight"] = change(tensors["C1.conv.weight"])
        save_file(tensors, tmp_path / "b", metadata=metadata)
        with pytest.raises(BundleError, match=message):
            load_bundle(tmp_path / "b")


def test_a_network_with_weights(tmp_path):
    bundle = make_bundle("resnet8_cifar")
    save_bundle(bundle, tmp_path / "a")
    net = create_model("resnet8_cifar", weights=tmp_path / "a", num_classes=4)
    assert net(torch.zeros(1, 3, 32, 32)).shape == (1, 4)
    assert torch.equal(net.conv1.conv.weight, bundle.network.conv1.conv.weight)
    with pytest.raises(ModelError, match="expected weights of 'resnet20_cifar', found 'resnet8_cifar'"):
        create_model("resnet20_cifar", weights=tmp_path / "a")
    with pytest.raises(ModelError, match="expected 1 input channels, found 3"):
        create_model("resnet8_cifar", weights=tmp_path / "a", in_channels=1)


@pytest.mark.parametrize("fit", ["short side", "squash"])
def test_preprocessing_goes_through_json(fit):
    preprocessing = replace(make_bundle("resnet18").preprocessing, interpolation="bicubic", channel_order="BGR", white=255.0, fit=fit)
    assert type(preprocessing).from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


def test_the_usual_fit_is_not_written_so_that_earlier_versions_read_it(tmp_path):
    preprocessing = make_bundle().preprocessing
    assert "fit" not in preprocessing.to_dict()
    squashing = replace(preprocessing, fit="squash")
    assert squashing.to_dict() == preprocessing.to_dict() | {"fit": "squash"}
    path = written(tmp_path / "model.safetensors", preprocessing=squashing.to_dict())
    assert load_bundle(path).preprocessing == squashing


@pytest.mark.parametrize(
    "provenance",
    [
        {"data": [1]},
        {"data": {"held_out_from": ["all"], "memory": 5}},
        {"settings": [], "data": {"memory": {"seed": "x"}}},
        {"data": None},
        {"data": {"memory": {"seed": 0, "held_out_up_to": {"Bag": "g" * 99}, "sketch": []}}},
        {"data": {"memory": {"seed": 0, "held_out_up_to": {}, "sketch": ["-1"]}}},
    ],
)
def test_provenance_of_any_shape_does_no_harm(tmp_path, provenance):
    bundle = replace(make_bundle("lenet5_softmax"), provenance=provenance, classes=tuple(FASHION_CLASSES))
    save_bundle(bundle, tmp_path / "a")
    assert evaluate_bundle(tmp_path / "a", "fashion-mini").images == 1_000


def test_weights_that_give_no_numbers_are_named(tmp_path):
    bundle = make_bundle("resnet8_cifar")
    bundle.network.get_submodule("conv1.bn").running_var.fill_(-1.0)
    save_bundle(bundle, tmp_path / "a")
    with pytest.raises(ModelError, match="expected the network to answer with numbers, found NaN or infinity"):
        list(Predictor.load(tmp_path / "a")([Image.new("RGB", (40, 40))]))


def test_a_full_disk_costs_nothing_earned(small_disk):
    """A real one: a file system of 400 kB, in which one LeNet-5 fits and a second does not."""
    save_bundle(make_bundle(), small_disk / "model.safetensors")
    with pytest.raises(BundleError, match=r"expected to write the bundle, found: .*(No space left|os error 28).*free some space"):
        save_bundle(replace(make_bundle(), provenance={"second": True}), small_disk / "model.safetensors")
    assert [path.name for path in small_disk.iterdir()] == ["model.safetensors"]
    assert load_bundle(small_disk).provenance == make_bundle().provenance


def test_a_network_of_other_images_is_no_bundle(tmp_path):
    bundle = make_bundle("resnet8_cifar")
    bundle.network.input_spec = replace(bundle.network.input_spec, other_channels=4)
    with pytest.raises(BundleError, match="expected a network of pictures, of 3 channels, found one of 4"):
        save_bundle(bundle, tmp_path / "model.safetensors")
