"""How long an HDF5 file says that a text is, read from its object header before the library believes it.

A text of any length is kept as a reference of 16 bytes: its length, and where it is. The HDF5 library allocates and clears that length
before it looks: a file of ten kilobytes could take four gigabytes.

Source: HDF5 File Format Specification 3.0, sections IV.A.1.a and b (object headers), IV.A.2.m (attributes), IV.A.2.q (continuation).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

ATTRIBUTE, CONTINUATION, ATTRIBUTE_INFO = 0x0C, 0x10, 0x15
NOWHERE = b"\xff" * 8
LARGEST_HEADER_BYTES = 2**22
LARGEST_NUM_CHUNKS = 1000


def claimed_text_bytes(path: Path, address: int, name: str) -> int:
    """The length that the attribute of that name claims, of the object whose header is at that byte; its value is one text.

    Raises ValueError for a header that keeps its attributes elsewhere, which Keras' files never do, or is none. Addresses have 8 bytes.
    """
    with path.open("rb") as file:
        claims = [claim for kind, flags, body in _messages(file, address) for claim in _claims(kind, flags, body, name.encode())]
    if not claims:
        raise ValueError(f"no {name} in the header of its object")
    return max(claims)


def _claims(kind: int, flags: int, body: bytes, name: bytes) -> Iterator[int]:
    """The length in one message, where that is the attribute of that name."""
    if kind == ATTRIBUTE_INFO:
        start = 4 if body[1] & 1 else 2
        if body[start : start + 8] != NOWHERE:
            raise ValueError("attributes outside of the header of their object")
    if kind != ATTRIBUTE:
        return
    if flags & 2:
        raise ValueError("an attribute that several objects share")
    sizes = [int.from_bytes(body[place : place + 2], "little") for place in (2, 4, 6)]  # of its name, type and extent
    if body[0] == 1:
        sizes = [-(-size // 8) * 8 for size in sizes]
    start = 9 if body[0] == 3 else 8
    if body[start : start + sizes[0]].partition(b"\0")[0] == name:
        value = body[start + sum(sizes) :]
        if len(value) < 16:
            raise ValueError("an attribute that is cut")
        yield int.from_bytes(value[:4], "little")


def _messages(file: BinaryIO, address: int) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and body of each message of an object header of version 1 or 2, continuations included."""
    start = _read(file, address, 64, whole=False)
    is_new = start[:4] == b"OHDR"
    if is_new:
        begin, width = 6 + (16 if start[5] & 0x20 else 0) + (4 if start[5] & 0x10 else 0), 1 << (start[5] & 3)
        waiting = [(address + begin + width, int.from_bytes(start[begin : begin + width], "little"))]
    else:
        waiting = [(address + 16, int.from_bytes(start[8:12], "little"))]
    head_bytes = 8 if not is_new else 6 if start[5] & 4 else 4
    read_bytes = num_chunks = 0
    while waiting:
        where, size = waiting.pop(0)
        read_bytes, num_chunks = read_bytes + size, num_chunks + 1
        if read_bytes > LARGEST_HEADER_BYTES or num_chunks > LARGEST_NUM_CHUNKS:
            raise ValueError("a header of megabytes")
        chunk, place = _read(file, where, size), 0
        if is_new and num_chunks > 1:  # between a signature and a checksum
            chunk = chunk[4:-4]
        while place + head_bytes <= len(chunk):
            head = chunk[place : place + head_bytes]
            kind, length, flags = (
                (head[0], int.from_bytes(head[1:3], "little"), head[3]) if is_new
                else (int.from_bytes(head[:2], "little"), int.from_bytes(head[2:4], "little"), head[4])
            )  # fmt: skip
            body = chunk[place + head_bytes : place + head_bytes + length]
            place += head_bytes + length
            if kind == CONTINUATION:
                waiting.append((int.from_bytes(body[:8], "little"), int.from_bytes(body[8:16], "little")))
            elif len(body) >= 8:
                yield kind, flags, body


def _read(file: BinaryIO, address: int, size: int, *, whole: bool = True) -> bytes:
    file.seek(address)
    found = file.read(size)
    if whole and len(found) < size:
        raise ValueError("a header beyond the end of the file")
    return found
