"""What part of the picture a number of a map depends on: its receptive field, followed from operation to operation.

As if the picture had no edge: the field of a layer near the end may be larger than the picture. Along one side of the picture, the numbers
at place i of a map see the pixels `start + i * stride` to `end + i * stride`.
"""

from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from provenet.inspection.meta import window_of


@dataclass(frozen=True)
class Side:
    """One side of a map: what its first number sees, in pixels from the picture's edge, and how far the next one is from it."""

    start: int = 0
    end: int = 0
    stride: int | None = 1
    """None where no places are left: after a global average, or in a row of features."""

    @property
    def length(self) -> int:
        """Pixels that one number sees."""
        return self.end - self.start + 1

    def through_window(self, kernel: int, stride: int, padding: int, dilation: int = 1) -> "Side":
        """A convolution or a pool."""
        if self.stride is None:
            return self
        start = self.start - padding * self.stride
        return Side(start, start + (self.end - self.start) + dilation * (kernel - 1) * self.stride, self.stride * stride)

    def collapsed(self, places: int) -> "Side":
        """All places of a map taken together."""
        return Side(self.start, self.end + (places - 1) * (self.stride or 0), None)


Field = tuple[Side, ...]
"""For each side of the picture, height first."""


LEAVES_PLACES = {"view", "_unsafe_view", "reshape", "detach", "alias", "_softmax", "_log_softmax", "expand", "split", "split_with_sizes"}
"""Operations that mix no places where the sides of the maps stay the same."""


def field_of_picture(sides: int) -> Field:
    """Every pixel sees itself."""
    return (Side(),) * sides


def follow(
    operation: str, args: tuple[Any, ...], inputs: list[tuple[Tensor, Field]], output: Tensor, *, is_pointwise: bool
) -> Field | None:
    """The field of an operation's output from those of its inputs; None where places are mixed in a way that has none."""
    if not inputs:
        return None
    maps, field = max(inputs, key=lambda pair: sum(side.stride is not None for side in pair[1]))
    num_sides = len(field)
    if operation == "convolution" and args[6]:
        return None  # transposed
    if operation == "convolution" or operation.startswith(("max_pool", "avg_pool")):
        *windows, _ = window_of(operation, args, num_sides)
        return tuple(side.through_window(*window) for side, *window in zip(field, *windows, strict=True))
    if all(side.stride is None for side in field):  # no places are left to be mixed
        return _union([field for _, field in inputs])
    if operation.startswith("_adaptive_avg_pool"):
        return _adaptive(field, maps.shape[-num_sides:], output.shape[-num_sides:])
    if operation in ("mean", "sum", "amax", "amin", "max", "std", "var"):
        return _reduce(field, maps, args)
    if operation == "slice":
        return _slice(field, maps, *args[1:])
    if operation == "constant_pad_nd":
        return _pad(field, args[1])
    if operation == "cat":
        dim = (args[1] if len(args) > 1 else 0) % maps.ndim
        return _union([field for _, field in inputs]) if dim < maps.ndim - num_sides else None
    if is_pointwise:
        return _union([field for _, field in inputs])
    if operation in LEAVES_PLACES and maps.shape[-num_sides:] == output.shape[-num_sides:]:
        return field
    if operation in ("view", "_unsafe_view", "reshape") and output.ndim == 2:
        return tuple(side.collapsed(places) for side, places in zip(field, maps.shape[-num_sides:], strict=True))
    return None


def _union(fields: list[Field]) -> Field | None:
    """What any of several inputs sees."""
    sides = []
    for parts in zip(*fields, strict=True):
        strides = {side.stride for side in parts if side.stride is not None}
        if len(strides) > 1:
            return None
        sides.append(Side(min(side.start for side in parts), max(side.end for side in parts), next(iter(strides), None)))
    return tuple(sides)


def _adaptive(field: Field, before: tuple[int, ...], after: tuple[int, ...]) -> Field | None:
    sides = []
    for side, places, windows in zip(field, before, after, strict=True):
        if windows == 1:
            sides.append(side.collapsed(places))
        elif places % windows:
            return None  # windows of several sizes, at several distances
        else:
            sides.append(side.through_window(places // windows, places // windows, 0))
    return tuple(sides)


def _reduce(field: Field, maps: Tensor, args: tuple[Any, ...]) -> Field | None:
    dims = args[1] if len(args) > 1 and args[1] is not None else range(maps.ndim)
    dims = {dim % maps.ndim for dim in ([dims] if isinstance(dims, int) else dims)}
    first = maps.ndim - len(field)
    if not dims & set(range(first, maps.ndim)):
        return field
    if not dims >= set(range(first, maps.ndim)):
        return None
    return tuple(side.collapsed(places) for side, places in zip(field, maps.shape[first:], strict=True))


def _slice(field: Field, maps: Tensor, dim: int = 0, start: int | None = None, _end: int | None = None, step: int = 1) -> Field:
    dim %= maps.ndim
    k = dim - (maps.ndim - len(field))
    side = field[max(k, 0)]
    if k < 0 or side.stride is None:
        return field
    shift = ((start or 0) % maps.shape[dim] if maps.shape[dim] else 0) * side.stride
    moved = Side(side.start + shift, side.end + shift, side.stride * step)
    return (*field[:k], moved, *field[k + 1 :])


def _pad(field: Field, widths: list[int]) -> Field:
    """`widths` begins with the last side's left."""
    lefts = [widths[2 * k] if 2 * k < len(widths) else 0 for k in range(len(field))][::-1]
    return tuple(
        side if side.stride is None else replace(side, start=side.start - left * side.stride, end=side.end - left * side.stride)
        for side, left in zip(field, lefts, strict=True)
    )
