"""Building blocks of the networks, public for those who build their own.

A residual block computes relu(branch(x) + shortcut(x)) (He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2015,
section 3.2 and figure 5). Its plain twin has no shortcut. Letters: N batch, C channels, H W pixels.
"""

from collections.abc import Callable
from typing import Literal

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

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()


class GlobalAverage(nn.Module):
    """The mean over all pixels: [N, C, H, W] -> [N, C]."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W] -> [N, C]."""
        return maps.mean((2, 3))
