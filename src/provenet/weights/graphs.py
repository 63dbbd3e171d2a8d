"""Two networks compared by what they compute: the graph of a file and a network of ours.

Both are written as *nodes*, in which what says the same is written alike. Padding and rounding of a window become where its first place
begins and how many places there are, at the size of the picture; a bias, a batch norm and a scale belong to the layer before them; a
convolution over the whole map is a fully connected layer; dropout, identity and the softmax at the end are gone. Two graphs whose nodes
are equal, from the picture to the answer, give the same logits with the same weights, and each layer of one has its layer in the other.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan, prod
from typing import Any

import numpy as np
from torch import nn

from provenet.errors import WeightsError, printable
from provenet.inspection.trace import trace
from provenet.inspection.tracer import Step
from provenet.models.blocks import ResponseNorm
from provenet.models.classifier import Classifier
from provenet.weights.foreign import Array, ForeignGraph, ForeignTensor, Operation
from provenet.weights.placing import Layer, Norm

Shape = tuple[int, ...]
PICTURE = -1
HANDED_ON = ("dropout", "identity", "flatten")
"""Operations that change no number."""
KNOWN_KINDS = (*HANDED_ON, "convolution", "linear", "batch_norm", "relu", "max_pool", "response_norm", "add", "concatenate", "softmax")
"""What a step of ours and an operation of a file call alike."""
DIGITS = 6  # of constants that are compared: files hold them in float32


@dataclass
class Node:
    """One computation. Equal `kind` and `settings` on equal inputs give equal results with equal weights."""

    kind: str
    settings: tuple[Any, ...]
    reads: tuple[int, ...]
    """Numbers of nodes, -1 is the picture."""
    shape: Shape
    """Of its result: (channels, height, width), or (features,)."""
    name: str
    """The path of ours, or the name in the file."""
    operation: Operation | None = None
    """In a file's graph: what it was read from."""
    after: list[Operation] = field(default_factory=list)
    """In a file's graph: batch norms and scales behind a layer."""

    def __str__(self) -> str:
        what = " ".join([self.kind.replace("_", " "), *(f"{name} {_shown(value)}" for name, value in self.settings)])
        return f"{printable(self.name)} ({what} -> {'x'.join(map(str, self.shape))})"


@dataclass(frozen=True)
class Graph:
    """Nodes, each after those that it reads, and the number of the one that gives the logits."""

    nodes: tuple[Node, ...]
    result: int

    def in_use(self) -> list[int]:
        """Numbers of the nodes on which the answer rests, in order."""
        seen: set[int] = set()
        waiting = [self.result]
        while waiting:
            number = waiting.pop()
            if number >= 0 and number not in seen:
                seen.add(number)
                waiting += self.nodes[number].reads
        return sorted(seen)


def graph_of_network(net: Classifier, size: int) -> Graph:
    """A network of ours at pictures of `size` pixels a side."""
    modules = dict(net.named_modules())
    picture = net.input_spec.channels, size, size
    run = trace(net, picture)
    return _Builder(picture, [_operation_of_step(step, modules) for step in run.steps]).graph(run.results[0])


def graph_of_file(graph: ForeignGraph, picture: tuple[int, int, int]) -> Graph:
    """The graph of a file at pictures of that (channels, height, width). Raises WeightsError for one that does not fit together."""
    return _Builder(picture, graph.operations).graph(graph.result)


def _operation_of_step(step: Step, modules: Mapping[str, nn.Module]) -> Operation:
    module = modules.get(step.module)
    reads = tuple(step.reads)
    settings: dict[str, Any] = {}
    kind = step.kind
    if isinstance(module, nn.Conv2d):
        settings = {
            "kernel": module.kernel_size, "stride": module.stride, "dilation": module.dilation, "groups": module.groups,
            "pads": _four(module.padding),  # type: ignore[arg-type]  # no network here names its padding
        }  # fmt: skip
    elif isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        kind = "max_pool" if isinstance(module, nn.MaxPool2d) else "avg_pool"
        settings = {
            "kernel": _two(module.kernel_size), "stride": _two(module.stride), "pads": _four(_two(module.padding)),
            "rounds_up": module.ceil_mode, "counts_padding": getattr(module, "count_include_pad", True),
        }  # fmt: skip
    elif isinstance(module, ResponseNorm):
        settings = {name: getattr(module, name) for name in ("size", "alpha", "beta", "k")}
    elif kind == "mean":
        kind = "global_average"
    elif kind not in KNOWN_KINDS:
        kind, settings = "unknown", {"called": kind, "shape": step.output}
    weights = {"weight": _shape_only(step)} if isinstance(module, nn.Conv2d | nn.Linear) else {}
    return Operation(kind, step.module if isinstance(module, nn.Conv2d | nn.Linear) else step.name, reads, settings, weights)


def _shape_only(step: Step) -> ForeignTensor:
    """Only the number of outputs is asked for: the rest of the shape follows from what the layer reads."""
    return ForeignTensor((step.output[0],), "float32", lambda: np.zeros(0))


class _Builder:
    """Operations one after the other -> nodes."""

    def __init__(self, picture: tuple[int, int, int], operations: Sequence[Operation]) -> None:
        self.picture = picture
        self.nodes: list[Node] = []
        self.is_of: dict[int, int] = {PICTURE: PICTURE}
        """Number of an operation -> number of the node that has its result."""
        self.pads: dict[int, tuple[tuple[int, ...], float]] = {}
        """Padding by hand that waits for the window that reads it, by operation."""
        readers = Counter(before for operation in operations for before in operation.reads)
        self.has_one_reader: list[bool] = []
        """Of each operation so far, and of what it only hands on."""
        for number, operation in enumerate(operations):
            if any(not PICTURE <= before < number for before in operation.reads):
                raise WeightsError(f"{printable(operation.name)}: expected to read what comes before it, found a graph in disorder")
            is_handed_on = operation.kind in HANDED_ON and operation.reads and operation.reads[0] != PICTURE
            self.has_one_reader.append(readers[number] <= 1 and (not is_handed_on or self.has_one_reader[operation.reads[0]]))
            self._add(number, operation)

    def graph(self, result: int) -> Graph:
        node = self.is_of[result]
        while node != PICTURE and self.nodes[node].kind == "softmax":
            node = self.nodes[node].reads[0]
        return Graph(tuple(self.nodes), node)

    def shape(self, node: int) -> Shape:
        return self.picture if node == PICTURE else self.nodes[node].shape

    def _add(self, number: int, operation: Operation) -> None:
        reads = [self.is_of[before] for before in operation.reads]
        if operation.kind in HANDED_ON and reads and operation.reads[0] not in self.pads:
            self.is_of[number] = reads[0]  # layers that read maps know their shape, flattened or not
            return
        if operation.kind == "pad" and reads and min(operation.settings["pads"]) >= 0:
            value = float(operation.settings["value"])
            before, value_before = self.pads.get(operation.reads[0], ((0, 0, 0, 0), value))
            pads = tuple(a + b for a, b in zip(before, operation.settings["pads"], strict=True))
            self.is_of[number] = reads[0]
            self.pads[number] = pads, value if value == value_before else nan
            return
        if operation.kind in ("batch_norm", "scale") and self._belongs_to_layer(operation, reads):
            self.nodes[reads[0]].after.append(operation)
            self.is_of[number] = reads[0]
            return
        paddings = [self.pads[before] for before in operation.reads if before in self.pads]
        if paddings and operation.kind not in ("convolution", "max_pool"):
            operation = Operation("unknown", operation.name, operation.reads, {"called": f"{operation.kind} of padded maps"})
        node = self._node(operation, reads, paddings[0] if paddings else None)
        if node is None:
            self.is_of[number] = reads[0]
        else:
            self.nodes.append(node)
            self.is_of[number] = len(self.nodes) - 1

    def _belongs_to_layer(self, norm: Operation, reads: list[int]) -> bool:
        """Whether a batch norm or scale is a part of the layer that it reads: alone, unpadded, with a number for each channel of it."""
        if not reads or reads[0] == PICTURE or norm.reads[0] in self.pads or not self.has_one_reader[norm.reads[0]]:
            return False
        layer = self.nodes[reads[0]]
        return layer.kind in ("convolution", "linear") and all(tensor.num_values in (1, layer.shape[0]) for tensor in norm.weights.values())

    def _node(self, operation: Operation, reads: list[int], padding: tuple[tuple[int, ...], float] | None) -> Node | None:
        """The node of an operation, or None where it does nothing."""
        shapes = [self.shape(node) for node in reads]
        kind, settings, name = operation.kind, operation.settings, operation.name
        before = shapes[0] if shapes else ()
        if kind in ("convolution", "max_pool", "avg_pool") and len(before) == 1:
            before = (*before, 1, 1)

        def node(kind: str, shape: Shape, **values: Any) -> Node:
            return Node(kind, tuple(values.items()), tuple(reads), shape, name, operation)

        if kind == "convolution" and len(before) == 3:
            maps = operation.weights["weight"].shape[0]
            corner, places = self._window(operation, before, padding, is_convolution=True)
            kernel = tuple(settings["kernel"])
            if padding and padding[1] != 0:
                return node("unknown", (maps, *places), called=f"a convolution over padding of {padding[1]:g}")
            if places == (1, 1) and kernel == before[1:] and settings["groups"] == 1 and corner == (0, 0):
                return node("linear", (maps,), inputs=prod(before))
            return node(
                "convolution", (maps, *places), kernel=kernel, stride=tuple(settings["stride"]), dilation=tuple(settings["dilation"]),
                groups=settings["groups"], begins_before=corner,
            )  # fmt: skip
        if kind == "linear" and before:
            return node("linear", (operation.weights["weight"].shape[0],), inputs=prod(before))
        if kind in ("max_pool", "avg_pool") and len(before) == 3:
            corner, places = self._window(operation, before, padding, is_convolution=False)
            kernel = tuple(settings["kernel"])
            covers_all = places == (1, 1) and corner == (0, 0) and all(k >= side for k, side in zip(kernel, before[1:], strict=True))
            if kind == "avg_pool" and covers_all and (kernel == before[1:] or not settings["counts_padding"]):
                return node("global_average", before[:1]) if before[1:] != (1, 1) else None
            stride = tuple(settings["stride"])
            if "auto_pad" in settings:
                is_padded = any((places[axis] - 1) * stride[axis] + kernel[axis] > before[1 + axis] for axis in (0, 1))
            else:
                is_padded = any(_pads(operation))
            counted = {} if kind == "max_pool" else {"counts_padding": bool(settings["counts_padding"]) and is_padded}
            if padding and not (padding[1] <= -1e30 or (padding[1] == 0 and self._is_never_negative(reads[0]))):
                return node("unknown", before, called=f"a maximum over padding of {padding[1]:g}")  # a maximum of nothing is -inf
            return node(kind, (before[0], *places), kernel=kernel, stride=stride, begins_before=corner, **counted)
        if kind == "global_average":
            return node(kind, before[:1]) if prod(before[1:]) > 1 else None
        if kind in ("relu", "softmax"):
            return node(kind, before)
        if kind == "response_norm":
            constants = {name: float(f"{settings[name]:.{DIGITS}g}") for name in ("size", "alpha", "beta", "k")}
            return node(kind, before, **constants)
        if kind == "add":
            if len({_without_ones(shape) for shape in shapes}) != 1:
                raise WeightsError(f"{printable(name)}: expected maps of one size to add, found {shapes}")
            return node(kind, before)
        if kind == "concatenate":
            return node(kind, (sum(shape[0] for shape in shapes), *before[1:]))
        if kind in ("batch_norm", "scale"):
            return node("unknown", before, called=f"{kind} of {max(tensor.num_values for tensor in operation.weights.values())} numbers")
        called = settings.get("called", kind)
        return node("unknown", settings.get("shape", before), called=f"{called} {dict(settings) if kind != 'unknown' else ''}".strip())

    def _window(
        self, operation: Operation, before: Shape, padding: tuple[tuple[int, ...], float] | None, *, is_convolution: bool
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """How far before the first pixel the first place begins, and how many places there are: (vertical, horizontal) each."""
        settings = operation.settings
        top, left, bottom, right = _pads(operation)
        automatic = settings.get("auto_pad", "")
        corner, places = [], []
        for axis, (first, last) in enumerate(((top, bottom), (left, right))):
            side, kernel, stride = before[1 + axis], settings["kernel"][axis], settings["stride"][axis]
            reach = (kernel - 1) * (settings["dilation"][axis] if is_convolution else 1) + 1
            if padding:
                first, last = first + padding[0][axis], last + padding[0][axis + 2]
            if automatic:
                count = -(-side // stride)
                missing = max(0, (count - 1) * stride + reach - side)
                first = missing // 2 if automatic == "same_upper" else missing - missing // 2
            elif not is_convolution and settings["rounds_up"]:
                count = -(-(side + first + last - reach) // stride) + 1
                if (count - 1) * stride >= side + first:  # as Caffe and torch have it: a place begins inside
                    count -= 1
            else:
                count = (side + first + last - reach) // stride + 1
            if count < 1:
                raise WeightsError(f"{printable(operation.name)}: expected maps of at least {reach} pixels a side, found {side}")
            corner.append(first)
            places.append(count)
        return (corner[0], corner[1]), (places[0], places[1])

    def _is_never_negative(self, node: int) -> bool:
        return node != PICTURE and (
            self.nodes[node].kind == "relu"
            or (self.nodes[node].kind in ("max_pool", "concatenate") and all(map(self._is_never_negative, self.nodes[node].reads)))
        )


class Comparison:
    """Graphs side by side: nodes that compute the same have the same number here."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[Any, ...], int] = {}

    def number(self, graph: Graph) -> list[int]:
        """For each node of a graph the number of what it computes."""
        found: list[int] = []
        for node in graph.nodes:
            reads = [PICTURE if before == PICTURE else found[before] for before in node.reads]
            if node.kind == "add":
                reads.sort()
            key: tuple[Any, ...] = (node.kind, node.settings, node.shape, *reads)
            if node.kind == "unknown":
                key = (object(),)  # two that nobody knows are never known to be the same
            found.append(self._numbers.setdefault(key, len(self._numbers)))
        return found

    def pair(self, theirs: Graph, ours: Graph) -> dict[str, Node] | None:
        """Our layers with weights, by path, and the nodes of the file that are the same; None where the graphs differ."""
        their_numbers, our_numbers = self.number(theirs), self.number(ours)
        if PICTURE in (theirs.result, ours.result) or their_numbers[theirs.result] != our_numbers[ours.result]:
            return None
        beside = self._beside(theirs, ours)
        if any(len(places) > 1 for places in beside.values()):
            return None
        return {ours.nodes[our].name: theirs.nodes[places[0]] for our, places in sorted(beside.items())}

    def _beside(self, theirs: Graph, ours: Graph) -> dict[int, list[int]]:
        """For each of our layers with weights the nodes in its place, in two graphs that answer alike.

        They are several where one of ours is read twice and the file has a layer with weights of its own for each reader.
        """
        their_numbers, our_numbers = self.number(theirs), self.number(ours)
        seen: set[tuple[int, int]] = set()
        waiting = [(theirs.result, ours.result)]
        while waiting:
            their, our = waiting.pop()
            if our == PICTURE or (their, our) in seen:
                continue
            seen.add((their, our))
            their_reads, our_reads = list(theirs.nodes[their].reads), list(ours.nodes[our].reads)
            if ours.nodes[our].kind == "add":
                their_reads.sort(key=lambda node: PICTURE if node == PICTURE else their_numbers[node])
                our_reads.sort(key=lambda node: PICTURE if node == PICTURE else our_numbers[node])
            waiting += zip(their_reads, our_reads, strict=True)
        found: dict[int, list[int]] = {}
        for their, our in sorted(seen):
            if ours.nodes[our].kind in ("convolution", "linear"):
                found.setdefault(our, []).append(their)
        return found

    def first_difference(self, theirs: Graph, ours: Graph) -> tuple[int, str]:
        """How many nodes are alike before the two part, and where they do."""
        known = set(self.number(ours))
        numbers = self.number(theirs)
        in_use = theirs.in_use()
        alike = [number for number in in_use if numbers[number] in known]
        parting = next((number for number in in_use if numbers[number] not in known), None)
        if parting is None and theirs.result >= 0 and numbers[theirs.result] == self.number(ours)[ours.result]:
            our, places = next((our, places) for our, places in sorted(self._beside(theirs, ours).items()) if len(places) > 1)
            one, other = (theirs.nodes[place] for place in places[:2])
            return in_use.index(places[1]), f"there {one} and {other}, here only {ours.nodes[our].name}"
        if parting is None:
            return len(alike), "it ends before the network does"
        place = theirs.nodes[parting]
        reads = {numbers[number] for number in place.reads if number != PICTURE}
        our_numbers = self.number(ours)
        beside = [
            node
            for number, node in zip(our_numbers, ours.nodes, strict=True)
            if number not in numbers and {our_numbers[before] for before in node.reads if before != PICTURE} == reads
        ]
        return len(alike), f"there {place}, here {beside[0] if beside else 'nothing of the kind'}"


def layer_of(node: Node, shape: Sequence[int]) -> Layer:
    """The weights of a file's node, read now, the weight in the shape of our layer."""
    assert node.operation is not None
    weights = node.operation.weights
    weight = weights["weight"].read()
    if weight.size != prod(shape):
        raise WeightsError(f"{printable(node.name)}: expected weights of {'x'.join(map(str, shape))}, found {weight.shape}")
    bias = weights["bias"].read() if "bias" in weights else None
    return Layer(weight.reshape(tuple(shape)), bias, _norm(node.after, len(weight)))


def _norm(after: Sequence[Operation], channels: int) -> Norm | None:
    """One batch norm from a chain of batch norms and scales; a lone batch norm, or one and its scale, keep every number."""
    if not after:
        return None
    first, rest = after[0], after[1:]
    ones, zeros = np.ones(channels, np.float32), np.zeros(channels, np.float32)
    if first.kind == "batch_norm":
        plain = "scale" not in first.weights and "shift" not in first.weights
        norm = Norm(_of(first, "mean", zeros), _of(first, "variance", ones), _of(first, "scale", ones), _of(first, "shift", zeros),
                    float(first.settings["eps"]))  # fmt: skip
        if plain and rest and rest[0].kind == "scale":
            norm = Norm(norm.mean, norm.variance, _of(rest[0], "scale", ones), _of(rest[0], "shift", zeros), norm.eps)
            rest = rest[1:]
    else:
        norm, rest = Norm(zeros, ones, ones, zeros, 0.0), after
    for operation in rest:
        if operation.kind == "batch_norm":
            slope = _of(operation, "scale", ones) / np.sqrt(_of(operation, "variance", ones).astype(np.float64) + operation.settings["eps"])
            offset = _of(operation, "shift", zeros) - slope * _of(operation, "mean", zeros)
        else:
            slope, offset = _of(operation, "scale", ones).astype(np.float64), _of(operation, "shift", zeros)
        norm = Norm(norm.mean, norm.variance, norm.scale * slope, norm.shift * slope + offset, norm.eps)
    return norm


def _of(operation: Operation, name: str, otherwise: Array) -> Array:
    if name not in operation.weights:
        return otherwise
    values = operation.weights[name].read().reshape(-1)
    return np.broadcast_to(values, otherwise.shape) if values.size == 1 else values


def left_out(graph: Graph) -> Iterator[Node]:
    """Layers with weights on which the answer does not rest."""
    in_use = set(graph.in_use())
    yield from (node for number, node in enumerate(graph.nodes) if number not in in_use and node.kind in ("convolution", "linear"))


def _pads(operation: Operation) -> tuple[int, int, int, int]:
    top, left, bottom, right = operation.settings.get("pads", (0, 0, 0, 0))
    return top, left, bottom, right


def _without_ones(shape: Shape) -> Shape:
    return shape[:1] if len(shape) == 3 and shape[1:] == (1, 1) else shape


def _two(value: int | tuple[int, ...] | None) -> tuple[int, int]:
    assert value is not None
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _four(padding: tuple[int, ...]) -> tuple[int, int, int, int]:
    return padding[0], padding[1], padding[0], padding[1]


def _shown(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)
