"""LeNet-5 against its paper: counts, the table of C3, the codes, and arithmetic done by hand or by another road."""

import math

import pytest
import torch
import torch.nn.functional as F

from provenet.errors import ModelError
from provenet.models.catalog import build_network
from provenet.models.lenet import C3_TABLE, ScaledTanh, SparseConvolution, Subsampling, count_connections, output_codes

# LeCun et al. 1998, section II.B, as printed.
PUBLISHED_PARAMETERS = {"C1": 156, "S2": 12, "C3": 1_516, "S4": 32, "C5": 48_120, "F6": 10_164, "output": 0}
PUBLISHED_CONNECTIONS = {"C1": 122_304, "S2": 5_880, "C3": 151_600, "S4": 2_000, "C5": 48_120, "F6": 10_164, "output": 840}
PUBLISHED_OUTPUTS = {
    "C1": (6, 28, 28),
    "S2": (6, 14, 14),
    "C3": (16, 10, 10),
    "S4": (16, 5, 5),
    "C5": (120, 1, 1),
    "F6": (84,),
    "output": (10,),
}

# Table I as the paper draws it: a row for each S2 map, a column for each C3 map.
PUBLISHED_TABLE_1 = """
X . . . X X X . . X X X X . X X
X X . . . X X X . . X X X X . X
X X X . . . X X X . . X . X X X
. X X X . . X X X X . . X . X X
. . X X X . . X X X X . X X . X
. . . X X X . . X X X X . X X X
"""


def test_the_connections_of_c3_are_table_1():
    rows = [line.split() for line in PUBLISHED_TABLE_1.strip().splitlines()]
    columns = [tuple(s2 for s2, row in enumerate(rows) if row[c3] == "X") for c3 in range(16)]
    assert tuple(columns) == C3_TABLE


def test_parameters_of_each_layer_are_those_of_the_paper():
    net = build_network("lenet5")
    found = {name: sum(p.numel() for p in stage.parameters() if p.requires_grad) for name, stage in net.stages.items()}
    assert found == PUBLISHED_PARAMETERS
    assert sum(found.values()) == 60_000


def test_connections_of_each_layer_are_those_of_the_paper():
    found = count_connections(build_network("lenet5"))
    assert found == PUBLISHED_CONNECTIONS
    assert sum(found.values()) == 340_908


def test_outputs_of_each_layer_are_those_of_the_paper():
    net, x = build_network("lenet5"), torch.zeros(1, 1, 32, 32)
    found = {}
    for name, stage in net.stages.items():
        x = stage(x)
        found[name] = tuple(x.shape[1:])
    assert found == PUBLISHED_OUTPUTS


def test_the_remake_has_its_known_count():
    assert sum(p.numel() for p in build_network("lenet5_softmax").parameters()) == 61_706


def test_c3_reads_the_maps_of_table_1():
    torch.manual_seed(0)
    layer = SparseConvolution(6, C3_TABLE, kernel_size=5)
    torch.nn.init.normal_(layer.weight)
    torch.nn.init.normal_(layer.bias)
    maps = torch.randn(2, 6, 14, 14)
    # the other road: each output map by a convolution of its own over just the maps it reads
    kernels = iter(layer.weight)
    by_hand = [
        F.conv2d(maps[:, list(reads)], torch.stack([next(kernels) for _ in reads])[None], layer.bias[i : i + 1])
        for i, reads in enumerate(C3_TABLE)
    ]
    torch.testing.assert_close(layer(maps), torch.cat(by_hand, dim=1))
    assert [len(reads) for reads in C3_TABLE] == [3] * 6 + [4] * 9 + [6]
    assert len({frozenset(reads) for reads in C3_TABLE}) == 16


def test_subsampling_by_hand():
    layer = Subsampling(channels=2)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.5, -1.0]))
        layer.bias.copy_(torch.tensor([1.0, 2.0]))
    maps = torch.arange(8.0).view(1, 2, 2, 2)  # 0 1 2 3 and 4 5 6 7: sums 6 and 22
    assert layer(maps).flatten().tolist() == [0.5 * 6 + 1, -22 + 2]
    many = torch.randn(3, 2, 8, 6)
    torch.testing.assert_close(layer(many), 4 * F.avg_pool2d(many, 2) * layer.weight[:, None, None] + layer.bias[:, None, None])


def test_the_squash_takes_one_to_one():
    squash = ScaledTanh()
    torch.testing.assert_close(squash(torch.tensor([-1.0, 0.0, 1.0])), torch.tensor([-1.0, 0.0, 1.0]), atol=1e-4, rtol=0)
    assert math.isclose(float(squash(torch.tensor(100.0))), 1.7159, abs_tol=1e-6)


def test_the_codes_of_ten_classes_are_drawings_of_digits():
    codes = output_codes(10)
    assert codes.shape == (10, 84)
    assert set(codes.unique().tolist()) == {-1.0, 1.0}
    one = ["".join("#" if bit > 0 else "." for bit in row) for row in codes[1].view(12, 7)]
    assert one == ["...##..", "..###..", ".####..", *["...##.."] * 6, ".######", ".......", "......."]
    distances = torch.cdist(codes, codes, p=1) / 2
    assert int(distances[~torch.eye(10, dtype=torch.bool)].min()) >= 8  # no two digits are alike


@pytest.mark.parametrize("num_classes", [1, 2, 9, 11, 84, 85, 168])
def test_other_counts_have_well_separated_codes(num_classes):
    codes = output_codes(num_classes)
    different = (codes[:, None] != codes[None]).sum(-1)
    off_diagonal = different[~torch.eye(num_classes, dtype=torch.bool)]
    assert set(off_diagonal.tolist()) <= {42, 84}


def test_too_many_classes_are_refused_with_the_way_out():
    with pytest.raises(ModelError, match=r"1 to 168 classes.*found 169; use lenet5_softmax"):
        build_network("lenet5", num_classes=169)


def test_logits_are_minus_the_distance_to_the_codes():
    net = build_network("lenet5")
    codes = output_codes(10)
    logits = net.forward_head(codes.clone())
    torch.testing.assert_close(logits.diagonal(), torch.zeros(10))
    torch.testing.assert_close(-logits, torch.cdist(codes, codes).square(), atol=1e-3, rtol=1e-4)


def test_the_published_initialisation():
    torch.manual_seed(0)
    net = build_network("lenet5", init="published")
    for path, fan_in in {"C1.conv": 25, "C5.conv": 400, "F6.linear": 120}.items():
        weight = net.get_submodule(path).weight.detach()
        assert weight.abs().max() <= 2.4 / fan_in
        assert weight.abs().max() > 0.9 * 2.4 / fan_in
        assert abs(float(weight.std()) - 2.4 / fan_in / math.sqrt(3)) < 0.15 * 2.4 / fan_in
    sparse = net.get_submodule("C3.conv")
    assert sparse.weight[:18].abs().max() <= 2.4 / 75  # the first six maps read three
    assert sparse.weight[-6:].abs().max() <= 2.4 / 150  # the last reads six


def test_the_published_input_range():
    preprocessing = build_network("lenet5").input_spec.preprocessing
    grey = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    torch.testing.assert_close(preprocessing.normalise(grey).flatten(), torch.tensor([-0.1, 1.175]))
