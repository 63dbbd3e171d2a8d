"""What a summary works out without numbers, against what happens when the library really runs: by another road each time.

Multiply-adds against the library's own counter; bytes against its allocator and against what autograd saves; fields against the pixels
that have a gradient; parameters and multiply-adds against the papers' tables.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from recorded import record_blocks, record_saved, worst_moment
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from provenet.inspection.summary import summarize
from provenet.models.blocks import ResponseNorm
from provenet.models.catalog import NETWORKS, TOYS, build_network, build_on_meta
from provenet.models.classifier import Classifier, LinearAsConvolution
from provenet.models.lenet import RBFOutput, ScaledTanh, SparseConvolution, Subsampling
from provenet.papers.paper import read_papers

DEEPEST = "resnet1202_cifar"
"""5,000 rows: many seconds by each road."""


def slowly(*names: str) -> list[Any]:
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


DEEP = ("resnet101", "resnet101_v1_5", "resnet152", "resnet152_v1_5", "resnet110_cifar", "plain110_cifar")
"""Those that follow from shallower ones in all but their number of layers."""
CATALOG = [*(name for name in NETWORKS if name != DEEPEST), *slowly(DEEPEST)]
EVERYTHING = [*CATALOG, *TOYS]
SHALLOW_BY_DEFAULT = [*(name for name in NETWORKS if name not in (*DEEP, DEEPEST)), *TOYS, *slowly(*DEEP, DEEPEST)]
PUBLISHED = {name: network for paper in read_papers().values() for name, network in paper.networks.items()}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Thousands of tiny operations, for which a second thread is waited for longer than it works."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def summary_of(name: str) -> Any:
    return summarize(name)


def image_for(net: Classifier, batch: int = 1, device: str = "cpu") -> Tensor:
    spec = net.input_spec
    return torch.rand(batch, spec.channels, spec.size, spec.size, device=device)


# ------------------------------------------------------------------------------------------------ multiply-adds and parameters


@pytest.mark.parametrize("name", SHALLOW_BY_DEFAULT)
def test_multiply_adds_are_those_of_the_librarys_counter(name: str) -> None:
    net = build_on_meta(name).eval()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):  # it multiplies no matrices, and takes milliseconds each on the meta device
            layer.forward = lambda maps: maps  # type: ignore[method-assign]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(image_for(net, device="meta"))
    expected, odd = divmod(counter.get_total_flops(), 2)
    assert not odd
    if name == "lenet5":  # the library convolves with all 16 x 6 kernels of C3, of which 60 exist, at 10 x 10 places
        expected -= (16 * 6 - 60) * 5 * 5 * 10 * 10
    assert summary_of(name).macs == expected


@pytest.mark.parametrize("name", CATALOG)
def test_totals_are_the_published_ones(name: str) -> None:
    summary, totals = summary_of(name), PUBLISHED[name].totals
    assert (summary.parameters, summary.macs) == (totals["parameters"], totals["macs"])


@pytest.mark.parametrize("name", EVERYTHING)
def test_stages_and_rows_sum_to_the_totals(name: str) -> None:
    summary = summary_of(name)
    for total in ("parameters", "macs", "elementwise", "activation_bytes"):
        assert sum(getattr(stage, total) for stage in summary.stages) == getattr(summary, total), total
        assert sum(getattr(row, total) for row in summary.rows) == getattr(summary, total), total
    assert max(row.inference_bytes for row in summary.rows) == summary.inference_bytes
    assert [stage.name for stage in summary.stages if stage.name != "auxiliary"] == list(build_on_meta(name).stages)


# ------------------------------------------------------------------------------------------------------------- bytes, for real

SMALL = [*TOYS, "lenet5", "lenet5_softmax", "resnet20_cifar", "resnet20_cifar_b", "plain20_cifar", "nin_cifar"]
LARGE = slowly(
    "alexnet", "caffenet", "zfnet", "vgg11_lrn", "nin_imagenet", "googlenet", "googlenet_bn", "resnet18", "resnet50", "resnet18_a"
)


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_inference_bytes_are_what_the_allocator_gives_out(name: str, tmp_path: Path) -> None:
    """To the byte, without what kernels use for themselves: columns and reordered weights of convolutions, scales of batch norms."""
    net = build_network(name).eval()
    images = image_for(net)
    with torch.no_grad():
        blocks = record_blocks(lambda: net(images), tmp_path)
    found = summary_of(name).inference_bytes
    assert found == images.nbytes + worst_moment([block for block in blocks if block.is_activation])
    assert found <= images.nbytes + worst_moment(blocks)
    assert len(blocks) > 10


def bytes_per_batch(net: Classifier) -> int:
    """What is kept once for a batch of any size: the statistics of batch norms, and the kernels of C3 put into dense ones.

    A summary counts both as they are, as if they belonged to its one sample.
    """
    statistics = sum(2 * 4 * layer.num_features for layer in net.modules() if isinstance(layer, nn.BatchNorm2d))
    sparse = sum(
        4 * len(layer.table) * layer.in_channels * layer.kernel_size**2 + 8 * len(layer.weight)  # and their places, of eight bytes
        for layer in net.modules()
        if isinstance(layer, SparseConvolution)
    )
    return statistics + sparse


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_training_bytes_are_what_autograd_saves(name: str) -> None:
    net = build_network(name).train()
    summary = summary_of(name)
    images = image_for(net)
    saved = record_saved(net, lambda: net.training_logits(images))
    assert saved.total == summary.training_bytes
    assert saved.num_storages > 5
    by_stage = {stage.name: stage.training_bytes for stage in summary.stages if stage.training_bytes}
    if heads := sum(row.training_bytes for row in summary.only_in_training):
        by_stage["auxiliary"] = heads
    assert by_stage == saved.by_stage


@pytest.mark.parametrize("name", SMALL)
def test_training_bytes_of_a_batch(name: str) -> None:
    net = build_network(name).train()
    images = image_for(net, batch=2)
    saved = record_saved(net, lambda: net.training_logits(images))
    assert saved.total == 2 * summary_of(name).training_bytes - bytes_per_batch(net)


@pytest.mark.parametrize("name", [*SMALL, *LARGE])
def test_training_bytes_are_what_stays_allocated(name: str, tmp_path: Path) -> None:
    """After a forward pass there are left: the logits, and what the backward pass needs."""
    net = build_network(name).train()
    images = image_for(net)
    blocks = record_blocks(lambda: net.training_logits(images), tmp_path)
    left = [block for block in blocks if block.died is None]
    logits = sum(output.nbytes for _, output in net.training_logits(images))
    assert images.nbytes + sum(block.size for block in left if block.is_activation) - logits == summary_of(name).training_bytes
    plain_numbers = {ResponseNorm: 1, ScaledTanh: 2}  # by which a layer multiplies
    assert sum(block.is_constant for block in left) == sum(plain_numbers.get(type(layer), 0) for layer in net.modules())


# ---------------------------------------------------------------------------------------------------------- receptive fields


class OneMap(nn.Module):
    """The geometry of a convolution: the sum of all maps, convolved with positive numbers."""

    def __init__(self, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding

    def forward(self, maps: Tensor) -> Tensor:
        weight = torch.full((1, 1, *self.kernel), 1 / (self.kernel[0] * self.kernel[1]), dtype=maps.dtype)
        return F.conv2d(maps.sum(1, keepdim=True), weight, stride=self.stride, padding=self.padding)


def reduce_to_geometry(module: nn.Module) -> nn.Module:
    """What is left of a layer if all its weights are positive and only one column of pixels runs through it.

    Which pixels have a gradient depends on kernels, strides and padding alone: not on the number of maps, not on layers that treat each
    pixel for itself, and, since kernels are rectangles, not on the width.
    """
    if isinstance(module, nn.Conv2d):
        assert module.dilation == (1, 1)
        assert not isinstance(module.padding, str)
        return _column(module.kernel_size[0], module.stride[0], module.padding[0])
    if isinstance(module, SparseConvolution | LinearAsConvolution):
        return _column(module.kernel_size, 1, 0)
    if isinstance(module, Subsampling):
        return _column(2, 2, 0)
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        size, stride, padding = (_one(value) for value in (module.kernel_size, module.stride, module.padding))
        return nn.AvgPool2d((size, 1), (stride, 1), (padding, 0), ceil_mode=module.ceil_mode)
    if isinstance(module, nn.BatchNorm2d | nn.ReLU | nn.Tanh | nn.Dropout | ResponseNorm | ScaledTanh | RBFOutput):
        return nn.Identity()
    for name, child in list(module.named_children()):
        setattr(module, name, reduce_to_geometry(child))
    return module


def _column(kernel: int, stride: int, padding: int) -> OneMap:
    return OneMap((kernel, 1), (stride, 1), (padding, 0))


def _one(value: int | tuple[int, ...]) -> int:
    sides = {value} if isinstance(value, int) else set(value)
    assert len(sides) == 1
    return sides.pop()


def rows_by_module(summary: Any, paths: set[str]) -> Iterator[tuple[Any, str]]:
    """Rows whose output is that of a module: of layers, and of the last function of a block."""
    last: dict[str, Any] = {}
    for row in summary.rows:
        path = row.name if row.name in paths else row.name.rpartition(".")[0]
        if path in paths:
            last[path] = row
    yield from ((row, path) for path, row in last.items())


def support(output: Tensor, y: int, x: int, image: Tensor) -> tuple[tuple[int, int], ...]:
    """First and last pixel, in each direction, on which the numbers of one place depend: the widest of an Inception module's columns."""
    (gradient,) = torch.autograd.grad(output[0, :, y, x].sum(), image, retain_graph=True)
    return box_of(gradient)


def box_of(gradient: Tensor) -> tuple[tuple[int, int], ...]:
    """First and last row, and column, that are not zero."""
    assert (gradient >= 0).all()
    box = []
    for axis in (2, 3):
        touched = gradient.amax([other for other in range(4) if other != axis]).nonzero().flatten()
        box.append((int(touched[0]), int(touched[-1])))
    return tuple(box)


def _fields_by_gradient(net: Classifier, summary: Any) -> Iterator[tuple[Any, int, int]]:
    """Rows, and the field and stride of each as its gradient has them, in a column of pixels longer than any field."""
    stages: nn.Module = reduce_to_geometry(net.as_fully_convolutional().stages).eval()  # type: ignore[arg-type]
    outputs: dict[str, Tensor] = {}
    for path, module in stages.named_modules():
        if path:
            module.register_forward_hook(lambda _, __, output, path=path: outputs.update({path: output}))
    largest = max(row.receptive_field for row in summary.rows if row.receptive_field is not None)
    length = largest + net.input_spec.size + 256
    image = torch.ones(2, 1, length, 1, dtype=torch.float64, requires_grad=True)  # twice the same: one for each of two neighbours
    stages(image)
    measured: dict[int, tuple[int, int]] = {}  # by output: many layers hand on what they get
    rows = list(rows_by_module(summary, set(outputs)))
    for row, path in rows[:: 1 if len(rows) < 1_000 else 61]:  # of the deepest some: each gradient goes back through everything before
        maps = outputs[path]
        if id(maps) not in measured:
            middle = maps.shape[2] // 2
            both = maps[0, :, middle].sum() + maps[1, :, middle + 1].sum()
            (gradient,) = torch.autograd.grad(both, image, retain_graph=True)
            (first, last), (after, last_after) = (box_of(one[None])[0] for one in gradient)
            assert first > 0, "a field that reaches the edge is cut off"
            assert last_after < length - 1
            measured[id(maps)] = (last - first + 1, after - first)
        yield row, *measured[id(maps)]


@pytest.mark.parametrize("name", SHALLOW_BY_DEFAULT)
def test_fields_and_strides_are_those_of_the_gradient(name: str) -> None:
    """Every layer of the fully convolutional form, in which a classifier is a convolution too and its field can be seen."""
    summary = summary_of(name)
    checked = 0
    for row, field, stride in _fields_by_gradient(build_on_meta(name), summary):
        if row.kind == "flatten":
            continue  # a number that is handed on has the field it had; the summary may say that of all
        assert row.receptive_field == field, row.name
        assert row.stride == (stride if len(row.output) == 3 else None), row.name
        checked += 1
    assert checked >= 7


@pytest.mark.parametrize("name", ["lenet5", "alexnet_toy", "vgg_toy", "resnet_toy", "resnet8_cifar", *slowly("googlenet_toy")])
def test_fields_of_whole_networks_with_all_their_maps(name: str) -> None:
    """The same on an image, with the convolutions as they are, all weights made positive."""
    net, summary = build_network(name).double().eval(), summary_of(name)
    features = nn.Sequential(*list(net.stages.values())[: net._head_start]) if name != "lenet5" else nn.Sequential(net.C1, net.S2, net.C3)
    for parent in list(features.modules()):
        for child_name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):
                pool = nn.AvgPool2d(child.kernel_size, child.stride, child.padding, ceil_mode=child.ceil_mode)
                setattr(parent, child_name, pool)
            elif isinstance(child, nn.BatchNorm2d | ResponseNorm | ScaledTanh | nn.Dropout):
                setattr(parent, child_name, nn.Identity())
    for parameter in features.parameters():
        parameter.data.abs_().add_(0.01).mul_(0.01)
    ends = {stage: row for row in summary.rows for stage in [row.stage]}
    fields = [ends[stage].receptive_field for stage in list(net.stages)[: len(features)]]
    side = max(fields) + 128
    image = torch.ones(1, net.input_spec.channels, side, side, dtype=torch.float64, requires_grad=True)
    maps, checked = image, 0
    for stage, layer in zip(net.stages, features, strict=False):
        maps = layer(maps)
        middle = maps.shape[2] // 2
        box = support(maps, middle, middle, image)
        moved = support(maps, middle + 1, middle + 1, image)
        for (first, last), (after, _) in zip(box, moved, strict=True):
            assert first > 0
            assert last < side - 1
            assert (ends[stage].receptive_field, ends[stage].stride) == (last - first + 1, after - first), stage
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize(
    ("name", "stage", "field", "stride"),
    [
        ("alexnet_owt", "conv5", 195, 32),
        ("vgg16", "conv5", 212, 32),
        ("resnet50", "conv5_x", 483, 32),
        ("resnet101", "conv5_x", 1027, 32),
        ("resnet152", "conv5_x", 1507, 32),
    ],
)
def test_fields_that_others_have_published(name: str, stage: str, field: int, stride: int) -> None:
    """Araujo, Norris, Sim, "Computing receptive fields of convolutional neural networks", Distill 2019, table of models."""
    last = [row for row in summary_of(name).rows if row.stage == stage][-1]
    assert (last.receptive_field, last.stride) == (field, stride)
