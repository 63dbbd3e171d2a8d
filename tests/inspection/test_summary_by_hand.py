"""Every column of a summary's rows, for one small layer of each kind, against numbers worked out by hand.

Numbers of four bytes. What is alive at the worst moment of a layer counts the image, which whoever calls the network holds on to. What a
layer keeps for the backward pass is written at the row that made it: a convolution needs its input, so those bytes stand at the row before,
and the image, which no row made, at the first row that needs it. Layers without parameters stand behind a 1x1 convolution: without one
nothing would have a gradient, and nothing be kept.
"""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from recorded import record_blocks, record_saved, worst_moment
from torch import Tensor, nn

from provenet.inspection.summary import summarize
from provenet.models.blocks import FlattenMaps, GlobalAverage, ResponseNorm, ZeroPadding
from provenet.models.lenet import RBFOutput, ScaledTanh, SparseConvolution, Subsampling


class Hand(NamedTuple):
    """One row, worked out by hand."""

    name: str
    kind: str | None
    """None where the specification names none."""
    output: tuple[int, ...]
    parameters: int = 0
    macs: int = 0
    elementwise: int = 0
    activation_bytes: int = 0
    inference_bytes: int = 0
    training_bytes: int = 0
    receptive_field: int | tuple[int, int] | None = None
    stride: int | tuple[int, int] | None = None


class Case(NamedTuple):
    """A network and its rows."""

    what: str
    build: Callable[[], nn.Module]
    input: tuple[int, ...]
    rows: list[Hand]


def chain(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


def behind(**layers: nn.Module) -> nn.Sequential:
    """Layers behind a 1x1 convolution of two maps."""
    return chain(before=nn.Conv2d(2, 2, 1, bias=False), **layers)


def before(*, kept: bool) -> Hand:
    """The row of that convolution on 2 @ 6x6: 72 numbers are 288 bytes.

    4 weights; 72 x 2 = 144 multiply-adds; image and output alive, 288 + 288 = 576; it keeps the image, 288, and the next layer its output.
    """
    return Hand("before", "convolution", (2, 6, 6), 4, 144, 0, 288, 576, 288 + (288 if kept else 0), 1, 1)


class FunctionalReLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        return F.relu(F.relu(self.conv(maps)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        return maps + self.conv(maps)


class ResidualInPlace(Residual):
    def forward(self, maps: Tensor) -> Tensor:
        branch = self.conv(maps)
        branch += maps
        return branch


class Columns(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.column1 = nn.Conv2d(2, 1, 1, bias=False)
        self.column5 = nn.Conv2d(2, 3, 5, padding=2, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([self.column1(maps), self.column5(maps)], dim=1)


class Twice(Residual):
    def forward(self, maps: Tensor) -> Tensor:
        return self.conv(self.conv(maps))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(6, 6, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        query = self.query(tokens)
        return query @ query.transpose(1, 2)


CASES = [
    # 8 pixels and 1 + 1 of padding, 3 wide, every 2nd: (8 + 2 - 3) // 2 + 1 = 4. Parameters 4 x 3 x 9 + 4 = 112. Each of 4 x 4 x 4 = 64
    # outputs is 27 multiply-adds: 1,728. Image 3 x 64 x 4 = 768 bytes, output 256.
    Case(
        "convolution",
        lambda: chain(conv=nn.Conv2d(3, 4, 3, stride=2, padding=1)),
        (3, 8, 8),
        [Hand("conv", "convolution", (4, 4, 4), 112, 1728, 0, 256, 768 + 256, 768, 3, 2)],
    ),
    # Taps 0, 2, 4 of 9 pixels: 5 wide, 9 - 5 + 1 = 5. A map reads its half, 2 maps: 6 x 2 x 9 = 108 weights, 6 x 25 x 18 = 2,700.
    # Image 4 x 81 x 4 = 1,296 bytes, output 600.
    Case(
        "convolution in groups, dilated",
        lambda: chain(conv=nn.Conv2d(4, 6, 3, groups=2, dilation=2, bias=False)),
        (4, 9, 9),
        [Hand("conv", "convolution", (6, 5, 5), 108, 2700, 0, 600, 1296 + 600, 1296, 5, 1)],
    ),
    # Width (11 - 5) // 2 + 1 = 4. 2 x 5 + 2 = 12 parameters, 2 x 6 x 4 x 5 = 240. Image 66 x 4 = 264, output 48 x 4 = 192.
    Case(
        "convolution that is not square",
        lambda: chain(conv=nn.Conv2d(1, 2, (1, 5), stride=(1, 2))),
        (1, 6, 11),
        [Hand("conv", "convolution", (2, 6, 4), 12, 240, 0, 192, 264 + 192, 264, (1, 5), (1, 2))],
    ),
    # 10 x 3 + 3 = 33 parameters, 30 multiply-adds; 40 bytes of input, 12 of output.
    Case("linear", lambda: chain(fc=nn.Linear(10, 3)), (10,), [Hand("fc", "linear", (3,), 33, 30, 0, 12, 40 + 12, 40)]),
    # Windows begin at 0, 2 and 4, the last hangs over: 3 x 3. 18 windows of 9 read 162. Output 72 bytes; the places of the maxima, which
    # the backward pass needs and the library notes always, are of eight bytes: 144.
    Case(
        "max pool that rounds up",
        lambda: behind(pool=nn.MaxPool2d(3, stride=2, ceil_mode=True)),
        (2, 6, 6),
        [before(kept=True), Hand("pool", "max_pool", (2, 3, 3), 0, 0, 162, 72, 288 + 288 + 72 + 144, 144, 3, 2)],
    ),
    # (6 + 2 - 3) // 2 + 1 = 3; the same without places. The library keeps the input of a mean pool.
    Case(
        "average pool, padded",
        lambda: behind(pool=nn.AvgPool2d(3, stride=2, padding=1)),
        (2, 6, 6),
        [before(kept=True), Hand("pool", "average_pool", (2, 3, 3), 0, 0, 162, 72, 288 + 288 + 72, 0, 3, 2)],
    ),
    # 6 pixels to 2: windows of 3. 8 windows of 9 read 72.
    Case(
        "adaptive average pool",
        lambda: behind(pool=nn.AdaptiveAvgPool2d(2)),
        (2, 6, 6),
        [before(kept=True), Hand("pool", None, (2, 2, 2), 0, 0, 72, 32, 288 + 288 + 32, 0, 3, 3)],
    ),
    # The mean reads 72 numbers and keeps none; its output, 8 bytes, is what the linear layer keeps. Field 1 + (6 - 1) x 1.
    # fc: 2 x 3 + 3 = 9 parameters, 6 multiply-adds; alive 288 + 8 + 12.
    Case(
        "global average, and a classifier on it",
        lambda: behind(pool=GlobalAverage(), fc=nn.Linear(2, 3)),
        (2, 6, 6),
        [
            before(kept=False),
            Hand("pool", "mean", (2,), 0, 0, 72, 8, 288 + 288 + 8, 8, 6, None),
            Hand("fc", "linear", (3,), 9, 6, 0, 12, 288 + 8 + 12, 0, 6, None),
        ],
    ),
    # (9 - 3) // 2 + 1 = 4. 2 x 9 + 2 = 20 parameters, 32 x 9 = 288; image 324, output 128, which fc keeps through the view. fc: 32 x 3 + 3
    # = 99 and 96; it sees 3 + (4 - 1) x 2 = 9 pixels.
    Case(
        "flatten, and a classifier on it",
        lambda: chain(conv=nn.Conv2d(1, 2, 3, stride=2), flatten=nn.Flatten(), fc=nn.Linear(32, 3)),
        (1, 9, 9),
        [
            Hand("conv", "convolution", (2, 4, 4), 20, 288, 0, 128, 324 + 128, 324 + 128, 3, 2),
            Hand("flatten", "flatten", (32,), 0, 0, 0, 0, 324 + 128, 0, 9, None),
            Hand("fc", "linear", (3,), 99, 96, 0, 12, 324 + 128 + 12, 0, 9, None),
        ],
    ),
    # The same with our own layer on 6x9: 2 @ 4x7 = 56 numbers, 56 x 9 = 504; image 216 bytes; field 3 + 3 high and 3 + 6 wide.
    Case(
        "flatten of maps that are not square",
        lambda: chain(conv=nn.Conv2d(1, 2, 3), flatten=nn.Flatten(), fc=nn.Linear(56, 3)),
        (1, 6, 9),
        [
            Hand("conv", "convolution", (2, 4, 7), 20, 504, 0, 224, 216 + 224, 216 + 224, 3, 1),
            Hand("flatten", "flatten", (56,), 0, 0, 0, 0, 216 + 224, 0, (6, 9), None),
            Hand("fc", "linear", (3,), 171, 168, 0, 12, 216 + 224 + 12, 0, (6, 9), None),
        ],
    ),
    # A view; its side is the maps' own.
    Case(
        "our own flatten",
        lambda: behind(flatten=FlattenMaps(6), fc=nn.Linear(72, 1, bias=False)),
        (2, 6, 6),
        [
            before(kept=True),
            Hand("flatten", "flatten", (72,), 0, 0, 0, 0, 288 + 288, 0, 6, None),
            Hand("fc", "linear", (1,), 72, 72, 0, 4, 288 + 288 + 4, 0, 6, None),
        ],
    ),
    # A multiply-add a number, 72; in training the mean and the inverse deviation of two maps are kept: 2 x 2 x 4 = 16.
    Case(
        "batch norm",
        lambda: behind(bn=nn.BatchNorm2d(2)),
        (2, 6, 6),
        [before(kept=True), Hand("bn", "batch_norm", (2, 6, 6), 4, 0, 72, 288, 288 + 288 + 288, 16, 1, 1)],
    ),
    # A ReLU keeps its output, not its input.
    Case(
        "relu",
        lambda: behind(relu=nn.ReLU()),
        (2, 6, 6),
        [before(kept=False), Hand("relu", "relu", (2, 6, 6), 0, 0, 72, 288, 288 + 288 + 288, 288, 1, 1)],
    ),
    # In place its output lies where the convolution put it, and is kept there.
    Case(
        "relu in place",
        lambda: behind(relu=nn.ReLU(inplace=True)),
        (2, 6, 6),
        [before(kept=True), Hand("relu", "relu", (2, 6, 6), 0, 0, 72, 0, 288 + 288, 0, 1, 1)],
    ),
    # The convolution's output is gone when the second ReLU runs: image, its input and its output.
    Case(
        "relu as a function, twice",
        lambda: chain(block=FunctionalReLU()),
        (2, 6, 6),
        [
            Hand("block.conv", "convolution", (2, 6, 6), 4, 144, 0, 288, 288 + 288, 288, 1, 1),
            Hand("block.relu", "relu", (2, 6, 6), 0, 0, 72, 288, 288 + 288 + 288, 288, 1, 1),
            Hand("block.relu_2", "relu", (2, 6, 6), 0, 0, 72, 288, 288 + 288 + 288, 288, 1, 1),
        ],
    ),
    # 2 x 2 x 9 = 36 weights, 72 x 18 = 1,296. While it adds: image, the shortcut, the branch and the sum. An addition keeps nothing.
    Case(
        "add",
        lambda: behind(block=Residual()),
        (2, 6, 6),
        [
            before(kept=True),
            Hand("block.conv", "convolution", (2, 6, 6), 36, 1296, 0, 288, 288 + 288 + 288, 0, 3, 1),
            Hand("block.add", "add", (2, 6, 6), 0, 0, 72, 288, 288 + 288 + 288 + 288, 0, 3, 1),
        ],
    ),
    Case(
        "add in place",
        lambda: behind(block=ResidualInPlace()),
        (2, 6, 6),
        [
            before(kept=True),
            Hand("block.conv", "convolution", (2, 6, 6), 36, 1296, 0, 288, 288 + 288 + 288, 0, 3, 1),
            Hand("block.add", "add", (2, 6, 6), 0, 0, 72, 0, 288 + 288 + 288, 0, 3, 1),
        ],
    ),
    # Column 1: 2 weights, 36 x 2 = 72. Column 5: 3 x 2 x 25 = 150, 108 x 50 = 5,400. 144 and 432 bytes, and 576 for both together.
    Case(
        "concatenate",
        lambda: behind(block=Columns()),
        (2, 6, 6),
        [
            before(kept=True),
            Hand("block.column1", "convolution", (1, 6, 6), 2, 72, 0, 144, 288 + 288 + 144, 0, 1, 1),
            Hand("block.column5", "convolution", (3, 6, 6), 150, 5400, 0, 432, 288 + 288 + 144 + 432, 0, 5, 1),
            Hand("block.concatenate", "concatenate", (4, 6, 6), 0, 0, 0, 576, 288 + 288 + 144 + 432 + 576, 0, 5, 1),
        ],
    ),
    # Squares, two sums, times alpha, plus k, power, product: 7 x 72 = 504. At the worst moment, when k is added: image, input, the squares
    # with a map of zeros on either side (4 x 36 x 4 = 576), the sums, alpha times the sums, and the result: 288 x 5 + 576. For the
    # backward pass the input, the base of the power and the power.
    Case(
        "response norm",
        lambda: behind(norm=ResponseNorm(3)),
        (2, 6, 6),
        [before(kept=True), Hand("norm", "response_norm", (2, 6, 6), 0, 0, 504, 288, 288 * 5 + 576, 288 + 288, 1, 1)],
    ),
    # Every second pixel of two maps, and two maps of zeros: copies.
    Case(
        "zero padding",
        lambda: behind(shortcut=ZeroPadding(2, 4, stride=2)),
        (2, 6, 6),
        [before(kept=False), Hand("shortcut", "zero_padding", (4, 3, 3), 0, 0, 0, 144, 288 + 288 + 144, 0, 1, 2)],
    ),
    # Does nothing but in training, where it keeps what it multiplied by.
    Case(
        "dropout",
        lambda: behind(dropout=nn.Dropout(0.5)),
        (2, 6, 6),
        [before(kept=False), Hand("dropout", "dropout", (2, 6, 6), 0, 0, 0, 0, 288 + 288, 288, 1, 1)],
    ),
    Case(
        "identity",
        lambda: behind(same=nn.Identity()),
        (2, 6, 6),
        [before(kept=False), Hand("same", "identity", (2, 6, 6), 0, 0, 0, 0, 288 + 288, 0, 1, 1)],
    ),
    # Sums of rows 2 x 3 x 6 = 36, of pairs 18, times the coefficient 18, plus the bias 18: 90. At the end image, input, rows (144), sums,
    # products and the output (72 each) are there; the product with the coefficient keeps the sums.
    Case(
        "LeNet's sub-sampling",
        lambda: behind(pool=Subsampling(2)),
        (2, 6, 6),
        [before(kept=False), Hand("pool", "subsampling", (2, 3, 3), 4, 0, 90, 72, 288 + 288 + 144 + 72 * 3, 72, 2, 2)],
    ),
    # Four kernels of 9 and 3 biases: 39. 4 x 9 x 16 = 576 multiply-adds. Into a dense 3 x 2 x 9 x 4 = 216 bytes go four kernels by their
    # numbers (32 bytes), which makes a copy: 216 x 2 + 32, more than the dense weights and the output (192) later. It keeps both.
    Case(
        "LeNet's sparse convolution",
        lambda: behind(conv=SparseConvolution(2, ((0,), (0, 1), (1,)), kernel_size=3)),
        (2, 6, 6),
        [before(kept=True), Hand("conv", "sparse_convolution", (3, 4, 4), 39, 576, 0, 192, 288 + 288 + 216 * 2 + 32, 216 + 32, 3, 1)],
    ),
    # 84 x 10 differences (840 numbers, 3,360 bytes), their squares, sums that read as many, and 10 signs: 2,530. The square keeps the
    # differences. The codes are no parameters.
    Case(
        "LeNet's output",
        lambda: chain(before=nn.Linear(5, 84), rbf=RBFOutput(10)),
        (5,),
        [
            Hand("before", "linear", (84,), 504, 420, 0, 336, 20 + 336, 20),
            Hand("rbf", "rbf", (10,), 0, 0, 2530, 40, 20 + 336 + 3360 + 3360, 3360),
        ],
    ),
    # Times 2/3, tanh, times 1.7159. tanh keeps its result. Image, input, and two of the three at a time.
    Case(
        "LeNet's squash",
        lambda: behind(squash=ScaledTanh()),
        (2, 6, 6),
        [before(kept=False), Hand("squash", "squash", (2, 6, 6), 0, 0, 216, 288, 288 * 4, 288, 1, 1)],
    ),
    # The second time its weights are counted already, and it sees two pixels more. It keeps what the first call made.
    Case(
        "one layer, called twice",
        lambda: chain(block=Twice()),
        (2, 6, 6),
        [
            Hand("block.conv", "convolution", (2, 6, 6), 36, 1296, 0, 288, 288 + 288, 288 + 288, 3, 1),
            Hand("block.conv (2)", "convolution", (2, 6, 6), 0, 1296, 0, 288, 288 + 288 + 288, 0, 5, 1),
        ],
    ),
    # Four tokens of 6: 4 x 36 = 144, then 4 x 4 products of 6 = 96. The product keeps the queries, for both of its sides once.
    Case(
        "matrix product",
        lambda: chain(block=Attention()),
        (4, 6),
        [
            Hand("block.query", "linear", (4, 6), 36, 144, 0, 96, 96 + 96, 96 + 96),
            Hand("block.matmul", None, (4, 4), 0, 96, 0, 64, 96 + 96 + 64, 0),
        ],
    ),
]


def as_hand(row: Any, expected: Hand) -> Hand:
    """What a summary says, in the form of the table; a kind that the specification leaves open is not compared."""
    said = Hand(**{field: getattr(row, field) for field in Hand._fields})
    return said if expected.kind else said._replace(kind=None, name=expected.name)


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_each_column_by_hand(case: Case) -> None:
    summary = summarize(case.build(), case.input)
    assert len(summary.rows) == len(case.rows), [row.name for row in summary.rows]
    for row, expected in zip(summary.rows, case.rows, strict=True):
        assert as_hand(row, expected) == expected
        assert row.stage == expected.name.partition(".")[0]


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_totals_are_sums_and_the_worst_moment(case: Case) -> None:
    summary = summarize(case.build(), case.input)
    for total in ("parameters", "macs", "elementwise", "activation_bytes", "training_bytes"):
        assert getattr(summary, total) == sum(getattr(row, total) for row in case.rows), total
    assert summary.inference_bytes == max(row.inference_bytes for row in case.rows)


@pytest.mark.parametrize("case", CASES, ids=[case.what for case in CASES])
def test_the_table_is_right(case: Case, tmp_path: Path) -> None:
    """What was worked out by hand against a real pass: the library's allocator, what autograd saves, and the shape of the output."""
    net, sample = case.build().eval(), torch.rand(1, *case.input)
    with torch.no_grad():
        blocks = record_blocks(lambda: net(sample), tmp_path)
        output = net(sample)
    worst = worst_moment([block for block in blocks if block.is_activation])
    assert sample.nbytes + worst == max(row.inference_bytes for row in case.rows)
    assert record_saved(net.train(), lambda: net(sample)).total == sum(row.training_bytes for row in case.rows)
    assert tuple(output.shape[1:]) == case.rows[-1].output
    assert sum(parameter.numel() for parameter in net.parameters()) == sum(row.parameters for row in case.rows)
