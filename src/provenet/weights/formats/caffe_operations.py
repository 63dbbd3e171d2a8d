"""Layers of a Caffe net -> operations. What each does: https://github.com/BVLC/caffe/tree/master/src/caffe/layers.

Field numbers are those of each layer's own settings in caffe.proto. A layer that is not known, or used in a way that is not, becomes an
operation of the kind "unknown".
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from provenet.errors import printable
from provenet.weights.foreign import Array, ForeignTensor, Operation
from provenet.weights.formats.caffe_layers import Layer
from provenet.weights.formats.protobuf import Message, Source

PICTURE = -1
LARGEST_WINDOW_PIXELS = 2**15
LOSSES = (
    "SoftmaxWithLoss",
    "SoftmaxLoss",
    "MultinomialLogisticLoss",
    "HingeLoss",
    "InfogainLoss",
    "SigmoidCrossEntropyLoss",
    "EuclideanLoss",
)
MEASURES = (*LOSSES, "Accuracy", "Silence", "ArgMax", "HDF5Output")
"""Layers that give nothing a network goes on with."""
ROWS, MAPS = 2, 4


class Operations:
    """The operations so far; layers are added in the order of the file, which is the order in which Caffe runs them."""

    def __init__(self, source: Source, picture: str, labels: set[str]) -> None:
        self.source = source
        self.operations: list[Operation] = []
        self.numbers: dict[str, int] = {picture: PICTURE}
        self.labels = labels
        self._axes: dict[int, int] = {PICTURE: MAPS}
        self._answer: int | None = None

    @property
    def result(self) -> int | None:
        """What the last inner product or softmax gives, or the last loss reads; without any of them, the last operation."""
        return self._answer if self._answer is not None else len(self.operations) - 1 if self.operations else None

    def picture_channels(self) -> int | None:
        """How many channels the first convolution of the picture reads."""
        for operation in self.operations:
            if operation.kind == "convolution" and operation.reads == (PICTURE,):
                return operation.weights["weight"].shape[1] * int(operation.settings["groups"])
        return None

    def add(self, layer: Layer) -> None:
        """One more layer."""
        reads = []
        for bottom in layer.bottoms:
            if bottom in self.numbers:
                reads.append(self.numbers[bottom])
            elif bottom not in self.labels:
                raise self.source.damaged(f"{printable(bottom)[:100]!r}, which layer {layer.name!r} reads, nowhere before it")
        if layer.kind in MEASURES:
            if layer.kind in LOSSES and reads and reads[0] != PICTURE:
                self._answer = reads[0]
            return
        if layer.kind == "Split" and len(reads) == 1:
            self.numbers.update(dict.fromkeys(layer.tops, reads[0]))
            return
        if not reads:
            if layer.bottoms:  # of labels alone
                self.labels.update(layer.tops)
                return
            self._unknown(layer, ())
            return
        known = HANDLERS.get(layer.kind)
        if known is None or len(layer.tops) != 1 or len(reads) != len(layer.bottoms) or not known(self, layer, tuple(reads)):
            self._unknown(layer, tuple(reads))
        if layer.kind in ("InnerProduct", "Softmax"):
            self._answer = len(self.operations) - 1

    def _emit(
        self,
        layer: Layer,
        kind: str,
        reads: tuple[int, ...],
        weights: dict[str, ForeignTensor] | None = None,
        axes: int | None = None,
        **settings: Any,
    ) -> bool:
        number = len(self.operations)
        self.numbers.update(dict.fromkeys(layer.tops, number))
        self._axes[number] = axes or (self._axes[reads[0]] if reads else MAPS)
        self.operations.append(Operation(kind, layer.name, reads, settings, weights or {}))
        return True

    def _unknown(self, layer: Layer, reads: tuple[int, ...]) -> None:
        self._emit(layer, "unknown", reads, called=layer.kind)

    def convolution(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """Blobs: weight [O, I / groups, h, w], bias [O] unless bias_term is off."""
        param = layer.settings("convolution")
        window = _window(param, kernel=(4, 11, 12), stride=(6, 13, 14), pads=(3, 9, 10))
        dilation = param.integers(18) or [1]
        groups, has_bias = param.integer(5, 1), bool(param.integer(2, 1))
        if len(layer.blobs) != 1 + has_bias or len(reads) != 1 or param.integer(16, 1) != 1 or window is None or groups < 1:
            return False
        weight = layer.blobs[0]
        if (
            len(weight.shape) != 4
            or tuple(weight.shape[2:]) != window["kernel"]
            or not all(0 < step <= LARGEST_WINDOW_PIXELS for step in dilation)
        ):
            return False
        weights = {"weight": weight}
        if has_bias:
            bias = _vector(layer.blobs[1])
            if bias.shape != weight.shape[:1]:
                return False
            weights["bias"] = bias
        pair = (dilation[0], dilation[-1])
        return self._emit(layer, "convolution", reads, weights, MAPS, dilation=pair, groups=groups, **window)

    def inner_product(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """It flattens by itself. Blobs: weight [O, I], before 2015 [1, 1, O, I]; bias [O] unless bias_term is off."""
        param = layer.settings("inner_product")
        has_bias = bool(param.integer(2, 1))
        if len(layer.blobs) != 1 + has_bias or len(reads) != 1 or param.integer(5, 1) != 1:
            return False
        weight = layer.blobs[0]
        if len(weight.shape) < 2 or weight.num_values != weight.shape[-2] * weight.shape[-1]:
            return False
        sides = weight.shape[-2:]
        weight = weight.arranged(sides, lambda values: values.reshape(sides))
        if param.integer(6, 0):
            weight = weight.arranged((sides[1], sides[0]), lambda values: values.T)
        weights = {"weight": weight}
        if has_bias:
            weights["bias"] = _vector(layer.blobs[1])
            if weights["bias"].shape != weight.shape[:1]:
                return False
        if self._axes[reads[0]] == MAPS:
            self._emit(layer, "flatten", reads, axes=ROWS)
            reads = (len(self.operations) - 1,)
        return self._emit(layer, "linear", reads, weights, ROWS)

    def pool(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """Caffe rounds up, unless newer ones are told not to; its average counts padding, but nothing beyond it."""
        param = layer.settings("pooling")
        kind = {0: "max_pool", 1: "avg_pool"}.get(param.integer(1, 0))
        if param.integer(12, 0):
            return kind == "avg_pool" and len(reads) == 1 and self._emit(layer, "global_average", reads)
        window = _window(param, kernel=(2, 5, 6), stride=(3, 7, 8), pads=(4, 9, 10))
        if kind is None or window is None or len(reads) != 1:
            return False
        window["rounds_up"] = param.integer(13, 0) != 1
        if kind == "avg_pool":
            window["counts_padding"] = True
        return self._emit(layer, kind, reads, **window)

    def response_norm(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """Caffe divides alpha by the size; ours multiplies the sum of squares."""
        param = layer.settings("lrn")
        size = param.integer(1, 5)
        if param.integer(4, 0) or not 0 < size < LARGEST_WINDOW_PIXELS or size % 2 == 0 or len(reads) != 1:  # Caffe takes odd ones
            return False
        return self._emit(
            layer, "response_norm", reads, size=size, alpha=param.real(2, 1.0) / size, beta=param.real(3, 0.75), k=param.real(5, 1.0)
        )

    def batch_norm(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """Blobs: sums of means and of variances, and the factor that they are to be divided by; scale and shift are another layer."""
        if len(layer.blobs) != 3 or layer.blobs[2].num_values != 1 or len(reads) != 1:
            return False
        mean, variance, factor = layer.blobs
        if _vector(mean).shape != _vector(variance).shape:
            return False

        def divided(values: Array) -> Array:
            by = factor.read().reshape(-1)[0]
            return values / by if by else np.zeros_like(values)

        weights = {name: (row := _vector(blob)).arranged(row.shape, divided) for name, blob in (("mean", mean), ("variance", variance))}
        return self._emit(layer, "batch_norm", reads, weights, eps=layer.settings("batch_norm").real(3, 1e-5))

    def scale(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """Blobs: scale [C], and shift [C] with bias_term."""
        param = layer.settings("scale")
        has_shift = bool(param.integer(4, 0))
        if len(reads) != 1 or len(layer.blobs) != 1 + has_shift or param.integer(1, 1) != 1 or param.integer(2, 1) != 1:
            return False
        weights = {name: _vector(blob) for name, blob in zip(("scale", "shift"), layer.blobs, strict=False)}
        if len({tensor.shape for tensor in weights.values()}) != 1:
            return False
        return self._emit(layer, "scale", reads, weights)

    def shift(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """Bias: one blob, shift [C]."""
        param = layer.settings("bias")
        if len(reads) != 1 or len(layer.blobs) != 1 or param.integer(1, 1) != 1 or param.integer(2, 1) != 1:
            return False
        return self._emit(layer, "scale", reads, {"shift": _vector(layer.blobs[0])})

    def relu(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """Without a slope for negative numbers."""
        return len(reads) == 1 and not layer.settings("relu").real(1, 0.0) and self._emit(layer, "relu", reads)

    def concatenate(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """By channels."""
        param = layer.settings("concat")
        axis = param.integer(2, param.integer(1, 1))
        return axis in (1, 1 - self._axes[reads[0]]) and self._emit(layer, "concatenate", reads)

    def add_up(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """Eltwise: the sum, without coefficients."""
        param = layer.settings("eltwise")
        is_sum = param.integer(1, 1) == 1 and all(factor == 1 for factor in param.reals(2))
        return is_sum and len(reads) > 1 and self._emit(layer, "add", reads)

    def flatten(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """Flatten from axis 1, and Reshape to [N, -1]."""
        if layer.kind == "Reshape":
            param = layer.settings("reshape")
            is_flat = param.message(1).integers(1) == [0, -1] and not param.integer(2, 0) and param.integer(3, -1) == -1
        else:
            param = layer.settings("flatten")
            is_flat = param.integer(1, 1) == 1 and param.integer(2, -1) in (-1, 3)
        return (
            is_flat and len(reads) == 1 and self._emit(layer, "flatten" if self._axes[reads[0]] == MAPS else "identity", reads, axes=ROWS)
        )

    def softmax(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """Over channels."""
        return layer.settings("softmax").integer(2, 1) == 1 and len(reads) == 1 and self._emit(layer, "softmax", reads)

    def dropout(self, layer: Layer, reads: tuple[int, ...]) -> bool:
        """Nothing, in the phase TEST."""
        return len(reads) == 1 and self._emit(layer, "dropout", reads)


HANDLERS: dict[str, Callable[[Operations, Layer, tuple[int, ...]], bool]] = {
    "BatchNorm": Operations.batch_norm,
    "Bias": Operations.shift,
    "Concat": Operations.concatenate,
    "Convolution": Operations.convolution,
    "Dropout": Operations.dropout,
    "Eltwise": Operations.add_up,
    "Flatten": Operations.flatten,
    "InnerProduct": Operations.inner_product,
    "LRN": Operations.response_norm,
    "Pooling": Operations.pool,
    "ReLU": Operations.relu,
    "Reshape": Operations.flatten,
    "Scale": Operations.scale,
    "Softmax": Operations.softmax,
}


def _window(
    param: Message, kernel: tuple[int, int, int], stride: tuple[int, int, int], pads: tuple[int, int, int]
) -> dict[str, Any] | None:
    """Kernel, stride and pads from their fields (both sides, height, width), None where they are not those of a window."""
    sides = [_pair(param, fields, default) for fields, default in ((kernel, 0), (stride, 1), (pads, 0))]
    if any(side is None for side in sides):
        return None
    (height, width), strides, (rows, columns) = (side for side in sides if side is not None)
    if not all(0 < side <= LARGEST_WINDOW_PIXELS for side in (height, width, *strides)) or not all(
        0 <= side <= LARGEST_WINDOW_PIXELS for side in (rows, columns)
    ):
        return None
    return {"kernel": (height, width), "stride": strides, "pads": (rows, columns, rows, columns)}


def _pair(param: Message, fields: tuple[int, int, int], default: int) -> tuple[int, int] | None:
    both, height, width = fields
    if height in param or width in param:
        return param.integer(height, default), param.integer(width, default)
    written = param.integers(both) or [default]
    return (written[0], written[-1]) if len(written) <= 2 else None


def _vector(blob: ForeignTensor) -> ForeignTensor:
    """A blob of one number for each channel, before 2015 [1, 1, 1, C], as [C]."""
    return blob.arranged((blob.num_values,), lambda values: values.reshape(-1))
