"""The papers' data: complete, and right in itself, whatever the networks say."""

import dataclasses
import json
import re

import pytest

from provenet.errors import ModelError
from provenet.models.catalog import NETWORKS
from provenet.papers.listing import list_networks, show_count, show_networks
from provenet.papers.paper import FILES, find_paper, read_papers
from provenet.verify.rows import FIELDS

NETWORKS_BY_PAPER = [(paper, network) for paper in read_papers().values() for network in paper.networks.values()]
IDS = [network.name for _, network in NETWORKS_BY_PAPER]


def test_every_network_stands_in_one_paper():
    names = [network.name for _, network in NETWORKS_BY_PAPER]
    assert sorted(names) == sorted(NETWORKS)
    assert find_paper("vgg16").key == "vgg"
    assert find_paper("vgg_toy") is None
    assert list(read_papers()) == list(FILES)


@pytest.mark.parametrize(("paper", "network"), NETWORKS_BY_PAPER, ids=IDS)
def test_rows_are_known_and_sum_to_the_totals(paper, network):
    assert network.source in ("paper", "world", "notes")
    assert network.about.endswith(".")
    for rows in (network.rows, network.auxiliary):
        for row in rows.values():
            assert set(row) - {"name"} <= set(FIELDS)
    in_order = [network.rows[name] for name in network.order if name in network.rows]
    assert sum(row.get("macs", 0) for row in in_order) == network.totals["macs"]
    assert sum(row.get("parameters", 0) for row in in_order) == network.totals["parameters"]
    assert sum(row.get("parameters", 0) for row in network.auxiliary.values()) <= network.totals.get("auxiliary_parameters", 0)


@pytest.mark.parametrize(("paper", "network"), NETWORKS_BY_PAPER, ids=IDS)
def test_convolutions_by_hand(paper, network):
    """Parameters and multiply-adds of each row from its own kernel, groups and maps: the formulas, not the networks."""
    channels = network.input[0]
    for name in network.order:
        row = network.rows.get(name, {})
        if "kernel" in row and "groups" in row and "pool" not in row:
            maps, height, width = row["output"]
            weights = maps * channels // row["groups"] * row["kernel"] ** 2
            assert row["macs"] == weights * height * width
            assert row["parameters"] in (weights, weights + maps)  # batch norm's convolutions have no biases
        output = row.get("output")
        if output:
            channels = output[0]


def test_misprints_belong_somewhere():
    for paper in read_papers().values():
        for misprint in paper.misprints:
            assert misprint.networks
            assert set(misprint.networks) <= set(paper.networks)
            assert all(getattr(misprint, field.name) for field in dataclasses.fields(misprint) if field.name != "check")


EQUATION = re.compile(r"((?:\([\d ./*+-]+\)|[\d.]+)(?: [+*/-] (?:\([\d ./*+-]+\)|[\d.]+))*) = ([\d.]*\d)")


def test_the_arithmetic_of_misprints_is_right():
    """Every equation in them, worked out again."""
    checked = 0
    for paper in read_papers().values():
        for misprint in paper.misprints:
            for left, right in EQUATION.findall(misprint.arithmetic.replace(",", "")):
                if set(left) & set("+-*/"):
                    assert abs(eval(left) - float(right)) <= 0.5 * 10.0 ** -len(right.partition(".")[2]) + 1e-9, (left, right)
                    checked += 1
    assert checked >= 15


def test_published_numbers():
    papers = read_papers()
    accuracies = {(entry["network"], entry["views"], entry["networks"]): entry for entry in papers["googlenet"].accuracies}
    assert accuracies["googlenet", "144 crops", 7]["top5_error_percent"] == 6.67
    assert papers["alexnet"].contest["top5_error_percent"] == 16.4
    assert papers["resnet"].training["weight_decay"] == 1e-4  # a course prints 1e-5
    assert papers["vgg"].year == 2014  # a course says 2015


def test_the_list():
    rows = {row.name: row for row in list_networks()}
    assert list(rows) == list(NETWORKS)
    alexnet = rows["alexnet"]
    assert (alexnet.year, alexnet.contest, alexnet.place, alexnet.top5_error_percent) == (2012, "ILSVRC", 1, 16.4)
    assert (rows["vgg16_bn"].place, rows["googlenet"].place, rows["vgg16"].place, rows["zfnet"].place) == (None, 1, 2, 3)
    assert json.loads(json.dumps(alexnet.to_dict()))["input"] == [3, 227, 227]
    table = show_networks(list_networks("alexnet*"), {"alexnet": ["a", "b", "c", "d"], "alexnet_bvlc": ["bvlc"]})
    assert "  alexnet             2012  ILSVRC 2012: 1st, 16.4 % (5 nets)   60,965,224    724 M  3x227x227    a b +2" in table.splitlines()
    assert "  alexnet_bvlc        2012                                      60,965,224    724 M  3x227x227    bvlc" in table.splitlines()
    assert "Krizhevsky, Sutskever, Hinton 2012, ImageNet classification with deep convolutional neural networks" in table.splitlines()
    with pytest.raises(ModelError, match="no network matches 'vgg61'; did you mean 'vgg19' or 'vgg16'"):
        list_networks("vgg61")


def test_counts_are_rounded():
    assert [show_count(n) for n in (999, 40_550_000, 15_470_264_320)] == ["999", "40.5 M", "15.5 G"]
