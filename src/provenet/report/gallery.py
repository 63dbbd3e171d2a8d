"""The pictures of a report: decoded small, each embedded once, all of them together within a budget of bytes."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import Image

from provenet.data.index import ImageSet
from provenet.data.pictures import PixelArray
from provenet.data.threads import in_order
from provenet.errors import ImageError
from provenet.metrics import Evaluation
from provenet.report.chosen import Choice, choose
from provenet.report.findings import find
from provenet.runtime import count_cores

MOST_BYTES = 2_000_000
"""Of the pictures of one part of the data, as the page has them; the mistakes come first, then look-alikes, then examples of classes."""
LARGEST_LOSSLESS_PIXELS = 96 * 96
LARGEST_LOSSLESS_BYTES = 4_000
"""A small picture is embedded to the bit if that takes no more: one of 32 x 32 pixels does."""
MOST_AHEAD = 64


class Embedded(NamedTuple):
    """A picture as the page has it."""

    width: int
    height: int
    data: str
    """A data URI."""
    is_lossless: bool


@dataclass(frozen=True)
class Shown:
    """One of the evaluated pictures, and what became of it."""

    place: int
    """Its number among the evaluated pictures."""
    name: str
    """Its file relative to the folder of the data, or its place in an array."""
    true: str
    predicted: str
    confidence: float
    own: float
    """The probability of its true class."""
    picture: Embedded | None
    """None where the file has gone meanwhile."""

    @property
    def is_right(self) -> bool:
        """Whether it was recognised."""
        return self.true == self.predicted


@dataclass(frozen=True)
class Gallery:
    """Pictures by their place, and which are shown where; those that did not fit are not among them."""

    choice: Choice = field(default_factory=Choice)
    pictures: Mapping[int, Shown] = field(default_factory=dict)


def gather_pictures(evaluation: Evaluation, images: ImageSet, most_bytes: int = MOST_BYTES) -> Gallery:
    """What the report of an evaluation of `images` shows of them."""
    outcomes = evaluation.outcomes
    if outcomes is None:
        return Gallery()
    choice = choose(find(evaluation), outcomes)
    sides = choice.sides
    chosen = images.select(np.array(list(sides), dtype=np.int64))
    names = _names(chosen)
    classes = [score.name for score in evaluation.classes]
    shown: dict[int, Shown] = {}
    num_bytes = 0
    with in_order(lambda job: _embed(chosen, *job), enumerate(sides.values()), count_cores(), most_ahead=MOST_AHEAD) as pictures:
        for place, name, picture in zip(sides, names, pictures, strict=False):
            num_bytes += len(picture.data) if picture else 0
            if num_bytes > most_bytes:
                break
            shown[place] = Shown(
                place=place,
                name=name,
                true=classes[int(outcomes.labels[place])],
                predicted=classes[int(outcomes.predicted[place])] if outcomes.predicted[place] >= 0 else "",
                confidence=float(outcomes.confidence[place]),
                own=float(outcomes.own[place]),
                picture=picture,
            )
    return Gallery(choice, shown)


def _names(images: ImageSet) -> list[str]:
    """Relative, since a report is sent to others."""
    if isinstance(images.pictures, PixelArray):
        return [images.pictures.where(row) for row in range(len(images))]
    return images.pictures.keys()


def _embed(images: ImageSet, row: int, side: int) -> Embedded | None:
    """The whole picture and not only the square of it that the network saw; None where it cannot be read any more."""
    pictures = images.pictures
    try:
        picture = pictures.picture(row) if isinstance(pictures, PixelArray) else pictures.rgb(row, at_least_pixels=side + 1)
    except ImageError:
        return None
    if max(picture.size) <= side:  # as it is in its file: made smaller while it was decoded it would be larger still
        return encode(picture)
    picture.thumbnail((side, side))
    return encode(picture, is_whole=False)


def encode(picture: Image.Image, *, is_whole: bool = True) -> Embedded:
    """A small picture to the bit where that takes few bytes, others as JPEG; so is what was made small, of which no bit is its own."""
    if is_whole and picture.width * picture.height <= LARGEST_LOSSLESS_PIXELS:
        lossless = _write(picture, format="PNG", optimize=True)
        if len(lossless) <= LARGEST_LOSSLESS_BYTES:
            return Embedded(*picture.size, _data_url("png", lossless), is_lossless=True)
    return Embedded(*picture.size, _data_url("jpeg", _write(picture, format="JPEG", quality=80)), is_lossless=False)


def _write(picture: Image.Image, **options: str | int | bool) -> bytes:
    written = io.BytesIO()
    picture.save(written, **options)  # type: ignore[arg-type]
    return written.getvalue()


def _data_url(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
