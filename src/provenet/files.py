"""Files that are there whole or not at all, whatever kills the program or fills the disk."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; what was written there takes the place of `path` at the end, on the disk, or is removed."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.touch()
        mode = stat.S_IMODE(part.stat().st_mode)  # what the user's mask allows; some libraries would have it private
        yield part
        part.chmod(mode)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
        flush_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file; whoever reads it meanwhile sees the one before."""
    with appearing(path) as part:
        part.write_bytes(content)


def flush_folder(path: Path) -> None:
    """A rename is on the disk only when its folder is; systems that cannot open folders do that by themselves."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
