"""The offset file of a shard, `NAME.tar.offsets`: its index, so that the tar is read only once.

Layout, little-endian: magic and version [16 bytes], CRC-32 of all that follows [4], length of the header [4], the header as JSON padded
with spaces to a multiple of 8, then offsets, sizes, ends (int64 [N] each), labels (int32 [N]), names (bytes). It names the size and the
time of its tar; one that does not fit the tar, or is damaged, is made again. It may come from strangers: everything is bounded by the
length of the file, and nothing in it points outside of the tar.
"""

import hashlib
import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from provenet.data.fetch import cache_folder
from provenet.data.labels import LONGEST_NAME
from provenet.data.shard_index import LARGEST_NUM_CLASSES, LARGEST_NUM_REMARKS, Remark, ShardIndex, index_shard
from provenet.errors import is_plain_text
from provenet.files import write_whole

ENDING = ".offsets"
MAGIC = b"provenet shard\0\1"
LARGEST_OFFSETS_BYTES = 2**34
BYTES_A_PICTURE = 8 + 8 + 8 + 4
_PROLOGUE = struct.Struct("<16sII")


def open_index(path: Path, name: str) -> ShardIndex:
    """The index of a shard, from its offset file where there is a good one, else read and written for the next time.

    It lies beside the tar, or, where that folder takes none, in the cache folder; where neither does, the tar is read each time.
    """
    status = path.stat()
    places = (path.with_name(path.name + ENDING), _place_in_cache(path))
    for place in places:
        index = read_offsets(place, status.st_size, status.st_mtime_ns)
        if index is not None:
            return index
    index = index_shard(path, name)
    content = encode_offsets(index)
    for place in places:
        try:
            if place is not places[0]:
                place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, content)
        except OSError:
            continue
        break
    return index


def encode_offsets(index: ShardIndex) -> bytes:
    """The bytes of an offset file."""
    header = json.dumps(
        {
            "tar_bytes": index.tar_bytes,
            "tar_mtime_ns": index.tar_mtime_ns,
            "num_pictures": len(index),
            "labels": index.label_names,
            "ignored": [[remark.kind, remark.first, remark.count] for remark in index.ignored],
            "problems": [[remark.kind, remark.first, remark.count] for remark in index.problems],
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    arrays = (
        index.offsets.astype("<i8"),
        index.sizes.astype("<i8"),
        index.ends.astype("<i8"),
        index.labels.astype("<i4"),
        index.text,
    )
    body = b"".join((header, *(array.tobytes() for array in arrays)))
    checksum = zlib.crc32(struct.pack("<I", len(header)) + body)
    return _PROLOGUE.pack(MAGIC, checksum, len(header)) + body


def read_offsets(path: Path, tar_bytes: int, tar_mtime_ns: int) -> ShardIndex | None:
    """The index in an offset file, its arrays in one block of memory; None where it is not there, damaged, or of another tar."""
    try:
        if not path.is_file() or not _PROLOGUE.size <= path.stat().st_size <= LARGEST_OFFSETS_BYTES:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    magic, checksum, header_bytes = _PROLOGUE.unpack_from(content)
    # Read, not memory-mapped: a mapping keeps a file open, and there are sets of more shards than a process may open files.
    if magic != MAGIC or zlib.crc32(memoryview(content)[20:]) != checksum:
        return None
    try:
        header = json.loads(content[_PROLOGUE.size : _PROLOGUE.size + header_bytes])
        return _decode(header, content, _PROLOGUE.size + header_bytes, tar_bytes, tar_mtime_ns)
    except (ValueError, RecursionError, KeyError, TypeError):
        return None


def _decode(header: dict[str, Any], content: bytes, start: int, tar_bytes: int, tar_mtime_ns: int) -> ShardIndex | None:
    count = header["num_pictures"]
    if (header["tar_bytes"], header["tar_mtime_ns"]) != (tar_bytes, tar_mtime_ns):
        return None
    if type(count) is not int or not 0 <= count <= (len(content) - start) // BYTES_A_PICTURE or start % 8:
        return None
    offsets, sizes, ends = (np.frombuffer(content, "<i8", count, start + 8 * count * row) for row in range(3))
    labels = np.frombuffer(content, "<i4", count, start + 24 * count)
    text = np.frombuffer(content, np.uint8, offset=start + BYTES_A_PICTURE * count)
    names = header["labels"]
    are_names = isinstance(names, list) and len(names) <= LARGEST_NUM_CLASSES and all(_is_name(name) for name in names)
    is_sound = (
        are_names
        and (int(ends[-1]) if count else 0) == len(text)
        and (not count or (ends[0] >= 0 and bool((np.diff(ends) >= 0).all())))
        and (not count or (offsets.min() >= 0 and sizes.min() >= 0))
        and (not count or (sizes.max() <= tar_bytes and bool((offsets <= tar_bytes - sizes).all())))
        and (not count or (labels.min() >= 0 and labels.max() < len(names)))
    )
    if not is_sound:
        return None
    remarks = [_read_remarks(header[kind]) for kind in ("ignored", "problems")]
    return ShardIndex(tar_bytes, tar_mtime_ns, offsets, sizes, ends, labels, text, tuple(names), *remarks)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and 0 < len(name) <= LONGEST_NAME and is_plain_text(name)


def _read_remarks(values: Any) -> tuple[Remark, ...]:
    if not isinstance(values, list) or len(values) > LARGEST_NUM_REMARKS + 1:
        raise ValueError(values)
    for kind, first, count in values:
        is_text = isinstance(kind, str) and isinstance(first, str) and is_plain_text(kind) and is_plain_text(first)
        if not is_text or type(count) is not int:
            raise ValueError(kind)
    return tuple(Remark(*value) for value in values)


def _place_in_cache(path: Path) -> Path:
    name = hashlib.blake2b(os.fsencode(os.path.realpath(path)), digest_size=16).hexdigest()
    return cache_folder() / "offsets" / f"{name}{ENDING}"
