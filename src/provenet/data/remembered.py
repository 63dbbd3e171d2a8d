"""What a large folder held, kept in the cache folder, so that it is not read again: an index of a million pictures opens in milliseconds.

A folder's time changes whenever a name in it comes, goes or changes. So a set is known again if no folder below it has another time,
and one that changed in the last two seconds is not kept: it may change again within the resolution of the file system's clock. What is
in the files is read when they are decoded, and is never remembered.

Layout, little-endian: magic and version [16 bytes], CRC-32 and length of the header [8], the header as JSON padded to a multiple of 8;
then the times of the folders (int64 [F, 2]), and for the folders and each split: ends (int64 [N]), labels (int64 [N], not of folders),
text (bytes, padded to a multiple of 8). The arrays are mapped into memory and read when they are used.
"""

import hashlib
import json
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provenet.data.fetch import cache_folder
from provenet.data.ignored import Ignored, Reason
from provenet.data.index import CLASS_FOLDERS, DataSet, ImageSet
from provenet.data.paths import Paths
from provenet.data.pictures import PictureFiles
from provenet.files import appearing

FEWEST_PICTURES = 2_000  # fewer are read in no time
RESTLESS_SECONDS = 2.0
MAGIC = b"provenet index\0\1"
LARGEST_HEADER_BYTES = 2**28
_PROLOGUE = struct.Struct("<16sII")

FolderTimes = dict[str, tuple[int, int]]
"""Folder -> when its names, and its status, last changed, in nanoseconds; taken before it was listed."""


def folder_times(folder: str | os.PathLike[str]) -> tuple[int, int]:
    """Those of a folder now. Raises OSError."""
    status = Path(folder).stat()
    return status.st_mtime_ns, status.st_ctime_ns


def remember(root: Path, data: DataSet, times: FolderTimes) -> None:
    """Keep a set for the next time, where that is worth it and can be trusted; a cache that takes nothing is no error."""
    newest = max((time for both in times.values() for time in both), default=0)
    if sum(map(len, data.splits.values())) < FEWEST_PICTURES or newest > time.time_ns() - RESTLESS_SECONDS * 1e9:
        return
    place = _place(root)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with appearing(place) as part, part.open("wb") as file:
            file.writelines(_encode(root, data, times))
    except OSError:
        return


def recall(root: Path) -> DataSet | None:
    """The set as it was kept; None where it was not, or where a folder of it has changed since."""
    try:
        content = np.memmap(_place(root), np.uint8, mode="r")
        header, arrays = _read(content)
        if header["root"] != os.path.realpath(root):
            return None
        times = arrays.array(header["num_folders"] * 2).reshape(-1, 2)
        folders = Paths(*arrays.paths(header["num_folders"]))
        if not all(folder_times(folder) == (int(one), int(other)) for folder, (one, other) in zip(folders, times, strict=True)):
            return None
        ignored = [Ignored(path, Reason(reason), place, count) for path, reason, place, count in header["ignored"]]
        splits = {split["split"]: _split(split, arrays) for split in header["splits"]}
        return DataSet(header["name"], splits, ignored=ignored, wording=CLASS_FOLDERS)
    except (OSError, ValueError, KeyError, TypeError, IndexError, RecursionError, struct.error):
        return None


def _split(told: Mapping[str, Any], arrays: "_Arrays") -> ImageSet:
    ends, labels, text = arrays.array(told["count"]), arrays.array(told["count"]), arrays.text()
    classes = tuple(told["classes"])
    if len(labels) and not (labels.min() >= 0 and labels.max() < len(classes)):
        raise ValueError("labels")
    return ImageSet(told["name"], classes, labels, PictureFiles(Path(told["root"]), Paths(text, ends)))


def _encode(root: Path, data: DataSet, times: FolderTimes) -> Iterator[bytes | memoryview]:
    folders = Paths.of(list(times))
    sets = [(split, images, _whole(images)) for split, images in data.splits.items()]
    header = json.dumps(
        {
            "root": os.path.realpath(root),
            "name": data.name,
            "num_folders": len(times),
            "splits": [
                {"split": split, "name": images.name, "root": str(pictures.root), "classes": images.classes, "count": len(images)}
                for split, images, pictures in sets
            ],
            "ignored": [[item.path, item.reason.value, item.place, item.count] for item in data.ignored],
        }
    ).encode()
    header += b" " * (-len(header) % 8)
    yield _PROLOGUE.pack(MAGIC, zlib.crc32(header), len(header)) + header
    yield np.array(list(times.values()), "<i8").data
    yield from _encode_paths(folders)
    for _, images, pictures in sets:
        yield from _encode_paths(pictures.paths, images.labels)


def _whole(images: ImageSet) -> PictureFiles:
    assert isinstance(images.pictures, PictureFiles)
    return images.pictures


def _encode_paths(paths: Paths, labels: NDArray[np.int64] | None = None) -> Iterator[bytes | memoryview]:
    assert paths.rows is None
    yield paths.ends.astype("<i8").data
    if labels is not None:
        yield labels.astype("<i8").data
    yield struct.pack("<q", len(paths.text))
    yield paths.text.data
    yield bytes(-len(paths.text) % 8)


class _Arrays:
    """The arrays of a file, one after the other; none reaches beyond its end."""

    def __init__(self, content: NDArray[np.uint8], start: int) -> None:
        self._content = content
        self._start = start

    def array(self, count: int) -> NDArray[np.int64]:
        return self._take(8 * count).view("<i8")

    def text(self) -> NDArray[np.uint8]:
        size = int(self.array(1)[0])
        return self._take(size + -size % 8)[:size]

    def paths(self, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        ends = self.array(count)
        return self.text(), ends

    def _take(self, size: int) -> NDArray[np.uint8]:
        if not 0 <= size <= len(self._content) - self._start:
            raise ValueError("cut off")
        self._start += size
        return self._content[self._start - size : self._start]


def _read(content: NDArray[np.uint8]) -> tuple[dict[str, Any], _Arrays]:
    magic, checksum, size = _PROLOGUE.unpack(content[: _PROLOGUE.size].tobytes())
    header = content[_PROLOGUE.size : _PROLOGUE.size + min(size, LARGEST_HEADER_BYTES)].tobytes()
    if magic != MAGIC or zlib.crc32(header) != checksum:
        raise ValueError("damaged")
    return json.loads(header), _Arrays(content, _PROLOGUE.size + size)


def _place(root: Path) -> Path:
    name = hashlib.blake2b(os.fsencode(os.path.realpath(root)) + b"\0" + os.fsencode(root), digest_size=16).hexdigest()
    return cache_folder() / "indexes" / f"{name}.index"
