"""LeNet-5, as published and as remade.

LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", Proc. IEEE 86(11), 1998, section II.B.

    layer   what                                         output     parameters  connections
    C1      convolution 5x5                              6 @ 28x28         156      122,304
    S2      sum of 2x2, x coefficient, + bias            6 @ 14x14          12        5,880
    C3      convolution 5x5, sparse (Table I)           16 @ 10x10       1,516      151,600
    S4      as S2                                       16 @ 5x5            32        2,000
    C5      convolution 5x5, which leaves one pixel    120 @ 1x1        48,120       48,120
    F6      fully connected                             84              10,164       10,164
    output  distance to fixed +-1 codes (Euclidean RBF) 10               fixed          840

After every layer from C1 to F6, the sub-sampling layers too, the squash 1.7159 tanh(2a/3).

Differences from the paper:
* logits are minus the RBF distances, so that large is good, as everywhere else in this package;
* the codes are the paper's bitmaps for ten classes only. For any other number they are rows of a Hadamard matrix: the paper itself
  names an error-correcting code as the alternative to its bitmaps (section II.B), and every two rows differ in exactly 42 of 84 places.

`lenet5_softmax` is the remake that most courses teach: every C3 map reads every S2 map, plain tanh, average pooling without
parameters, a linear output: 61,706 parameters.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from provenet.errors import ModelError
from provenet.models.blocks import FlattenMaps
from provenet.models.classifier import Classifier, Initialisation, InputSpec
from provenet.models.initialisation import glorot_uniform, initialise, linear_by
from provenet.preprocessing import Preprocessing

# Table I: the S2 maps that each of the 16 C3 maps reads.
C3_TABLE = (
    (0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5),
    (0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5),
    (0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)  # fmt: skip

# Figure 3, the digits of the output codes: 12 rows of 7, '#' is +1.
BITMAPS = """
.#####. ....... ..###.. .##.##. ##...## ##...## ##...## ##...## .##.##. ..###.. ....... .......
...##.. ..###.. .####.. ...##.. ...##.. ...##.. ...##.. ...##.. ...##.. .###### ....... .......
.#####. ....... .#####. ##...## #....## ....##. ..###.. .##.... ##..... ####### ....... .......
####### .....## ....##. ...##.. ..####. .....## .....## .....## ##...## .#####. ....... .......
.#####. ....... ....... .##..## .##..## ###..## ##...## ##...## ##..### .###### .....## .....##
.#####. ....... ####### ##..... ##..... .####.. ..####. .....## ##...## .#####. ....... .......
..####. .##.... ##..... ##..... ######. ###..## ##...## ##...## ###..## .#####. ....... .......
####### .....## .....## ....##. ...##.. ...##.. ..##... ..##... ..##... ..##... ....... .......
.#####. ##...## ##...## ##...## .#####. ##...## ##...## ##...## ##...## .#####. ....... .......
.#####. ##..### ##...## ##...## ##..### .###### .....## .....## ....##. .####.. ....... .......
"""

NUM_CODE_UNITS = 84  # 7 x 12 pixels

# Section II.B: the background is -0.1 and the foreground 1.175, which makes the mean input about 0 and its deviation about 1.
INPUT_SPEC = InputSpec(
    preprocessing=Preprocessing(size=32, resize=28, channels=1, mean=(0.1 / 1.275,), std=(1 / 1.275,)),
    smallest=32,
    measured="nothing",
)


class ScaledTanh(nn.Module):
    """The squash A tanh(S a) with A = 1.7159 and S = 2/3, for which f(1) = 1 and f(-1) = -1 (appendix A)."""

    amplitude = 1.7159
    slope = 2 / 3

    def forward(self, activations: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return self.amplitude * torch.tanh(activations * self.slope)


class Subsampling(nn.Module):
    """The sum of each 2x2 neighbourhood times one coefficient a map, plus one bias a map: [N, C, 2h, 2w] -> [N, C, h, w]."""

    kernel_size = stride = 2
    padding = 0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, 2h, 2w] -> [N, C, h, w]."""
        n, channels, height, width = (maps.shape[0], maps.shape[1], maps.shape[2] // 2 * 2, maps.shape[3] // 2 * 2)
        pairs = maps[:, :, :height, :width].reshape(n, channels, height // 2, 2, width)
        rows = (pairs[:, :, :, 0] + pairs[:, :, :, 1]).view(n, channels, height // 2, width // 2, 2)
        sums = rows[..., 0] + rows[..., 1]  # twice as fast as 4 * avg_pool2d, which is not vectorised here
        return sums * self.weight[:, None, None] + self.bias[:, None, None]


class SparseConvolution(nn.Module):
    """A convolution in which output map i reads only the input maps `table[i]`; only those kernels exist.

    `weight` [P, k, k] holds one kernel for each of the P pairs, in the table's order.
    """

    def __init__(self, in_channels: int, table: tuple[tuple[int, ...], ...], kernel_size: int) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.kernel_size = kernel_size
        self.stride = 1
        self.padding = 0
        self.table = table
        self._pairs = [in_channels * out_map + in_map for out_map, in_maps in enumerate(table) for in_map in in_maps]
        self.weight = nn.Parameter(torch.empty(len(self._pairs), kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.empty(len(table)))

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, h, w] -> [N, len(table), h - k + 1, w - k + 1]."""
        size = self.weight.shape[-2:]
        dense = self.weight.new_zeros(len(self.table) * self.in_channels, *size)
        dense = dense.index_copy(0, torch.tensor(self._pairs, device=dense.device), self.weight)
        return F.conv2d(maps, dense.view(len(self.table), self.in_channels, *size), self.bias)


class RBFOutput(nn.Module):
    """Minus the squared Euclidean distance to each class's fixed code: [N, 84] -> logits [N, K], or maps of both."""

    codes: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("codes", output_codes(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, 84] -> logits [N, K]; [N, 84, h, w] -> [N, K, h, w]."""
        codes = self.codes.view(*self.codes.shape, *[1] * (features.ndim - 2))
        return -(features[:, None] - codes).square().sum(2)


def output_codes(num_classes: int) -> Tensor:
    """One code of +-1 a class, [K, 84]: the paper's bitmaps for ten classes, else rows of a Hadamard matrix and then of its negative.

    >>> codes = output_codes(12)
    >>> (codes @ codes.T - 84 * torch.eye(12)).abs().max().item()  # orthogonal
    0.0
    """
    if num_classes == 10:
        bits = [[1.0 if pixel == "#" else -1.0 for pixel in line.replace(" ", "")] for line in BITMAPS.split("\n") if line]
        return torch.tensor(bits)
    if not 1 <= num_classes <= 2 * NUM_CODE_UNITS:
        raise ModelError(
            f"lenet5: expected 1 to {2 * NUM_CODE_UNITS} classes, for which 84 units have well separated codes, found {num_classes}; "
            "use lenet5_softmax"
        )
    # Paley's construction: 83 is a prime of the form 4m + 3, so the quadratic residues modulo 83 give a matrix of order 84.
    prime = NUM_CODE_UNITS - 1
    residues = {k * k % prime for k in range(1, prime)}
    character = torch.tensor([0.0, *(1.0 if k in residues else -1.0 for k in range(1, prime))])
    difference = torch.arange(prime)[:, None] - torch.arange(prime)
    hadamard = torch.ones(NUM_CODE_UNITS, NUM_CODE_UNITS)
    hadamard[1:, 0] = -1
    hadamard[1:, 1:] = character[difference % prime] + torch.eye(prime)
    return torch.cat([hadamard, -hadamard])[:num_classes].clone()


def lenet5(*, num_classes: int = 10, in_channels: int = 1, init: Initialisation = "published") -> Classifier:
    """The network of 1998: 60,000 trainable parameters at ten classes. Its published initialisation trains by itself."""
    del init  # both are the published one
    net = _assemble(
        "lenet5",
        in_channels=in_channels,
        num_classes=num_classes,
        squash=ScaledTanh,
        subsample=lambda channels: nn.Sequential(OrderedDict(subsampling=Subsampling(channels), squash=ScaledTanh())),
        c3=SparseConvolution(6, C3_TABLE, kernel_size=5),
        make_classifier=RBFOutput,
    )
    _initialise_as_published(net)
    return net


def lenet5_softmax(*, num_classes: int = 10, in_channels: int = 1, init: Initialisation = "published") -> Classifier:
    """The remake of the courses: 61,706 parameters at ten classes; Glorot initialisation, biases 0."""
    del init
    net = _assemble(
        "lenet5_softmax",
        in_channels=in_channels,
        num_classes=num_classes,
        squash=nn.Tanh,
        subsample=lambda _: nn.AvgPool2d(2),
        c3=nn.Conv2d(6, 16, kernel_size=5),
        make_classifier=partial(linear_by, glorot_uniform, NUM_CODE_UNITS),
    )
    initialise(net, glorot_uniform)
    return net


def count_connections(net: Classifier) -> dict[str, int]:
    """Connections of each stage, as the paper counts them: every weight and bias as often as it is used for one picture.

    >>> sum(count_connections(lenet5()).values())
    340908
    """
    connections = dict.fromkeys(net.stages, 0)

    def count(stage: str, layer: nn.Module, output: Tensor) -> None:
        pixels = output[0, 0].numel()  # how often a kernel is placed; 1 for a fully connected layer
        if isinstance(layer, nn.Conv2d | SparseConvolution | nn.Linear):
            connections[stage] += pixels * sum(parameter.numel() for parameter in layer.parameters())
        elif isinstance(layer, Subsampling):
            connections[stage] += output[0].numel() * (2 * 2 + 1)  # four inputs and a bias for each output
        elif isinstance(layer, RBFOutput):
            connections[stage] += layer.codes.numel()

    hooks = [
        layer.register_forward_hook(lambda layer, _, output, stage=name: count(stage, layer, output))
        for name, stage in net.stages.items()
        for layer in stage.modules()
    ]
    spec = net.input_spec
    with torch.no_grad():
        net(torch.zeros(1, spec.channels, spec.size, spec.size, device=next(net.parameters()).device))
    for hook in hooks:
        hook.remove()
    return connections


def _assemble(
    name: str,
    *,
    in_channels: int,
    num_classes: int,
    squash: Callable[[], nn.Module],
    subsample: Callable[[int], nn.Module],
    c3: nn.Module,
    make_classifier: Callable[[int], nn.Module],
) -> Classifier:
    stages = OrderedDict(
        C1=nn.Sequential(OrderedDict(conv=nn.Conv2d(in_channels, 6, kernel_size=5), squash=squash())),  # 28x28
        S2=subsample(6),  # 14x14
        C3=nn.Sequential(OrderedDict(conv=c3, squash=squash())),  # 10x10
        S4=subsample(16),  # 5x5
        C5=nn.Sequential(OrderedDict(conv=nn.Conv2d(16, 120, kernel_size=5), squash=squash())),  # 1x1
        F6=nn.Sequential(OrderedDict(flatten=FlattenMaps(1), linear=nn.Linear(120, NUM_CODE_UNITS), squash=squash())),
        output=make_classifier(num_classes),
    )
    spec = replace(INPUT_SPEC, preprocessing=INPUT_SPEC.preprocessing.with_channels(in_channels))
    return Classifier(
        name=name,
        stages=stages,
        head="output",
        num_features=NUM_CODE_UNITS,
        num_classes=num_classes,
        make_classifier=make_classifier,
        input_spec=spec,
    )


def _initialise_as_published(net: Classifier) -> None:
    """Uniform in +-2.4/F, F the number of inputs of the unit (section III.C); a bias is one more weight of its unit."""
    if next(net.parameters()).is_meta:
        return  # nothing to fill
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            _uniform(layer.weight, fan_in=layer.weight[0].numel())
            assert layer.bias is not None  # every layer of LeNet has one
            _uniform(layer.bias, fan_in=layer.weight[0].numel())
        elif isinstance(layer, SparseConvolution):
            kernel = layer.weight[0].numel()
            fan_in = torch.tensor([len(maps) * kernel for maps in layer.table])
            _uniform(layer.bias, fan_in=fan_in)
            _uniform(layer.weight, fan_in=torch.cat([fan_in[i].expand(len(maps)) for i, maps in enumerate(layer.table)])[:, None, None])
        elif isinstance(layer, Subsampling):
            _uniform(layer.weight, fan_in=4)
            _uniform(layer.bias, fan_in=4)


def _uniform(parameter: Tensor, *, fan_in: int | Tensor) -> None:
    with torch.no_grad():
        parameter.uniform_(-1, 1).mul_(2.4 / fan_in)
