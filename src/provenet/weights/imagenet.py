"""The thousand classes of ILSVRC 2012, in the order in which all published weights have them: by their numbers in WordNet."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path


@cache
def imagenet_classes() -> tuple[str, ...]:
    """Short names, each another, as torchvision has them."""
    return tuple(line.partition(" ")[2] for line in _lines())


@cache
def imagenet_synsets() -> tuple[str, ...]:
    """WordNet's numbers, which are the names of the folders of the data set: n01440764 is the tench."""
    return tuple(line.partition(" ")[0] for line in _lines())


def named_as_in(data_classes: Sequence[str], classes: tuple[str, ...]) -> tuple[str, ...]:
    """The classes of a network as the data names them: ImageNet's by number, if the data does so; else as they are."""
    if classes == imagenet_classes() and set(data_classes) <= set(imagenet_synsets()):
        return imagenet_synsets()
    return classes


def _lines() -> list[str]:
    return (Path(__file__).parent / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
