"""Many paths in little memory: their text in one array of bytes, and where each ends. A list of strings costs three times as much."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Paths(Sequence[str]):
    """Paths, or some of them in another order: text uint8 [bytes], ends int64 [N], and the rows that are meant, int64 [M], or all.

    Names that are no text keep their bytes, as Python's `os.fsdecode` has them.
    """

    def __init__(self, text: NDArray[np.uint8], ends: NDArray[np.int64], rows: NDArray[np.int64] | None = None) -> None:
        self.text = text
        self.ends = ends
        self.rows = rows

    @classmethod
    def of(cls, paths: Sequence[str]) -> "Paths":
        """Those of a list."""
        if isinstance(paths, Paths):
            return paths
        text = "".join(paths)
        return cls(np.frombuffer(os.fsencode(text), np.uint8), np.cumsum(_sizes(paths, is_ascii=text.isascii())))

    @classmethod
    def below(cls, folders: Mapping[str, Sequence[str]]) -> "Paths":
        """Those of lists by folder, each with its folder before it."""
        text, sizes = [], [np.empty(0, np.int64)]
        for folder, paths in folders.items():
            prefix = folder + os.sep
            text += [prefix + prefix.join(paths)] if paths else []
            sizes.append(_sizes(paths, is_ascii=not text or text[-1].isascii()) + len(os.fsencode(prefix)))
        return cls(np.frombuffer(os.fsencode("".join(text)), np.uint8), np.cumsum(np.concatenate(sizes)))

    def __len__(self) -> int:
        return len(self.ends if self.rows is None else self.rows)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> "Paths": ...
    def __getitem__(self, place: int | slice) -> "str | Paths":
        if isinstance(place, slice):
            return self.select(np.arange(len(self))[place])
        row = range(len(self.ends))[place] if self.rows is None else int(self.rows[place])
        start = int(self.ends[row - 1]) if row else 0
        return os.fsdecode(self.text[start : int(self.ends[row])].tobytes())

    def __iter__(self) -> Iterator[str]:
        return (self[place] for place in range(len(self)))

    def select(self, places: NDArray[np.int64]) -> "Paths":
        """Some of them, in that order; the text is shared."""
        return Paths(self.text, self.ends, places if self.rows is None else self.rows[places])


def _sizes(paths: Sequence[str], *, is_ascii: bool) -> NDArray[np.int64]:
    """In bytes, [N]; of plain ASCII nothing has to be encoded to know."""
    return np.fromiter(map(len, paths if is_ascii else map(os.fsencode, paths)), np.int64, len(paths))
