"""How one folder is divided for training and validation, and how a trained network knows later what it was trained on."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provenet.data.index import DataSet, ImageSet
from provenet.errors import DataError

DEFAULT_FRACTION = 0.2
LARGEST_DEFAULT_HOLDOUT = 5_000  # more validation pictures tell hardly more, and are missed in training
SKETCH_SIZE = 64


@dataclass(frozen=True)
class Memory:
    """What is kept of a division, so that training pictures are known again even when the folder has grown since.

    Pictures are held out in the order of a hash of their names: of each class all up to `held_out_up_to[class]`. Whoever lies above it
    may have been trained on. `sketch` are the smallest identities of training pictures: a set without any of them is another set.
    """

    seed: int
    held_out_up_to: dict[str, str]
    sketch: list[int]

    def to_dict(self) -> dict[str, Any]:
        """For the bundle's header."""
        return {"seed": self.seed, "held_out_up_to": self.held_out_up_to, "sketch": [f"{number:016x}" for number in self.sketch]}

    @classmethod
    def from_dict(cls, values: Any) -> "Memory | None":
        """The inverse; None for anything else, since bundles come from strangers."""
        if not isinstance(values, Mapping):
            return None
        seed: Any = values.get("seed")
        held_out: Any = values.get("held_out_up_to")
        sketch: Any = values.get("sketch")
        is_sound = (
            type(seed) is int
            and 0 <= seed < 2**63
            and isinstance(held_out, Mapping)
            and all(isinstance(rank, str) and re.fullmatch("[0-9a-f]{64}", rank) for rank in held_out.values())
            and isinstance(sketch, list)
            and len(sketch) <= SKETCH_SIZE
            and all(isinstance(number, str) and re.fullmatch("[0-9a-f]{16}", number) for number in sketch)
        )
        return cls(seed, dict(held_out), [int(number, 16) for number in sketch]) if is_sound else None

    def trained_on(self, images: ImageSet) -> NDArray[np.bool_]:
        """Which pictures the network may have been trained on, [N]: none of a set that shares no picture with the sketch."""
        if not np.isin(images.pictures.identities(), np.array(self.sketch, dtype=np.uint64)).any():
            return np.zeros(len(images), dtype=bool)
        last_held_out = np.array([self.held_out_up_to.get(name, "") for name in images.classes])
        return _ranks(images, self.seed) > last_held_out[images.labels]


@dataclass(frozen=True)
class TrainingSplits:
    """What training reads. `test` is looked at once, at the end, where there is one."""

    train: ImageSet
    val: ImageSet
    test: ImageSet | None
    held_out_from: str | None
    """The split that `val` was taken from, or None where the data came with one."""
    memory: Memory | None


def default_fraction(data: DataSet) -> float:
    """The part to hold out where nobody says: a fifth, and of large sets 5,000 pictures."""
    source = data.splits.get("train") or data.splits.get("all")
    return min(DEFAULT_FRACTION, LARGEST_DEFAULT_HOLDOUT / len(source)) if source else DEFAULT_FRACTION


def divide(data: DataSet, *, val_fraction: float, seed: int) -> TrainingSplits:
    """The splits as they came; without `val`, a part of the training pictures of each class is held out, always the same.

    The test pictures are never used to choose anything.
    """
    source = "train" if "train" in data.splits else "all"
    if source not in data.splits:
        raise DataError(f"{data.name}: expected {data.wording.to_train_on}, found only {', '.join(data.splits)}; add what is missing")
    everything = data.splits[source]
    present = [name for name, count in everything.counts().items() if count]
    if len(present) < 2:
        raise DataError(f"{everything.name}: expected at least two classes, found {present}; add {data.wording.another_class}")
    test = data.splits["test"].with_classes(everything.classes) if "test" in data.splits else None
    if "val" in data.splits:
        return TrainingSplits(everything, data.splits["val"].with_classes(everything.classes), test, None, None)
    train, val = hold_out(everything, val_fraction=val_fraction, seed=seed)
    if not len(val):
        raise DataError(f"{everything.name}: expected at least two pictures in some class, to validate on one; add pictures")
    return TrainingSplits(train, val, test, source, _remember(train, val, seed))


def hold_out(images: ImageSet, *, val_fraction: float, seed: int) -> tuple[ImageSet, ImageSet]:
    """The pictures to train on and those to validate on; none of these where no class has two."""
    is_val = choose_holdout(images, val_fraction=val_fraction, seed=seed)
    train, val = images.select(np.flatnonzero(~is_val)), images.select(np.flatnonzero(is_val))
    return replace(train, name=f"{images.name} (train)"), replace(val, name=f"{images.name} (val)")


def choose_holdout(images: ImageSet, *, val_fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which pictures to validate on: `val_fraction` of each class, -> [N].

    A picture's name and the seed decide, not its place, so the choice hardly moves when pictures are added. A class of one picture
    keeps it for training.
    """
    ranks = _ranks(images, seed)
    is_val = np.zeros(len(images), dtype=bool)
    for number in range(len(images.classes)):
        members = np.flatnonzero(images.labels == number)
        count = min(max(1, round(val_fraction * len(members))), len(members) - 1)
        if count > 0:
            is_val[members[np.argsort(ranks[members], kind="stable")[:count]]] = True
    return is_val


def _ranks(images: ImageSet, seed: int) -> NDArray[np.str_]:
    return np.array([hashlib.sha256(f"{seed}\0{key}".encode()).hexdigest() for key in images.pictures.keys()], dtype="<U64")  # noqa: SIM118


def _remember(train: ImageSet, val: ImageSet, seed: int) -> Memory:
    ranks = _ranks(val, seed)
    held_out_up_to = {
        name: str(max(ranks[val.labels == number])) for number, name in enumerate(val.classes) if (val.labels == number).any()
    }
    return Memory(seed, held_out_up_to, sorted(train.pictures.identities().tolist())[:SKETCH_SIZE])
