"""Writing tars whose bytes depend on nothing but names and contents: plain ustar, no time, no owner, every file readable.

Format: POSIX.1-1988 ustar; two blocks of zeros at the end.
"""

import tarfile
from typing import BinaryIO

from provenet.data.tar_headers import BLOCK_BYTES

END = bytes(2 * BLOCK_BYTES)


def member_bytes(content_bytes: int) -> int:
    """How much of a tar a member takes, its header included."""
    return BLOCK_BYTES + -(-content_bytes // BLOCK_BYTES) * BLOCK_BYTES


def write_member(file: BinaryIO, name: str, content: bytes) -> None:
    """Add one file to a tar that is being written."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    file.write(info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
    file.write(content)
    file.write(bytes(-len(content) % BLOCK_BYTES))
