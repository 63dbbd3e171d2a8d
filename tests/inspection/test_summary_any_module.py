"""A summary of networks that are not ours: whatever torch runs, what is said where it does not, and that nothing is left behind."""

import copy
import gc
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from provenet.errors import ModelError
from provenet.inspection.summary import summarize
from provenet.models.catalog import build_network


class Nested(nn.Module):
    """Modules in modules, with functions between them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.GELU())
        self.body = nn.ModuleDict({"left": nn.Conv2d(4, 4, 3, padding=1), "right": nn.Sequential(nn.Conv2d(4, 4, 1), nn.Hardswish())})
        self.head = nn.Linear(8, 5)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.max_pool2d(self.stem(images), 2)
        both = torch.cat([self.body["left"](maps), torch.sigmoid(self.body["right"](maps)) * maps], 1)
        return F.log_softmax(self.head(F.adaptive_avg_pool2d(both, 1).flatten(1)), dim=1)


class Shared(nn.Module):
    """One layer called three times, and one weight in two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.first = nn.Linear(6, 6, bias=False)
        self.second = nn.Linear(6, 6, bias=False)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        for _ in range(3):
            images = F.relu(self.conv(images))
        return self.second(self.first(images))


class MakesTensors(nn.Module):
    """Positions and a class token that the forward pass makes itself, on the device where it is told to or on none."""

    def __init__(self, *, says_where: bool) -> None:
        super().__init__()
        self.says_where = says_where
        self.positions = nn.Embedding(16, 8)
        self.project = nn.Linear(8, 8)

    def forward(self, tokens: Tensor) -> Tensor:
        device = tokens.device if self.says_where else None
        token = torch.zeros(tokens.shape[0], 1, 8, device=device)
        tokens = torch.cat([token, tokens], dim=1)
        return self.project(tokens + self.positions(torch.arange(tokens.shape[1], device=device)))


class OwnWeights(nn.Module):
    """Parameters of a module that has children: a functional convolution and a scale."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 3, 3, 3))
        self.scale = nn.Parameter(torch.ones(4, 1, 1))
        self.act = nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return self.act(F.conv2d(images, self.weight) * self.scale)


class Products(nn.Module):
    """Matrix products by every name."""

    def forward(self, a: Tensor) -> Tensor:
        square = torch.einsum("nij,nkj->nik", a, a)
        square = torch.baddbmm(square, a, a.transpose(1, 2))
        square = square.matmul(square) + torch.bmm(square, square)
        return F.scaled_dot_product_attention(square[:, None], square[:, None], square[:, None])


def counted_by_the_library(net: nn.Module, shape: tuple[int, ...]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.rand(1, *shape))
    return counter.get_total_flops() // 2


FOREIGN: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "nested": (Nested, (3, 12, 12)),
    "shared": (Shared, (3, 6, 6)),
    "makes tensors": (lambda: MakesTensors(says_where=True), (5, 8)),
    "makes tensors anywhere": (lambda: MakesTensors(says_where=False), (5, 8)),
    "own weights": (OwnWeights, (3, 6, 6)),
    "products": (Products, (6, 4)),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1), nn.Conv2d(5, 2, 3)), (3, 7, 7)),
    "one and three dimensions": (lambda: nn.Sequential(nn.Conv3d(2, 3, 3), nn.Flatten(2), nn.Conv1d(3, 4, 5, stride=2)), (2, 5, 6, 7)),
    "bilinear": (lambda: nn.Sequential(nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(1, 1, 3)), (1, 4, 4)),
    "multi-head attention": (lambda: SelfAttention(), (5, 8)),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8)),
    "norms": (lambda: nn.Sequential(nn.Conv2d(2, 4, 1), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.LayerNorm(5)), (2, 5, 5)),
    "a bare layer": (lambda: nn.Linear(8, 3), (8,)),
}


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        mixed: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return mixed


BY_HAND = {
    # twice 6 x 6 products of 4, twice of 6; attention of 6 tokens of 6: 2 x 6 x 6 x 6
    "products": 2 * 36 * 4 + 2 * 36 * 6 + 2 * 6 * 6 * 6,
    # 5 tokens of 8: queries, keys and values 3 x 5 x 64, scores and their means 2 x 5 x 5 x 8, output 5 x 64
    "multi-head attention": 3 * 5 * 64 + 2 * 5 * 5 * 8 + 5 * 64,
    # the same, then 8 -> 16 -> 8
    "transformer": 3 * 5 * 64 + 2 * 5 * 5 * 8 + 5 * 64 + 2 * 5 * 8 * 16,
}
"""Where the library's kernels for attention hide their products from the library's own counter."""


@pytest.mark.parametrize("what", FOREIGN)
def test_any_module(what: str) -> None:
    build, shape = FOREIGN[what]
    net = build().eval()
    summary = summarize(net, input=shape)
    assert summary.rows
    assert summary.macs == (BY_HAND[what] if what in BY_HAND else counted_by_the_library(net, shape))
    assert summary.parameters == sum(parameter.numel() for parameter in net.parameters())
    assert len({row.name for row in summary.rows}) == len(summary.rows)
    assert str(summary)


def test_a_recurrent_layer() -> None:
    """7 steps; 4 gates of 5 units, each reads 3 inputs and 5 states. Its output is a tuple."""
    summary = summarize(nn.LSTM(3, 5, batch_first=True), input=(7, 3))
    assert summary.macs == 7 * 4 * 5 * (3 + 5)
    assert summary.parameters == 4 * 5 * (3 + 5 + 2)


def test_layers_that_run_often_or_never() -> None:
    net = Shared()
    net.unused = nn.Linear(100, 100)
    summary = summarize(net, input=(3, 6, 6))
    calls = [row for row in summary.rows if row.kind == "convolution"]
    assert [row.name for row in calls] == ["conv", "conv (2)", "conv (3)"]
    assert [(row.parameters, row.receptive_field) for row in calls] == [(81, 3), (0, 5), (0, 7)]
    assert not any(row.name.startswith("unused") for row in summary.rows)
    assert summary.parameters == 81 + 36


def test_the_fully_convolutional_form_has_the_same_parameters() -> None:
    """Its layers use the weights of others, which are not called."""
    net = build_network("alexnet_toy").eval()
    size = net.input_spec.size
    summary, plain = summarize(net.as_fully_convolutional(), input=(3, size, size)), summarize(net)
    assert (summary.parameters, summary.macs) == (plain.parameters, plain.macs)
    larger = summarize(net.as_fully_convolutional(), input=(3, size + 32, size + 64))
    assert larger.parameters == plain.parameters
    assert larger.rows[-1].output == (1000, 2, 3)
    assert larger.rows[-1].receptive_field == 355


def test_a_field_reaches_as_far_as_its_branches_together() -> None:
    """One branch looks two pixels to the left and up, the other to the right and down: added, they see five."""

    class Apart(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left = nn.Sequential(nn.ZeroPad2d((2, 0, 2, 0)), nn.Conv2d(1, 1, 3))
            self.right = nn.Sequential(nn.ZeroPad2d((0, 2, 0, 2)), nn.Conv2d(1, 1, 3))

        def forward(self, images: Tensor) -> Tensor:
            return self.left(images) + self.right(images)

    rows = {row.name: row for row in summarize(Apart(), input=(1, 9, 9)).rows}
    assert (rows["left.1"].receptive_field, rows["right.1"].receptive_field, rows["add"].receptive_field) == (3, 3, 5)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 8), (torch.bfloat16, 2)])
def test_numbers_of_other_sizes(dtype: torch.dtype, size: int) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).to(dtype)
    summary = summarize(net, input=(3, 6, 6))
    assert [row.activation_bytes for row in summary.rows] == [64 * size, 64 * size]
    assert summary.inference_bytes == (108 + 64 + 64) * size
    assert summary.training_bytes == (108 + 64) * size


# ------------------------------------------------------------------------------------------------------------------- errors


class Fails(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise ValueError("two lines\nof complaint")


class DependsOnNumbers(nn.Module):
    def __init__(self, *, by_item: bool) -> None:
        super().__init__()
        self.by_item = by_item
        self.conv = nn.Conv2d(3, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        mean = self.conv(images).mean()
        is_bright = mean.item() > 0 if self.by_item else mean > 0
        return images if is_bright else -images


class TwoInputs(nn.Module):
    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        return images + others


ERRORS: dict[str, Callable[[], Any]] = {
    "forward fails": lambda: summarize(Fails(), input=(3, 4, 4)),
    "by item": lambda: summarize(DependsOnNumbers(by_item=True), input=(3, 4, 4)),
    "by branch": lambda: summarize(DependsOnNumbers(by_item=False), input=(3, 4, 4)),
    "two inputs": lambda: summarize(TwoInputs(), input=(3, 4, 4)),
    "channels of a foreign net": lambda: summarize(nn.Sequential(nn.Conv2d(3, 1, 3)), input=(1, 8, 8)),
    "image smaller than its kernel": lambda: summarize(nn.Sequential(nn.Conv2d(3, 1, 7)), input=(3, 4, 4)),
    "channels of our net": lambda: summarize(build_network("resnet8_cifar"), input=(1, 32, 32)),
    "image too small for our net": lambda: summarize(build_network("resnet8_cifar"), input=(3, 4, 4)),
    "no input": lambda: summarize(nn.Sequential(nn.Conv2d(3, 1, 1))),
    "an input of no pixels": lambda: summarize(nn.Sequential(nn.Conv2d(3, 1, 1)), input=(3, 0, 4)),
    "an input of half pixels": lambda: summarize(nn.Sequential(nn.Conv2d(3, 1, 1)), input=(3, 4.5, 4)),  # type: ignore[arg-type]
    "an unknown name": lambda: summarize("resnet51"),
}


@pytest.mark.parametrize("what", ERRORS)
def test_errors_are_one_line(what: str) -> None:
    with pytest.raises(ModelError) as caught:
        ERRORS[what]()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) > 20


def test_errors_say_where() -> None:
    net = nn.Sequential(OrderedDict(fine=nn.Conv2d(3, 4, 1), wrong=nn.Conv2d(5, 1, 1)))
    with pytest.raises(ModelError, match="wrong"):
        summarize(net, input=(3, 4, 4))
    with pytest.raises(ModelError, match="resnet50"):
        summarize("resnet51")


def test_a_lazy_layer_stays_lazy() -> None:
    """Its weights are made by the first real picture, not by us: we say so."""
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU())
    with pytest.raises(ModelError) as caught:
        summarize(net, input=(3, 8, 8))
    assert "\n" not in str(caught.value)
    assert isinstance(net[0], nn.LazyConv2d)
    assert isinstance(net[0].weight, nn.UninitializedParameter)
    assert net(torch.zeros(1, 2, 8, 8)).shape == (1, 4, 6, 6)  # and can still be begun with two channels


# ------------------------------------------------------------------------------------------------------- nothing is left behind


def snapshot(net: nn.Module) -> dict[str, Any]:
    """All that a pass could change."""
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {
        "training": {name: module.training for name, module in net.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in net.named_modules()},
        "hooks": {
            name: [len(hooks) for key, hooks in sorted(vars(module).items()) if key.endswith("_hooks")]
            for name, module in net.named_modules()
        },
        "tensors": {
            name: (id(tensor), tensor.data_ptr(), tensor._version, tensor.device, tensor.requires_grad) for name, tensor in tensors.items()
        },
        "gradients": {name: tensor.grad is None for name, tensor in tensors.items()},
        "modules": {name: id(module) for name, module in net.named_modules()},
        "random": torch.get_rng_state().tolist(),
        "grad mode": torch.is_grad_enabled(),
    }


@pytest.mark.parametrize("name", ["resnet8_cifar", "googlenet_bn_toy", "alexnet_toy", "lenet5"])
def test_a_network_is_left_as_it_was(name: str) -> None:
    net = build_network(name).train()
    first = next(net.children())
    first.eval()
    for parameter in first.parameters():
        parameter.requires_grad_(False)
    state = copy.deepcopy(net.state_dict())
    seen = snapshot(net)
    summarize(net)
    assert snapshot(net) == seen
    assert all(torch.equal(tensor, state[key]) for key, tensor in net.state_dict().items())


@pytest.mark.parametrize("build", [Fails, lambda: DependsOnNumbers(by_item=True)], ids=["fails", "by item"])
def test_a_network_is_left_as_it_was_when_it_fails(build: Callable[[], nn.Module]) -> None:
    net = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(3), broken=build())).train()
    seen = snapshot(net)
    with pytest.raises(ModelError):
        summarize(net, input=(3, 4, 4))
    assert snapshot(net) == seen


def test_parameters_frozen_or_not_do_not_change_what_is_counted() -> None:
    """All but what the backward pass needs: frozen layers need no inputs."""
    net = build_network("vgg_bn_toy")
    before = summarize(net)
    net.requires_grad_(False)
    frozen = summarize(net)
    for total in ("parameters", "macs", "elementwise", "activation_bytes", "inference_bytes"):
        assert getattr(frozen, total) == getattr(before, total)


def test_a_training_and_an_evaluated_network_have_the_same_summary() -> None:
    net = build_network("googlenet_bn_toy")
    assert summarize(net.train()).to_dict() == summarize(net.eval()).to_dict()


def test_nothing_is_kept() -> None:
    """Neither the network nor any tensor outlives it, though the summary does."""
    net = build_network("resnet8_cifar")
    summarize(net)  # what the library makes once
    gc.collect()
    before = sum(isinstance(thing, Tensor) for thing in gc.get_objects())
    summary = summarize(net)
    gc.collect()
    assert sum(isinstance(thing, Tensor) for thing in gc.get_objects()) == before
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    assert summary.macs == 12_239_488
