"""Arithmetic that courses teach on these networks, worked out on layers as built."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from provenet.models import blocks
from provenet.models.catalog import build_on_meta
from provenet.papers.paper import Row, read_arithmetic
from provenet.verify.checks import Check, NetworkVerification
from provenet.verify.rows import show

NAME = "arithmetic"


def verify_arithmetic() -> NetworkVerification:
    """Every example of papers/arithmetic.toml."""
    examples = read_arithmetic()
    checks = [check for kind, work_out in KINDS.items() for example in examples[kind] for check in work_out(example)]
    return NetworkVerification(NAME, "what courses teach", tuple(checks), ())


def _layers(example: Row) -> Iterator[Check]:
    """Convolutions one after the other on the meta device."""
    maps = torch.empty(1, *example["input"], device="meta")
    macs, weights, biases = [], 0, 0
    for num_maps, kernel_size, *stride_and_padding in example["convolutions"]:
        stride, padding = stride_and_padding or (1, kernel_size // 2)
        conv = nn.Conv2d(maps.shape[1], num_maps, kernel_size, stride=stride, padding=padding, device="meta")
        maps = conv(maps)
        macs.append(conv.weight.numel() * maps.shape[2] * maps.shape[3])
        weights += conv.weight.numel()
        biases += num_maps
    found = {"macs": macs, "weights": weights, "biases": biases, "output": list(maps.shape[1:])}
    yield from (_check(example, field, value) for field, value in found.items() if field in example)


def _weights(example: Row) -> Iterator[Check]:
    """One layer of two networks."""
    found = [build_on_meta(name).layer(example["layer"]).weight.numel() for name in example["networks"]]  # type: ignore[operator, union-attr]
    yield _check(example, "weights", found)
    yield _check(example, "times", found[0] / found[1])


def _parameters(example: Row) -> Iterator[Check]:
    """Two networks."""
    first, second = (build_on_meta(name).num_parameters for name in example["networks"])
    yield _check(example, "difference", second - first)


def _counts(example: Row) -> Iterator[Check]:
    """One network, counted otherwise."""
    net = build_on_meta(example["network"], in_channels=example.get("in_channels"))
    count = net.num_parameters
    if example.get("with_training_parts"):
        count = sum(parameter.numel() for parameter in net.parameters())
    if example.get("as_keras"):
        count += sum(layer.out_channels for layer in net.modules() if isinstance(layer, nn.Conv2d) and layer.bias is None)
        count += sum(2 * layer.num_features for layer in net.modules() if isinstance(layer, nn.BatchNorm2d))
    yield _check(example, "parameters", count)


def _identities(example: Row) -> Iterator[Check]:
    for name in example["blocks"]:
        block = getattr(blocks, name)(64, 64 // getattr(blocks, name).expansion).eval()
        last = [layer for layer in block.children() if isinstance(layer, nn.BatchNorm2d)][-1]
        nn.init.zeros_(last.weight)
        maps = torch.rand(2, 64, 8, 8)
        with torch.no_grad():
            largest = float((block(maps) - maps).abs().max())
        yield Check(f"{example['about']}: {name}", "largest difference 0", f"largest difference {largest:g}", ok=largest == 0)


def _check(example: Row, field: str, found: Any) -> Check:
    return Check(f"{example['about']}: {field}", show(example[field]), show(found), ok=found == example[field])


KINDS: dict[str, Callable[[Row], Iterator[Check]]] = {
    "layers": _layers,
    "weights": _weights,
    "parameters": _parameters,
    "counts": _counts,
    "identities": _identities,
}
