"""What there is: how many pictures, where, of which class."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provenet.data.ignored import Ignored, summarise
from provenet.data.pictures import Pictures
from provenet.errors import DataError, suggest


@dataclass(frozen=True)
class ImageSet:
    """Labelled pictures: picture i is of class `classes[labels[i]]`."""

    name: str
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    pictures: Pictures

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"ImageSet({self.name!r}, {len(self):,} pictures of {len(self.classes)} classes)"

    def select(self, indices: NDArray[np.int64]) -> "ImageSet":
        """Some of the pictures, in that order; the classes stay."""
        return replace(self, labels=self.labels[indices], pictures=self.pictures.select(indices))

    def counts(self) -> dict[str, int]:
        """Pictures of each class, classes without any included."""
        found = Counter(self.labels.tolist())
        return {name: found[number] for number, name in enumerate(self.classes)}

    def fingerprint(self) -> str:
        """A short name for exactly these pictures, labels and classes; see `Pictures.identities`."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        digest.update(self.pictures.identities().astype("<u8").tobytes())
        return digest.hexdigest()[:16]

    def with_classes(self, classes: Sequence[str]) -> "ImageSet":
        """The same pictures with labels that count in another list of classes, joined by name and never by place.

        Raises DataError where a picture's class is not in that list.
        """
        numbers = {name: number for number, name in enumerate(classes)}
        present = [name for name, count in self.counts().items() if count]
        missing = [name for name in present if name not in numbers]
        if missing and len(missing) == len(present):
            raise DataError(
                f"{self.name}: expected some of the {len(classes)} classes trained on ({', '.join(classes[:3])} …), "
                f"found none of them but {', '.join(map(repr, missing[:3]))}; {suggest(missing[0], classes)}; "
                "give the folder above, or other data"
            )
        if missing:
            raise DataError(
                f"{self.name}: expected the {len(classes)} classes trained on, found {', '.join(map(repr, missing[:3]))} too; "
                f"{suggest(missing[0], classes)}; rename or remove them"
            )
        translation = np.array([numbers.get(name, -1) for name in self.classes], dtype=np.int64)
        return replace(self, classes=tuple(classes), labels=translation[self.labels])


class Wording(NamedTuple):
    """What messages call that which is missing from a kind of DATA."""

    to_train_on: str
    another_class: str


ANY_DATA = Wording("a split 'train'", "pictures of another class")
CLASS_FOLDERS = Wording("a folder 'train' or class folders", "a folder for each class")
ROWS = Wording("rows with the split 'train', or no column of splits", "rows with another label")
TAR_SHARDS = Wording("shards of the split 'train' (train-000000.tar), or of no split", "pictures with another label")


@dataclass(frozen=True)
class DataSet:
    """A source of pictures with the splits it came with: `train`, `val`, `test`, or `all` where it is one folder."""

    name: str
    splits: dict[str, ImageSet]
    can_mirror: bool = True
    """Whether a mirrored picture is still of its class; digits are not."""
    ignored: list[Ignored] = field(default_factory=list)
    """What was passed over and why."""
    wording: Wording = ANY_DATA

    @property
    def notes(self) -> list[str]:
        """The same for people who train, in a few lines."""
        return summarise(self.ignored)
