"""Caffe: a .caffemodel -> its tensors and its graph as it runs in the phase TEST.

Source: src/caffe/proto/caffe.proto and the layers of https://github.com/BVLC/caffe. Field numbers here are those of NetParameter and
TransformationParameter.
"""

from collections.abc import Sequence
from pathlib import Path

from provenet.errors import printable
from provenet.weights.foreign import ForeignFile, ForeignGraph, ForeignTensor
from provenet.weights.formats.caffe_layers import NEW, OLD, TEST, Layer, read_layer
from provenet.weights.formats.caffe_operations import Operations
from provenet.weights.formats.protobuf import Message, open_message

NET_NAME, OLD_LAYERS, INPUT, INPUT_DIM, INPUT_SHAPE, NEW_LAYERS = 1, 2, 3, 4, 8, 100
SCALE, CROP_SIZE, MEAN_FILE, MEAN_VALUE = 1, 3, 4, 5
DIM = 1
DATA_SETTINGS = ("data", "image_data")
"""Until 2014 these had the scale (field 2), mean file (3) and crop (5) of transform_param."""
BLOB_NAMES = {
    "Convolution": ("weight", "bias"),
    "InnerProduct": ("weight", "bias"),
    "Scale": ("weight", "bias"),
    "BatchNorm": ("mean", "variance", "factor"),
}
SOURCES = ("Data", "ImageData", "MemoryData", "HDF5Data", "WindowData", "DummyData", "Input", "AnnotatedData", "Python")
"""Layers that read nothing and give pictures and labels."""


def read_caffe(path: Path) -> ForeignFile:
    """Read a .caffemodel. Raises WeightsError with one line for any file that is none or is damaged."""
    net = open_message(path, "a Caffe model")
    spelling, field = (NEW, NEW_LAYERS) if NEW_LAYERS in net else (OLD, OLD_LAYERS)
    layers = [read_layer(message, spelling) for message in net.messages(field)]
    if not any(layer.blobs for layer in layers):
        raise net.source.damaged("no layers with weights in it")
    inputs = net.texts(INPUT)
    sources = [layer for layer in layers if not layer.bottoms and layer.tops and layer.kind in SOURCES]
    picture = inputs[0] if inputs else next((layer.tops[0] for layer in sources), None)
    if picture is None:
        picture = _read_but_never_given(layers)
    given = {*inputs, *(top for layer in sources for top in layer.tops)} - {picture}
    operations = Operations(net.source, picture, given)
    for layer in layers:
        if layer.phases[TEST] and not any(layer is source for source in sources):
            operations.add(layer)
    if operations.result is None:
        raise net.source.damaged("no layers that give anything")
    graph = ForeignGraph(tuple(operations.operations), operations.result, _input_shape(net, sources, operations))
    return ForeignFile(path, "Caffe", _tensors(layers), graph, _metadata(net, sources))


def _read_but_never_given(layers: Sequence[Layer]) -> str:
    """The picture of a net that was saved without its data layer: the first blob that is read before anything gives it."""
    given: set[str] = set()
    for layer in layers:
        for bottom in layer.bottoms:
            if bottom not in given:
                return bottom
        given.update(layer.tops)
    return "data"


def _tensors(layers: Sequence[Layer]) -> dict[str, ForeignTensor]:
    """All blobs, as LAYER.weight and so on where that is clear, LAYER/0 otherwise."""
    tensors: dict[str, ForeignTensor] = {}
    for number, layer in enumerate(layers):
        names = BLOB_NAMES.get(layer.kind, ())
        for place, blob in enumerate(layer.blobs):
            name = f"{layer.name}.{names[place]}" if place < len(names) else f"{layer.name}/{place}"
            tensors[name if name not in tensors else f"{name}@{number}"] = blob
    return tensors


def _input_shape(net: Message, sources: Sequence[Layer], operations: Operations) -> tuple[int, int, int] | None:
    """(channels, height, width), from wherever the net says it."""
    written = net.integers(INPUT_DIM)[:4]
    if not written and INPUT_SHAPE in net:
        written = net.messages(INPUT_SHAPE)[0].integers(DIM)
    for layer in sources:
        if not written and (shapes := layer.settings("input").messages(1)):
            written = shapes[0].integers(DIM)
        memory = layer.settings("memory_data")
        if not written and 2 in memory:
            written = [1, memory.integer(2), memory.integer(3), memory.integer(4)]
        crop = (
            layer.settings("transform").integer(CROP_SIZE) or layer.settings("data").integer(5) or layer.settings("image_data").integer(5)
        )
        channels = operations.picture_channels()
        if not written and crop and channels:
            written = [1, channels, crop, crop]
    if len(written) != 4 or not all(0 < side < 2**16 for side in written[1:]):
        return None
    return written[1], written[2], written[3]


def _metadata(net: Message, sources: Sequence[Layer]) -> dict[str, str]:
    """The net's name, and how its data layer prepared pictures; what TEST says before what TRAIN says."""
    metadata = {"name": printable(net.text(NET_NAME))}
    for layer in sorted(sources, key=lambda layer: not layer.phases[TEST]):
        transform = layer.settings("transform")
        if means := transform.reals(MEAN_VALUE):
            metadata.setdefault("mean_value", ", ".join(f"{mean:g}" for mean in means[:4]))
        for settings, scale, mean_file in ((transform, SCALE, MEAN_FILE), *((layer.settings(name), 2, 3) for name in DATA_SETTINGS)):
            if mean_file in settings:
                metadata.setdefault("mean_file", printable(settings.text(mean_file))[:200])
            if scale in settings:
                metadata.setdefault("scale", f"{settings.real(scale, 1):g}")
    return metadata
