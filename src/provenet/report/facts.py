"""What a report tells: the facts of a run or an evaluation, and its worst mistakes with their pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from PIL import Image

from provenet.data.index import ImageSet
from provenet.data.pictures import PixelArray
from provenet.data.threads import decoding_threads
from provenet.errors import ImageError
from provenet.metrics import Evaluation
from provenet.outcomes import worst_mistakes
from provenet.runtime import count_cores

LARGEST_SIDE_PIXELS = 192
"""Of a picture in the report; smaller ones are kept as they are."""
NUM_MISTAKES = 24

State = Literal["running", "ended", "stopped", "evaluated"]


@dataclass(frozen=True)
class Mistake:
    """A picture that was taken for something else."""

    place: int
    """Its number among the evaluated pictures."""
    name: str
    """Its file relative to the folder of the data, or its place in an array."""
    true: str
    predicted: str
    confidence: float
    own: float
    """The probability of its true class."""
    picture: Image.Image | None
    """None where the file has gone meanwhile."""


@dataclass(frozen=True)
class EvaluatedPart:
    """How the network did on one part of the data: `test`, `val`, `train` or `all`."""

    split: str
    evaluation: Evaluation
    mistakes: Sequence[Mistake] = ()
    num_trained_on: int = 0
    """So many of these pictures the network was trained on; then they are no measure of what it does with new ones."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Everything the report and the model card say. Tables may come from files of strangers; what is not as expected is left out."""

    title: str
    model: str
    """A name of the catalog."""
    num_parameters: int
    classes: Sequence[str]
    state: State
    events: Sequence[Mapping[str, Any]] = ()
    """The lines of log.jsonl."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By section, as in settings.toml."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """`images` {split: count}, `classes` {split: {class: count}}, `fingerprints` {split: word}, `held_out_from`."""
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    """The same of the data of its training, where `data` are others."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    started: str | None = None
    """ISO 8601, as is `finished`."""
    finished: str | None = None
    seconds: float | None = None
    parts: Sequence[EvaluatedPart] = ()

    @property
    def ordered_parts(self) -> list[EvaluatedPart]:
        """The test pictures first: they chose nothing, so they tell the truth."""
        return sorted(self.parts, key=lambda part: part.split != "test")


def gather_mistakes(evaluation: Evaluation, images: ImageSet, count: int = NUM_MISTAKES) -> list[Mistake]:
    """The worst mistakes of an evaluation of `images`, in that order, with small pictures."""
    outcomes = evaluation.outcomes
    if outcomes is None:
        return []
    places = worst_mistakes(outcomes, count)
    chosen = images.select(np.array(places, dtype=np.int64))
    names = _names(chosen)
    with decoding_threads(count_cores()) as threads:
        waiting = [threads.start(_small_picture, chosen, row) for row in range(len(chosen))]
        pictures = [threads.wait_for(future) for future in waiting]
    return [
        Mistake(
            place=place,
            name=names[row],
            true=evaluation.classes[int(outcomes.labels[place])].name,
            predicted=evaluation.classes[int(outcomes.predicted[place])].name if outcomes.predicted[place] >= 0 else "",
            confidence=float(outcomes.confidence[place]),
            own=float(outcomes.own[place]),
            picture=pictures[row],
        )
        for row, place in enumerate(places)
    ]


def _names(images: ImageSet) -> list[str]:
    """Relative, since a report is sent to others."""
    if isinstance(images.pictures, PixelArray):
        return [images.pictures.where(row) for row in range(len(images))]
    return images.pictures.keys()


def _small_picture(images: ImageSet, row: int) -> Image.Image | None:
    """The whole picture and not only the square of it that the network saw; None where it cannot be read any more."""
    pictures = images.pictures
    try:
        picture = pictures.picture(row) if isinstance(pictures, PixelArray) else pictures.rgb(row, at_least_pixels=LARGEST_SIDE_PIXELS)
    except ImageError:
        return None
    picture.thumbnail((LARGEST_SIDE_PIXELS, LARGEST_SIDE_PIXELS))
    return picture
