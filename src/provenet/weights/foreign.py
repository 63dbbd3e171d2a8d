"""A file of weights from elsewhere, as its reader hands it on: tensors by their names there, and the graph where the file has one.

Nothing large is read before somebody asks: a tensor is a shape and a way to read it. Readers are in `weights/formats`; each bounds what
it allocates by what its file really holds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

LARGEST_TENSOR_BYTES = 2**31
"""Of one tensor as float32; the largest of any network here, VGG's fc6, has 411 MB."""

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class ForeignTensor:
    """One tensor of a file. Whoever makes it has checked that the file really holds as many bytes as the shape needs."""

    shape: tuple[int, ...]
    dtype: str
    """As NumPy or the file calls it: float32, float16, bfloat16, int64 …"""
    read: Callable[[], Array]
    """Its values, as float32 where they are floating point, in an array of its own."""

    def arranged(self, shape: tuple[int, ...], arrange: Callable[[Array], Array]) -> "ForeignTensor":
        """The same numbers in another order or shape, such as transposed; read when asked for."""
        return ForeignTensor(shape, self.dtype, lambda: np.ascontiguousarray(arrange(self.read())))

    @property
    def num_values(self) -> int:
        """How many numbers it has."""
        return prod(self.shape)


@dataclass(frozen=True)
class Operation:
    """One operation of a file's graph. Two sides of a window are (height, width), four are (top, left, bottom, right), in pixels.

    kind             settings                                                         weights
    convolution      kernel, stride, dilation (2 each), pads (4), groups              weight [O, I / groups, h, w], bias [O] or none
    linear                                                                            weight [O, I], bias [O] or none
    batch_norm       eps                                                              mean, variance [C], scale, shift [C] or none
    scale            (per channel: x * scale + shift)                                 scale, shift [C] or [1], one of them or both
    max_pool         kernel, stride, pads, rounds_up
    avg_pool         kernel, stride, pads, rounds_up, counts_padding
    global_average   (the mean over all pixels)
    response_norm    size, alpha, beta, k   (alpha multiplies the *sum* of squares, as in AlexNet's paper)
    pad              pads, value
    relu, add, concatenate (channels), flatten (channels, rows, columns), dropout, identity, softmax (log where it is one)

    Windows may have `auto_pad`, "same_upper" or "same_lower", in the place of pads. What a reader does not know is an operation of the
    kind "unknown" with `settings["called"]`, its name there; whether it matters is seen when graphs are compared.
    """

    kind: str
    name: str
    """What its file calls it, for messages."""
    reads: tuple[int, ...]
    """Numbers of the operations whose output it reads, in order; -1 is the picture."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, ForeignTensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ForeignGraph:
    """What a file says of how its tensors are used: operations, each after those that it reads."""

    operations: tuple[Operation, ...]
    result: int
    """The number of the operation that gives the answer: logits, or softmax of them."""
    input_shape: tuple[int, int, int] | None = None
    """(channels, height, width) of the picture, where the file says it."""


@dataclass(frozen=True)
class ForeignFile:
    """A file of weights."""

    path: Path
    format: str
    """As people call it: torch, safetensors, Keras HDF5, ONNX, Caffe."""
    tensors: Mapping[str, ForeignTensor]
    graph: ForeignGraph | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    """What else the file says in words that the recognition can use."""
