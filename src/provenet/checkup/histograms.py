"""How many pictures there are of each size and of each shape."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from provenet.checkup.examine import Look

SIDES_PIXELS = (1, 16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
SHAPES = (0.25, 0.4, 0.53, 0.62, 0.71, 0.87, 1.15, 1.41, 1.61, 1.89, 2.5, 4.0)
"""Width / height: the usual shapes lie in the middle of a span, and a shape and its upright twin in spans of their own."""
SHAPE_NAMES = ("under 1:4", "1:3", "1:2", "9:16", "2:3", "3:4", "1:1", "4:3", "3:2", "16:9", "2:1", "3:1", "over 4:1")


@dataclass(frozen=True)
class Histogram:
    """`counts[i]` values of at least `edges[i]` and below `edges[i + 1]`; below the first edge and above the last there is no limit."""

    title: str
    edges: tuple[float | None, ...]
    counts: tuple[int, ...]
    names: tuple[str, ...]
    """Of each span."""

    @property
    def is_worth_telling(self) -> bool:
        """Whether there is more than one kind."""
        return sum(count > 0 for count in self.counts) > 1

    @property
    def shown(self) -> list[tuple[str, int]]:
        """Name and count of each span from the first to the last that has any."""
        filled = [place for place, count in enumerate(self.counts) if count]
        spans = list(zip(self.names, self.counts, strict=True))
        return spans[filled[0] : filled[-1] + 1] if filled else []

    def to_dict(self) -> dict[str, Any]:
        """For JSON; an edge without a limit is null."""
        return {"edges": list(self.edges), "counts": list(self.counts)}


def count_sides(looks: Iterable[Look]) -> Histogram:
    """By the shorter side, which is that of the square a network is shown."""
    sides = [min(look.width, look.height) for look in looks if look.width and look.height]
    names = [f"{low}-{high - 1}" for low, high in pairwise(SIDES_PIXELS)] + [f"{SIDES_PIXELS[-1]} and more"]
    counts = _count(sides, SIDES_PIXELS)[1:]
    return Histogram("shorter side in pixels", (*SIDES_PIXELS, None), tuple(counts), tuple(names))


def count_shapes(looks: Iterable[Look]) -> Histogram:
    """By width / height, upright."""
    shapes = [look.width / look.height for look in looks if look.width and look.height]
    return Histogram("width to height", (None, *SHAPES, None), tuple(_count(shapes, SHAPES)), SHAPE_NAMES)


def _count(values: Iterable[float], edges: tuple[float, ...]) -> list[int]:
    counts = [0] * (len(edges) + 1)
    for value in values:
        counts[bisect_right(edges, value)] += 1
    return counts
