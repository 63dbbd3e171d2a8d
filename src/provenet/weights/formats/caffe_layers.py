"""Layers of a .caffemodel as data: both spellings of Caffe's messages, old and new, in one. Numbers: caffe.proto of BVLC/caffe.

`V1LayerParameter` (before 2014) has an enum of types and its settings under other numbers than `LayerParameter`.
"""

from dataclasses import dataclass
from math import prod

import numpy as np

from provenet.errors import WeightsError, printable
from provenet.weights.foreign import LARGEST_TENSOR_BYTES, Array, ForeignTensor
from provenet.weights.formats.protobuf import Message, Numbers

TRAIN, TEST = 0, 1
MOST_AXES = 8
SHAPE, DATA, DOUBLE_DATA, LEGACY_SIDES = 7, 5, 8, (1, 2, 3, 4)
DIM = 1


@dataclass(frozen=True)
class Spelling:
    """Where a layer's parts are in one of the two messages."""

    name: int
    kind: int
    bottom: int
    top: int
    blobs: int
    include: int
    exclude: int
    settings: dict[str, int]


NEW = Spelling(
    name=1, kind=2, bottom=3, top=4, blobs=7, include=8, exclude=9,
    settings={
        "transform": 100, "batch_norm": 139, "bias": 141, "concat": 104, "convolution": 106, "data": 107, "eltwise": 110,
        "flatten": 135, "image_data": 115, "inner_product": 117, "input": 143, "lrn": 118, "memory_data": 119, "pooling": 121,
        "power": 122, "relu": 123, "reshape": 133, "scale": 142, "softmax": 125,
    },
)  # fmt: skip
OLD = Spelling(
    name=4, kind=5, bottom=2, top=3, blobs=6, include=32, exclude=33,
    settings={
        "transform": 36, "concat": 9, "convolution": 10, "data": 11, "eltwise": 24, "image_data": 15, "inner_product": 17, "lrn": 18,
        "memory_data": 22, "pooling": 19, "power": 21, "relu": 30, "softmax": 39,
    },
)  # fmt: skip
OLDEST = 1
"""The field of V1LayerParameter that holds a layer as it was written in 2013."""
OLD_KINDS = {
    35: "AbsVal", 1: "Accuracy", 30: "ArgMax", 2: "BNLL", 3: "Concat", 37: "ContrastiveLoss", 4: "Convolution", 5: "Data",
    39: "Deconvolution", 6: "Dropout", 32: "DummyData", 7: "EuclideanLoss", 25: "Eltwise", 38: "Exp", 8: "Flatten", 9: "HDF5Data",
    10: "HDF5Output", 28: "HingeLoss", 11: "Im2col", 12: "ImageData", 13: "InfogainLoss", 14: "InnerProduct", 15: "LRN", 29: "MemoryData",
    16: "MultinomialLogisticLoss", 34: "MVN", 17: "Pooling", 26: "Power", 18: "ReLU", 19: "Sigmoid", 27: "SigmoidCrossEntropyLoss",
    36: "Silence", 20: "Softmax", 21: "SoftmaxWithLoss", 22: "Split", 33: "Slice", 23: "TanH", 24: "WindowData", 31: "Threshold",
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One layer. What it reads and gives are names of blobs; a layer may write over what it reads."""

    kind: str
    name: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    blobs: tuple[ForeignTensor, ...]
    phases: tuple[bool, bool]
    """Whether it runs in training, and in testing."""
    message: Message
    spelling: Spelling

    def settings(self, name: str) -> Message:
        """The message of its settings, such as convolution_param; one without fields where it has none."""
        return self.message.message(self.spelling.settings.get(name, 2**29))


def read_layer(message: Message, spelling: Spelling) -> Layer:
    """A LayerParameter or V1LayerParameter."""
    if spelling is OLD and OLDEST in message:
        raise WeightsError(
            f"{message.source.shown}: expected layers as Caffe writes them since 2013, found older ones; "
            "pass it through Caffe's upgrade_net_proto_binary",
            "unusable",
        )
    name = printable(message.text(spelling.name))[:200]
    return Layer(
        printable(message.text(spelling.kind))[:100] if spelling is NEW else OLD_KINDS.get(message.integer(spelling.kind), "None"),
        name,
        tuple(message.texts(spelling.bottom)),
        tuple(message.texts(spelling.top)),
        tuple(_blob(blob, f"{name}/{place}") for place, blob in enumerate(message.messages(spelling.blobs))),
        (_runs(message, spelling, TRAIN), _runs(message, spelling, TEST)),
        message,
        spelling,
    )


def _runs(message: Message, spelling: Spelling, phase: int) -> bool:
    """Whether the rules of a layer let it run in a phase. Levels and stages of a rule are not looked at."""

    def meets(rule: Message) -> bool:
        return 1 not in rule or rule.integer(1) == phase

    included, excluded = message.messages(spelling.include), message.messages(spelling.exclude)
    return any(map(meets, included)) if included else not any(map(meets, excluded))


def _blob(blob: Message, name: str) -> ForeignTensor:
    """A BlobProto, its shape as written: before 2015 always of four sides."""
    sides = blob.message(SHAPE).integers(DIM) if SHAPE in blob else [blob.integer(side) for side in LEGACY_SIDES]
    shape = tuple(sides)
    shown = f"{blob.source.shown}: blob {name}"
    if len(shape) > MOST_AXES or any(side < 0 for side in shape) or prod(shape) * 4 > LARGEST_TENSOR_BYTES:
        found = " x ".join(map(str, shape[: MOST_AXES + 1]))
        raise WeightsError(f"{shown}: expected the shape of a blob of a network, found {found}; fetch the file again", "damaged")
    numbers, dtype = blob.numbers(DATA, "<f4"), "float32"
    if not numbers[0] and DOUBLE_DATA in blob:
        numbers, dtype = blob.numbers(DOUBLE_DATA, "<f8"), "float64"
    if numbers[0] != prod(shape):
        raise WeightsError(f"{shown}: expected {prod(shape):,} numbers, found {numbers[0]:,}; fetch the file again", "damaged")
    return ForeignTensor(shape, dtype, lambda: _values(numbers, shape))


def _values(numbers: Numbers, shape: tuple[int, ...]) -> Array:
    return numbers[1]().astype(np.float32, copy=False).reshape(shape)
