"""Pictures that are there more than once: the same pixels, under whatever name and in whatever container."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from provenet.checkup.examine import Look


@dataclass(frozen=True)
class Duplicates:
    """The same picture, two or more times. The files may still differ: a PNG and a BMP of the same pixels."""

    looks: tuple[Look, ...]
    are_identical_files: bool | None
    """Whether the files are equal byte by byte; None for pictures that are in no files."""

    @property
    def splits(self) -> tuple[str, ...]:
        """Where they are, in the order of the splits."""
        return tuple(dict.fromkeys(look.split for look in self.looks))

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes they are in."""
        return tuple(dict.fromkeys(look.label for look in self.looks))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "files": [{"path": look.path, "split": look.split, "class": look.label} for look in self.looks],
            "splits": list(self.splits),
            "classes": list(self.labels),
            "byte_identical": self.are_identical_files,
        }


def find_duplicates(looks: Sequence[Look]) -> list[Duplicates]:
    """Every group of two or more, in the order of their first pictures."""
    groups: dict[bytes, list[Look]] = {}
    for look in looks:
        if look.digest is not None:
            groups.setdefault(look.digest, []).append(look)
    return [Duplicates(tuple(group), _are_identical_files(group)) for group in groups.values() if len(group) > 1]


def _are_identical_files(group: Sequence[Look]) -> bool | None:
    """Files are read again only here, and only where their sizes agree."""
    if any(look.file is None for look in group):
        return None
    if len({look.size_bytes for look in group}) > 1:
        return False
    try:
        contents = set()
        for look in group:
            assert look.file is not None
            with open(look.file, "rb") as file:
                contents.add(hashlib.file_digest(file, "blake2b").digest())
    except OSError:  # gone since it was decoded
        return None
    return len(contents) == 1
