"""Building blocks of the networks, public for those who build their own.

A residual block computes relu(branch(x) + shortcut(x)) (He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2015,
section 3.2 and figure 5). Its plain twin has no shortcut. An Inception module lays the outputs of four columns on one another (Szegedy
et al., "Going deeper with convolutions", 2014, figure 2). Letters: N batch, C channels, H W pixels.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shortcut = Literal["A", "B", "C", "none"]
"""A: zero-padded identity. B: projection where the shape changes. C: projection everywhere. none: a plain network."""

BlockFactory = Callable[..., nn.Module]


class ZeroPadding(nn.Module):
    """Option A's shortcut where the shape changes: every `stride`-th pixel, new channels filled with zeros; no parameters."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.new_channels = out_channels - in_channels
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W] -> [N, C + new, H / stride, W / stride]."""
        return F.pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))


class Projection(nn.Module):
    """The 1x1 convolution and batch norm of options B and C."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size=1, stride=stride, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W] -> [N, out_channels, H / stride, W / stride]."""
        projected: Tensor = self.bn(self.conv(maps))
        return projected


def make_shortcut(option: Shortcut, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """The shortcut around one block under a paper's option, or None for a plain one."""
    if option == "none":
        return None
    changes = stride != 1 or in_channels != out_channels
    if option == "C" or (option == "B" and changes):
        return Projection(in_channels, out_channels, stride)
    return ZeroPadding(in_channels, out_channels, stride) if changes else nn.Identity()


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: [N, in_channels, H, W] -> [N, width, H / stride, W / stride]."""

    expansion = 1

    def __init__(self, in_channels: int, width: int, *, stride: int = 1, shortcut: Shortcut = "B") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = make_shortcut(shortcut, in_channels, width, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] -> [N, width, H / stride, W / stride]."""
        branch = F.relu(self.bn1(self.conv1(maps)))
        branch = self.bn2(self.conv2(branch))
        return F.relu(branch if self.shortcut is None else branch + self.shortcut(maps))


class Bottleneck(nn.Module):
    """1x1 to `width`, 3x3, 1x1 to four times `width`: [N, in_channels, H, W] -> [N, 4 width, H / stride, W / stride].

    The stride sits in the first 1x1 as published (v1), or with `stride_in="3x3"` in the second convolution, as in the relative that
    the world calls v1.5.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, width: int, *, stride: int = 1, shortcut: Shortcut = "B", stride_in: Literal["1x1", "3x3"] = "1x1"
    ) -> None:
        super().__init__()
        out_channels = width * self.expansion
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, width, kernel_size=1, stride=first, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, kernel_size=3, stride=second, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = make_shortcut(shortcut, in_channels, out_channels, stride)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] -> [N, 4 width, H / stride, W / stride]."""
        branch = F.relu(self.bn1(self.conv1(maps)))
        branch = F.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        return F.relu(branch if self.shortcut is None else branch + self.shortcut(maps))


class ConvolutionUnit(nn.Sequential):
    """A convolution, batch norm and ReLU: [N, in_channels, H, W] -> [N, out_channels, H / stride, W / stride]."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=eps)
        self.relu = nn.ReLU()


class GlobalAverage(nn.Module):
    """The mean over all pixels: [N, C, H, W] -> [N, C]."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W] -> [N, C]."""
        return maps.mean((2, 3))


class FlattenMaps(nn.Module):
    """Maps to one row of numbers for a fully connected layer that reads `side` x `side` pixels: [N, C, H, W] -> [N, C side side].

    At the size the network was published for, that is all. Maps of another size are first averaged, or repeated, to `side` x `side`;
    for larger images `Classifier.as_fully_convolutional` keeps every number instead.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W] -> [N, C side side]."""
        if maps.shape[2:] != (self.side, self.side):
            maps = F.adaptive_avg_pool2d(maps, self.side)
        return maps.flatten(1)


class ResponseNorm(nn.Module):
    """Local response normalisation across channels: b = a / (k + alpha * sum of a^2 over `size` neighbouring maps)^beta.

    Krizhevsky, Sutskever, Hinton 2012, section 3.3, whose constants are the defaults. As in the paper, alpha multiplies the *sum*; Caffe
    and `torch.nn.LocalResponseNorm` multiply the mean, so theirs is `size` times larger for the same layer.
    """

    def __init__(self, size: int = 5, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0) -> None:
        super().__init__()
        self.size = size
        self.alpha = alpha
        self.beta = beta
        self.k = k

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W] -> [N, C, H, W]."""
        before = self.size // 2
        channels = maps.shape[1]
        squares = F.pad(maps.square(), (0, 0, 0, 0, before, self.size - 1 - before))
        sums = squares[:, :channels]
        for offset in range(1, self.size):  # adding shifted maps is faster than the library's pooling in three dimensions
            sums = sums + squares[:, offset : offset + channels]
        return maps * (self.k + self.alpha * sums).pow(-self.beta)

    def extra_repr(self) -> str:
        """The constants."""
        return f"size={self.size}, alpha={self.alpha:g}, beta={self.beta:g}, k={self.k:g}"


def sequence(**layers: nn.Module | None) -> nn.Sequential:
    """Named layers one after the other; None leaves a place out."""
    return nn.Sequential(OrderedDict((name, layer) for name, layer in layers.items() if layer is not None))


class Linear(nn.Linear):
    """A linear layer that begins at zero, for networks that draw its weights themselves: VGG's would take seconds to be drawn twice."""

    def reset_parameters(self) -> None:
        """All zero."""
        nn.init.zeros_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)


def hidden_layer(in_features: int, out_features: int, *, flattens: int | None = None, dropout: float = 0.5) -> nn.Sequential:
    """A fully connected layer, ReLU, dropout: [N, in_features] -> [N, out_features]; with `flattens` it reads maps of that side.

    The dropout follows the ReLU, as AlexNet's paper has it ("the output of each hidden neuron", section 4.2), and all after it. The weights
    begin at zero: draw them by a rule of `models/initialisation.py`.
    """
    return sequence(
        flatten=FlattenMaps(flattens) if flattens else None,
        linear=Linear(in_features, out_features),
        relu=nn.ReLU(),
        dropout=nn.Dropout(dropout),
    )


class Columns(NamedTuple):
    """One row of GoogLeNet's Table 1: the maps of each convolution of a module."""

    conv1: int
    reduce3: int
    conv3: int
    reduce5: int
    conv5: int
    pool: int

    @property
    def num_maps(self) -> int:
        """Maps of the module's output."""
        return self.conv1 + self.conv3 + self.conv5 + self.pool


class ConvolutionReLU(nn.Sequential):
    """A convolution with bias and ReLU; padded so that only the stride changes the size."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2)
        self.relu = nn.ReLU()


class Inception(nn.Module):
    """1x1 | 1x1 reduce, 3x3 | 1x1 reduce, 5x5 | 3x3 max pool, 1x1 projection: [N, C, H, W] -> [N, columns.num_maps, H, W].

    `unit` makes one convolution with what follows it; `kernel5` is the kernel of the third column, 3 in the relative that the world uses.
    """

    def __init__(self, in_channels: int, columns: Columns, *, unit: Callable[..., nn.Module] = ConvolutionReLU, kernel5: int = 5) -> None:
        super().__init__()
        self.column1 = sequence(conv=unit(in_channels, columns.conv1, kernel_size=1))
        self.column3 = sequence(
            reduce=unit(in_channels, columns.reduce3, kernel_size=1), conv=unit(columns.reduce3, columns.conv3, kernel_size=3)
        )
        self.column5 = sequence(
            reduce=unit(in_channels, columns.reduce5, kernel_size=1), conv=unit(columns.reduce5, columns.conv5, kernel_size=kernel5)
        )
        self.column_pool = sequence(
            pool=nn.MaxPool2d(kernel_size=3, stride=1, padding=1), project=unit(in_channels, columns.pool, kernel_size=1)
        )
        self.num_maps = columns.num_maps

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W] -> [N, num_maps, H, W]."""
        return torch.cat([self.column1(maps), self.column3(maps), self.column5(maps), self.column_pool(maps)], dim=1)


class NaiveInception(nn.Module):
    """The module before its reductions (figure 2a): 1x1 | 3x3 | 5x5 | 3x3 max pool, all on the input itself.

    [N, C, H, W] -> [N, conv1 + conv3 + conv5 + C, H, W]: the pool hands on every map, so a chain of these grows and grows.
    """

    def __init__(self, in_channels: int, columns: Columns) -> None:
        super().__init__()
        self.column1 = sequence(conv=ConvolutionReLU(in_channels, columns.conv1, kernel_size=1))
        self.column3 = sequence(conv=ConvolutionReLU(in_channels, columns.conv3, kernel_size=3))
        self.column5 = sequence(conv=ConvolutionReLU(in_channels, columns.conv5, kernel_size=5))
        self.column_pool = sequence(pool=nn.MaxPool2d(kernel_size=3, stride=1, padding=1))
        self.num_maps = columns.conv1 + columns.conv3 + columns.conv5 + in_channels

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W] -> [N, num_maps, H, W]."""
        return torch.cat([self.column1(maps), self.column3(maps), self.column5(maps), self.column_pool(maps)], dim=1)
