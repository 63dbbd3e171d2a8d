"""What the building blocks compute, against the formulas of their papers written once more, plainly, with the same weights.

A table of layers does not say what happens between them: where the ReLU stands, in which order columns are laid on one another, what a
shortcut adds.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from provenet.models.blocks import BasicBlock, Bottleneck, ConvolutionReLU, ConvolutionUnit, Inception, NaiveInception, ResponseNorm
from provenet.models.classifier import Classifier
from provenet.models.lenet import RBFOutput, ScaledTanh, SparseConvolution, Subsampling
from provenet.models.nin import ClassMaps
from provenet.verify.checks import Check

SIDE_PIXELS = 8
TOLERANCE = 1e-5


def check_computations(net: Classifier) -> Iterator[Check]:
    """One check for each stage (and each auxiliary part) that has such blocks; none without weights."""
    generator = torch.Generator().manual_seed(0)
    for stage_name, stage in net.named_children():
        errors = []
        for path, block in stage.named_modules(prefix=stage_name):
            formula = FORMULAS.get(type(block))
            if formula and not any(tensor.is_meta for tensor in block.state_dict().values()):
                maps = torch.randn(2, _channels(block), *SIZES.get(type(block), (SIDE_PIXELS, SIDE_PIXELS)), generator=generator)
                errors.append((_error(block, formula, maps), path))
        if errors:
            largest, path = max(errors)
            found = f"{len(errors)} of {len(errors)} do" if largest < TOLERANCE else f"{path} is off by {largest:.1e}"
            yield Check(f"{stage_name}: computes the formula", f"{len(errors)} of {len(errors)} do", found, ok=largest < TOLERANCE)


def _error(block: nn.Module, formula: Callable[[Any, Tensor], Tensor], maps: Tensor) -> float:
    modes = {module: module.training for module in block.modules()}
    block.eval()
    with torch.no_grad():
        found, expected = block(maps), formula(block, maps)
    for module, mode in modes.items():
        module.training = mode
    if found.shape != expected.shape:
        return float("inf")
    return float(torch.dist(found, expected) / expected.norm())


def _channels(block: nn.Module) -> int:
    if isinstance(block, Subsampling):
        return block.weight.numel()
    if isinstance(block, SparseConvolution):
        return block.in_channels
    if isinstance(block, RBFOutput):
        return block.codes.shape[1]
    first = next((layer for layer in block.modules() if isinstance(layer, nn.Conv2d)), None)
    return first.in_channels if first else 16


def _conv(layer: nn.Conv2d, maps: Tensor) -> Tensor:
    """Padded so that only the stride changes the size."""
    return F.conv2d(maps, layer.weight, layer.bias, layer.stride, padding=layer.kernel_size[0] // 2)


def _norm(layer: nn.BatchNorm2d, maps: Tensor) -> Tensor:
    mean, var, weight, bias = (tensor[:, None, None] for tensor in (layer.running_mean, layer.running_var, layer.weight, layer.bias))  # type: ignore[index, union-attr]
    return (maps - mean) / (var + layer.eps).sqrt() * weight + bias


def _unit(unit: Any, maps: Tensor) -> Tensor:
    """Convolution, batch norm where there is one, ReLU."""
    maps = _conv(unit.conv, maps)
    return (_norm(unit.bn, maps) if isinstance(unit, ConvolutionUnit) else maps).clamp(min=0)


def _residual(block: Any, maps: Tensor) -> Tensor:
    """relu(branch + shortcut), ReLU between the convolutions of the branch only."""
    pairs = [(layer, getattr(block, name.replace("conv", "bn"))) for name, layer in block.named_children() if name.startswith("conv")]
    branch = maps
    for conv, norm in pairs[:-1]:
        branch = _norm(norm, _conv(conv, branch)).clamp(min=0)
    branch = _norm(pairs[-1][1], _conv(pairs[-1][0], branch))
    shortcut = block.shortcut
    if shortcut is None:
        return branch.clamp(min=0)
    if hasattr(shortcut, "conv"):
        return (branch + _norm(shortcut.bn, _conv(shortcut.conv, maps))).clamp(min=0)
    step = maps.shape[2] // branch.shape[2]
    padded = torch.zeros_like(branch)
    padded[:, : maps.shape[1]] = maps[:, :, ::step, ::step]
    return (branch + padded).clamp(min=0)


def _inception(block: Any, maps: Tensor) -> Tensor:
    pooled = F.max_pool2d(maps, 3, stride=1, padding=1)
    if isinstance(block, NaiveInception):
        columns = [_unit(column.conv, maps) for column in (block.column1, block.column3, block.column5)]
        return torch.cat([*columns, pooled], dim=1)
    deep = [_unit(column.conv, _unit(column.reduce, maps)) for column in (block.column3, block.column5)]
    return torch.cat([_unit(block.column1.conv, maps), *deep, _unit(block.column_pool.project, pooled)], dim=1)


def _sparse(layer: Any, maps: Tensor) -> Tensor:
    outputs, at = [], 0
    for out_map, in_maps in enumerate(layer.table):
        kernels = layer.weight[at : at + len(in_maps)]
        outputs.append(F.conv2d(maps[:, list(in_maps)], kernels[None]) + layer.bias[out_map])
        at += len(in_maps)
    return torch.cat(outputs, dim=1)


FORMULAS: dict[type, Callable[[Any, Tensor], Tensor]] = {
    BasicBlock: _residual,
    Bottleneck: _residual,
    ConvolutionUnit: _unit,
    ConvolutionReLU: _unit,
    Inception: _inception,
    NaiveInception: _inception,
    ResponseNorm: lambda norm, maps: F.local_response_norm(maps, norm.size, norm.alpha * norm.size, norm.beta, norm.k),
    ClassMaps: lambda block, maps: _conv(block.conv, maps).clamp(min=0).mean((2, 3)),
    ScaledTanh: lambda _, maps: 1.7159 * torch.tanh(2 * maps / 3),
    Subsampling: lambda layer, maps: 4 * F.avg_pool2d(maps, 2) * layer.weight[:, None, None] + layer.bias[:, None, None],
    SparseConvolution: _sparse,
    RBFOutput: lambda layer, features: -(torch.cdist(features, layer.codes) ** 2),
}

SIZES: dict[type, tuple[int, ...]] = {RBFOutput: ()}
