"""Files that are there whole or not at all, whatever kills the program or fills the disk."""

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

UNFINISHED = re.compile(r"\.(.+)\.[a-z0-9_]{8}\.part")
"""The folder in which a file is written; group 1 is the file's name. A kill leaves it behind."""


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A path to write to; what was written there takes the place of `path` at the end, on the disk, or is removed.

    It lies in a folder of its own beside `path`, because libraries that write files leave others beside them when they are killed.
    Raises OSError; also where `path` is a device, a pipe or a folder, which nobody means to be replaced.
    """
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(errno.EINVAL, "something there that is no file", str(path))
    if not path.parent.is_dir():
        raise OSError(errno.ENOENT, "no folder of that name", str(path.parent))
    folder = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
    try:
        part = folder / path.name
        part.touch()
        mode = stat.S_IMODE(part.stat().st_mode)  # what the user's mask allows; some libraries would have it private
        yield part
        part.chmod(mode)
        flush(part)
        part.replace(path)
        flush_folder(path.parent)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; whoever reads it meanwhile sees the one before."""
    with appearing(path) as part:
        part.write_bytes(content)


def remove_unfinished(folder: Path, names: tuple[str, ...] | None = None) -> None:
    """Remove what a kill has left of writing the files of these names, or of any."""
    for entry in list(folder.iterdir()):
        unfinished = UNFINISHED.fullmatch(entry.name)
        if unfinished and (names is None or unfinished[1] in names):
            shutil.rmtree(entry, ignore_errors=True)


def flush(path: Path) -> None:
    """What was written to a file is on the disk when this returns."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """A rename is on the disk only when its folder is; systems that cannot flush folders do that by themselves, or not at all."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
