"""ONNX: a model file -> its tensors and its graph. Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.

No package of ONNX's is needed. Field numbers here are those of ModelProto, GraphProto and ValueInfoProto.
"""

from pathlib import Path

from provenet.errors import WeightsError, printable
from provenet.weights.foreign import ForeignFile, ForeignGraph
from provenet.weights.formats.onnx_constants import Constants
from provenet.weights.formats.onnx_nodes import in_order, read_node
from provenet.weights.formats.onnx_operations import PICTURE, Operations
from provenet.weights.formats.onnx_tensors import ExternalFiles, read_tensor
from provenet.weights.formats.protobuf import Message, open_message

IR_VERSION, PRODUCER_NAME, PRODUCER_VERSION, GRAPH, OPSET_IMPORT = 1, 2, 3, 7, 8
OPSET_DOMAIN, OPSET_VERSION = 1, 2
NODE, GRAPH_NAME, INITIALIZER, GRAPH_INPUT, GRAPH_OUTPUT = 1, 2, 5, 11, 12
VALUE_NAME, VALUE_TYPE = 1, 2
TENSOR_TYPE, SHAPE, DIMENSION, DIMENSION_VALUE = 1, 2, 1, 1


def read_onnx(path: Path) -> ForeignFile:
    """Read an .onnx file. Raises WeightsError with one line for any file that is none, is damaged, or points out of its folder."""
    model = open_message(path, "an ONNX model")
    graph, source = model.message(GRAPH), model.source
    if NODE not in graph:
        raise source.damaged("no graph in it")
    files = ExternalFiles(path)
    tensors = dict(read_tensor(tensor, files) for tensor in graph.messages(INITIALIZER))
    inputs = [value for value in graph.messages(GRAPH_INPUT) if value.text(VALUE_NAME) not in tensors]
    outputs = [value.text(VALUE_NAME) for value in graph.messages(GRAPH_OUTPUT)]
    if not inputs or not outputs:
        raise source.damaged("a graph without an input or without an output")
    picture = inputs[0].text(VALUE_NAME)
    given = {value.text(VALUE_NAME) for value in inputs} | set(tensors)
    nodes = in_order([read_node(node) for node in graph.messages(NODE)], given, source)
    opset = _opset(model)
    constants = Constants(tensors, files)
    operations = Operations(constants, picture, nodes, outputs, opset)
    for node in nodes:
        operations.add(node)
    result = operations.numbers.get(outputs[0], PICTURE)
    if result == PICTURE:
        raise WeightsError(
            f"{source.shown}: expected a network from a picture to its classes, found an output {printable(outputs[0])[:100]!r} "
            "that no known node gives; export the model again",
            "unusable",
        )
    return ForeignFile(
        path,
        "ONNX",
        constants.stored,
        ForeignGraph(tuple(operations.operations), result, _input_shape(inputs[0], operations.is_channels_last)),
        {
            "producer_name": printable(model.text(PRODUCER_NAME)),
            "producer_version": printable(model.text(PRODUCER_VERSION)),
            "opset": str(opset),
            "ir_version": str(model.integer(IR_VERSION)),
            "graph_name": printable(graph.text(GRAPH_NAME)),
        },
    )


def _opset(model: Message) -> int:
    """The version of ONNX's own operators; files that say none are as old as the first."""
    for imported in model.messages(OPSET_IMPORT):
        if imported.text(OPSET_DOMAIN) in ("", "ai.onnx"):
            return imported.integer(OPSET_VERSION, 1)
    return 1


def _input_shape(value: Message, is_channels_last: bool) -> tuple[int, int, int] | None:
    """(channels, height, width) of the picture, where all three are numbers."""
    dimensions = value.message(VALUE_TYPE).message(TENSOR_TYPE).message(SHAPE).messages(DIMENSION)
    if len(dimensions) != 4:
        return None
    first, second, third = (dimension.integer(DIMENSION_VALUE) for dimension in dimensions[1:])
    if min(first, second, third) < 1:
        return None
    return (third, first, second) if is_channels_last else (first, second, third)
