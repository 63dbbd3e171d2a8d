"""`verify` over the catalog, and what it says."""

import json

import pytest
import torch

from provenet.errors import ModelError
from provenet.models.catalog import NETWORKS, build_network, build_on_meta
from provenet.papers.paper import Misprint, read_papers
from provenet.verify.rows import check_printed, show
from provenet.verify.verify import verify, verify_network

# FACTS of other people: published with weights, or printed.
KNOWN_PARAMETERS = {
    "lenet5": 60_000, "lenet5_softmax": 61_706, "alexnet": 60_965_224, "alexnet_one_tower": 62_378_344, "alexnet_owt": 61_100_840,
    "alexnet_bvlc": 60_965_224, "alexnet_floor": 60_965_224, "caffenet": 60_965_224, "caffenet_floor": 60_965_224,
    "zfnet": 62_357_608, "zfnet_512": 87_250_536,
    "zfnet_big": 107_627_624, "vgg11": 132_863_336, "vgg11_lrn": 132_863_336, "vgg13": 133_047_848, "vgg16_c": 133_638_952,
    "vgg16": 138_357_544, "vgg19": 143_667_240, "vgg16_gap": 37_694_248, "nin_cifar": 966_986, "nin_imagenet": 7_595_176,
    "googlenet": 6_998_552, "googlenet_floor": 6_998_552, "googlenet_bn": 6_624_904,
}  # fmt: skip
KNOWN_MACS = {
    "alexnet": 724_406_816, "zfnet": 1_168_032_896, "resnet50": 3_857_973_248, "resnet101": 7_570_194_432, "resnet152": 11_282_415_616,
}  # fmt: skip
KNOWN_MACS_ROUNDED = {
    "zfnet_big": "2.477", "vgg11": "7.609", "vgg13": "11.308", "vgg16_c": "11.771", "vgg16": "15.470", "vgg19": "19.632",
    "vgg16_gap": "15.370", "googlenet": "1.583", "googlenet_naive": "12.568", "resnet18": "1.814", "resnet34": "3.664",
    "resnet50_v1_5": "4.089", "resnet101_v1_5": "7.801", "resnet152_v1_5": "11.514", "resnet34_a": "3.644", "plain34": "3.644",
}  # fmt: skip
SMALL = ["lenet5", "lenet5_softmax", "nin_cifar", "googlenet", "resnet20_cifar", "plain20_cifar"]


def build(name):
    """Without weights, but LeNet-5, whose output codes are weights."""
    return build_network(name) if name == "lenet5" else build_on_meta(name)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_as_its_paper_has_it(name):
    verification = verify_network(build(name))
    assert not verification.failures
    assert len(verification.checks) > 30


def test_the_weights_begin_as_published():
    verification = verify(SMALL)
    assert verification.ok
    for network in verification.networks:
        assert sum("initial" in check.what for check in network.checks) > 5, network.name


@pytest.mark.slow
def test_the_whole_catalog_with_its_weights():
    verification = verify()
    assert [network.name for network in verification.networks] == [*NETWORKS, "arithmetic"]
    assert verification.ok


def test_totals_that_others_published_are_among_the_checks():
    """The tables' numbers are not only equal to ours: they are those that are known."""
    tables = {name: network for paper in read_papers().values() for name, network in paper.networks.items()}
    assert set(tables) == set(NETWORKS)
    assert {name: tables[name].totals["parameters"] for name in KNOWN_PARAMETERS} == KNOWN_PARAMETERS
    assert {name: tables[name].totals["macs"] for name in KNOWN_MACS} == KNOWN_MACS
    assert {name: f"{tables[name].totals['macs'] / 1e9:.3f}" for name in KNOWN_MACS_ROUNDED} == KNOWN_MACS_ROUNDED


def test_the_numbers_of_the_contract_in_json():
    verification = verify(["lenet5_softmax"])
    values = json.loads(json.dumps(verification.to_dict()))
    assert values["ok"] is True
    (network,) = values["networks"]
    assert network["name"] == "lenet5_softmax"
    assert {"what": "network: parameters", "expected": "61,706", "found": "61,706", "ok": True} in network["checks"]


def test_a_disagreement_is_said():
    net = build_on_meta("alexnet")
    net.layer("norm1").k = 1.0
    verification = verify_network(net)
    assert [(check.what, check.expected, check.found) for check in verification.failures] == [("norm1: k", "2", "1")]


def test_a_network_of_another_class_count_disagrees_in_its_last_rows():
    verification = verify_network(build_on_meta("alexnet", num_classes=10))
    assert {check.what for check in verification.failures} == {
        "network: classes", "network: parameters", "network: printed_parameters", "network: macs",
        "fc8: output", "fc8: parameters", "fc8: macs",
    }  # fmt: skip


def test_names_that_are_none():
    with pytest.raises(ModelError, match="no network matches 'alexnte'; did you mean 'alexnet'"):
        verify("alexnte")
    with pytest.raises(ModelError, match="verify: expected names of networks, found none"):
        verify([])
    assert [network.name for network in verify("lenet*").networks] == ["lenet5", "lenet5_softmax"]
    with pytest.raises(ModelError, match="vgg_toy: expected a network of the papers' tables, found none of that name"):
        verify_network(build_on_meta("vgg_toy"))


@pytest.mark.parametrize(
    ("printed", "exact", "ok"),
    [
        ("159K", (163_696, 163_328), True),  # 159.5 x 1,024, cut off
        ("112K", (114_944, 114_688), True),  # 112 x 1,024
        ("463K", (510_104, 509_440), False),
        ("138M", (138_357_544, 138_000_000), True),
        ("139M", (138_357_544, 138_000_000), False),
        ("0.27M", (269_722, 268_000), True),
        ("3.8G", (3_857_973_248,), True),  # cut off
        ("3.9G", (3_857_973_248,), True),  # rounded
        ("4.1G", (3_857_973_248,), False),
    ],
)
def test_what_a_rounded_number_may_stand_for(printed, exact, ok):
    assert check_printed("x: printed", printed, exact, ()).ok is ok


def test_a_misprint_must_be_listed_and_be_one():
    listed = (Misprint(("a",), "table 1", "463K", "497.5K", "509,440", check="4c: printed_parameters"),)
    assert not check_printed("4c: printed_parameters", "463K", (510_104, 509_440), ()).ok
    assert check_printed("4c: printed_parameters", "463K", (510_104, 509_440), listed).found == "510,104: a misprint, see below"
    assert not check_printed("4c: printed_parameters", "498K", (510_104, 509_440), listed).ok


def test_how_values_are_written():
    assert [show(value) for value in (96, 34_944, 0.0001, [96, 55, 55], {"1x1": 64}, {"B", "A"}, set(), "up")] == [
        "96", "34,944", "0.0001", "96x55x55", "1x1 64", "A or B", "none of the paper's", "up",
    ]  # fmt: skip


def test_a_weight_that_was_not_drawn_is_seen():
    net = build_network("nin_cifar")
    with torch.no_grad():
        net.layer("cccp3").weight[:10] = 0
        net.layer("cccp4").bias[3] = 0.01
        net.layer("conv2").weight.uniform_(-1, 1).mul_(0.05 * 3**0.5)  # the right deviation, the wrong shape
    assert [check.what for check in verify_network(net).failures] == [
        "conv2: initial weights", "cccp3: initial weights", "cccp4: initial biases",
    ]  # fmt: skip


def test_the_arithmetic_of_courses():
    verification = verify(["arithmetic"])
    assert verification.ok
    found = {check.what: check.found for check in verification.networks[0].checks}
    assert found["5x5 straight on 192 maps: macs"] == "120,422,400"
    assert found["the same through 16 of 1x1 first: macs"] == "2,408,448 and 10,035,200"
    assert len(found) == 21


def test_the_arithmetic_can_fail(monkeypatch):
    monkeypatch.setattr("provenet.models.blocks.BasicBlock.forward", lambda block, maps: maps + 1)
    assert [check.what.rpartition(": ")[2] for check in verify(["arithmetic"]).networks[0].failures] == ["BasicBlock"]
