"""Write a text file so that a reader finds the old one or the new one, never half of it."""

import os
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write beside it, then put it in its place. Raises OSError, and leaves what was there."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(text.encode("utf-8", "replace"))
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
