"""Protocol Buffers' wire format, read from a mapped file: enough for ONNX and Caffe, and no more than the file holds.

A message is looked through when one of its fields is first asked for, and its values are slices of the file, not copies. Fields nobody
asks for are passed over. Source: https://protobuf.dev/programming-guides/encoding.
"""

import mmap
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from provenet.errors import WeightsError, show_path
from provenet.weights.foreign import Array

LARGEST_MESSAGE_BYTES = 2**31
"""protobuf's own limit of a message."""
MOST_FIELDS = 2**18
"""Of a whole file, as far as it is read; of ResNet-152 as PyTorch exports it that is 14,000."""
DEEPEST = 16
MOST_NUMBERS = 2**12
"""Of a list of settings; tensors have more, and are read otherwise."""
LONGEST_TEXT_BYTES = 2**14
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
PIECE_BYTES = 2**20

Numbers = tuple[int, Callable[[], Array]]
"""How many there are, and a way to read them."""


class Source:
    """The file that messages are read from, for their errors, and how many of their fields may still be looked at."""

    def __init__(self, path: Path, expected: str) -> None:
        self.shown = show_path(path)
        self.expected = expected
        self.fields_left = MOST_FIELDS

    def damaged(self, found: str) -> WeightsError:
        """The error of a file that breaks the format."""
        return WeightsError(f"{self.shown}: expected {self.expected}, found {found}; fetch the file again", "damaged")


def map_file(path: Path, expected: str) -> memoryview:
    """The bytes of a file, read when they are looked at. Raises WeightsError for what is no file or empty."""
    shown = show_path(path)
    try:
        if not os.path.isfile(path):  # before it is opened: a pipe would wait
            found = "something that is no file" if os.path.exists(path) else "nothing"
            raise WeightsError(f"{shown}: expected {expected}, found {found}; check the path", "missing")
        with path.open("rb") as file:
            if not os.fstat(file.fileno()).st_size:
                raise WeightsError(f"{shown}: expected {expected}, found an empty file; fetch it again", "damaged")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{shown}: expected {expected}, found nothing readable ({reason}); check the path", "missing") from error


def open_message(path: Path, expected: str) -> "Message":
    """The message that a file is. Raises WeightsError for a file that is none, or too large for one."""
    content = map_file(path, expected)
    if len(content) > LARGEST_MESSAGE_BYTES:
        limit = f"at most {LARGEST_MESSAGE_BYTES:,} bytes"
        raise WeightsError(f"{show_path(path)}: expected {expected} of {limit}, found {len(content):,}; check which file it is", "damaged")
    return Message(content, Source(path, expected))


class Message:
    """One message; fields are asked for by number. Of a single field that comes several times the last one counts, as the format says."""

    def __init__(self, content: memoryview, source: Source, depth: int = 0) -> None:
        if depth > DEEPEST:
            raise source.damaged(f"messages inside one another deeper than {DEEPEST}")
        self.content, self.source, self.depth = content, source, depth
        self._fields: dict[int, list[tuple[int, int | memoryview]]] | None = None

    def __contains__(self, number: int) -> bool:
        return number in self._looked_through()

    def integer(self, number: int, default: int = 0) -> int:
        """An int32, int64, bool or enum."""
        values = self._values(number, VARINT)
        return _signed(values[-1]) if values else default

    def integers(self, number: int) -> list[int]:
        """A list of int64 of settings, packed or not."""
        count, read = self.numbers(number, "varint")
        if count > MOST_NUMBERS:
            raise self.source.damaged(f"{count:,} numbers where a few belong")
        return [int(value) for value in read()]

    def real(self, number: int, default: float = 0.0) -> float:
        """A float of 32 bits."""
        values = self._slices(number, FIXED32)
        return float(struct.unpack("<f", values[-1])[0]) if values else default

    def reals(self, number: int) -> list[float]:
        """A list of float of settings, packed or not."""
        count, read = self.numbers(number, "<f4")
        if count > MOST_NUMBERS:
            raise self.source.damaged(f"{count:,} numbers where a few belong")
        return [float(value) for value in read()]

    def text(self, number: int, default: str = "") -> str:
        """A string; what is no UTF-8 in it becomes the replacement character."""
        values = self._slices(number, LENGTH)
        return self._decoded(values[-1]) if values else default

    def texts(self, number: int) -> list[str]:
        """A list of strings."""
        return [self._decoded(value) for value in self._slices(number, LENGTH)]

    def bytes_of(self, number: int) -> memoryview | None:
        """Raw bytes, or None where the field is missing."""
        values = self._slices(number, LENGTH)
        return values[-1] if values else None

    def message(self, number: int) -> "Message":
        """A message inside this one; a missing one has no fields, so all defaults."""
        values = self._slices(number, LENGTH)
        return Message(values[-1] if values else memoryview(b""), self.source, self.depth + 1)

    def messages(self, number: int) -> list["Message"]:
        """A list of messages."""
        return [Message(value, self.source, self.depth + 1) for value in self._slices(number, LENGTH)]

    def numbers(self, number: int, kind: Literal["varint", "<f4", "<f8"]) -> Numbers:
        """A list of numbers of any length, packed or not: int64 or floats; counted now and read later."""
        if kind == "varint":
            pieces = self._slices(number, LENGTH)
            single = self._values(number, VARINT)
            count = len(single) + sum(self._count_varints(piece) for piece in pieces)
            return count, lambda: np.concatenate([np.array(single, np.uint64).view(np.int64), *(self._varints(piece) for piece in pieces)])
        item_bytes, wire = (4, FIXED32) if kind == "<f4" else (8, FIXED64)
        parts = self._slices(number, LENGTH) + self._slices(number, wire)
        if any(len(part) % item_bytes for part in parts):
            raise self.source.damaged(f"a list of numbers that is no multiple of {item_bytes} bytes long")
        count = sum(map(len, parts)) // item_bytes
        return count, lambda: np.concatenate([np.frombuffer(part, kind) for part in parts] or [np.empty(0, kind)])

    def _values(self, number: int, wire: int) -> list[int]:
        return [value for kind, value in self._looked_through().get(number, ()) if kind == wire and isinstance(value, int)]

    def _slices(self, number: int, wire: int) -> list[memoryview]:
        return [value for kind, value in self._looked_through().get(number, ()) if kind == wire and isinstance(value, memoryview)]

    def _decoded(self, value: memoryview) -> str:
        if len(value) > LONGEST_TEXT_BYTES:
            raise self.source.damaged(f"a name of {len(value):,} bytes")
        return bytes(value).decode("utf-8", "replace")

    def _looked_through(self) -> dict[int, list[tuple[int, int | memoryview]]]:
        if self._fields is None:
            self._fields = {}
            for number, wire, value in self._look_through():
                self._fields.setdefault(number, []).append((wire, value))
        return self._fields

    def _look_through(self) -> Iterator[tuple[int, int, int | memoryview]]:
        content, source = self.content, self.source
        position, end = 0, len(content)
        while position < end:
            source.fields_left -= 1
            if source.fields_left < 0:
                raise source.damaged(f"more than {MOST_FIELDS:,} fields")
            key, position = self._varint(position)
            number, wire = key >> 3, key & 7
            if not 0 < number < 2**29:
                raise source.damaged("bytes that are no protobuf message")
            if wire == VARINT:
                value, position = self._varint(position)
                yield number, wire, value
                continue
            if wire == LENGTH:
                size_bytes, position = self._varint(position)
            elif wire in (FIXED32, FIXED64):
                size_bytes = 4 if wire == FIXED32 else 8
            else:
                raise source.damaged("bytes that are no protobuf message")
            if size_bytes > end - position:
                raise source.damaged(
                    f"a field of {size_bytes:,} bytes where {end - position:,} are left: it is cut short or something else"
                )
            yield number, wire, content[position : position + size_bytes]
            position += size_bytes

    def _varint(self, position: int) -> tuple[int, int]:
        """The unsigned number that begins there, and where it ends."""
        value = 0
        for shift in range(0, 70, 7):
            if position >= len(self.content):
                raise self.source.damaged("a number that is cut short")
            byte = self.content[position]
            position += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & (2**64 - 1), position
        raise self.source.damaged("bytes that are no protobuf message")

    def _count_varints(self, piece: memoryview) -> int:
        if len(piece) and piece[-1] >= 128:
            raise self.source.damaged("a list of numbers that is cut short")
        return sum(_num_ends(piece[start : start + PIECE_BYTES]) for start in range(0, len(piece), PIECE_BYTES))

    def _varints(self, piece: memoryview) -> Array:
        """Packed numbers as int64 [n], a megabyte of them at a time."""
        values = np.zeros(self._count_varints(piece), np.uint64)
        first, done = 0, 0
        while first < len(piece):
            part = np.frombuffer(piece[first : first + PIECE_BYTES], np.uint8)
            ends = np.flatnonzero(part < 128)
            starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
            lengths = ends - starts + 1
            if not len(ends) or lengths.max() > 10:
                raise self.source.damaged("a number of more than ten bytes")
            target = values[done : done + len(ends)]
            for k in range(int(lengths.max())):
                has = lengths > k
                target[has] |= (part[starts[has] + k].astype(np.uint64) & np.uint64(127)) << np.uint64(7 * k)
            first += int(ends[-1]) + 1
            done += len(ends)
        return values.view(np.int64)


def _num_ends(piece: memoryview) -> int:
    return int(np.count_nonzero(np.frombuffer(piece, np.uint8) < 128))


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value
