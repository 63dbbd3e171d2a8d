"""What there is: how many pictures, where, of which class; and how one folder is divided for training and validation."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from provenet.data.pictures import Pictures
from provenet.errors import DataError, suggest

LARGEST_HOLDOUT = 5_000  # more validation pictures tell no more, and are missed in training


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
        """A short name for exactly these pictures, labels and classes; see `Pictures.fingerprint`."""
        digest = hashlib.sha256("\n".join(self.classes).encode())
        digest.update(self.labels.astype("<i8").tobytes())
        digest.update(self.pictures.fingerprint().encode())
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


@dataclass(frozen=True)
class TrainingSplits:
    """What training reads. `test` is looked at once, at the end, where there is one."""

    train: ImageSet
    val: ImageSet
    test: ImageSet | None
    held_out_from: str | None
    """The split that `val` was taken from, or None where the data came with one."""


def divide(data: DataSet, *, val_fraction: float, seed: int) -> TrainingSplits:
    """The splits as they came; without `val`, a part of the training pictures of each class is held out, always the same.

    The test pictures are never used to choose anything.
    """
    source = "train" if "train" in data.splits else "all"
    if source not in data.splits:
        raise DataError(
            f"{data.name}: expected a folder 'train' or class folders, found only {', '.join(data.splits)}; point at the folder above"
        )
    everything = data.splits[source]
    present = [name for name, count in everything.counts().items() if count]
    if len(present) < 2:
        raise DataError(f"{everything.name}: expected at least two classes, found {present}; add a folder for each class")
    test = data.splits["test"].with_classes(everything.classes) if "test" in data.splits else None
    if "val" in data.splits:
        return TrainingSplits(everything, data.splits["val"].with_classes(everything.classes), test, None)
    is_val = choose_holdout(everything, val_fraction=val_fraction, seed=seed)
    if not is_val.any():
        raise DataError(f"{everything.name}: expected at least two pictures in some class, to validate on one; add pictures")
    train, val = everything.select(np.flatnonzero(~is_val)), everything.select(np.flatnonzero(is_val))
    return TrainingSplits(replace(train, name=f"{train.name} (train)"), replace(val, name=f"{val.name} (val)"), test, source)


def choose_holdout(images: ImageSet, *, val_fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which pictures to validate on: `val_fraction` of each class, at most `LARGEST_HOLDOUT` in all, -> [N].

    A picture's name and the seed decide, not its place, so the choice hardly moves when pictures are added. A class of one picture
    keeps it for training.
    """
    val_fraction = min(val_fraction, LARGEST_HOLDOUT / max(1, len(images)))
    keys = images.pictures.keys()
    ranks = np.array([hashlib.sha256(f"{seed}\0{key}".encode()).hexdigest() for key in keys])
    is_val = np.zeros(len(images), dtype=bool)
    for number in range(len(images.classes)):
        members = np.flatnonzero(images.labels == number)
        count = min(max(1, round(val_fraction * len(members))), len(members) - 1)
        if count > 0:
            is_val[members[np.argsort(ranks[members], kind="stable")[:count]]] = True
    return is_val
