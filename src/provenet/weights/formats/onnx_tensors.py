"""Tensors of an ONNX file, in it or in a file beside it. Field numbers are those of TensorProto in onnx.proto."""

from collections.abc import Callable
from math import prod
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from provenet.errors import WeightsError, printable, show_path
from provenet.weights.foreign import LARGEST_TENSOR_BYTES, Array, ForeignTensor
from provenet.weights.formats.protobuf import Message, map_file

DIMS, DATA_TYPE, FLOAT_DATA, INT32_DATA, INT64_DATA, NAME, RAW_DATA, DOUBLE_DATA, UINT64_DATA = 1, 2, 4, 5, 7, 8, 9, 10, 11
EXTERNAL_DATA, DATA_LOCATION = 13, 14
KEY, VALUE = 1, 2
MOST_AXES = 8
STORED_AS = {
    1: ("float32", "<f4"), 2: ("uint8", "u1"), 3: ("int8", "i1"), 4: ("uint16", "<u2"), 5: ("int16", "<i2"), 6: ("int32", "<i4"),
    7: ("int64", "<i8"), 9: ("bool", "?"), 10: ("float16", "<f2"), 11: ("float64", "<f8"), 12: ("uint32", "<u4"), 13: ("uint64", "<u8"),
    16: ("bfloat16", "<u2"),
}  # fmt: skip
"""TensorProto.DataType: (as NumPy calls it, how the bytes are)."""


class ExternalFiles:
    """Files beside a model that hold its tensors; each is mapped once, and none is outside the model's folder."""

    def __init__(self, model: Path) -> None:
        self.model = model
        self._mapped: dict[str, memoryview] = {}

    def content(self, location: str) -> memoryview:
        """The bytes of the file that a model calls `location`."""
        if location not in self._mapped:
            self._mapped[location] = map_file(self._inside(location), "the file with the tensors of an ONNX model")
        return self._mapped[location]

    def _inside(self, location: str) -> Path:
        shown, called = show_path(self.model), printable(location)[:200]
        posix, windows = PurePosixPath(location), PureWindowsPath(location)
        is_plain = (
            location.strip() and "\0" not in location and not posix.is_absolute() and not windows.anchor and ".." not in windows.parts
        )
        refused = WeightsError(
            f"{shown}: expected its tensors in files of its own folder, found {called!r} outside it; do not trust this file", "dangerous"
        )
        if not is_plain:
            raise refused
        place = self.model.parent / posix
        try:
            folder, resolved = self.model.parent.resolve(), place.resolve()
        except (OSError, ValueError, RuntimeError) as error:
            raise refused from error
        if not resolved.is_relative_to(folder):
            raise refused
        if not resolved.exists():
            raise WeightsError(
                f"{shown}: expected its tensors in the file {called!r} beside it, found none; put that file into {show_path(folder)}",
                "missing",
            )
        return resolved


def read_tensor(tensor: Message, files: ExternalFiles, called: str = "") -> tuple[str, ForeignTensor]:
    """A TensorProto -> its name, and the tensor, checked against the bytes that are really there."""
    name = tensor.text(NAME) or called
    shape, data_type = tuple(tensor.integers(DIMS)), tensor.integer(DATA_TYPE)
    shown = f"{tensor.source.shown}: tensor {printable(name)[:100]}"
    if len(shape) > MOST_AXES or any(side < 0 for side in shape) or prod(shape) * 4 > LARGEST_TENSOR_BYTES:
        sides = " x ".join(map(str, shape[: MOST_AXES + 1]))
        raise WeightsError(f"{shown}: expected the shape of a tensor of a network, found {sides}; fetch the file again", "damaged")
    if data_type not in STORED_AS:
        return name, ForeignTensor(shape, f"type {data_type}", _unreadable(f"{shown}: expected numbers, found type {data_type} of ONNX"))
    dtype, stored = STORED_AS[data_type]
    content: memoryview | None
    if tensor.integer(DATA_LOCATION) == 1:
        content = _external(tensor, files, prod(shape) * np.dtype(stored).itemsize, shown)
    else:
        content = tensor.bytes_of(RAW_DATA)
    if content is not None:
        found_bytes, expected_bytes = len(content), prod(shape) * np.dtype(stored).itemsize
        if found_bytes != expected_bytes:
            raise WeightsError(f"{shown}: expected {expected_bytes:,} bytes, found {found_bytes:,}; fetch the file again", "damaged")
        raw = content
        return name, ForeignTensor(shape, dtype, lambda: _as_numbers(np.frombuffer(raw, stored), dtype).reshape(shape))
    count, read = _typed(tensor, dtype)
    if count != prod(shape):
        raise WeightsError(f"{shown}: expected {prod(shape):,} numbers, found {count:,}; fetch the file again", "damaged")
    return name, ForeignTensor(shape, dtype, lambda: _as_numbers(read(), dtype).reshape(shape))


def _typed(tensor: Message, dtype: str) -> tuple[int, Callable[[], Array]]:
    """The numbers in the field of their own type; smaller ones are in int32_data, half floats by their bits."""
    if dtype == "float32":
        return tensor.numbers(FLOAT_DATA, "<f4")
    if dtype == "float64":
        return tensor.numbers(DOUBLE_DATA, "<f8")
    count, read = tensor.numbers({"int64": INT64_DATA, "uint32": UINT64_DATA, "uint64": UINT64_DATA}.get(dtype, INT32_DATA), "varint")
    if dtype == "float16":
        return count, lambda: read().astype(np.uint16).view(np.float16)
    return count, lambda: read().astype(np.uint16 if dtype == "bfloat16" else dtype)


def _as_numbers(values: Array, dtype: str) -> Array:
    """A copy: floats as float32."""
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32 if dtype.startswith("float") else dtype)


def _external(tensor: Message, files: ExternalFiles, size_bytes: int, shown: str) -> memoryview:
    entries = {entry.text(KEY): entry.text(VALUE) for entry in tensor.messages(EXTERNAL_DATA)}
    content = files.content(entries.get("location", ""))
    try:
        offset, length = (_whole_number(entries.get(key, str(default))) for key, default in (("offset", 0), ("length", size_bytes)))
    except ValueError as error:
        raise WeightsError(f"{shown}: expected its place in a file, found no number; fetch the file again", "damaged") from error
    if offset + length > len(content):
        raise WeightsError(
            f"{shown}: expected bytes {offset:,} to {offset + length:,} of {printable(entries['location'])[:200]!r}, "
            f"found a file of {len(content):,}; fetch that file again",
            "damaged",
        )
    return content[offset : offset + length]


def _whole_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise ValueError(text)
    return int(text)


def _unreadable(message: str) -> Callable[[], Array]:
    def read() -> Array:
        raise WeightsError(f"{message}; take a file with float weights")

    return read
