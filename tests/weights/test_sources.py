"""The table of public weight sets: that it holds together, agrees with what is published, and knows a file when it sees one."""

import json
from functools import cache

import pytest

from provenet.errors import WeightsError
from provenet.models.catalog import NETWORKS, build_on_meta
from provenet.preprocessing import PREPROCESSINGS, Preprocessing
from provenet.weights.sources import LINE_COLUMNS, find_set, list_sets, parse_sources, read_sources, set_of_file, show_sets

SETS = read_sources()
# Centre crop, as published with the weights (accuracy in percent).
PUBLISHED = {
    "alexnet_owt.torchvision_v1": (56.522, 79.066),
    "vgg11.torchvision_v1": (69.020, 88.628),
    "vgg13.torchvision_v1": (69.928, 89.246),
    "vgg16.torchvision_v1": (71.592, 90.382),
    "vgg19.torchvision_v1": (72.376, 90.876),
    "vgg11_bn.torchvision_v1": (70.370, 89.810),
    "vgg13_bn.torchvision_v1": (71.586, 90.374),
    "vgg16_bn.torchvision_v1": (73.360, 91.516),
    "vgg19_bn.torchvision_v1": (74.218, 91.842),
    "googlenet_bn.torchvision_v1": (69.778, 89.530),
    "resnet18.torchvision_v1": (69.758, 89.078),
    "resnet34.torchvision_v1": (73.314, 91.420),
    "resnet50_v1_5.torchvision_v1": (76.130, 92.862),
    "resnet101_v1_5.torchvision_v1": (77.374, 93.546),
    "resnet152_v1_5.torchvision_v1": (78.312, 94.046),
    "resnet50_v1_5.torchvision_v2": (80.858, 95.434),
    "resnet101_v1_5.torchvision_v2": (81.886, 95.780),
    "resnet152_v1_5.torchvision_v2": (82.284, 96.002),
    "vgg16.keras": (71.3, 90.1),
    "vgg19.keras": (71.3, 90.0),
    "resnet50.keras": (74.9, 92.1),
    "resnet101.keras": (76.4, 92.8),
    "resnet152.keras": (76.6, 93.1),
    "alexnet_bvlc.bvlc": (57.1, 80.2),
    "googlenet.bvlc": (68.7, 88.9),
}
ROW = """
[[set]]
tag = "vgg16.somebody"
network = "vgg16"
dialect = "caffe"
file = "a.caffemodel"
source = "somebody/something, readme.md"
"""


@cache
def network_of(name):
    return build_on_meta(name)


@pytest.mark.parametrize("found", SETS, ids=lambda found: found.tag)
def test_each_set_names_a_network_and_where_it_was_read(found):
    assert found.network in NETWORKS
    assert found.tag.startswith(f"{found.network}.")
    assert " " in found.source
    assert any(word in found.source for word in ("commit", ".py", "gist.github.com"))
    assert (
        found.address is None
        or found.also
        or found.address.startswith("https://huggingface.co/timm/")
        or found.address.endswith(found.file)
    )
    if found.preprocessing is not None:
        spec = network_of(found.network).input_spec.with_channels(found.preprocessing.channels)
        assert spec.with_preprocessing(found.preprocessing).preprocessing == found.preprocessing
        assert Preprocessing.from_dict(found.preprocessing.to_dict()) == found.preprocessing
    plain = found.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["bytes"] == found.bytes


def test_tags_files_and_hashes_are_told_apart():
    assert len({found.tag for found in SETS}) == len(SETS) > 130
    files = [found.file for found in SETS if found.file != "model.safetensors"]
    assert len(set(files)) == len(files)
    twice = [found.tag for found in SETS if found.sha256 and sum(other.sha256 == found.sha256 for other in SETS) > 1]
    assert twice == [f"googlenet.onnx_zoo_{opset}" for opset in (3, 6, 7, 9)]  # 3 is 7 and 6 is 9, to the byte
    assert all(found.sha256_prefix is None or f"-{found.sha256_prefix}." in found.file for found in SETS)


def test_accuracies_are_those_published():
    assert {tag: (find_set(tag).top1, find_set(tag).top5) for tag in PUBLISHED} == PUBLISHED


@pytest.mark.parametrize("found", [found for found in SETS if found.bytes], ids=lambda found: found.tag)
def test_a_file_s_size_is_that_of_its_network_s_numbers(found):
    """32 bits each, and the graph; MXNet's ResNets have biases in their convolutions, the zoo's GoogLeNets no auxiliary classifiers."""
    network = network_of(found.network)
    numbers = sum(values.numel() for name, values in network.state_dict().items() if "auxiliary" not in name and "aux" not in name)
    assert 4 * numbers <= found.bytes <= 4 * numbers * 1.002 + 2**17


def test_preprocessings_of_some_kinds():
    assert find_set("resnet50_v1_5.torchvision_v2").preprocessing.resize == 232
    assert find_set("googlenet_bn.torchvision_v1").preprocessing == PREPROCESSINGS["tf"]
    assert find_set("resnet50_v1_5.timm_a1_in1k").preprocessing.resize == 235
    assert find_set("vgg16.keras").preprocessing == PREPROCESSINGS["caffe"]
    assert [found.tag for found in SETS if found.preprocessing is None] == [
        f"{network}.onnx_zoo_caffe2{opset}" for network in ("vgg19", "resnet50_v1_5") for opset in ("", "_3", "_6", "_7", "_8")
    ]
    assert {found.dialect for found in SETS if found.preprocessing and found.preprocessing.fit == "squash"} == {"caffe", "onnx"}


def test_a_file_is_known_by_its_hash_whatever_its_name():
    sha256 = find_set("googlenet.onnx_zoo_9").sha256
    assert set_of_file("renamed.onnx", sha256).tag == "googlenet.onnx_zoo_6"  # the same file to the byte
    assert set_of_file("googlenet-9.onnx", sha256).tag == "googlenet.onnx_zoo_9"
    assert set_of_file("renamed.onnx", "0" * 64) is None


def test_a_name_counts_as_far_as_the_hash_agrees():
    assert set_of_file("resnet50-11ad3fa6.pth", "11ad3fa6" + "0" * 56).tag == "resnet50_v1_5.torchvision_v2"  # timm gives it on
    assert set_of_file("resnet50-11ad3fa6.pth", "0" * 64) is None
    assert set_of_file("resnet50-11ad3fa6.pth", None) is None
    assert set_of_file("resnet50_a1_0-14fe96d1.pth", "14fe96d1" + "0" * 56).tag == "resnet50_v1_5.timm_a1_in1k"
    assert set_of_file("googlenet-12.onnx", "0" * 64) is None  # its whole hash is published


def test_a_name_counts_where_one_set_alone_has_it():
    assert set_of_file("vgg16_weights_tf_dim_ordering_tf_kernels.h5", "0" * 64).tag == "vgg16.keras"
    assert set_of_file("VGG_ILSVRC_19_layers.caffemodel", None).tag == "vgg19.authors"
    assert set_of_file("model.safetensors", "0" * 64) is None
    assert set_of_file("model.safetensors", None) is None


def test_tags_are_found_by_pattern_and_missed_with_advice():
    assert [found.tag for found in list_sets("vgg19.*keras*")] == ["vgg19.keras"]
    assert len(list_sets("resnet50_v1_5.timm_*")) == 18
    with pytest.raises(
        WeightsError, match=r"resnet50_v1_5\.torchvision_v3: expected .*'resnet50_v1_5\.torchvision_v2'.*weights list"
    ) as caught:
        find_set("resnet50_v1_5.torchvision_v3")
    assert "\n" not in str(caught.value)
    with pytest.raises(WeightsError, match=r"known: vgg13\.torchvision_v1, vgg13\.timm_tv_in1k \("):
        find_set("vgg13.zebra")
    with pytest.raises(WeightsError, match=r"known: resnet20_cifar\.fashion6, alexnet_owt"):
        find_set("zebra")


def test_the_list_fits_its_columns():
    lines = show_sets(SETS).splitlines()
    assert len(lines) == len(SETS) + 1
    assert max(map(len, lines)) <= LINE_COLUMNS
    (line,) = show_sets([find_set("resnet50.onnx_zoo")]).splitlines()[1:]
    assert line.endswith("onnx/models, ONNX_HUB_MANIFEST.json, commit 7c5650d2")
    assert line.split()[:6] == ["resnet50.onnx_zoo", "102.6", "MB", "Apache-2.0", "74.97", "92.33"]


def test_the_wide_table_has_all_that_is_known():
    lines = show_sets(SETS, wide=True).splitlines()
    assert lines[0].split("  ")[0] == "tag"
    for line, found in zip(lines[1:], SETS, strict=True):
        assert all(known is None or known in line for known in (found.tag, found.licence, found.trained_on, found.address, found.source))
    (line,) = show_sets([find_set("resnet50_v1_5.torchvision_v1")], wide=True).splitlines()[1:]
    assert "224 of 256, bilinear, RGB to 1, mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225" in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (ROW + ROW, "set 2 (vgg16.somebody): tag: expected each once"),
        (ROW.replace('network = "vgg16"', 'network = "vgg61"'), "set 1 (vgg16.somebody): network: expected"),
        (ROW.replace('"vgg16.somebody"', '"vgg19.somebody"'), "tag: expected vgg16.NAME"),
        (ROW.replace("source", "origin"), "found no ['source'], unknown ['origin']"),
        (ROW.replace('"caffe"', '"pickle"'), "dialect: expected torchvision"),
        (ROW + 'sha256 = "abc"', "sha256: expected 64 digits"),
        (ROW + 'address = "file:///etc/passwd"', "address: expected https://"),
        (ROW + 'also = ["ftp://somewhere"]', "address: expected https://"),
        (ROW + 'also = "https://somewhere"', "also: expected a list"),
        (ROW + "top1 = 0.715", "top1: expected percent"),
        (ROW + 'top1 = "71.5"', "top1: expected float"),
        (ROW + "bytes = 0", "bytes: expected 1 or more"),
        (ROW + "bytes = true", "bytes: expected int"),
        (ROW + "preprocessing = { size = 224 }", "preprocessing: expected the keys"),
        (ROW.replace('"a.caffemodel"', '"../a.caffemodel"'), "file, source: expected a name"),
        ("set = [3]", "set 1: expected a table"),
        ("[other]", "expected [[set]] alone, found 'other'"),
        ("set = ", "expected TOML"),
        ("", "expected [[set]] alone, found nothing"),
    ],
)
def test_a_broken_table_says_where(text, said):
    with pytest.raises(WeightsError) as caught:
        parse_sources(text)
    assert said in str(caught.value)
    assert str(caught.value).startswith("sources.toml")
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith("install provenet anew")
