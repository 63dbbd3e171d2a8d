"""Arithmetic with a few whole numbers: exporters write the widths of a Pad, or a shape, as a chain of nodes of constants."""

from collections.abc import Callable, Sequence
from math import prod

import numpy as np

from provenet.weights.foreign import Array
from provenet.weights.formats.onnx_nodes import TENSOR, Node
from provenet.weights.formats.onnx_tensors import ExternalFiles, read_tensor

MOST_SIZES = 64
"""Numbers of a list that is worth knowing."""


def evaluate(node: Node, arrays: Sequence[Array], files: ExternalFiles) -> Array | None:
    """What a node gives for whole numbers, None where it is none of these, does not fit them, or gives more than a few."""
    known = FUNCTIONS.get(node.kind)
    if known is None:
        return None
    try:
        with np.errstate(all="ignore"):
            values = np.asarray(known(node, arrays, files), np.int64)
    except (ValueError, IndexError, TypeError, OverflowError, KeyError):
        return None
    return values if values.size <= MOST_SIZES else None


def _axes(node: Node, arrays: Sequence[Array]) -> tuple[int, ...]:
    axes = node.integers("axes")
    return axes if axes is not None else tuple(int(axis) for axis in arrays[1])


def _slice(node: Node, arrays: Sequence[Array], files: ExternalFiles) -> Array:  # noqa: ARG001, all are called alike
    values = arrays[0]
    starts, ends = (node.integers(name) for name in ("starts", "ends"))
    if starts is None or ends is None:
        starts, ends = (tuple(int(value) for value in array) for array in arrays[1:3])
    axes = tuple(int(axis) for axis in arrays[3]) if len(arrays) > 3 else node.integers("axes") or tuple(range(len(starts)))
    steps = tuple(int(step) for step in arrays[4]) if len(arrays) > 4 else (1,) * len(starts)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        stop = None if step < 0 and end < -values.shape[axis] else end
        values = np.moveaxis(np.moveaxis(values, axis, 0)[start:stop:step], 0, axis)
    return values


def _constant_of_shape(node: Node, arrays: Sequence[Array], files: ExternalFiles) -> Array:
    shape = tuple(int(side) for side in arrays[0])
    if min(shape, default=0) < 0 or prod(shape) > MOST_SIZES:
        raise ValueError(shape)
    value = read_tensor(node.attributes["value"].message(TENSOR), files)[1]  # without one it is a float
    if value.dtype not in ("int64", "int32") or value.num_values != 1:
        raise ValueError(value.dtype)
    return np.full(shape, value.read().reshape(-1)[0])


def _reshape(node: Node, arrays: Sequence[Array], files: ExternalFiles) -> Array:  # noqa: ARG001
    values, shape = arrays[0], node.integers("shape") or tuple(int(side) for side in arrays[1])
    return values.reshape([values.shape[place] if side == 0 else side for place, side in enumerate(shape)])


def _concatenate(node: Node, arrays: Sequence[Array], files: ExternalFiles) -> Array:  # noqa: ARG001
    return (
        np.concatenate(arrays, node.integer("axis", 0)) if sum(array.size for array in arrays) <= MOST_SIZES else np.empty(MOST_SIZES + 1)
    )


FUNCTIONS: dict[str, Callable[[Node, Sequence[Array], ExternalFiles], Array]] = {
    "Identity": lambda _, arrays, __: arrays[0],
    "Cast": lambda _, arrays, __: arrays[0],
    "Neg": lambda _, arrays, __: -arrays[0],
    "Add": lambda _, arrays, __: arrays[0] + arrays[1],
    "Sub": lambda _, arrays, __: arrays[0] - arrays[1],
    "Mul": lambda _, arrays, __: arrays[0] * arrays[1],
    "Concat": _concatenate,
    "ConstantOfShape": _constant_of_shape,
    "Gather": lambda node, arrays, _: np.take(arrays[0], arrays[1], node.integer("axis", 0)),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": lambda node, arrays, _: np.squeeze(arrays[0], _axes(node, arrays)),
    "Transpose": lambda node, arrays, _: np.transpose(arrays[0], node.integers("perm")),
    "Unsqueeze": lambda node, arrays, _: np.expand_dims(arrays[0], _axes(node, arrays)),
}
