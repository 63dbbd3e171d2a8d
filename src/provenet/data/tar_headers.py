"""The members of a tar, one after the other, by their headers alone: plain tar, GNU long names, PAX names.

Format: POSIX.1-2017, "pax Interchange Format"; GNU tar manual, "Basic Tar Format". A member is a header of 512 bytes and its content,
padded to 512; two blocks of zeros end the tar. Nothing is ever written anywhere, and names are only names. Python's `tarfile` keeps an
object for each member and reads a PAX header of any length into memory; millions of pictures from strangers need neither.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from provenet.errors import DataError, printable, show_path

BLOCK_BYTES = 512
LONGEST_NAME_BYTES = 65_536  # of a GNU name or all PAX records of a member
WINDOW_BYTES = 4_096  # read at once: a header, and often a label and the next header
COMPRESSED = {
    b"\x1f\x8b": "a gzip-compressed file",
    b"BZh": "a bzip2-compressed file",
    b"\xfd7zXZ": "an xz-compressed file",
    b"(\xb5/\xfd": "a zstd-compressed file",
    b"PK": "a zip",
    b"7z\xbc\xaf": "a 7z archive",
}
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL = b"L", b"K", b"x", b"g"
_FILES = (b"0", b"\0", b"7")
_WITHOUT_CONTENT = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes: their size says nothing


class Member(NamedTuple):
    """One file in a tar. Its name may be any bytes; nothing is ever made of that name."""

    name: bytes
    offset: int
    """Where its content begins, in bytes."""
    size_bytes: int
    is_file: bool
    """Else a link, a folder, a device: without content."""


class CutOffError(DataError):
    """A tar that ends before its end."""


class TarBytes:
    """Pieces of an open tar, by their place; small pieces come from one window that was read at once."""

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self.descriptor = descriptor
        self.size_bytes = size_bytes
        self._window = b""
        self._start = 0

    def read(self, offset: int, count: int) -> bytes:
        """At most `count` bytes; fewer at the end of the file."""
        if not self._start <= offset <= offset + count <= self._start + len(self._window):
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            self._window = os.read(self.descriptor, max(count, WINDOW_BYTES))
            self._start = offset
        return self._window[offset - self._start : offset - self._start + count]


def read_members(tar: TarBytes, where: str) -> Iterator[Member]:
    """The members of a tar in order. Raises DataError for what is no plain tar, and `CutOffError` after the last whole member."""
    place = 0
    name: bytes | None = None  # of the next member, where a header before it tells
    size: int | None = None
    last = b"nothing"
    while True:
        header = tar.read(place, BLOCK_BYTES)
        if len(header) < BLOCK_BYTES:
            if not place:
                raise _no_tar(header, where)
            raise _cut_off(where, last)
        if not any(header):
            return
        if not _has_right_checksum(header):
            raise _no_tar(header, where) if not place else _damaged(where, place, last)
        kind = header[156:157]
        found_size = _number(header[124:136])
        if found_size is None or found_size < 0:
            raise _damaged(where, place, last)
        content = place + BLOCK_BYTES
        if kind in (_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL):
            if found_size > LONGEST_NAME_BYTES:
                found = f"one of {found_size:,} bytes"
                raise DataError(
                    f"{where}: expected names of at most {LONGEST_NAME_BYTES:,} bytes, found {found}; make the shard again", "no shard"
                )
            extra = tar.read(content, found_size)
            if len(extra) < found_size:
                raise _cut_off(where, last)
            if kind == _LONG_NAME:
                name = extra.split(b"\0", 1)[0]
            elif kind == _PAX:
                records = _pax_records(extra)
                if records is None:
                    raise _damaged(where, place, last)
                if any(key.startswith(b"GNU.sparse") for key in records):
                    raise _sparse(where)
                name = records.get(b"path", name)
                size = _decimal(records[b"size"]) if b"size" in records else size
            place = content + _padded(found_size)
            continue
        if kind in (b"S", b"M"):
            raise _sparse(where)
        is_file = kind in _FILES
        size_bytes = 0 if kind in _WITHOUT_CONTENT else found_size if size is None else size
        if name is None:
            prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
            name = header[:100].split(b"\0", 1)[0]
            name = prefix + b"/" + name if prefix else name
        if content + size_bytes > tar.size_bytes:
            raise _cut_off(where, last)
        last = name
        yield Member(name, content, size_bytes, is_file and not name.endswith(b"/"))
        place = content + _padded(size_bytes)
        name, size = None, None


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES


def _has_right_checksum(header: bytes) -> bool:
    expected = _number(header[148:156])
    return expected == sum(header) - sum(header[148:156]) + 8 * 0x20


def _number(field: bytes) -> int | None:
    """Octal text, or GNU's base 256 for sizes of 8 gigabytes and more."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    text = field.split(b"\0", 1)[0].strip()
    try:
        return int(text or b"0", 8)
    except ValueError:
        return None


def _decimal(text: bytes) -> int | None:
    return int(text) if text.isdigit() and len(text) < 20 else None


def _pax_records(content: bytes) -> dict[bytes, bytes] | None:
    r"""Lines of "LENGTH KEY=VALUE\n", where the length counts itself."""
    records: dict[bytes, bytes] = {}
    place = 0
    while place < len(content) and content[place]:
        digits, space, _ = content[place : place + 12].partition(b" ")
        length = _decimal(digits)
        if not space or not length or place + length > len(content):
            return None
        key, equals, value = content[place + len(digits) + 1 : place + length].partition(b"=")
        if not equals or not value.endswith(b"\n"):
            return None
        records[key] = value[:-1]
        place += length
    return records


def _no_tar(start: bytes, where: str) -> DataError:
    if not start:
        return DataError(f"{where}: expected a tar of pictures, found an empty file (0 bytes); make or fetch it again", "no shard")
    for magic, what in COMPRESSED.items():
        if start.startswith(magic):
            return DataError(f"{where}: expected a plain tar, found {what}; unpack it, and pack it as a plain tar", "no shard")
    return DataError(f"{where}: expected a plain tar, found no tar header at its start; make or fetch it again", "no shard")


def _sparse(where: str) -> DataError:
    return DataError(f"{where}: expected plain files in it, found a sparse or split one; pack it again without --sparse", "no shard")


def _damaged(where: str, place: int, last: bytes) -> DataError:
    return DataError(
        f"{where}: expected a tar header at byte {place:,}, found something else; "
        f"the last whole member is {_shown(last)}; fetch the shard again",
        "cut-off shard",
    )


def _shown(name: bytes) -> str:
    return printable(show_path(os.fsdecode(name[:4_096])))


def _cut_off(where: str, last: bytes) -> CutOffError:
    return CutOffError(
        f"{where}: expected the end of a tar, found the file to end before it; "
        f"the last whole member is {_shown(last)}; fetch the shard again",
        "cut-off shard",
    )
