"""What is known of a set of pictures after one look at each, before anything of it is judged."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from statistics import median
from typing import Any

from provenet.checkup.alike import Alike
from provenet.checkup.channels import ChannelTotals
from provenet.checkup.duplicates import Duplicates
from provenet.checkup.examine import Look
from provenet.checkup.histograms import Histogram, count_shapes, count_sides
from provenet.data.ignored import Ignored
from provenet.data.index import ANY_DATA, Wording
from provenet.errors import DataError


@dataclass(frozen=True)
class Facts:
    """A set of pictures as training will divide it."""

    name: str
    splits: tuple[str, ...]
    """Those that there are of train, val and test, in that order."""
    held_out_from: str | None
    """The split that `val` was taken from, or None where the data came with one."""
    classes: tuple[str, ...]
    """Of all splits together, classes without pictures included."""
    looks: Sequence[Look]
    duplicates: Sequence[Duplicates]
    ignored: Sequence[Ignored]
    refusals: Sequence[DataError]
    """What training refuses of the folders themselves."""
    alike: Alike = field(default_factory=Alike)
    channels: ChannelTotals = field(default_factory=ChannelTotals)
    """Of the training pictures."""
    decode_seconds: float | None = None
    """What one pass over the training pictures takes to decode with `num_threads`; None where there is nothing to decode."""
    num_threads: int = 1
    wording: Wording = ANY_DATA

    @cached_property
    def pictures(self) -> Counter[tuple[str, str]]:
        """(class, split) -> pictures, those that cannot be decoded included."""
        return Counter((look.label, look.split) for look in self.looks)

    @cached_property
    def unreadable(self) -> Counter[tuple[str, str]]:
        """(class, split) -> pictures that cannot be decoded."""
        return Counter((look.label, look.split) for look in self.looks if look.kind)

    def sound(self, label: str, split: str) -> int:
        """Pictures of a class in a split that can be decoded."""
        return self.pictures[label, split] - self.unreadable[label, split]

    def of_class(self, label: str) -> int:
        """Pictures of a class in all splits."""
        return sum(self.pictures[label, split] for split in self.splits)

    def of_split(self, split: str) -> int:
        """Pictures of a split, of all classes."""
        return sum(self.pictures[label, split] for label in self.classes)

    def broken(self) -> list[Look]:
        """Pictures that cannot be decoded."""
        return [look for look in self.looks if look.kind]

    def sizes(self) -> dict[str, Any] | None:
        """Least, median and largest width and height in pixels, and bytes in all; None where nothing could be decoded."""
        sound = [look for look in self.looks if look.width and look.height]
        if not sound:
            return None
        sides = {"width": [look.width or 0 for look in sound], "height": [look.height or 0 for look in sound]}
        spans = {side: {"min": min(values), "median": median(values), "max": max(values)} for side, values in sides.items()}
        return spans | {"bytes": _total(look.size_bytes for look in self.looks)}

    @cached_property
    def histograms(self) -> dict[str, Histogram]:
        """Of sizes and of shapes."""
        return {"shorter_side": count_sides(self.looks), "aspect_ratio": count_shapes(self.looks)}


def _total(sizes_bytes: Iterable[int | None]) -> int | None:
    known = [size for size in sizes_bytes if size is not None]
    return sum(known) if known else None
