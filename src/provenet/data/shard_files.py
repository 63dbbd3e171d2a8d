"""Reading pieces of shards from many threads: few files open at once, and a shard that went away or changed is noticed."""

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from provenet.data.decode import LARGEST_FILE_BYTES
from provenet.errors import DataError, ImageError

LARGEST_NUM_OPEN = 64


@dataclass(frozen=True)
class ShardFile:
    """A tar on this machine, as it was when it was indexed."""

    name: str
    """What messages call it: its path or its address."""
    path: Path
    size_bytes: int
    mtime_ns: int
    fetch: Callable[[], Path] | None = None
    """Brings it back where it is a copy that may have been removed."""


class _Open:
    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.num_readers = 0


class ShardFiles:
    """Shards by number. At most `LARGEST_NUM_OPEN` are open, and as many more as threads read at the moment."""

    def __init__(self, shards: list[ShardFile]) -> None:
        self.shards = shards
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, number: int, member: str, offset: int, size_bytes: int) -> bytes:
        """One member's content. Raises ImageError that names shard and member."""
        where = f"{self.shards[number].name}: {member}"
        if size_bytes > LARGEST_FILE_BYTES:
            raise ImageError(
                f"{where}: expected an image, found one of {size_bytes:,} bytes, where {LARGEST_FILE_BYTES:,} is the limit; "
                "replace or remove it",
                "too large",
            )
        try:
            with self._descriptor(number, where) as descriptor:
                content = _read_at(descriptor, offset, size_bytes)
        except OSError as error:
            raise ImageError(
                f"{where}: expected an image, found a shard that cannot be read ({error.strerror or error}); put it back or fetch it again",
                "missing" if isinstance(error, FileNotFoundError) else "damaged",
            ) from error
        if len(content) < size_bytes:
            raise _changed(where)
        return content

    def close(self) -> None:
        """Close what nobody reads; it opens again when needed."""
        with self._lock:
            for number, shard in list(self._open.items()):
                if not shard.num_readers:
                    os.close(shard.descriptor)
                    del self._open[number]

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # the interpreter may be half gone
            self.close()

    @contextlib.contextmanager
    def _descriptor(self, number: int, where: str) -> Iterator[int]:
        with self._lock:
            shard = self._open.get(number)
            if shard:
                shard.num_readers += 1
                self._open.move_to_end(number)
        if shard is None:
            shard = self._take(number, _open_shard(self.shards[number], where))
        try:
            yield shard.descriptor
        finally:
            with self._lock:
                shard.num_readers -= 1
                self._close_oldest()

    def _take(self, number: int, descriptor: int) -> _Open:
        with self._lock:
            shard = self._open.get(number)
            if shard:  # another thread was faster
                os.close(descriptor)
            else:
                shard = self._open[number] = _Open(descriptor)
            shard.num_readers += 1
            return shard

    def _close_oldest(self) -> None:
        if len(self._open) > LARGEST_NUM_OPEN:
            unused = [number for number, shard in self._open.items() if not shard.num_readers]
            for number in unused[: len(self._open) - LARGEST_NUM_OPEN]:
                os.close(self._open.pop(number).descriptor)


def _open_shard(shard: ShardFile, where: str) -> int:
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(shard.path, flags)
    except FileNotFoundError:
        if shard.fetch is None:
            raise
        try:
            descriptor = os.open(shard.fetch(), flags)
        except DataError as error:
            raise ImageError(f"{where}: expected an image, found its shard gone from the cache: {error}", "missing") from error
    status = os.fstat(descriptor)
    if (status.st_size, status.st_mtime_ns) != (shard.size_bytes, shard.mtime_ns):
        os.close(descriptor)
        raise _changed(where)
    return descriptor


_seek_lock = threading.Lock()


def _read_at(descriptor: int, offset: int, size_bytes: int) -> bytes:
    """At most so many bytes from there; the file's own position is nobody's."""
    pieces: list[bytes] = []
    while size_bytes > 0:
        if hasattr(os, "pread"):
            piece = os.pread(descriptor, size_bytes, offset)
        else:  # Windows
            with _seek_lock:
                os.lseek(descriptor, offset, os.SEEK_SET)
                piece = os.read(descriptor, size_bytes)
        if not piece:
            break
        pieces.append(piece)
        offset += len(piece)
        size_bytes -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _changed(where: str) -> ImageError:
    return ImageError(f"{where}: expected the shard as it was when it was opened, found it changed; start again", "damaged")
