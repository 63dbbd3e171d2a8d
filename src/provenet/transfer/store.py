"""Features on disk: rows of numbers, each known by the content of its picture, computed once and mapped into memory.

A store is a folder named after all that its numbers depend on: network and cut, the weights up to there, preprocessing, distortion, engine,
precision and type. It has two files that only grow: `rows.bin`, rows of one size, and `index.bin`, for each of them a record of 16 bytes
(little-endian: content key uint64, view uint32, CRC-32 of these and the row), written after its row. So whatever kills a process in
between leaves a tail that no record speaks of; and a row or record that a failing disk has changed does not fit the other, and is computed
anew. Processes that write take turns by a lock, for as long as a batch takes to write.
"""

import contextlib
import hashlib
import json
import os
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Literal, Self

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from provenet.errors import CacheError, show_path
from provenet.files import write_whole

FORMAT_VERSION = 1
ABOUT, ROWS, INDEX, LOCK, IN_USE = "about.json", "rows.bin", "index.bin", ".lock", ".in-use"
LARGEST_ABOUT_BYTES = 2**20
RECORD = np.dtype([("content", "<u8"), ("view", "<u4"), ("crc", "<u4")])
CRC_PLACE = 12  # what comes before it in a record is whose the row is
LOCK_SECONDS = 120.0
FeatureType = Literal["float32", "float16"]
LARGEST_FLOAT16 = 65_504.0


@dataclass(frozen=True, kw_only=True)
class StoreKey:
    """All that the numbers of a store depend on, but for the pictures."""

    network: str
    cut: str
    """The stage whose output is kept."""
    shape: tuple[int, ...]
    """Of one row."""
    weights: str
    """A short name for exactly the weights up to the cut."""
    preprocessing: dict[str, Any]
    distortion: dict[str, Any] | None = None
    """Of distorted views, with the seed."""
    engine: str = "eager"
    precision: str = "float32"
    type: FeatureType = "float32"

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"format_version": FORMAT_VERSION, **asdict(self), "shape": list(self.shape)}

    @property
    def name(self) -> str:
        """Of the folder: what it is for people, and a short name for exactly these facts."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return f"{self.network}-{self.cut}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"

    @property
    def row_bytes(self) -> int:
        """Size of one row."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.type).itemsize


class MappedRows:
    """Rows [N, *shape] that stay on the disk: `rows[numbers]` reads those."""

    def __init__(self, rows: NDArray[Any], places: NDArray[np.int64], shape: tuple[int, ...]) -> None:
        self._rows = rows
        self._places = places
        self.shape = (len(places), *shape)

    def __getitem__(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        return self._rows[self._places[numbers]].reshape(len(numbers), *self.shape[1:])


class FeatureStore:
    """The rows of one key, of any number of pictures; use it in a `with` block."""

    def __init__(self, folder: Path, key: StoreKey) -> None:
        """Open the store `folder` / its name, which is made if it is not there. Raises CacheError where nothing can be kept there."""
        self.path = folder / key.name
        self.key = key
        self._lock = FileLock(self.path / LOCK, timeout=LOCK_SECONDS, is_singleton=False)
        self._open_files: list[IO[bytes]] = []
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._open_files.append(_claim(self.path))
            with self._lock:
                if not self._is_ours():
                    self._begin()
                self._rows = (self.path / ROWS).open("r+b", buffering=0)
                self._index = (self.path / INDEX).open("r+b", buffering=0)
                self._open_files += [self._rows, self._index]
            os.utime(self.path / ABOUT)  # last used
        except (OSError, Timeout, NotImplementedError) as error:
            self.close()
            raise _unusable(self.path, error) from error
        self._places: dict[tuple[int, int], int] = {}
        """(content, view) -> row."""
        self._num_known = 0
        self._sound: set[int] = set()
        self._records = np.zeros(0, RECORD)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Rows, those of all processes so far."""
        return min(_size(self._index) // RECORD.itemsize, _size(self._rows) // self.key.row_bytes)

    def close(self) -> None:
        """No more rows."""
        while self._open_files:
            self._open_files.pop().close()

    def missing(self, contents: NDArray[np.uint64], view: int = 0) -> NDArray[np.int64]:
        """Places in `contents` [N] whose row is not there, or is not sound any more; of equal contents the first only."""
        self._learn()
        rows = self._mapped()
        missing, seen = [], set()
        for place, content in enumerate(contents.tolist()):
            if content in seen:
                continue
            seen.add(content)
            row = self._places.get((content, view))
            if row is None or not self._is_sound(row, rows):
                missing.append(place)
        return np.array(missing, np.int64)

    def append(self, contents: NDArray[np.uint64], features: NDArray[np.float32], view: int = 0) -> None:
        """Keep rows [B, *shape] of contents [B]. Raises CacheError where there is no room; what was kept before stays."""
        rows = self._encode(features)
        records = np.zeros(len(rows), RECORD)
        records["content"], records["view"] = contents, view
        records["crc"] = [_checksum(record, row) for record, row in zip(records, rows, strict=True)]
        try:
            with self._lock:
                if not self._is_there():
                    raise CacheError(f"{show_path(self.path)}: expected the cache that was opened, found it removed; start again")
                count = len(self)
                for file, size in ((self._rows, count * self.key.row_bytes), (self._index, count * RECORD.itemsize)):
                    file.truncate(size)  # what a kill left behind
                    file.seek(size)
                _write_all(self._rows, rows.data)
                _write_all(self._index, records.data)
        except (OSError, Timeout) as error:
            raise _unusable(self.path, error) from error

    def rows(self, contents: NDArray[np.uint64], view: int = 0) -> NDArray[np.floating[Any]]:
        """The rows [N, *shape] of contents [N], all of which must be there: read from the disk, in its order, into memory."""
        self._learn()
        rows = self._mapped()
        places = np.array([self._places[content, view] for content in contents.tolist()], np.int64)
        found = np.empty((len(places), *self.key.shape), np.dtype(self.key.type))
        order = np.argsort(places, kind="stable")
        found.reshape(len(places), rows.shape[1])[order] = rows[places[order]]
        return found

    def mapped(self, contents: NDArray[np.uint64], view: int = 0) -> MappedRows:
        """The same, read when they are asked for."""
        self._learn()
        return MappedRows(
            self._mapped(), np.array([self._places[content, view] for content in contents.tolist()], np.int64), self.key.shape
        )

    def _encode(self, features: NDArray[np.float32]) -> NDArray[Any]:
        if features.shape[1:] != self.key.shape:
            raise CacheError(f"{self.key.name}: expected rows {list(self.key.shape)}, found {list(features.shape[1:])}; make another store")
        if not np.isfinite(features).all() or (self.key.type == "float16" and np.abs(features).max(initial=0) > LARGEST_FLOAT16):
            raise CacheError(
                f"{self.key.name}: expected numbers that {self.key.type} can hold, found {np.abs(features).max(initial=0):.3g}; "
                + ("keep float32" if self.key.type == "float16" else "the weights are damaged, use others")
            )
        return np.ascontiguousarray(features, np.dtype(self.key.type)).reshape(len(features), -1)

    def _learn(self) -> None:
        """Read the records that have come since the last look, of this process or another."""
        count = len(self)
        if count <= self._num_known:
            return
        content = os.pread(self._index.fileno(), (count - self._num_known) * RECORD.itemsize, self._num_known * RECORD.itemsize)
        records = np.frombuffer(content[: len(content) // RECORD.itemsize * RECORD.itemsize], RECORD)
        places = zip(records["content"].tolist(), records["view"].tolist(), strict=True)
        self._places.update({place: self._num_known + number for number, place in enumerate(places)})  # a later one takes its place
        self._records = np.concatenate([self._records, records])
        self._num_known += len(records)

    def _mapped(self) -> NDArray[Any]:
        """All known rows, mapped: [rows, numbers]."""
        numbers = self.key.row_bytes // np.dtype(self.key.type).itemsize
        if not self._num_known:
            return np.zeros((0, numbers), np.dtype(self.key.type))
        return np.memmap(self._rows, np.dtype(self.key.type), mode="r", shape=(self._num_known, numbers))

    def _is_sound(self, row: int, rows: NDArray[Any]) -> bool:
        """Whether a row is what was written: looked at once."""
        if row in self._sound:
            return True
        if _checksum(self._records[row], rows[row]) != self._records[row]["crc"]:
            return False
        self._sound.add(row)
        return True

    def _is_ours(self) -> bool:
        """Whether all files are there, and the facts are those of the key."""
        return read_about(self.path) == json.loads(json.dumps(self.key.to_dict())) and all(
            (self.path / name).is_file() for name in (ROWS, INDEX)
        )

    def _begin(self) -> None:
        """Empty files: there were none, or what was there cannot be trusted."""
        for name in (INDEX, ROWS):
            (self.path / name).unlink(missing_ok=True)  # whoever still reads the old one goes on
            (self.path / name).touch()
        write_whole(self.path / ABOUT, json.dumps(self.key.to_dict(), indent=1, sort_keys=True).encode())

    def _is_there(self) -> bool:
        """Whether the open files are those at the path still."""
        with contextlib.suppress(OSError):
            return all(
                os.path.samestat(os.fstat(file.fileno()), (self.path / name).stat())
                for file, name in ((self._rows, ROWS), (self._index, INDEX))
            )
        return False


def read_about(path: Path) -> dict[str, Any] | None:
    """The facts of a store, or None where there are none that can be read."""
    try:
        with (path / ABOUT).open("rb") as file:
            found = json.loads(file.read(LARGEST_ABOUT_BYTES))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _checksum(record: Any, row: NDArray[Any]) -> int:
    """Of a row and whose it is."""
    return zlib.crc32(row.data, zlib.crc32(record.tobytes()[:CRC_PLACE]))


def _size(file: IO[bytes]) -> int:
    return os.fstat(file.fileno()).st_size


def _write_all(file: IO[bytes], content: memoryview) -> None:
    """All of it, though a disk that fills takes a part first. Raises OSError."""
    left = content.cast("B")
    while left:
        left = left[file.write(left) :]


def _claim(path: Path) -> IO[bytes]:
    """An open file that says that the store is in use, for as long as it is open; systems without such locks go without."""
    file = (path / IN_USE).open("a+b")
    with contextlib.suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    return file


@contextlib.contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Whether nobody has the store open; inside, nobody opens it for long."""
    try:
        import fcntl

        with (path / IN_USE).open("a+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
                return
            yield True
    except (ImportError, OSError):
        yield time.time() - path.stat().st_mtime > LOCK_SECONDS


def _unusable(path: Path, error: BaseException) -> CacheError:
    if isinstance(error, Timeout):
        found = f"another process at it for {LOCK_SECONDS:g} s; try again"
    else:
        reason = getattr(error, "strerror", None) or error
        found = f"{reason}; free some space (provenet cache prune), or set PROVENET_CACHE to another folder"
    return CacheError(f"{show_path(path)}: expected to keep features there, found: {found}")
