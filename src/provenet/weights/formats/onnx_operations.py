"""Nodes of an ONNX graph -> operations. What each operator means, by version: https://onnx.ai/onnx/operators.

A node that is not known, or used in a way that is not, becomes an operation of the kind "unknown".
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from provenet.weights.foreign import ForeignTensor, Operation
from provenet.weights.formats.onnx_constants import FLOAT_TYPES, Constants
from provenet.weights.formats.onnx_nodes import Node
from provenet.weights.formats.onnx_rows import repeated, row_of, times, transposed
from provenet.weights.formats.onnx_windows import LARGEST_WINDOW_PIXELS, all_axes, window_of

PICTURE = -1
ROWS, MAPS = 2, 4
"""How many axes a value has: [N, features] and [N, C, H, W]."""


class Operations:
    """The operations so far. Nodes are added in an order in which each comes after those it reads."""

    def __init__(self, constants: Constants, picture: str, nodes: Iterable[Node], results: Iterable[str], opset: int) -> None:
        self.constants, self.opset = constants, opset
        self.operations: list[Operation] = []
        self.numbers: dict[str, int] = {picture: PICTURE}
        self.is_channels_last = False
        """Whether the picture is [N, H, W, C] and turned by a first node."""
        self._axes: dict[int, int | None] = {PICTURE: MAPS}
        self._readers = Counter([name for node in nodes for name in node.inputs] + list(results))

    def add(self, node: Node) -> None:
        """One more node."""
        if self.constants.fold(node):
            return
        for name in filter(None, node.inputs):
            if name not in self.numbers and name not in self.constants:  # another input, or a second output of something
                self._emit(name, "unknown", name, (), called=f"the value {name}")
        known = HANDLERS.get(node.kind)
        if known is None or not node.outputs or not node.inputs or not known(self, node):
            self._unknown(node)

    def _emit(
        self,
        output: str,
        kind: str,
        name: str,
        reads: tuple[int, ...],
        weights: Mapping[str, ForeignTensor] | None = None,
        axes: int | None = None,
        **settings: Any,
    ) -> bool:
        """One more operation; `output` is the name of what it gives."""
        self.numbers[output] = len(self.operations)
        unchanged = self._axes[reads[0]] if reads and kind != "unknown" else None
        self._axes[len(self.operations)] = axes or unchanged
        self.operations.append(Operation(kind, name, reads, settings, weights or {}))
        return True

    def _unknown(self, node: Node) -> None:
        reads = tuple(self.numbers[name] for name in node.inputs if name in self.numbers)
        self._emit(next(iter(node.outputs), ""), "unknown", node.name, reads, called=node.kind)

    def _read(self, node: Node, place: int = 0) -> int | None:
        """The operation whose output is that input of a node."""
        return self.numbers.get(node.inputs[place]) if node.has_input(place) else None

    def _tensor(self, node: Node, place: int) -> ForeignTensor | None:
        return self.constants.tensors.get(node.inputs[place]) if node.has_input(place) else None

    def _simple(self, node: Node, kind: str, axes: int | None = None, **settings: Any) -> bool:
        """An operation of one input."""
        read = self._read(node)
        return read is not None and self._emit(node.outputs[0], kind, node.name, (read,), axes=axes, **settings)

    def num_axes(self, node: Node) -> int | None:
        """Of what a node reads: 4 or 2, or None where nobody knows."""
        read = self._read(node)
        return None if read is None else self._axes[read]

    def convolution(self, node: Node) -> bool:
        """Conv: x, weight [O, I / groups, h, w], bias [O] or none."""
        read, weight = self._read(node), self._tensor(node, 1)
        if read is None or weight is None or len(weight.shape) != 4:
            return False
        settings = window_of(node, weight.shape[2:])
        groups = node.integer("group", 1)
        weights = {"weight": weight}
        if node.has_input(2):
            bias = self._tensor(node, 2)
            if bias is None or bias.shape != weight.shape[:1]:
                return False
            weights["bias"] = bias
        if settings is None or settings["kernel"] != weight.shape[2:] or groups < 1:
            return False
        return self._emit(node.outputs[0], "convolution", node.name, (read,), weights, MAPS, groups=groups, **settings)

    def matmul(self, node: Node) -> bool:
        """MatMul: x [N, I], weight [I, O]; a bias may be added by the next node."""
        read, weight = self._read(node), self._tensor(node, 1)
        if read is None or weight is None or len(weight.shape) != 2 or self.num_axes(node) == MAPS:
            return False
        return self._emit(node.outputs[0], "linear", node.name, (read,), {"weight": transposed(weight)}, ROWS)

    def gemm(self, node: Node) -> bool:
        """Gemm: alpha * x [N, I] @ weight + beta * bias. The first exports of Caffe2 leave it to Gemm to flatten maps."""
        read, weight, bias = self._read(node), self._tensor(node, 1), self._tensor(node, 2)
        alpha, beta = node.real("alpha", 1), node.real("beta", 1)
        if read is None or weight is None or len(weight.shape) != 2 or node.integer("transA", 0):
            return False
        if not node.integer("transB", 0):
            weight = transposed(weight)
        weights = {"weight": times(weight, alpha)}
        if node.has_input(2) and beta:
            row = row_of(bias, ROWS) if bias else None
            if row is None or row.shape[0] not in (1, weight.shape[0]):
                return False
            weights["bias"] = times(repeated(row, weight.shape[0]), beta)
        if self._axes[read] == MAPS:
            if self.opset >= 7:
                return False
            self._emit(node.outputs[0], "flatten", node.name, (read,), axes=ROWS)
            read = self.numbers[node.outputs[0]]
        return self._emit(node.outputs[0], "linear", node.name, (read,), weights, ROWS)

    def batch_norm(self, node: Node) -> bool:
        """BatchNormalization: x, scale, shift, mean, variance, all [C]. MXNet writes spatial=0 and means spatial=1; the shapes tell."""
        read = self._read(node)
        tensors = [self._tensor(node, place) for place in range(1, 5)]
        weights = {name: tensor for name, tensor in zip(("scale", "shift", "mean", "variance"), tensors, strict=True) if tensor}
        if read is None or len(weights) != 4 or node.integer("training_mode", 0):
            return False
        if any(tensor.shape != weights["mean"].shape or len(tensor.shape) != 1 for tensor in weights.values()):
            return False
        return self._emit(node.outputs[0], "batch_norm", node.name, (read,), weights, eps=node.real("epsilon", 1e-5))

    def add_up(self, node: Node) -> bool:
        """Add and Sum: of maps, or of maps and a constant for each channel, which may be the bias of a layer before."""
        if len(node.inputs) == 2 and any(name in self.constants for name in node.inputs):
            place = 1 if node.inputs[1] in self.constants else 0
            return node.inputs[1 - place] in self.numbers and self._shift(node, place)
        reads = tuple(self.numbers[name] for name in node.inputs if name in self.numbers)
        if len(reads) != len(node.inputs) or len({self._axes[read] for read in reads}) > 1:
            return False
        return self._emit(node.outputs[0], "add" if len(reads) > 1 else "identity", node.name, reads)

    def _shift(self, node: Node, place: int) -> bool:
        name, read = node.inputs[1 - place], self.numbers[node.inputs[1 - place]]
        row = self._per_channel(node, place, read)
        if row is None:
            return False
        layer = self.operations[read] if read != PICTURE else None
        if layer and layer.kind in ("convolution", "linear") and "bias" not in layer.weights and self._readers[name] == 1:
            num_outputs = layer.weights["weight"].shape[0]
            if row.shape[0] in (1, num_outputs):
                self.operations[read] = replace(layer, weights={**layer.weights, "bias": repeated(row, num_outputs)})
                self.numbers[node.outputs[0]] = read
                return True
        return self._emit(node.outputs[0], "scale", node.name, (read,), {"shift": row})

    def scale(self, node: Node) -> bool:
        """Mul, Div and Sub by a constant for each channel or for all."""
        places = [place for place in (0, 1) if node.has_input(place) and node.inputs[place] in self.constants]
        if len(node.inputs) != 2 or places not in ([1], [0]) or (places == [0] and node.kind != "Mul"):
            return False
        read = self._read(node, 1 - places[0])
        row = self._per_channel(node, places[0], read) if read is not None else None
        if read is None or row is None:
            return False
        name, change = {
            "Mul": ("scale", None),
            "Div": ("scale", lambda values: 1 / values),
            "Sub": ("shift", lambda values: -values),
        }[node.kind]
        return self._emit(node.outputs[0], "scale", node.name, (read,), {name: row.arranged(row.shape, change) if change else row})

    def _per_channel(self, node: Node, place: int, read: int) -> ForeignTensor | None:
        """A constant as [C] or [1], if it is one number for each channel; before opset 7 `axis` says where its own axes are."""
        tensor, axes = self._tensor(node, place), self._axes[read]
        if tensor is None or axes is None or not tensor.dtype.startswith(("float", "bfloat")):
            return None
        if "axis" in node.attributes and node.integer("broadcast", 0):
            first = node.integer("axis", 0) % axes
            if first + len(tensor.shape) > axes:
                return None
            behind = (1,) * (axes - first - len(tensor.shape))
            tensor = tensor.arranged((*tensor.shape, *behind), lambda values: values.reshape(*values.shape, *behind))
        return row_of(tensor, axes)

    def pool(self, node: Node) -> bool:
        """MaxPool and AveragePool; the average counts padding where it is told to, which it can be since opset 7."""
        kernel = node.integers("kernel_shape")
        settings = window_of(node, kernel) if kernel and len(kernel) == 2 else None
        if settings is None or settings.pop("dilation") != (1, 1) or self.num_axes(node) == ROWS:
            return False
        if settings == {"kernel": (1, 1), "stride": (1, 1), "pads": (0, 0, 0, 0)}:
            return self._simple(node, "identity")  # PyTorch's adaptive pools, where there is nothing to do
        settings["rounds_up"] = bool(node.integer("ceil_mode", 0))
        if node.kind == "MaxPool":
            return self._simple(node, "max_pool", MAPS, **settings)
        return self._simple(node, "avg_pool", MAPS, counts_padding=bool(node.integer("count_include_pad", 0)), **settings)

    def reduce_mean(self, node: Node) -> bool:
        """ReduceMean over rows and columns."""
        axes = self.constants.axes(node)
        if axes is None or {axis % 4 for axis in axes} != {2, 3} or len(axes) != 2 or self.num_axes(node) != MAPS:
            return False
        if not self._simple(node, "global_average", MAPS):
            return False
        if not node.integer("keepdims", 1):
            number = self.numbers[node.outputs[0]]
            return self._emit(node.outputs[0], "flatten", node.name, (number,), axes=ROWS)
        return True

    def response_norm(self, node: Node) -> bool:
        """LRN: ONNX divides alpha by the size, so it multiplies the mean of squares; ours multiplies their sum.

        An even number of neighbours lies otherwise there than with torch, so it is unknown.
        """
        size = node.integer("size", 0)
        alpha, beta, k = node.real("alpha", 1e-4), node.real("beta", 0.75), node.real("bias", 1.0)
        is_odd = 0 < size < LARGEST_WINDOW_PIXELS and size % 2 == 1
        return is_odd and self._simple(node, "response_norm", size=size, alpha=alpha / size, beta=beta, k=k)

    def concatenate(self, node: Node) -> bool:
        """Concat of maps by channels."""
        reads = tuple(self.numbers[name] for name in node.inputs if name in self.numbers)
        axes = {self._axes[read] for read in reads}
        if len(reads) != len(node.inputs) or len(axes) != 1 or node.integer("axis", 1) not in (1, 1 - (axes.pop() or 0)):
            return False
        return self._emit(node.outputs[0], "concatenate", node.name, reads)

    def flatten(self, node: Node) -> bool:
        """Flatten, Reshape and Squeeze that turn [N, C, h, w] into [N, C * h * w]."""
        axes, was_averaged = self.num_axes(node), False
        read = self._read(node)
        if read is None or axes is None:
            return False
        was_averaged = read != PICTURE and self.operations[read].kind == "global_average"
        if node.kind == "Flatten":
            is_flat = node.integer("axis", 1) % axes == 1
        elif node.kind == "Squeeze":
            which = self.constants.axes(node)
            is_flat = axes == MAPS and (
                {axis % 4 for axis in which} == {2, 3} if which is not None else was_averaged and not node.has_input(1)
            )
        else:
            target = self.constants.target(node)
            if target and len(target) == 4 and target[2:] == (1, 1) and was_averaged:
                return self._simple(node, "identity")
            is_flat = bool(target) and len(target or ()) == 2
        return is_flat and self._simple(node, "flatten" if axes == MAPS else "identity", ROWS)

    def pad(self, node: Node) -> bool:
        """Pad: before opset 11 its widths and value are attributes, since then inputs."""
        widths: tuple[int, ...] | None = node.integers("pads") or node.integers("paddings")
        value: float | None = node.real("value", 0.0)
        if widths is None:
            widths = self.constants.integers_of(node.inputs[1]) if node.has_input(1) else None
            value = self.constants.number_of(node.inputs[2]) if node.has_input(2) else 0.0
            if widths is not None and node.has_input(3):
                widths = all_axes(widths, self.constants.integers_of(node.inputs[3]))
        if widths is None or value is None or node.text("mode", "constant") != "constant":
            return False
        if not any(widths):
            return self._simple(node, "identity")
        if (
            len(widths) != 8
            or any(widths[place] for place in (0, 1, 4, 5))
            or not all(0 <= width <= LARGEST_WINDOW_PIXELS for width in widths)
        ):
            return False
        return self._simple(node, "pad", pads=(widths[2], widths[3], widths[6], widths[7]), value=value)

    def softmax(self, node: Node) -> bool:
        """Softmax and LogSoftmax over channels; before opset 13 they flatten behind their axis, which is 1."""
        axes = self.num_axes(node)
        axis = node.integer("axis", 1 if self.opset < 13 else -1)
        if axis != 1 and (axes is None or axis % axes != 1):
            return False
        return self._simple(node, "softmax", log=True) if node.kind == "LogSoftmax" else self._simple(node, "softmax")

    def cast(self, node: Node) -> bool:
        """Between kinds of floats."""
        to = node.integer("to", 0)
        return (to in FLOAT_TYPES or node.text("to", "") in ("FLOAT", "FLOAT16", "DOUBLE")) and self._simple(node, "identity")

    def transpose(self, node: Node) -> bool:
        """A picture with its channels last is turned by the first node; what turns later maps is not known."""
        if self._read(node) != PICTURE or node.integers("perm") != (0, 3, 1, 2):
            return False
        self.is_channels_last = True
        return self._simple(node, "identity")


def _always(kind: str) -> Callable[[Operations, Node], bool]:
    return lambda operations, node: operations._simple(node, kind)


HANDLERS: dict[str, Callable[[Operations, Node], bool]] = {
    "Conv": Operations.convolution,
    "MatMul": Operations.matmul,
    "Gemm": Operations.gemm,
    "BatchNormalization": Operations.batch_norm,
    "Add": Operations.add_up,
    "Sum": Operations.add_up,
    "Mul": Operations.scale,
    "Div": Operations.scale,
    "Sub": Operations.scale,
    "MaxPool": Operations.pool,
    "AveragePool": Operations.pool,
    "GlobalAveragePool": _always("global_average"),
    "ReduceMean": Operations.reduce_mean,
    "LRN": Operations.response_norm,
    "Concat": Operations.concatenate,
    "Flatten": Operations.flatten,
    "Reshape": Operations.flatten,
    "Squeeze": Operations.flatten,
    "Pad": Operations.pad,
    "Relu": _always("relu"),
    "Dropout": _always("dropout"),
    "Identity": _always("identity"),
    "Softmax": Operations.softmax,
    "LogSoftmax": Operations.softmax,
    "Cast": Operations.cast,
    "Transpose": Operations.transpose,
}
