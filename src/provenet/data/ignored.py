"""What below a folder of pictures is not read, and why; and the few lines of it that are worth telling whoever trains."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from provenet.data.decode import EXTENSIONS


class Reason(StrEnum):
    """Why something is not read."""

    HIDDEN = "hidden: its name begins with a dot"
    NO_PICTURE = "no picture by its ending"
    NO_PICTURES_INSIDE = "a folder named like a picture, without pictures in it"
    READ_BEFORE = "a link to a folder above or already read"
    LEADS_NOWHERE = "a link that leads nowhere"
    FILE_BESIDE_FOLDERS = "beside the class folders or split folders, not in a class"
    FOLDER_BESIDE_SPLITS = "a folder beside the split folders"
    NO_LABELS = "a test folder without class folders"
    EMPTY_CLASS = "a class folder without pictures"
    BESIDE_IDX = "beside the IDX files"
    BESIDE_CIFAR = "beside the files of CIFAR"
    BESIDE_SHARDS = "beside the shards"
    NO_FILE_INSIDE = "in a shard, a link or a device"
    LONELY_LABEL = "in a shard, a label without its picture"


@dataclass(frozen=True, slots=True)
class Ignored:
    """One file or folder that is not read. `place` is the folder whose reading passed it over: DATA, a split, a class, or a shard."""

    path: str
    reason: Reason
    place: str
    count: int = 1
    """Of members of a shard, of which there may be millions, all of one kind are one; `path` is the first."""

    @property
    def is_picture(self) -> bool:
        """Whether it looks like one: somebody may have meant it to be read."""
        return self.reason is Reason.FILE_BESIDE_FOLDERS and Path(self.path).suffix.lower() in EXTENSIONS


_LINES = {
    Reason.READ_BEFORE: "{} leads to a folder above or already read; it is not read again",
    Reason.LEADS_NOWHERE: "{} is a link that leads nowhere",
    Reason.FOLDER_BESIDE_SPLITS: "{} is beside the split folders and is not read",
    Reason.NO_LABELS: "{} has no class folders and is not read; `provenet predict` names its pictures",
    Reason.EMPTY_CLASS: "{} has no pictures",
}


def summarise(ignored: Iterable[Ignored]) -> list[str]:
    """A line for each folder that was passed over, and one for all files of a place; none for what nobody expects to be read."""
    lines: list[str] = []
    endings: dict[str, Counter[str]] = {}
    pictures: Counter[str] = Counter()
    for item in ignored:
        if item.reason in _LINES:
            lines.append(_LINES[item.reason].format(item.path))
        elif item.reason is Reason.NO_PICTURE:
            endings.setdefault(item.place, Counter())[Path(item.path).suffix.lower() or "no ending"] += item.count
        elif item.is_picture:
            pictures[item.place] += 1
    for place, counts in endings.items():
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(counts.items()))
        lines.append(f"{place}: passed over what is no picture by its ending ({kinds})")
    lines += [f"{place}: passed over {count} pictures beside the class folders, of no class" for place, count in pictures.items()]
    return lines
