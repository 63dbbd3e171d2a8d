"""Random weights for two networks at once, and how far apart their logits are."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
PIXELS = 64.0
"""Deviation of pixels that nobody divided by theirs: with such images, local response normalisation is far from doing nothing."""


def make_images(net: nn.Module, size: int | None = None, scale: float = 1.0) -> Tensor:
    """Two random images [2, C, H, W], of the network's own size unless said."""
    size = size or net.input_spec.size
    return scale * torch.randn(2, net.input_spec.channels, size, size)


def randomise(net: nn.Module, images: Tensor) -> nn.Module:
    """Weights, biases and statistics that let every layer matter and keep the logits moderate; returned in evaluation mode.

    Batch norm gets the statistics of the images, disturbed: with arbitrary ones a deep residual network grows without bound.
    """
    for name, parameter in net.named_parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=math.sqrt(2 / parameter[0].numel()))
        elif name.endswith("weight"):
            nn.init.uniform_(parameter, 0.5, 1.5)
        else:
            nn.init.normal_(parameter, std=0.1)
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        with torch.no_grad():
            net.train().training_logits(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.running_mean += 0.2 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
        norm.running_var *= 0.5 + torch.rand_like(norm.running_var)
        norm.momentum = momentum
    return net.eval()


def copy_in_order(source: nn.Module, target: nn.Module) -> None:
    """Copy all parameters and statistics between networks that define the same layers in the same order."""
    for (name, tensor), (their_name, theirs) in zip(source.state_dict().items(), target.state_dict().items(), strict=True):
        assert tensor.shape == theirs.shape, f"{name} {list(tensor.shape)} -> {their_name} {list(theirs.shape)}"
        theirs.copy_(tensor)


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    """Norm of the difference over the norm of the peer's logits."""
    assert ours.shape == theirs.shape
    ours, theirs = ours.double(), theirs.double()
    assert 1e-2 < float(theirs.std()) < 1e5, "the weights make logits that prove little"
    return float((ours - theirs).norm() / theirs.norm())


def written(error: float | None) -> str:
    """As a cell of the table; 0 is equality to the bit."""
    return "" if error is None else f"{error:.1e}" if error else "0"


class Comparison(NamedTuple):
    """One line of the table."""

    network: str
    peer: str
    errors: dict[torch.dtype, float]

    def cells(self) -> list[str]:
        return [self.network, self.peer, *(written(self.errors.get(dtype)) for dtype in TOLERANCE)]


class Comparisons:
    """Everything that was compared, for the table at the end."""

    def __init__(self) -> None:
        self.rows: list[Comparison] = []

    def agree(
        self,
        network: str,
        peer: str,
        logits: Callable[[torch.dtype], tuple[Tensor, Tensor]],
        dtypes: Sequence[torch.dtype] = tuple(TOLERANCE),
    ) -> None:
        """Compare our logits and the peer's, which `logits` gives for a precision, in each of the precisions."""
        with torch.no_grad():
            errors = {dtype: relative_error(*logits(dtype)) for dtype in dtypes}
        self.rows.append(Comparison(network, peer, errors))
        for dtype, error in errors.items():
            assert error < TOLERANCE[dtype], f"{network} and {peer}: relative error {error:.1e} in {dtype}"

    def modules_agree(self, peer: str, ours: nn.Module, theirs: nn.Module, *batches: Tensor) -> None:
        """The same for two PyTorch modules, over batches of images that may differ in size."""
        if len(batches) > 1:
            peer += f", at {' and '.join(str(images.shape[-1]) for images in batches)} pixels"
        nets = ours, theirs.eval()
        self.agree(ours.name, peer, lambda dtype: tuple(torch.cat([net.to(dtype)(images.to(dtype)) for images in batches]) for net in nets))

    def table(self) -> list[str]:
        """Lines of a Markdown table."""
        head = ["network", "the same in", "float32", "float64"]
        cells = [head, *(row.cells() for row in sorted(self.rows, key=lambda row: row.network))]
        widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
        lines = ["| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in cells]
        return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]] if self.rows else []
