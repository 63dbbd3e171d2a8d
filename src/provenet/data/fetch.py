"""Files fetched as their authors publish them: whole, with the published checksum, or not at all; and archives unpacked likewise."""

import gzip
import os
import shutil
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, NamedTuple, cast

from provenet.download import Check, download
from provenet.errors import DataError, DownloadError, show_path
from provenet.progress import Progress

LARGEST_BESIDE_BYTES = 2**20  # headers, padding and members of an archive that nobody asked for
NOT_FETCHED = "not fetched"
"""`DataError.kind` of an address that cannot be reached, or a folder that cannot be written."""


class PublishedFile(NamedTuple):
    """One file as its authors publish it."""

    name: str
    md5: str
    largest_bytes: int


def cache_folder() -> Path:
    """Where fetched files are kept: `PROVENET_CACHE`, else the system's cache folder."""
    chosen = os.environ.get("PROVENET_CACHE")
    if chosen:
        return Path(os.path.expanduser(chosen))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "provenet"


def fetch(address: str, path: Path, file: PublishedFile, progress: Progress | None = None) -> None:
    """Fetch one file to `path`, which appears only when it is whole and its checksum is the published one."""
    try:
        download(address, path, check=Check("md5", file.md5), largest_bytes=file.largest_bytes, progress=progress)
    except DownloadError as error:
        raise DataError(
            str(error), NOT_FETCHED if error.kind in ("unreachable", "absent", "refused", "no room", "unwritable") else "unusable"
        ) from error


def unpack(archive: Path, folder: Path, members: Mapping[str, int]) -> None:
    """Unpack a .tar.gz: of `members` (name in the archive -> its most bytes) the files, by their last names, into a new `folder`.

    The folder appears only when all are in it. Other members are passed over; nothing is ever written elsewhere.
    """
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    missing = dict(members)
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        with gzip.open(archive) as whole:
            bounded = cast("IO[bytes]", _Bounded(whole, sum(members.values()) + LARGEST_BESIDE_BYTES))
            with tarfile.open(fileobj=bounded, mode="r|") as tar:
                for member in tar:
                    largest_bytes = missing.pop(member.name, None)
                    if largest_bytes is None:
                        continue
                    content = tar.extractfile(member) if member.isreg() else None
                    if content is None or member.size > largest_bytes:
                        raise ValueError(f"{member.name} is no file of at most {largest_bytes:,} bytes")
                    with content, open(part / Path(member.name).name, "wb") as out:
                        shutil.copyfileobj(content, out, 2**20)
        if missing:
            raise ValueError(f"no {next(iter(missing))} in it")
        part.rename(folder)
    except (OSError, EOFError, ValueError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{show_path(archive)}: expected the published archive, found: {error}; delete it and fetch it again") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


class _Bounded:
    """A file of which only so many bytes can be read: a small archive may hold endless zeros."""

    def __init__(self, file: gzip.GzipFile, largest_bytes: int) -> None:
        self.file = file
        self.left_bytes = largest_bytes

    def read(self, size: int) -> bytes:
        content = self.file.read(min(size, self.left_bytes + 1))
        self.left_bytes -= len(content)
        if self.left_bytes < 0:
            raise ValueError("more bytes than it may have")
        return content
