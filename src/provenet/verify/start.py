"""How a network's weights begin, measured on the fresh weights themselves.

A sample of n weights has a deviation and a shape of its own; both must lie within five standard errors of the rule's.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from provenet.models.classifier import Classifier
from provenet.models.lenet import SparseConvolution, Subsampling
from provenet.papers.paper import Row
from provenet.verify.checks import Check

STANDARD_ERRORS = 5
KURTOSIS = {"normal": 3.0, "uniform": 1.8}
SHAPE_SAMPLE = 100_000

Weighted = nn.Conv2d | nn.Linear | SparseConvolution | Subsampling


def check_start(net: Classifier, init: Row) -> Iterator[Check]:
    """Weights and biases of every layer against the rule of the paper."""
    yield from _check_norms(net)
    names = {path: name for name, path in reversed(net.authors_names.items())}
    deviations, biases = init.get("deviations", {}), init.get("biases", {})
    for path, layer in net.named_modules():
        if not isinstance(layer, Weighted) or layer.weight.is_meta:
            continue
        name = names.get(path, path)
        rule = "normal" if name in deviations else init["weights"]
        shape = "uniform" if rule in ("lenet_uniform", "glorot_uniform", "caffe_xavier") else "normal"
        expected = torch.as_tensor(_expected_deviation(layer, rule, deviations.get(name, init.get("deviation"))))
        yield _check_weights(f"{name}: initial weights", layer.weight.detach(), expected, shape)
        if layer.bias is not None:
            wanted = biases.get(name, init.get("bias", 0.0))
            if wanted == "lenet_uniform":
                if isinstance(layer, SparseConvolution):
                    expected = torch.tensor([_lenet_deviation(len(maps) * layer.kernel_size**2) for maps in layer.table])
                yield _check_weights(f"{name}: initial biases", layer.bias.detach(), expected, "uniform")
            else:
                yield _check_constant(f"{name}: initial biases", layer.bias.detach(), float(wanted))


def _check_norms(net: Classifier) -> Iterator[Check]:
    """Scale 1, shift 0, mean 0, variance 1, in every batch norm."""
    norms = {path: layer for path, layer in net.named_modules() if isinstance(layer, nn.BatchNorm2d) and not layer.weight.is_meta}
    wanted = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    wrong = [
        f"{path}.{name}"
        for path, layer in norms.items()
        for name, value in wanted.items()
        if getattr(layer, name) is None or bool((getattr(layer, name) != value).any())
    ]
    if norms:
        found = f"{len(norms)} of {len(norms)}" if not wrong else f"{len(wrong)} others, {wrong[0]} first"
        yield Check("batch norms: begin as the identity", f"{len(norms)} of {len(norms)}", found, ok=not wrong)


def _expected_deviation(layer: Weighted, rule: str, deviation: float | None) -> float | Tensor:
    if rule == "lenet_uniform" and isinstance(layer, SparseConvolution):  # each kernel belongs to a map with inputs of its own
        fan_ins = torch.tensor([len(maps) * layer.kernel_size**2 for maps in layer.table for _ in maps])
        return (_lenet_deviation(1) / fan_ins)[:, None, None]
    if rule == "lenet_uniform" and isinstance(layer, Subsampling):
        return _lenet_deviation(layer.kernel_size**2)
    fan_in = int(layer.weight[0].numel())
    fan_out = int(layer.weight.shape[0] * layer.weight[0, 0].numel())
    if rule == "lenet_uniform":
        return _lenet_deviation(fan_in)
    if rule == "normal":
        assert deviation is not None  # the paper's file gives it
        return float(deviation)
    variances = {
        "he_normal": 2 / fan_in,
        "he_normal_fan_out": 2 / fan_out,
        "glorot_uniform": 2 / (fan_in + fan_out),
        "caffe_xavier": 1 / fan_in,
    }
    return math.sqrt(variances[rule])


def _lenet_deviation(fan_in: int) -> float:
    """Of a uniform distribution in +-2.4 / fan_in."""
    return 2.4 / fan_in / math.sqrt(3)


def _check_weights(what: str, weights: Tensor, expected: Tensor, shape: str) -> Check:
    relative = weights / expected if expected.ndim else weights
    scale = 1.0 if expected.ndim else float(expected)
    count = relative.numel()
    by_unit = relative.flatten(1) if relative.ndim > 1 else relative[None]  # a sum of a hundred million in one go is off by a percent
    mean = float(by_unit.sum(1).double().sum()) / count
    mean_square = float(torch.linalg.vector_norm(by_unit, dim=1).double().square().sum()) / count
    found = math.sqrt(max(mean_square - mean**2, 0.0)) / scale
    sample = relative.flatten()[:SHAPE_SAMPLE]
    kurtosis = float((sample - mean).pow(4).mean()) / max(float((sample - mean).square().mean()) ** 2, 1e-30)
    error = math.sqrt((KURTOSIS[shape] - 1) / 4 / count)
    is_spread = abs(found - 1) < STANDARD_ERRORS * error
    is_centred = abs(mean / scale) < STANDARD_ERRORS / math.sqrt(count)
    other = next(name for name in KURTOSIS if name != shape)
    is_shaped = abs(kurtosis - KURTOSIS[shape]) < STANDARD_ERRORS * math.sqrt(24 / sample.numel())
    many = "2.4 / inputs" if expected.ndim else f"deviation {scale:.4g}"
    looks = (
        shape if is_shaped else other if abs(kurtosis - KURTOSIS[other]) < abs(kurtosis - KURTOSIS[shape]) else f"kurtosis {kurtosis:.2f}"
    )
    centre = "" if is_centred else f" around {mean:.2g}"
    return Check(
        what,
        f"{shape}, {many} (within {STANDARD_ERRORS * error:.2%})",
        f"{looks}, {found:.4g} times that{centre}" if expected.ndim else f"{looks}, deviation {found * scale:.4g}{centre}",
        ok=is_spread and is_centred and is_shaped,
    )


def _check_constant(what: str, biases: Tensor, expected: float) -> Check:
    low, high = float(biases.min()), float(biases.max())
    return Check(
        what,
        f"all {expected:g}",
        f"all {low:g}" if low == high else f"{low:g} to {high:g}",
        ok=low == high and math.isclose(low, expected, rel_tol=1e-6),
    )
