"""Two networks, layer by layer: what must be said of them, and that it adds up.

`PROVENET_ACCEPT=1 pytest tests/comparison/test_difference.py` renews the texts beside this file; the commit says which changed and why.
"""

import json
import os
from collections import OrderedDict
from functools import cache
from pathlib import Path

import pytest
import torch.nn.functional as F
from torch import nn

import provenet as pn
from provenet.comparison.explained import as_text
from provenet.comparison.verdicts import COSTS
from provenet.inspection.summary import summarize
from provenet.models.catalog import build_on_meta

EXPLAINED = [("alexnet", "alexnet_owt"), ("resnet50", "resnet50_v1_5"), ("googlenet", "googlenet_naive")]
OTHERS = [
    ("alexnet", "caffenet"),
    ("alexnet", "zfnet"),
    ("zfnet", "zfnet_big"),
    ("vgg16", "vgg16_bn"),
    ("vgg16", "vgg16_gap"),
    ("vgg16", "vgg16_c"),
    ("googlenet", "googlenet_bn"),
    ("resnet18", "plain18"),
    ("resnet18", "resnet34"),
    ("resnet20_cifar", "resnet20_cifar_b"),
    ("lenet5", "lenet5_softmax"),
    ("lenet5", "alexnet"),
]
summary_of = cache(summarize)


@cache
def compare(a, b):
    return pn.difference(summary_of(a), summary_of(b))


def said(a, b):
    """The causes and consequences, a line each."""
    return " ".join(str(compare(a, b)).partition("\nstage ")[0].split())


def verdicts(found, *wanted):
    return {pair.row.name: [tuple(setting) for setting in pair.what] for pair in found.of(*wanted)}


def with_layer(name, path, layer):
    """A network of the catalog with another layer in it."""
    net = build_on_meta(name)
    net.set_submodule(path, layer)
    return net


@pytest.mark.parametrize(("a", "b"), EXPLAINED)
def test_the_explanations_are_what_they_were(a, b):
    golden = Path(__file__).parent / f"difference_{a}_{b}.txt"
    text = str(compare(a, b)) + "\n"
    if os.environ.get("PROVENET_ACCEPT"):
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8"), f"PROVENET_ACCEPT=1 pytest {Path(__file__).name} accepts that"


def test_the_one_weird_trick_is_one_tower_with_fewer_maps_and_no_norm():
    found = compare("alexnet", "alexnet_owt")
    rounding = [("rounds up", True, False)]
    assert verdicts(found, "changed") == {
        "conv1.conv": [("maps", 96, 64), ("padding", 0, 2)],
        "conv1.pool": rounding,
        "conv2.conv": [("maps", 256, 192), ("groups", 2, 1)],
        "conv2.pool": rounding,
        "conv4.conv": [("maps", 384, 256), ("groups", 2, 1)],
        "conv5.conv": [("groups", 2, 1)],
        "conv5.pool": rounding,
    }
    assert set(verdicts(found, "only in a")) == {"conv1.norm", "conv2.norm"}
    assert set(verdicts(found, "follows")) == {"conv1.relu", "conv2.relu", "conv3.conv", "conv4.relu"}
    assert not found.of("only in b", "moved")
    text = said("alexnet", "alexnet_owt")
    assert "input 227x227x3 → 224x224x3" in text
    assert "groups 2 → 1: conv2.conv, conv4.conv, conv5.conv" in text
    assert "conv1.pool, conv2.pool, conv5.pool, which changes no size here" in text
    assert "conv2 48 of 96 → 64, conv4 192 of 384 → 384, conv5 192 of 384 → 256" in text
    assert "every layer of fc6, fc7, fc8" in text


def test_v1_5_moves_the_stride():
    found = compare("resnet50", "resnet50_v1_5")
    blocks = [f"conv{k}_x.block1" for k in (3, 4, 5)]
    assert verdicts(found, "changed") == {
        f"{block}.{name}": [("stride", *strides)] for block in blocks for name, strides in (("conv1", (2, 1)), ("conv2", (1, 2)))
    }
    assert set(verdicts(found, "follows")) == {f"{block}.{name}" for block in blocks for name in ("bn1", "relu")}
    totals = found.totals()
    assert totals["parameters"][0] == totals["parameters"][1]
    assert totals["macs"] == (3_857_973_248, 4_089_184_256)
    moves = "stride 2 moves from conv1 (1x1) to conv2 (3x3) in conv3_x.block1, conv4_x.block1, conv5_x.block1 [MACs +231 M]"
    assert moves in said("resnet50", "resnet50_v1_5")
    changes = [change for change in found.to_dict()["changes"] if change["verdict"] == "changed"]
    assert [change["names"] for change in changes] == [[f"{block}.conv1" for block in blocks], [f"{block}.conv2" for block in blocks]]
    assert [change["macs"]["difference"] for change in changes] == [231_211_008, 0]


def test_the_naive_module_lacks_its_reductions_and_grows():
    found = compare("googlenet", "googlenet_naive")
    lacking = found.of("only in a")
    trained = [pair for pair in lacking if pair.only_in_training]
    assert {pair.part for pair in trained} == {"auxiliary"}
    parts = {pair.part for pair in lacking if not pair.only_in_training}
    columns = ("column3.reduce", "column5.reduce", "column_pool.project")
    assert parts == {f"inception_{key}.{column}" for key in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b") for column in columns}
    assert not found.of("only in b", "changed", "moved")
    text = said("googlenet", "googlenet_naive")
    assert "only in googlenet: column3.reduce, column5.reduce, column_pool.project of inception_3a, 3b, 4a, 4b, 4c, 4d, 4e, 5a, 5b" in text
    assert "column3.conv.conv reads more maps: inception_3a 96 → 192, 3b 128 → 416" in text
    assert "concatenate writes more maps: inception_3a 256 → 416, 3b 480 → 832" in text
    assert "parameters 7.00 M → 97.5 M (13.9 times)" in text
    assert "only in googlenet while training: auxiliary (16 layers)" in text


def test_an_order_is_told_as_an_order():
    found = compare("alexnet", "caffenet")
    assert set(verdicts(found, "moved")) == {"conv1.pool", "conv2.pool"}
    assert verdicts(found, "changed")["conv1.norm"] == [("alpha", 1e-4, 2e-5), ("k", 2, 1), ("after", "relu", "pool")]
    assert not found.of("only in a", "only in b", "follows")
    assert "norm and pool change places in conv1, conv2" in said("alexnet", "caffenet")
    assert "alpha 0.0001 → 2e-05, k 2 → 1: conv1.norm, conv2.norm" in said("alexnet", "caffenet")


@pytest.mark.parametrize(
    ("a", "b", "sentence"),
    [
        ("vgg16", "vgg16_c", "kernel 3x3 → 1x1, padding 1 → 0: conv3.conv3, conv4.conv3, conv5.conv3 [parameters -4.72 M, MACs -3.70 G]"),
        ("vgg16", "vgg16_gap", "fc6.linear reads fewer numbers: 25088 → 512 [parameters -101 M, MACs -101 M]"),
        ("vgg16", "vgg16_bn", "bn1, bn2, bn3 of conv3, conv4, conv5 (each batch norm) [parameters +8.45 K]"),
        ("googlenet", "googlenet_bn", "with bias → without: all 59 convolutions"),
        ("resnet18", "plain18", "shortcut (convolution 1x1/2, batch norm), add of conv3_x.block1, conv4_x.block1, conv5_x.block1"),
        ("resnet18", "resnet34", "block3 … block6 of conv4_x"),
        ("resnet20_cifar", "resnet20_cifar_b", "zero padding → convolution 1x1/2, batch norm: conv3_x.block1.shortcut, conv4_x.block1."),
        ("lenet5", "lenet5_softmax", "subsampling → average pool: S2.subsampling, S4.subsampling [parameters -44]"),
        ("zfnet", "zfnet_big", "maps: conv3.conv 384 → 512, conv4.conv 384 → 1024, conv5.conv 256 → 512"),
        ("alexnet", "zfnet", "kernel 11x11 → 7x7, stride 4 → 2, padding 0 → 1: conv1.conv"),
    ],
)
def test_one_sentence_of_others(a, b, sentence):
    assert sentence in said(a, b)


@pytest.mark.parametrize(("a", "b"), [*EXPLAINED, *OTHERS])
def test_it_adds_up_and_reads_the_same_backwards(a, b):
    found, back = compare(a, b), compare(b, a)
    one, other = summary_of(a), summary_of(b)
    for summary, side in ((one, "a"), (other, "b")):  # every layer once
        names = [getattr(pair, side).name for pair in found.pairs if getattr(pair, side)]
        assert sorted(names) == sorted(row.name for row in (*summary.rows, *summary.only_in_training))
    told = found.to_dict()
    json.dumps(found.to_dict(all_layers=True), allow_nan=False)
    for cost in COSTS:
        expected = getattr(other, cost) - getattr(one, cost)
        assert sum(change[cost]["difference"] for change in told["changes"]) + _of_the_same(found, cost) == expected
        assert sum(stage[cost]["difference"] for stage in told["stages"]) == expected
        assert told["totals"][cost]["difference"] == expected
        assert back.to_dict()["totals"][cost]["difference"] == -expected
    mirrored = {"only in a": "only in b", "only in b": "only in a"}
    there = sorted(_told(pair.a, pair.b, pair.verdict, [(s.setting, s.a, s.b) for s in pair.what]) for pair in found.pairs)
    here = [
        _told(pair.b, pair.a, mirrored.get(pair.verdict, pair.verdict), [(s.setting, s.b, s.a) for s in pair.what]) for pair in back.pairs
    ]
    assert there == sorted(here)
    assert str(back).startswith(f"{b} → {a}")


def _of_the_same(found, cost):
    """The same layers may keep something else for the backward pass; nothing else of them differs."""
    pairs = found.of("same")
    difference = sum(pair.cost(cost)[1] - pair.cost(cost)[0] for pair in pairs)
    assert not difference or cost in ("training_bytes", "activation_bytes")
    return difference


def _told(a, b, verdict, what):
    return str((a and a.name, b and b.name, verdict, sorted(what, key=str)))


def test_a_network_is_the_same_as_itself():
    found = compare("googlenet", "googlenet")
    assert found.is_same
    assert found.to_dict()["changes"] == []
    assert str(found) == "googlenet (1) and googlenet (2): the same 157 layers, 7.00 M parameters, 1.58 G MACs. Weights are not compared."
    assert not pn.difference("resnet8_cifar", build_on_meta("resnet8_cifar"), (3, 64, 64)).of("changed", "follows")


def test_other_classes_change_the_last_layer_only():
    found = pn.difference("lenet5_softmax", build_on_meta("lenet5_softmax", num_classes=3))
    assert verdicts(found, "changed") == {"output": [("features", 10, 3)]}
    assert len(found.of("same")) == len(found.pairs) - 1


@pytest.mark.parametrize(
    ("path", "layer", "what"),
    [
        ("conv3_x.block2.conv1", nn.Conv2d(32, 32, 3, padding=1, groups=2, bias=False), ("groups", 1, 2)),
        ("conv3_x.block2.conv1", nn.Conv2d(32, 32, 3, padding=2, dilation=2, bias=False), ("padding", 1, 2)),
        ("conv3_x.block2.bn1", nn.BatchNorm2d(32, eps=1e-3), ("eps", 1e-5, 1e-3)),
        ("conv3_x.block2.bn1", nn.GroupNorm(4, 32), ("kind", "batch_norm", "group_norm")),
        ("conv1.relu", nn.LeakyReLU(0.2), ("kind", "relu", "leaky_relu")),
        ("conv2_x.block1.conv1", nn.Conv2d(16, 24, 3, padding=1, bias=False), None),
    ],
)
def test_a_mutation_is_found_and_nothing_else_is_called_changed(path, layer, what):
    net = with_layer("resnet20_cifar", path, layer)
    if what is None:  # the next layers must fit
        net.set_submodule("conv2_x.block1.bn1", nn.BatchNorm2d(24))
        net.set_submodule("conv2_x.block1.conv2", nn.Conv2d(24, 16, 3, padding=1, bias=False))
        what = ("maps", 16, 24)
    found = pn.difference("resnet20_cifar", net)
    changed = verdicts(found, "changed")
    assert set(changed) == {path}
    assert what in changed[path]
    assert not found.of("moved", "only in a", "only in b")
    if what[0] == "maps":
        assert set(verdicts(found, "follows")) == {f"conv2_x.block1.{name}" for name in ("bn1", "relu", "conv2")}


def test_a_stride_makes_the_rest_follow():
    found = pn.difference("vgg_toy", with_layer("vgg_toy", "conv1.pool", nn.MaxPool2d(2, stride=1)), (3, 65, 65))
    assert set(verdicts(found, "changed")) == {"conv1.pool"}
    assert not found.of("moved", "only in a", "only in b")
    assert "conv2.conv1" in verdicts(found, "follows")


def test_layers_without_names_are_told_by_what_they_are():
    def make(has_norm):
        layers = []
        for before, after in ((3, 8), (8, 16), (16, 16)):
            layers += [nn.Conv2d(before, after, 3), *([nn.BatchNorm2d(after)] if has_norm else []), nn.ReLU(inplace=has_norm)]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))

    found = pn.difference(make(False), make(True), (3, 32, 32))
    assert [pair.b.name for pair in found.of("only in b")] == ["1", "4", "7"]
    assert len(found.of("same")) == len(found.pairs) - 3
    assert "only in Sequential (2): 1, 4, 7 (each batch norm) [parameters +80]" in str(found)


class Resized(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.conv, self.fc, self.size = nn.Conv2d(3, 8, 3), nn.Linear(8 * size * size, 10), size

    def forward(self, maps):
        return self.fc(F.adaptive_avg_pool2d(self.conv(maps), self.size).flatten(1))


def test_a_cause_is_found_where_an_operation_does_not_say_what_it_was_told():
    found = pn.difference(Resized(2), Resized(4), (3, 16, 16))
    assert verdicts(found, "changed") == {"adaptive_average_pool": [("output", (8, 2, 2), (8, 4, 4))]}
    assert set(verdicts(found, "follows")) == {"fc"}
    text = str(found)
    assert "writes 2x2x8 → 4x4x8: adaptive_average_pool" in text
    assert "fc reads more numbers: 32 → 128" in text


class Branches(nn.Module):
    def __init__(self, *, order=("left", "right"), skips=True, slope=0.2):
        super().__init__()
        self.left = nn.Conv2d(8, 8, 3, padding=1)
        self.right = nn.Conv2d(8, 8, 1)
        self.order, self.skips, self.slope = order, skips, slope

    def forward(self, maps):
        made = {name: getattr(self, name)(maps) for name in self.order}
        return F.leaky_relu(made["left"] + made["right"], self.slope) + (maps if self.skips else made["left"])


def test_foreign_modules_by_what_reads_what():
    def changes(**others):
        return verdicts(pn.difference(Branches(), Branches(**others), (8, 16, 16)), "changed", "moved", "only in a", "only in b")

    assert changes(order=("right", "left")) == {}  # beside one another is no order
    assert changes(slope=0.3) == {"leaky_relu": [("numbers", (0.2,), (0.3,))]}
    assert changes(skips=False) == {"add_2": [("reads", "leaky_relu and input", "leaky_relu and left")]}


def test_whole_blocks_change_places():
    def block(*layers):
        return nn.Sequential(OrderedDict(layers))

    def make(order):
        parts = {
            "stem": block(("conv", nn.Conv2d(3, 8, 3, padding=1)), ("act", nn.ReLU())),
            "one": block(("conv", nn.Conv2d(8, 8, 3, padding=1)), ("bn", nn.BatchNorm2d(8)), ("act", nn.ReLU())),
            "two": block(("pool", nn.MaxPool2d(2)), ("conv", nn.Conv2d(8, 8, 1))),
            "end": nn.GELU(),
        }
        return nn.Sequential(OrderedDict((name, parts[name]) for name in order))

    found = pn.difference(make(["stem", "one", "two", "end"]), make(["stem", "two", "one", "end"]), (3, 32, 32))
    assert set(verdicts(found, "moved")) == {"one.conv", "two.pool"}
    assert not found.of("changed", "only in a", "only in b")
    assert "one and two change places" in str(found)
    assert "one comes after two, end, not before" in str(
        pn.difference(make(["stem", "one", "two", "end"]), make(["stem", "two", "end", "one"]), (3, 32, 32))
    )


def test_a_single_layer_and_what_strangers_name():
    assert "kernel 3x3 → 5x5: Conv2d" in str(pn.difference(nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 5), (3, 32, 32)))
    named = nn.Sequential(OrderedDict({"<b>": nn.Conv2d(3, 8, 3)}))
    page = pn.difference(named, nn.Conv2d(3, 8, 5), (3, 32, 32))._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_every_layer_is_shown_beside_its_like():
    text = as_text(compare("alexnet", "alexnet_owt"), all_layers=True)
    lines = [line for line in text.splitlines() if line.startswith(("same ", "changed ", "follows ", "only here "))]
    assert len(lines) == len(compare("alexnet", "alexnet_owt").pairs)
    assert sum("conv2.conv: convolution 5x5, 2 groups, 27x27x256  conv2.conv: convolution 5x5, 27x27x192" in line for line in lines) == 1


def test_a_thousand_layers_are_compared_too():
    text = " ".join(str(pn.difference("resnet20_cifar", "resnet110_cifar")).split())
    assert "only in resnet110_cifar: block4 … block18 of conv2_x, conv3_x, conv4_x (each 8 layers)" in text
