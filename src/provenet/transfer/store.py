"""Features on disk: rows of numbers, each known by the content of its picture, computed once and mapped into memory.

A store is a folder named after all that its numbers depend on: network and cut, the weights up to there, preprocessing, distortion, engine,
precision, device and type. It has two files that only grow: `rows.bin`, rows of one size, and `index.bin`, for each of them a record of 16
bytes (little-endian: content key uint64, view uint32, CRC-32 of these and the row), written after its row. So whatever kills a process in
between leaves a tail that no record speaks of; and a row or record that a failing disk has changed does not fit the other, and is computed
anew. Processes that write take turns by a lock, for as long as a batch takes to write.
"""

import contextlib
import errno
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

from provenet.errors import CacheError, SettingsError, show_path
from provenet.files import write_whole

FORMAT_VERSION = 1
ABOUT, ROWS, INDEX, LOCK, IN_USE = "about.json", "rows.bin", "index.bin", ".lock", ".in-use"
LARGEST_ABOUT_BYTES = 2**20
RECORD = np.dtype([("content", "<u8"), ("view", "<u4"), ("crc", "<u4")])
CRC_PLACE = 12  # what comes before it in a record is whose the row is
LOCK_SECONDS = 120.0
FeatureType = Literal["float32", "float16"]
LARGEST_FLOAT16 = 65_504.0
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    device: str = "cpu"
    """The kind of it: where float32 is rounded otherwise, features are others."""
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

    def __init__(self, folder: Path, key: StoreKey, *, reads_only: bool = False) -> None:
        """Open the store `folder` / its name, which is made if it is not there; on a disk that cannot be written to it can be read still.

        With `reads_only` nothing is made, and it does not count as used. Raises CacheError where there is nothing to read and nothing can
        be kept.
        """
        self.path = folder / key.name
        self.key = key
        self._lock = FileLock(self.path / LOCK, timeout=LOCK_SECONDS, is_singleton=False)
        self._open_files: list[IO[bytes]] = []
        self._why_not_written: OSError | None = None
        try:
            if reads_only:
                self._open_to_read()
            else:
                self._open_to_write()
        except (OSError, Timeout, NotImplementedError) as error:
            self.close()
            raise _unusable(self.path, error) from error
        self._places: dict[tuple[int, int], int] = {}
        """(content, view) -> row."""
        self._num_known = 0
        self._sound: set[int] = set()
        self._records = np.zeros(0, RECORD)

    def _open_to_write(self) -> None:
        try:
            self._open_files.append(_claim(self.path))
            with self._lock:
                if not self._is_ours():
                    self._begin()
                self._open_both("r+b")
            os.utime(self.path / ABOUT)  # last used
        except OSError as error:
            if error.errno not in READ_ONLY or not self._is_ours():
                raise
            self.close()
            self._why_not_written = error
            self._open_both("rb")

    def _open_to_read(self) -> None:
        if not self._is_ours():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._why_not_written = OSError(errno.EBADF, "it was opened to be read")
        self._open_both("rb")

    def _open_both(self, mode: Literal["rb", "r+b"]) -> None:
        self._rows = (self.path / ROWS).open(mode, buffering=0)
        self._open_files.append(self._rows)
        self._index = (self.path / INDEX).open(mode, buffering=0)
        self._open_files.append(self._index)

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

    def knows(self, contents: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Whether there is a row for each of contents [N], undistorted; whether it is sound is seen when it is asked for."""
        self._learn()
        return np.array([(content, 0) in self._places for content in contents.tolist()], bool)

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

    def check_writable(self) -> None:
        """Raise CacheError for a store that was opened where nothing can be written, or to be read only."""
        if self._why_not_written is not None:
            raise _unusable(self.path, self._why_not_written)

    def append(self, contents: NDArray[np.uint64], features: NDArray[np.float32], view: int = 0) -> None:
        """Keep rows [B, *shape] of contents [B]. What was kept before stays, whatever happens.

        Raises CacheError where there is no room or nothing can be written, and SettingsError for numbers that the store cannot hold.
        """
        rows = as_kept(features, self.key).reshape(len(features), -1)
        self.check_writable()
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
                self._sound.update(range(count, count + len(rows)))
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
        return _is_at(self._rows, self.path / ROWS) and _is_at(self._index, self.path / INDEX)


def as_kept(features: NDArray[np.float32], key: StoreKey) -> NDArray[Any]:
    """Rows [B, *shape] in the type of the store. Raises SettingsError for numbers that it cannot hold, CacheError for another shape."""
    if features.shape[1:] != key.shape:
        raise CacheError(f"{key.name}: expected rows {list(key.shape)}, found {list(features.shape[1:])}; make another store")
    largest = np.abs(features).max(initial=0)
    if not np.isfinite(largest) or (key.type == "float16" and largest > LARGEST_FLOAT16):
        instead = "take --feature-type float32" if np.isfinite(largest) else "the weights are damaged, use others"
        raise SettingsError(f"{key.name}: expected numbers that {key.type} can hold, found {largest:.3g}; {instead}")
    return np.ascontiguousarray(features, np.dtype(key.type))


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
    """An open file that says that the store is in use, for as long as it is open; systems without such locks go without.

    Whoever removes the store holds the lock meanwhile, and moves it away: then a new one is made.
    """
    give_up_at = time.monotonic() + LOCK_SECONDS
    while (file := _try_to_claim(path)) is None:
        if time.monotonic() > give_up_at:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        time.sleep(0.01)
    return file


def _try_to_claim(path: Path) -> IO[bytes] | None:
    """None where the store is being removed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = (path / IN_USE).open("a+b")
    except FileNotFoundError:
        return None
    except FileExistsError as error:
        if os.path.lexists(error.filename) and not os.path.isdir(error.filename):
            raise  # a file, or a link to nothing
        return None
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except (ImportError, OSError):
        return file
    if not _is_at(file, path / IN_USE):
        file.close()
        return None
    return file


@contextlib.contextmanager
def unused(path: Path) -> Iterator[bool]:
    """Whether nobody has the store open, and we may remove it; inside, nobody opens it."""
    try:
        import fcntl
    except ImportError:
        yield time.time() - path.stat().st_mtime > LOCK_SECONDS
        return
    try:
        file = (path / IN_USE).open("a+b")
    except OSError:  # somebody else's, or gone
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield _is_at(file, path / IN_USE)


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether the open file is the one at the path still."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False


def _unusable(path: Path, error: BaseException) -> CacheError:
    if isinstance(error, Timeout | BlockingIOError):
        return CacheError(
            f"{show_path(path)}: expected to keep features there, found: another process at it for {LOCK_SECONDS:g} s; try again"
        )
    reason = getattr(error, "strerror", None) or error
    full = "free some space (provenet cache prune), or " if getattr(error, "errno", None) in FULL else ""
    return CacheError(f"{show_path(path)}: expected to keep features there, found: {reason}; {full}set PROVENET_CACHE to another folder")
