"""Nodes of an ONNX graph and their attributes; field numbers are those of NodeProto and AttributeProto in onnx.proto."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

from provenet.errors import printable
from provenet.weights.formats.protobuf import Message, Source

INPUT, OUTPUT, NAME, OP_TYPE, ATTRIBUTE, DOMAIN = 1, 2, 3, 4, 5, 7
ATTRIBUTE_NAME, FLOAT, INT, STRING, TENSOR, FLOATS, INTS = 1, 2, 3, 4, 5, 7, 8


@dataclass(frozen=True)
class Node:
    """One node. An empty input is one that is left out."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Message]

    def integer(self, name: str, default: int) -> int:
        """An attribute that is a whole number."""
        return self.attributes[name].integer(INT, default) if name in self.attributes else default

    def real(self, name: str, default: float) -> float:
        """An attribute that is a float."""
        return self.attributes[name].real(FLOAT, default) if name in self.attributes else default

    def text(self, name: str, default: str) -> str:
        """An attribute that is a word."""
        return self.attributes[name].text(STRING, default) if name in self.attributes else default

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An attribute that is a list of whole numbers, None where it is missing."""
        return tuple(self.attributes[name].integers(INTS)) if name in self.attributes else None

    def has_input(self, place: int) -> bool:
        """Whether an input is given."""
        return place < len(self.inputs) and self.inputs[place] != ""


def read_node(message: Message) -> Node:
    """A NodeProto; operators outside ONNX's own set are called DOMAIN.NAME."""
    domain, op_type, outputs = message.text(DOMAIN), printable(message.text(OP_TYPE))[:100], tuple(message.texts(OUTPUT))
    return Node(
        op_type if domain in ("", "ai.onnx") else f"{printable(domain)[:100]}.{op_type}",
        printable(message.text(NAME) or next(iter(outputs), ""))[:200],
        tuple(message.texts(INPUT)),
        outputs,
        {attribute.text(ATTRIBUTE_NAME): attribute for attribute in message.messages(ATTRIBUTE)},
    )


def in_order(nodes: Sequence[Node], given: set[str], source: Source) -> list[Node]:
    """The nodes so that each comes after those it reads, otherwise in the order of the file. `given` are inputs and tensors."""
    producers: dict[str, int] = {}
    for place, node in enumerate(nodes):
        for output in filter(None, node.outputs):
            if output in producers or output in given:
                raise source.damaged(f"two things called {printable(output)[:100]!r}")
            producers[output] = place
    waits_for: list[set[int]] = []
    readers: list[list[int]] = [[] for _ in nodes]
    for place, node in enumerate(nodes):
        waits_for.append(set())
        for name in filter(None, node.inputs):
            if name in producers:
                waits_for[place].add(producers[name])
            elif name not in given:
                raise source.damaged(f"{printable(name)[:100]!r}, which {node.kind} {node.name!r} reads, nowhere")
        for producer in waits_for[place]:
            readers[producer].append(place)
    ready = [place for place, waits in enumerate(waits_for) if not waits]
    ordered: list[Node] = []
    while ready:
        place = heapq.heappop(ready)
        ordered.append(nodes[place])
        for reader in readers[place]:
            waits_for[reader].discard(place)
            if not waits_for[reader]:
                heapq.heappush(ready, reader)
    if len(ordered) < len(nodes):
        raise source.damaged("nodes that read one another in a circle")
    return ordered
