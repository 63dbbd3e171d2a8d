"""What there is: how many pictures, where, of which class."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

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
        missing = [name for name, count in self.counts().items() if count and name not in numbers]
        if missing:
            raise DataError(
                f"{self.name}: class {missing[0]!r}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "") + " is not one "
                f"of the {len(classes)} classes trained on ({suggest(missing[0], classes)}); rename or remove its folder"
            )
        translation = np.array([numbers.get(name, -1) for name in self.classes], dtype=np.int64)
        return replace(self, classes=tuple(classes), labels=translation[self.labels])


@dataclass(frozen=True)
class DataSet:
    """A source of pictures with the splits it came with: `train`, `val`, `test`, or `all` where it is one folder."""

    name: str
    splits: dict[str, ImageSet]
    can_mirror: bool = True
    """Whether a mirrored picture is still of its class; digits are not."""
    notes: list[str] = field(default_factory=list)
    """What was passed over and why, for people."""
