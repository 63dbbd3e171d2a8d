"""A summary of networks that are not ours: whatever torch runs, what is said where it does not, and that nothing is left behind."""

import copy
import gc
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from recorded import record_blocks, record_saved, worst_moment
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


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        mixed: Tensor = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return mixed


class Permuted(nn.Module):
    """Where the order in memory decides whether a look at numbers is a copy of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4 * 6 * 6, 2)

    def forward(self, images: Tensor) -> Tensor:
        maps = F.relu(self.conv(images).permute(0, 2, 3, 1))  # still one map after the other in memory
        return self.head(maps.flatten(1))


class OddNumbers(nn.Module):
    """Numbers of other types on the way: truths, counts of eight bytes, and what comes of mixing them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        counts = (maps > 0).sum((2, 3))
        doubled = maps.mean((2, 3), dtype=torch.float64) * counts
        return torch.cat([doubled, counts.float()], dim=-1)


class NormAndReLU(nn.BatchNorm2d):
    """As in timm: a batch norm that does a little more."""

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(super().forward(maps))


class Dense(nn.Module):
    """DenseNet's growing list, ShuffleNet's halves, squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4 * k, 4, 3, padding=1) for k in (1, 2, 3))
        self.squeeze = nn.Linear(16, 16)

    def forward(self, images: Tensor) -> Tensor:
        found = [F.pad(images, (0, 0, 0, 0, 0, 1))]
        for conv in self.convs:
            found.append(F.relu(conv(torch.cat(found, 1)), inplace=True))
        maps = torch.cat(found, 1)
        left, right = maps.chunk(2, 1)
        maps = torch.stack([left, right], 2).flatten(1, 2)
        gates = self.squeeze(maps.mean((2, 3))).sigmoid()
        maps *= gates[:, :, None, None]
        return F.interpolate(maps, scale_factor=2).amax((-1, -2))


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
    "permuted": (Permuted, (3, 8, 8)),
    "last channels": (lambda: Permuted().to(memory_format=torch.channels_last), (3, 8, 8)),
    "odd numbers": (OddNumbers, (3, 8, 8)),
    "norm and relu": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), NormAndReLU(4), nn.Conv2d(4, 2, 1)), (3, 8, 8)),
    "norms of other kinds": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), nn.BatchNorm2d(4, track_running_stats=False)),
        (3, 8, 8),
    ),
    "dense": (Dense, (3, 8, 8)),
    "multi-head attention": (SelfAttention, (5, 8)),
    "transformer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (5, 8)),
    "norms": (lambda: nn.Sequential(nn.Conv2d(2, 4, 1), nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.LayerNorm(5)), (2, 5, 5)),
    "a bare layer": (lambda: nn.Linear(8, 3), (8,)),
}


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
    summary = summarize(net, shape)
    assert summary.rows
    assert summary.macs == (BY_HAND[what] if what in BY_HAND else counted_by_the_library(net, shape))
    assert summary.parameters == sum(parameter.numel() for parameter in net.parameters())
    assert len({row.name for row in summary.rows}) == len(summary.rows)
    assert str(summary)


HIDDEN = ("multi-head attention", "transformer", "makes tensors anywhere", "last channels")
"""Where a real pass takes another road: kernels of their own for inference, and copies into another order in memory."""


@pytest.mark.parametrize("what", [what for what in FOREIGN if what not in HIDDEN])
def test_bytes_of_any_module_are_the_real_ones(what: str, tmp_path: Path) -> None:
    build, shape = FOREIGN[what]
    net, sample = build().eval(), torch.rand(1, *shape)
    summary = summarize(net, shape)
    with torch.no_grad():
        blocks = record_blocks(lambda: net(sample), tmp_path)
    assert summary.inference_bytes == sample.nbytes + worst_moment([block for block in blocks if block.is_activation])
    assert summary.training_bytes == record_saved(net.train(), lambda: net(sample)).total


@pytest.mark.parametrize("what", FOREIGN)
def test_outputs_of_any_module_are_the_real_ones(what: str) -> None:
    """Of every module, as often as it is called."""
    build, shape = FOREIGN[what]
    net = build().eval()
    rows = {row.name: row.output for row in summarize(net, shape).rows}
    real: dict[str, tuple[int, ...]] = {}
    calls: Counter[str] = Counter()

    def note(path: str, output: object) -> None:
        calls[path] += 1
        if isinstance(output, Tensor):
            real[path if calls[path] == 1 else f"{path} ({calls[path]})"] = tuple(output.shape[1:])

    for path, module in net.named_modules():
        if path and not any(module.children()):
            module.register_forward_hook(lambda _, __, output, path=path: note(path, output))
    with torch.no_grad():
        net.train()(torch.rand(2, *shape))  # in training, where no kernel takes many layers together
    assert {name: output for name, output in rows.items() if name in real} == real


GEOMETRIES = [
    (side, kernel, stride, padding, dilation, rounds_up)
    for side in (6, 7)
    for kernel in (1, 2, 3)
    for stride in (1, 2, 3)
    for padding in range(kernel // 2 + 1)
    for dilation in (1, 2)
    for rounds_up in (False, True)
    if dilation * (kernel - 1) + 1 <= side
]


def test_sizes_of_windows() -> None:
    """Every geometry of pools and convolutions, in one network each; one direction other than the other."""
    for side, kernel, stride, padding, dilation, rounds_up in GEOMETRIES:
        layers = {
            "max": nn.MaxPool2d((kernel, 1), (stride, 2), (padding, 0), (dilation, 1), ceil_mode=rounds_up),
            "average": nn.AvgPool2d((kernel, 1), (stride, 2), (padding, 0), ceil_mode=rounds_up),
            "conv": nn.Conv2d(2, 3, (kernel, 1), (stride, 2), (padding, 0), (dilation, 1)),
        }
        sample = torch.rand(1, 2, side, 4)
        for what, layer in layers.items():
            (row,) = summarize(nn.Sequential(layer), (2, side, 4)).rows
            assert row.output == layer(sample).shape[1:], (what, side, kernel, stride, padding, dilation, rounds_up)
            field = (1 + (kernel - 1) * (1 if what == "average" else dilation), 1)
            assert row.receptive_field == (1 if field == (1, 1) else field)
            assert row.stride == (2 if stride == 2 else (stride, 2))
    assert len(GEOMETRIES) > 100


def test_a_recurrent_layer() -> None:
    """7 steps; 4 gates of 5 units, each reads 3 inputs and 5 states. Its output is a tuple."""
    summary = summarize(nn.LSTM(3, 5, batch_first=True), (7, 3))
    assert summary.macs == 7 * 4 * 5 * (3 + 5)
    assert summary.parameters == 4 * 5 * (3 + 5 + 2)


def test_layers_that_run_often_or_never() -> None:
    net = Shared()
    net.unused = nn.Linear(100, 100)
    summary = summarize(net, (3, 6, 6))
    calls = [row for row in summary.rows if row.kind == "convolution"]
    assert [row.name for row in calls] == ["conv", "conv (2)", "conv (3)"]
    assert [(row.parameters, row.receptive_field) for row in calls] == [(81, 3), (0, 5), (0, 7)]
    assert not any(row.name.startswith("unused") for row in summary.rows)
    assert summary.parameters == 81 + 36


def test_the_fully_convolutional_form_has_the_same_parameters() -> None:
    """Its layers use the weights of others, which are not called."""
    net = build_network("alexnet_toy").eval()
    size = net.input_spec.size
    summary, plain = summarize(net.as_fully_convolutional(), (3, size, size)), summarize(net)
    assert (summary.parameters, summary.macs) == (plain.parameters, plain.macs)
    larger = summarize(net.as_fully_convolutional(), (3, size + 32, size + 64))
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

    rows = {row.name: row for row in summarize(Apart(), (1, 9, 9)).rows}
    assert (rows["left.1"].receptive_field, rows["right.1"].receptive_field, rows["add"].receptive_field) == (3, 3, 5)


@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 8), (torch.bfloat16, 2)])
def test_numbers_of_other_sizes(dtype: torch.dtype, size: int) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).to(dtype)
    summary = summarize(net, (3, 6, 6))
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


class Joined(nn.Module):
    """Maps whose field is known beside maps whose field is not."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(3, 3, 2, stride=2), nn.ConvTranspose2d(3, 3, 2, stride=2)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images, self.up(self.down(images))], 1)


def test_a_field_that_is_not_known_is_not_claimed() -> None:
    assert [row.receptive_field for row in summarize(Joined(), (3, 8, 8)).rows] == [2, None, None]


def test_weights_that_are_made_of_weights() -> None:
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    summary = summarize(net, (3, 8, 8))
    assert summary.parameters == 3 * 4 * 9 + 4 + 4
    assert summary.rows[-1].receptive_field == 3
    assert summary.rows[-1].macs == 3 * 4 * 9 * 36


def test_a_compiled_network_is_the_one_it_was_made_of() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert summarize(torch.compile(net, backend="eager"), (3, 8, 8)).to_dict() == summarize(net, (3, 8, 8)).to_dict()


def test_names_of_several_lines_stay_on_one() -> None:
    net = nn.Sequential()
    net.add_module("two\nlines", nn.ReLU())
    assert "two\nlines" not in str(summarize(net, (3, 8, 8)))


ERRORS: dict[str, Callable[[], Any]] = {
    "a scripted network": lambda: summarize(torch.jit.script(nn.Sequential(nn.ReLU())), (3, 8, 8)),
    "forward fails": lambda: summarize(Fails(), (3, 4, 4)),
    "one input of two": lambda: summarize(TwoInputs(), (3, 4, 4)),
    "channels of a foreign net": lambda: summarize(nn.Sequential(nn.Conv2d(3, 1, 3)), (1, 8, 8)),
    "image smaller than its kernel": lambda: summarize(nn.Sequential(nn.Conv2d(3, 1, 7)), (3, 4, 4)),
    "channels of our net": lambda: summarize(build_network("resnet8_cifar"), (1, 32, 32)),
    "image too small for our net": lambda: summarize(build_network("resnet8_cifar"), (3, 4, 4)),
    "no input": lambda: summarize(nn.Sequential(nn.Conv2d(3, 1, 1))),
    "an input of no pixels": lambda: summarize(nn.Sequential(nn.Conv2d(3, 1, 1)), (3, 0, 4)),
    "an input of half pixels": lambda: summarize(nn.Sequential(nn.Conv2d(3, 1, 1)), (3, 4.5, 4)),  # type: ignore[arg-type]
    "an unknown name": lambda: summarize("resnet51"),
}


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("what", ERRORS)
def test_errors_are_one_line(what: str) -> None:
    with pytest.raises(ModelError) as caught:
        ERRORS[what]()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) > 20


def test_errors_say_what_was_meant() -> None:
    with pytest.raises(ModelError, match="resnet50"):
        summarize("resnet51")
    with pytest.raises(ModelError, match="5 channels"):
        summarize(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(5, 1, 1)), (3, 4, 4))


def test_two_inputs_and_inputs_that_are_no_pictures() -> None:
    (row,) = summarize(TwoInputs(), [(3, 4, 4), (3, 1, 1)]).rows
    assert (row.kind, row.output, row.elementwise, row.inference_bytes) == ("add", (3, 4, 4), 48, 4 * (48 + 3 + 48))
    embedding, linear = summarize(nn.Sequential(nn.Embedding(10, 6), nn.Linear(6, 2)), torch.zeros(1, 7, dtype=torch.long)).rows
    assert (embedding.output, embedding.parameters, embedding.inference_bytes) == ((7, 6), 60, 7 * 8 + 42 * 4)
    assert (linear.output, linear.macs, linear.training_bytes) == ((7, 2), 7 * 12, 0)


def test_a_lazy_layer_stays_lazy() -> None:
    """Its weights are made by the first real picture, not by us: we say so."""
    net = nn.Sequential(nn.LazyConv2d(4, 3), nn.ReLU())
    with pytest.raises(ModelError) as caught:
        summarize(net, (3, 8, 8))
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


@pytest.mark.parametrize("by_item", [True, False])
def test_a_network_that_asks_for_numbers(by_item: bool) -> None:
    """Without numbers it does not run: it is run, on zeros, and is left as it was all the same."""
    net = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(3), dropout=nn.Dropout(), asks=DependsOnNumbers(by_item=by_item))).train()
    state, seen = copy.deepcopy(net.state_dict()), snapshot(net)
    summary = summarize(net, (3, 4, 4))
    assert (summary.macs, summary.parameters) == (16 * 3, 3 + 3 + 3 + 1)
    assert snapshot(net) == seen
    assert all(torch.equal(tensor, state[key]) for key, tensor in net.state_dict().items())


def test_a_network_is_left_as_it_was_when_it_fails() -> None:
    net = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(3), broken=Fails())).train()
    seen = snapshot(net)
    with pytest.raises(ModelError):
        summarize(net, (3, 4, 4))
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


def count_tensors() -> int:
    gc.collect()
    return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())


def test_it_says_the_same_every_time() -> None:
    """Storages are known by addresses, and those are given out again; LeNet's sparse convolution makes tensors of its own."""
    net = build_network("lenet5")
    first = summarize(net).to_dict()
    assert all(summarize(net).to_dict() == first for _ in range(100))


def test_nothing_is_kept() -> None:
    """Neither the network nor any tensor outlives it, though the summary does."""
    net = build_network("resnet8_cifar")
    summarize(net)  # what the library makes once
    before = count_tensors()
    summary = summarize(net)
    assert count_tensors() == before
    gone = weakref.ref(net)
    del net
    gc.collect()
    assert gone() is None
    assert summary.macs == 12_239_488
