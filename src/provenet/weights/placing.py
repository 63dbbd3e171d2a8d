"""Weights from elsewhere put into a network of ours, when the two sides split a layer, its bias and its batch norm in different ways.

A convolution or fully connected layer and what follows it up to the next ReLU is one affine map. Published files cut it differently: a
bias before a batch norm (Keras), a batch norm in two (Caffe), one folded into the weights (exporters). Where both sides cut alike, every
number is copied as it is; else the same map is written in our cut, computed in float64.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from provenet.errors import WeightsError, printable
from provenet.inspection.trace import trace
from provenet.models.classifier import Classifier
from provenet.models.lenet import SparseConvolution
from provenet.weights.epsilon import set_batch_norm_eps
from provenet.weights.foreign import Array


@dataclass(frozen=True)
class Norm:
    """A batch norm: (x - mean) / sqrt(variance + eps) * scale + shift, all [C]."""

    mean: Array
    variance: Array
    scale: Array
    shift: Array
    eps: float


@dataclass(frozen=True)
class Layer:
    """A convolution or fully connected layer of a foreign file in our layout, and the batch norm behind it."""

    weight: Array
    bias: Array | None = None
    norm: Norm | None = None


@dataclass(frozen=True)
class Unit:
    """A convolution or fully connected layer of ours, and the path of the batch norm that reads it."""

    path: str
    norm_path: str | None


def units(net: Classifier) -> dict[str, Unit]:
    """Layers with weights, by path, in the order in which they run."""
    modules = dict(net.named_modules())
    steps = trace(net).steps
    norms = {steps[step.reads[0]].module: step.module for step in steps if step.kind == "batch_norm" and step.reads[0] >= 0}
    found = [step.module for step in steps if isinstance(modules.get(step.module), nn.Conv2d | nn.Linear | SparseConvolution)]
    return {path: Unit(path, norms.get(path)) for path in found}


def common_eps(layers: Mapping[str, Layer]) -> float | None:
    """The epsilon of all batch norms, where they have one together."""
    found = {layer.norm.eps for layer in layers.values() if layer.norm}
    return found.pop() if len(found) == 1 else None


def place(net: Classifier, layers: Mapping[str, Layer]) -> Iterator[str]:
    """Load the layers, by our paths, into the network, which lies on the meta device; yields a note for each kind of rewriting.

    Where all batch norms of the file have one epsilon, the network gets it. Raises WeightsError for values that are no numbers.
    """
    eps = common_eps(layers)
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    if norms and eps is not None and eps != norms[0].eps:
        yield f"batch norm adds {eps:g} to the variance, ours {norms[0].eps:g}: theirs is kept"
        set_batch_norm_eps(net, eps)
    notes: dict[str, int] = {}
    state: dict[str, Tensor] = {}
    modules = dict(net.named_modules())
    for path, module in modules.items():
        if isinstance(module, nn.BatchNorm2d):
            state[f"{path}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
    for path, unit in units(net).items():
        if path not in layers:
            continue
        norm = modules[unit.norm_path] if unit.norm_path else None
        assert norm is None or isinstance(norm, nn.BatchNorm2d)
        values, rewritten = _in_our_cut(layers[path], has_bias=modules[path].bias is not None, eps=norm.eps if norm else None)
        for leaf, array in values.items():
            owner = unit.norm_path if leaf.startswith("norm.") else path
            name = f"{owner}.{leaf.removeprefix('norm.')}"
            if not np.isfinite(array).all():
                raise WeightsError(f"{printable(name)}: expected numbers, found some that are none (NaN or infinite); get another file")
            parameter = net.get_parameter(name) if leaf.endswith(("weight", "bias")) else net.get_buffer(name)
            state[name] = torch.from_numpy(np.ascontiguousarray(array, np.float32)).view(parameter.shape)
        if rewritten:
            notes[rewritten] = notes.get(rewritten, 0) + 1
    net.load_state_dict(state, assign=True, strict=False)
    yield from (f"{note} ({count} times)" for note, count in notes.items())


def _in_our_cut(layer: Layer, *, has_bias: bool, eps: float | None) -> tuple[dict[str, Array], str]:
    """Weight, bias and batch norm as our layers have them, `eps` that of our batch norm; and what had to be rewritten."""
    bias, norm = layer.bias, layer.norm
    channels = len(layer.weight)
    if eps is None and norm is None:
        if has_bias:
            return {"weight": layer.weight, "bias": np.zeros(channels) if bias is None else bias}, ""
        if bias is not None and np.any(bias):
            raise WeightsError("expected a layer without bias, found one with; this network cannot hold it")
        return {"weight": layer.weight}, ""
    if eps is None:
        assert norm is not None
        slope = norm.scale / np.sqrt(norm.variance.astype(np.float64) + norm.eps)
        weight = layer.weight * slope.reshape(-1, *[1] * (layer.weight.ndim - 1))
        shift = norm.shift + slope * ((0 if bias is None else bias) - norm.mean.astype(np.float64))
        if not has_bias:
            raise WeightsError("expected a layer without batch norm and bias, found one with; this network cannot hold it")
        return {"weight": weight, "bias": shift}, "a batch norm is multiplied into the convolution before it, as this network has none"
    values: dict[str, Array] = {"weight": layer.weight}
    rewritten = ""
    if norm is None:
        norm = Norm(np.zeros(channels), np.full(channels, 1 - eps), np.ones(channels), np.zeros(channels), eps)
        rewritten = "a convolution with its batch norm folded in gets one that only adds the bias"
        if not has_bias and bias is not None:
            norm, bias = Norm(norm.mean, norm.variance, norm.scale, bias, eps), None
    mean = norm.mean
    if has_bias:
        values["bias"] = np.zeros(channels) if bias is None else bias
    elif bias is not None and np.any(bias):
        mean = mean.astype(np.float64) - bias
        rewritten = rewritten or "a bias before a batch norm is taken off its mean"
    scale = norm.scale
    if norm.eps != eps:
        scale = scale * np.sqrt((norm.variance.astype(np.float64) + eps) / (norm.variance.astype(np.float64) + norm.eps))
        rewritten = rewritten or "a batch norm of another epsilon gets another scale"
    return values | {"norm.weight": scale, "norm.bias": norm.shift, "norm.running_mean": mean, "norm.running_var": norm.variance}, rewritten
