"""A row of a paper's table against the layer of that name: for each field of a row, how to find it in a network."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn

from provenet.inspection.tracer import Traced
from provenet.models.blocks import Inception, NaiveInception, Projection, ResponseNorm, ZeroPadding
from provenet.models.classifier import Classifier
from provenet.models.googlenet import TABLE_1
from provenet.models.lenet import RBFOutput, ScaledTanh, SparseConvolution, count_connections
from provenet.papers.paper import Misprint, Row
from provenet.verify.checks import Check


class Place(NamedTuple):
    """A layer of a network, and what is known of it."""

    net: Classifier
    name: str
    path: str
    layer: nn.Module
    traced: Traced


def check_rows(net: Classifier, rows: Mapping[str, Row], traced: Mapping[str, Traced], misprints: tuple[Misprint, ...]) -> Iterator[Check]:
    """One check for each field of each row."""
    for name, row in rows.items():
        path = net.authors_names.get(name, name)
        fields = {field: value for field, value in row.items() if field != "name"}
        if path not in traced:
            yield from (Check(f"{name}: {field}", show(value), "no such layer runs", ok=False) for field, value in fields.items())
            continue
        place = Place(net, name, path, net.get_submodule(path), traced[path])
        for field, expected in fields.items():
            what = f"{name}: {field}"
            try:
                found = FIELDS[field](place)
            except (AttributeError, TypeError, StopIteration):
                yield Check(what, show(expected), f"none in a {type(place.layer).__name__}", ok=False)
                continue
            if field.startswith("printed_"):
                yield check_printed(what, expected, found, misprints)
            else:
                agrees = expected in found if isinstance(found, set) else _plain(expected) == _plain(found)
                yield Check(what, show(expected), show(found), ok=agrees)


def check_printed(what: str, printed: str, found: tuple[int, ...], misprints: tuple[Misprint, ...]) -> Check:
    """A rounded number as printed against the exact ones it may stand for; a disagreement must be listed as a misprint, and only that.

    The last of `found` counts no biases; thousands of those may be units of 1,024, as in GoogLeNet's Table 1.
    """
    unit = {"K": 1_000, "M": 1_000_000, "G": 1_000_000_000}[printed[-1]]
    digits = printed[:-1]
    step = 10.0 ** -len(digits.partition(".")[2])
    meant = [exact / unit for exact in found] + ([found[-1] / 1_024] if unit == 1_000 else [])
    agrees = any(_rounds_to(value, float(digits), step) for value in meant)
    is_listed = any(misprint.check == what for misprint in misprints)
    exact = f"{found[0]:,}"
    if agrees:
        return Check(what, printed, f"{exact}, though listed as a misprint" if is_listed else exact, ok=not is_listed)
    return Check(what, printed, f"{exact}: a misprint, see below" if is_listed else exact, ok=is_listed)


def _rounds_to(value: float, printed: float, step: float) -> bool:
    """Whether a value gives the printed one when it is rounded, or cut off, there."""
    return abs(value - printed) <= step / 2 + 1e-9 or 0 <= value - printed < step


def show(value: Any) -> str:
    """A value as people write it."""
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {show(part)}" for key, part in value.items())
    if isinstance(value, set):
        return " or ".join(sorted(value)) or "none of the paper's"
    if isinstance(value, list | tuple):
        is_shape = value and all(isinstance(part, int) and part < 10_000 for part in value)
        is_pair = value and all(isinstance(part, int) for part in value)
        return ("x" if is_shape else " and " if is_pair else " ").join(show(part) for part in value)
    return str(value)


def _plain(value: Any) -> Any:
    """Lists for tuples, and shapes without the ones at their end: (1024, 1, 1) is (1024,)."""
    if isinstance(value, list | tuple):
        parts = [_plain(part) for part in value]
        while len(parts) > 1 and parts[-1] == 1:
            parts.pop()
        return parts
    return dict(value) if isinstance(value, Mapping) else value


def _find(place: Place, kinds: type | tuple[type, ...]) -> Any:
    """The first layer of a kind in it."""
    return next(layer for layer in place.layer.modules() if isinstance(layer, kinds))


def _geometry(attribute: str) -> Callable[[Place], Any]:
    def find(place: Place) -> Any:
        layer = next(layer for layer in place.layer.modules() if hasattr(layer, attribute))
        return _one(getattr(layer, attribute))

    return find


def _kernel(place: Place) -> Any:
    """The size of its kernel, with whatever is unusual about it."""
    layer = next(layer for layer in place.layer.modules() if hasattr(layer, "kernel_size"))
    size, dilation = _one(layer.kernel_size), _one(getattr(layer, "dilation", 1))
    padding_mode = getattr(layer, "padding_mode", "zeros")
    return size if (dilation, padding_mode) == (1, "zeros") else f"{size}, dilation {dilation}, padded with {padding_mode}"


def _one(value: Any) -> Any:
    """The number that height and width share; both where they do not."""
    return value[0] if isinstance(value, tuple) and len(set(value)) == 1 else value


def _eps(place: Place) -> Any:
    """Of all batch norms in it."""
    return _one(tuple({layer.eps for layer in place.layer.modules() if isinstance(layer, nn.BatchNorm2d)}))


def _pool(place: Place) -> str:
    kinds = {nn.MaxPool2d: "max", nn.AvgPool2d: "average", nn.AdaptiveAvgPool2d: "adaptive_average"}
    return kinds[type(_find(place, tuple(kinds)))]


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _weights(module: nn.Module) -> int:
    """Weights of convolutions and linear layers, without biases and batch norms."""
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.Linear))


def _blocks(place: Place) -> list[nn.Module]:
    return [block for name, block in place.layer.named_children() if name.startswith("block")]


def _of_blocks(attribute: Callable[[nn.Conv2d], int]) -> Callable[[Place], list[int]]:
    """A number of each convolution of a block; all blocks must agree."""

    def find(place: Place) -> list[int]:
        of_each = [[attribute(conv) for conv in _main_convolutions(block)] for block in _blocks(place)]
        differing = next((found for found in of_each if found != of_each[0]), None)
        return of_each[0] if differing is None else [*of_each[0], *differing]

    return find


def _strides(place: Place) -> list[int]:
    """Strides of the first block; later blocks must have none."""
    first, *others = [[conv.stride[0] for conv in _main_convolutions(block)] for block in _blocks(place)]
    return first + [stride for block in others for stride in block if stride != 1]


def _main_convolutions(block: nn.Module) -> list[nn.Conv2d]:
    return [layer for name, layer in block.named_children() if isinstance(layer, nn.Conv2d)]


def _shortcut(place: Place) -> set[str]:
    """The options of the paper that the blocks' shortcuts are: A and B are the same where no shape changes."""
    kinds = [type(getattr(block, "shortcut", None)) for block in _blocks(place)]
    changes = [_changes_shape(block) for block in _blocks(place)]
    options = {
        "none": [type(None)] * len(kinds),
        "A": [ZeroPadding if change else nn.Identity for change in changes],
        "B": [Projection if change else nn.Identity for change in changes],
        "C": [Projection] * len(kinds),
    }
    return {option for option, wanted in options.items() if wanted == kinds}


def _changes_shape(block: nn.Module) -> bool:
    convolutions = _main_convolutions(block)
    return convolutions[0].in_channels != convolutions[-1].out_channels or any(conv.stride[0] != 1 for conv in convolutions)


def _columns(attribute: str) -> Callable[[Place], dict[str, int]]:
    """A number of each convolution of an Inception module, by the authors' names of its columns."""

    def find(place: Place) -> dict[str, int]:
        found = {}
        for name, path in place.net.authors_names.items():
            layer = place.net.get_submodule(path)
            if name.startswith(f"{place.name}/") and isinstance(layer, nn.Conv2d):
                value = getattr(layer, attribute)
                found[name.removeprefix(f"{place.name}/")] = value if isinstance(value, int) else value[0]
        return found

    return find


def _weights_on_paper_input(module: type[nn.Module]) -> Callable[[Place], int]:
    """Weights of one module on the input that Table 1 gives it."""

    def find(place: Place) -> int:
        keys = list(TABLE_1)
        key = place.name.removeprefix("inception_")
        before = keys.index(key)
        with torch.device("meta"):
            return _weights(module(TABLE_1[keys[before - 1]].num_maps if before else 192, TABLE_1[key]))

    return find


def _codes(place: Place) -> list[str]:
    codes = _find(place, RBFOutput).codes
    return ["".join("#" if bit > 0 else "." for bit in code) for code in codes.tolist()]


def _squash(attribute: Callable[[ScaledTanh | nn.Tanh], float]) -> Callable[[Place], float]:
    return lambda place: attribute(_find(place, (ScaledTanh, nn.Tanh)))


FIELDS: dict[str, Callable[[Place], Any]] = {
    "output": lambda place: place.traced.output,
    "parameters": lambda place: _parameters(place.layer),
    "macs": lambda place: place.traced.macs,
    "connections": lambda place: count_connections(place.net)[place.path],
    "printed_parameters": lambda place: (_parameters(place.layer), _weights(place.layer)),
    "printed_macs": lambda place: (place.traced.macs,),
    "reads": lambda place: place.traced.reads,
    "kernel": _kernel,
    "stride": _geometry("stride"),
    "padding": _geometry("padding"),
    "groups": _geometry("groups"),
    "pool": _pool,
    "rounds": lambda place: "up" if _find(place, (nn.MaxPool2d, nn.AvgPool2d)).ceil_mode else "down",
    "size": lambda place: _find(place, ResponseNorm).size,
    "alpha": lambda place: _find(place, ResponseNorm).alpha,
    "beta": lambda place: _find(place, ResponseNorm).beta,
    "k": lambda place: _find(place, ResponseNorm).k,
    "eps": _eps,
    "dropout": lambda place: _find(place, nn.Dropout).p,
    "blocks": lambda place: len(_blocks(place)),
    "kernels": lambda place: (
        _columns("kernel_size")(place)
        if isinstance(place.layer, Inception | NaiveInception)
        else _of_blocks(lambda conv: conv.kernel_size[0])(place)
    ),
    "widths": _of_blocks(lambda conv: conv.out_channels),
    "strides": _strides,
    "shortcut": _shortcut,
    "columns": _columns("out_channels"),
    "naive_weights_on_paper_input": _weights_on_paper_input(NaiveInception),
    "reduced_weights": _weights_on_paper_input(Inception),
    "table": lambda place: _find(place, SparseConvolution).table,
    "codes": _codes,
    "squash_amplitude": _squash(lambda squash: getattr(squash, "amplitude", 1.0)),
    "squash_slope": _squash(lambda squash: getattr(squash, "slope", 1.0)),
}
