"""What of an ONNX graph is known without a picture: its tensors, what is made of them, and lists of sizes.

Exporters write a Reshape to [N, features] as a chain that takes the picture's shape apart. Such a list is a tuple here, of numbers, of
"dim0", "dim1" … for sizes of the picture, and of None for what is not known.
"""

from math import prod

import numpy as np

from provenet.weights.foreign import Array, ForeignTensor
from provenet.weights.formats.onnx_arithmetic import MOST_SIZES, evaluate
from provenet.weights.formats.onnx_nodes import FLOATS, TENSOR, Node
from provenet.weights.formats.onnx_tensors import ExternalFiles, read_tensor

FLOAT_TYPES = (1, 10, 11, 16)
MOST_STEPS = 16
"""From a stored tensor to what is made of it: each is a function that calls the one before."""
A_SHAPE = tuple(f"dim{axis}" for axis in range(8))

Sizes = tuple[int | str | None, ...]


class Constants:
    """Tensors and lists of sizes by their names in the graph."""

    def __init__(self, tensors: dict[str, ForeignTensor], files: ExternalFiles) -> None:
        self.tensors = dict(tensors)
        self.sizes: dict[str, Sizes] = {}
        self.files = files
        self._steps: dict[str, int] = {}
        self.stored = dict(tensors)
        """Those that the file holds, initializers and Constant nodes."""

    def __contains__(self, name: str) -> bool:
        return name in self.tensors or name in self.sizes

    def sizes_of(self, name: str) -> Sizes | None:
        """A short list of whole numbers, where it is known."""
        if name in self.sizes:
            return self.sizes[name]
        tensor = self.tensors.get(name)
        if tensor and tensor.num_values <= MOST_SIZES and tensor.dtype in ("int64", "int32"):
            return tuple(int(value) for value in tensor.read().reshape(-1))
        return None

    def integers_of(self, name: str) -> tuple[int, ...] | None:
        """The same, where all of them are numbers."""
        sizes = self.sizes_of(name)
        return tuple(size for size in sizes if isinstance(size, int)) if sizes and all(isinstance(size, int) for size in sizes) else None

    def number_of(self, name: str) -> float | None:
        """A single number, where it is known."""
        tensor = self.tensors.get(name)
        return float(tensor.read().reshape(-1)[0]) if tensor and tensor.num_values == 1 else None

    def fold(self, node: Node) -> bool:
        """Work out what a node gives; False where that needs the picture, or is nothing we know."""
        output = next(iter(node.outputs), "")
        if node.kind == "Constant":
            return self._constant(node, output)
        if node.kind == "Shape" and node.has_input(0):
            tensor = self.tensors.get(node.inputs[0])
            shape: Sizes = tensor.shape if tensor else A_SHAPE
            start, end = node.integer("start", 0), node.integer("end", len(shape))
            self.sizes[output] = shape[start:end] if tensor or min(start, end) >= 0 else (None,)
            return True
        inputs = list(filter(None, node.inputs))
        if not inputs or not all(name in self for name in inputs):
            return False
        if any(name in self.sizes for name in inputs):
            self.sizes[output] = self._sizes(node) or (None,)
            return True
        tensors = [self.tensors[name] for name in inputs]
        few = all(tensor.dtype in ("int64", "int32") and tensor.num_values <= MOST_SIZES for tensor in tensors)
        if few and not (node.kind == "Cast" and node.integer("to", 0) in FLOAT_TYPES):
            values = evaluate(node, [tensor.read() for tensor in tensors], self.files)
            folded = ForeignTensor(values.shape, "int64", values.copy) if values is not None else None
        else:
            steps = self._steps.get(inputs[0], 0) + 1
            folded = self._tensor(node, tensors[0]) if steps <= MOST_STEPS else None
            self._steps[output] = steps
        if folded is not None:
            self.tensors[output] = folded
        return folded is not None

    def _constant(self, node: Node, output: str) -> bool:
        value: Array
        if "value" in node.attributes:
            self.tensors[output] = read_tensor(node.attributes["value"].message(TENSOR), self.files, output)[1]
        else:
            if "value_int" in node.attributes:
                value = np.array(node.integer("value_int", 0), np.int64)
            elif (integers := node.integers("value_ints")) is not None:
                value = np.array(integers, np.int64)
            elif "value_float" in node.attributes:
                value = np.array(node.real("value_float", 0), np.float32)
            elif "value_floats" in node.attributes:
                value = np.array(node.attributes["value_floats"].reals(FLOATS), np.float32)
            else:
                return False
            self.tensors[output] = ForeignTensor(value.shape, str(value.dtype), value.copy)
        self.stored[output] = self.tensors[output]
        return True

    def _tensor(self, node: Node, tensor: ForeignTensor) -> ForeignTensor | None:
        """The same numbers in another shape or order."""
        rank, shape = len(tensor.shape), tensor.shape
        if node.kind == "Identity":
            return tensor
        if node.kind == "Cast":
            to_float = node.integer("to", 0) in FLOAT_TYPES
            if to_float != tensor.dtype.endswith(("float16", "float32", "float64")):
                dtype = "float32" if to_float else "int64"
                return ForeignTensor(shape, dtype, lambda: tensor.read().astype(dtype))
            return tensor
        if node.kind == "Transpose":
            order = node.integers("perm") or tuple(reversed(range(rank)))
            if sorted(order) == list(range(rank)):
                return tensor.arranged(tuple(shape[axis] for axis in order), lambda values: values.transpose(order))
        elif node.kind in ("Unsqueeze", "Squeeze"):
            axes = self.axes(node)
            shape_then = _with_ones(shape, axes) if node.kind == "Unsqueeze" else _without_ones(shape, axes)
            if shape_then is not None:
                return tensor.arranged(shape_then, lambda values: values.reshape(shape_then))
        elif node.kind in ("Reshape", "Flatten"):
            wanted: Sizes | None = (prod(shape[:1]), -1) if node.kind == "Flatten" else self.target(node)
            shape_then = _filled(wanted, shape) if wanted is not None else None
            if shape_then is not None:
                return tensor.arranged(shape_then, lambda values: values.reshape(shape_then))
        return None

    def _sizes(self, node: Node) -> Sizes | None:
        """Arithmetic with lists of sizes."""
        lists = [self.sizes_of(name) for name in filter(None, node.inputs)]
        first = lists[0] if lists else None
        if first is None:
            return None
        if node.kind in ("Unsqueeze", "Squeeze", "Cast", "Identity", "Reshape"):
            return first
        if any(sizes is None for sizes in lists):
            return None
        known = [sizes for sizes in lists if sizes is not None]
        if node.kind == "Concat":
            return tuple(size for sizes in known for size in sizes)[:MOST_SIZES]
        if node.kind == "Gather" and len(known) == 2:
            whole = [place for place in known[1] if isinstance(place, int)]
            if len(whole) == len(known[1]) and all(-len(first) <= place < len(first) for place in whole):
                return tuple(first[place] if place >= 0 or first is not A_SHAPE else None for place in whole)
        if node.kind == "Slice":
            starts = node.integers("starts") or self.integers_of(node.inputs[1] if node.has_input(1) else "")
            ends = node.integers("ends") or self.integers_of(node.inputs[2] if node.has_input(2) else "")
            if starts and ends and not (first is A_SHAPE and (starts[0] < 0 or not 0 <= ends[0] < len(first))) and len(known) <= 4:
                return first[starts[0] : ends[0]]
        if node.kind in ("Mul", "Add", "Sub") and len(known) == 2 and len(known[0]) == len(known[1]):
            return tuple(_arithmetic(node.kind, a, b) for a, b in zip(*known, strict=True))
        return None

    def axes(self, node: Node) -> tuple[int, ...] | None:
        """The axes of Squeeze, Unsqueeze, ReduceMean: an attribute, or an input since opset 13 or 18."""
        axes = node.integers("axes")
        return axes if axes is not None else self.integers_of(node.inputs[1]) if node.has_input(1) else None

    def target(self, node: Node) -> Sizes | None:
        """The shape of a Reshape: an attribute, or an input since opset 5."""
        shape = node.integers("shape")
        return shape if shape is not None else self.sizes_of(node.inputs[1]) if node.has_input(1) else None


def _arithmetic(kind: str, a: int | str | None, b: int | str | None) -> int | None:
    if not (isinstance(a, int) and isinstance(b, int)):
        return None
    return a * b if kind == "Mul" else a + b if kind == "Add" else a - b


def _with_ones(shape: tuple[int, ...], axes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if axes is None or len(shape) + len(axes) > 8:
        return None
    rank = len(shape) + len(axes)
    places = {axis % rank for axis in axes}
    rest = iter(shape)
    return tuple(1 if axis in places else next(rest) for axis in range(rank)) if len(places) == len(axes) else None


def _without_ones(shape: tuple[int, ...], axes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    if axes is None:
        return tuple(side for side in shape if side != 1)
    places = {axis % max(len(shape), 1) for axis in axes}
    if any(shape[place] != 1 for place in places if place < len(shape)):
        return None
    return tuple(side for place, side in enumerate(shape) if place not in places)


def _filled(wanted: Sizes, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """A Reshape's target with its 0 (as before) and -1 (the rest) filled in, None where it does not fit."""
    if len(wanted) > 8 or not all(isinstance(size, int) and size >= -1 for size in wanted) or wanted.count(-1) > 1:
        return None
    sizes = [shape[place] if size == 0 and place < len(shape) else size for place, size in enumerate(wanted)]
    whole = [size for size in sizes if isinstance(size, int)]
    rest = prod(size for size in whole if size != -1)
    filled = tuple(prod(shape) // rest if size == -1 and rest else size for size in whole)
    return filled if prod(filled) == prod(shape) and all(size >= 0 for size in filled) else None
