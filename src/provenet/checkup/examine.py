"""One look at every picture of a set: its size, what is wrong with its file, a name for its pixels, a sketch, and for some a thumbnail.

Each file is decoded once, by threads, as training decodes it; only a few numbers of each picture stay in memory, whatever its size.
"""

import hashlib
import io
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from provenet.checkup.channels import ChannelTotals
from provenet.checkup.sketch import sketch
from provenet.data.index import ImageSet
from provenet.data.pictures import EncodedPictures, Pictures, PixelArray
from provenet.data.threads import in_order
from provenet.errors import ImageError
from provenet.progress import Progress

SHOWN_OF_A_CLASS = 48
THUMBNAIL_PIXELS = 112
PICTURES_A_TASK = 16
TASKS_AHEAD = 64  # a future for each of millions would fill the memory
ROWS_HASHED_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a picture told."""

    path: str
    """The file, or the name and number of a picture in an array."""
    split: str
    label: str
    file: str | None
    """Where it is, in the system's own bytes; None for a picture in an array."""
    width: int | None = None
    """In pixels, upright; None where it cannot be decoded, as `height`."""
    height: int | None = None
    size_bytes: int | None = None
    digest: bytes | None = field(default=None, repr=False)
    """The same for the same pixels, whatever the file's name and format."""
    kind: str | None = None
    """What is wrong with it: one of `data.decode.KINDS`, or None."""
    message: str | None = None
    thumbnail: bytes | None = field(default=None, repr=False)
    """A small JPEG, for some pictures of each class."""
    is_shown: bool = False
    """Whether it is one of those that its class's sheet shows."""
    sketch: bytes | None = field(default=None, repr=False)
    """What is nearly the same for pictures that are nearly the same; see `checkup.sketch`."""


@dataclass(frozen=True)
class Examination:
    """What was seen of all pictures."""

    looks: list[Look]
    """One of each picture of each split, in order."""
    channels: dict[str, ChannelTotals]
    """Split -> the sums of its pictures' channels."""
    decode_seconds: dict[str, float] | None
    """Split -> the time that decoding its pictures took, added up over the threads; None where there is nothing to decode."""
    num_threads: int


def examine(splits: dict[str, ImageSet], *, num_threads: int, progress: Progress | None = None) -> Examination:
    """Look at every picture of every split."""
    shown = _choose_shown(splits)
    total = sum(map(len, splits.values()))
    is_encoded = not all(isinstance(images.pictures, PixelArray) for images in splits.values())
    if not is_encoded:
        num_threads = 1  # nothing to decode: more would only wait for each other
    tasks = _split_tasks(splits)
    looks: list[Look] = []
    channels = {split: ChannelTotals() for split in splits}
    seconds = dict.fromkeys(splits, 0.0)

    def work(task: tuple[str, ImageSet, range]) -> list[tuple[Look, ChannelTotals | None, float]]:
        split, images, indices = task
        return [_look(images, split, index, is_shown=index in shown[split]) for index in indices]

    with in_order(work, tasks, num_threads, most_ahead=TASKS_AHEAD) as done:
        for task in done:
            for look, totals, decode_seconds in task:
                looks.append(look)
                seconds[look.split] += decode_seconds
                if totals:
                    channels[look.split] += totals
            if progress:
                progress("looking at pictures", len(looks), total)
    return Examination(looks, channels, seconds if is_encoded else None, num_threads)


def _split_tasks(splits: dict[str, ImageSet]) -> Iterator[tuple[str, ImageSet, range]]:
    for split, images in splits.items():
        for start in range(0, len(images), PICTURES_A_TASK):
            yield split, images, range(start, min(start + PICTURES_A_TASK, len(images)))


def _choose_shown(splits: dict[str, ImageSet]) -> dict[str, set[int]]:
    """Split -> the numbers of the pictures to show: of each class some, evenly spread over all its splits."""
    members: dict[str, list[tuple[str, NDArray[np.int64]]]] = {}
    for split, images in splits.items():
        by_class = np.split(np.argsort(images.labels, kind="stable"), np.cumsum(np.bincount(images.labels, minlength=len(images.classes))))
        for label, indices in zip(images.classes, by_class, strict=False):  # after the last class nothing is left
            members.setdefault(label, []).append((split, indices))
    shown: dict[str, set[int]] = {split: set() for split in splits}
    for parts in members.values():
        total = sum(len(indices) for _, indices in parts)
        places = np.unique(np.linspace(0, total - 1, min(total, SHOWN_OF_A_CLASS)).round().astype(np.int64))
        for split, indices in parts:
            shown[split].update(indices[places[(places >= 0) & (places < len(indices))]].tolist())
            places = places - len(indices)
    return shown


def _look(images: ImageSet, split: str, index: int, *, is_shown: bool) -> tuple[Look, ChannelTotals | None, float]:
    """The look, the sums of the picture's channels where it can be decoded, and the seconds that decoding it took."""
    path, label, found = images.pictures.where(index), images.classes[images.labels[index]], images.pictures.file(index)
    file = None if found is None else path if os.fspath(found) == path else os.fspath(found)  # one text for both: there may be millions
    size_bytes = _size_bytes(images.pictures, index)
    start = time.perf_counter()
    try:
        picture = images.pictures.rgb(index)
    except ImageError as error:
        broken = Look(path, split, label, file, size_bytes=size_bytes, kind=error.kind, message=str(error), is_shown=is_shown)
        return broken, None, time.perf_counter() - start
    seconds = time.perf_counter() - start
    look = Look(
        path,
        split,
        label,
        file,
        picture.width,
        picture.height,
        size_bytes,
        hash_pixels(picture),
        thumbnail=thumbnail_of(picture) if is_shown else None,
        is_shown=is_shown,
        sketch=sketch(picture),
    )
    return look, ChannelTotals.of(picture), seconds


def hash_pixels(picture: Image.Image) -> bytes:
    """16 bytes, the same for the same size and pixels of an upright RGB picture; a strip at a time, so that no copy is made of it."""
    digest = hashlib.blake2b(f"{picture.width}x{picture.height}".encode(), digest_size=16)
    for top in range(0, picture.height, ROWS_HASHED_AT_ONCE):
        is_all = picture.height <= ROWS_HASHED_AT_ONCE
        strip = picture if is_all else picture.crop((0, top, picture.width, min(top + ROWS_HASHED_AT_ONCE, picture.height)))
        digest.update(strip.tobytes())
    return digest.digest()


def thumbnail_of(picture: Image.Image) -> bytes:
    """At most THUMBNAIL_PIXELS a side, its shape kept; compressed, since a thousand classes have 48,000 of them."""
    small = picture.copy() if max(picture.size) <= THUMBNAIL_PIXELS else picture
    if small is picture:
        scale = THUMBNAIL_PIXELS / max(picture.size)
        size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
        small = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=92, subsampling=0)
    return out.getvalue()


def _size_bytes(pictures: Pictures, index: int) -> int | None:
    found = pictures.size_bytes(index) if isinstance(pictures, EncodedPictures) else -1
    return None if found < 0 else found
