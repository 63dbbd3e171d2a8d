"""Pixels of some pictures: all stored squares in memory where they fit, else decoded by threads ahead of the training step.

Both give the same bytes for the same picture. Letters: N pictures, B batch, R side of the stored square, S of the window, C channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.boxes import draw_box
from provenet.data.distortion import Distortion
from provenet.data.pictures import Pictures, PixelArray, content_number
from provenet.data.threads import fill_ahead, in_order
from provenet.errors import ImageError, without_frames
from provenet.preprocessing import Preprocessing
from provenet.progress import Progress

LARGEST_IN_MEMORY_BYTES = 2**30
PICTURES_AHEAD = 1_024  # a future a picture, for millions at once, would fill the memory
MOST_BROKEN_IN_A_ROW = 1_000


class Shown(NamedTuple):
    """Pixels uint8 [B, side, side, C], and the picture that each row is of [B]."""

    pixels: Tensor
    samples: NDArray[np.int64]


class Asked(NamedTuple):
    """Pictures to show [B], the random words that place their boxes, uint64 [4, B], and which are turned left to right, bool [B]."""

    samples: NDArray[np.int64]
    words: NDArray[np.uint64]
    mirrored: NDArray[np.bool_]


class Squares(ABC):
    """The pixels of some pictures. `content` has a number for each that changes with it, uint64 [N].

    Exact ones (evaluation) are decoded and resized by Pillow alone; others (training) are `Pictures.quick_square`.
    """

    def __init__(
        self, pictures: Pictures, preprocessing: Preprocessing, content: NDArray[np.uint64], *, num_threads: int, is_exact: bool = True
    ) -> None:
        self.pictures = pictures
        self.preprocessing = preprocessing
        self.content = content
        self.num_threads = num_threads
        self.is_exact = is_exact
        self.may_replace = False
        """Whether a picture that cannot be decoded in training is replaced by the next one that can."""
        self.broken: dict[int, ImageError] = {}
        """Those that were, so far."""

    @abstractmethod
    def batches(self, samples: Iterator[NDArray[np.int64]]) -> Iterator[Shown]:
        """The stored squares of each batch of picture numbers [B], in order."""

    @abstractmethod
    def select(self, indices: NDArray[np.int64]) -> "Squares":
        """Those of some pictures, in that order."""

    def crops(self, asked: Iterator[Asked], distortion: Distortion) -> Iterator[Shown]:
        """A box of each picture as large as the window, drawn by the distortion's rule, cut from the picture itself."""
        preprocessing = self.preprocessing

        def fill(row: NDArray[np.uint8], job: tuple[int, list[int], bool]) -> int:
            index, words, is_mirrored = job

            def decode(index: int) -> NDArray[np.uint8]:
                return self.pictures.crop(
                    index,
                    lambda width, height: draw_box(distortion, preprocessing, words, width, height),
                    preprocessing.size,
                    preprocessing,
                )

            shown = self._first_sound(row, index, decode)
            if is_mirrored:
                pixels = row.view(f"V{row.shape[-1]}")  # whole pixels, which are moved in half the time of their colours
                pixels[...] = pixels[:, ::-1].copy()
            return shown

        jobs = (list(zip(batch.samples.tolist(), batch.words.T.tolist(), batch.mirrored.tolist(), strict=True)) for batch in asked)
        shape = preprocessing.size, preprocessing.size, preprocessing.channels
        for rows, samples in fill_ahead(jobs, fill, shape, self.num_threads):
            yield Shown(torch.from_numpy(rows), np.array(samples, np.int64))

    def _first_sound(self, row: NDArray[np.uint8], index: int, decode: Callable[[int], NDArray[np.uint8]]) -> int:
        """Write a picture's pixels into a row; -> its number, or that of the next one, cyclically, that can be decoded.

        So a broken picture has the same replacement in every process, at any time, and on any number of threads.
        """
        for candidate in range(index, index + MOST_BROKEN_IN_A_ROW):
            number = candidate % len(self.pictures)
            try:
                row[...] = decode(number)
            except ImageError as error:
                if not self.may_replace:
                    raise
                self.broken[number] = without_frames(error)
            else:
                return number
        raise self.broken[index % len(self.pictures)]

    def _square(self, index: int) -> NDArray[np.uint8]:
        return (self.pictures.square if self.is_exact else self.pictures.quick_square)(index, self.preprocessing)


class SquaresInMemory(Squares):
    """All of them in one tensor, `pixels` uint8 [N, R, R, C]: a batch is one gather."""

    pixels: Tensor

    def batches(self, samples: Iterator[NDArray[np.int64]]) -> Iterator[Shown]:
        for batch in samples:
            yield Shown(self.pixels.index_select(0, torch.from_numpy(batch)), batch)

    def select(self, indices: NDArray[np.int64]) -> "SquaresInMemory":
        chosen = SquaresInMemory(
            self.pictures.select(indices),
            self.preprocessing,
            self.content[indices],
            num_threads=self.num_threads,
            is_exact=self.is_exact,
        )
        chosen.pixels = self.pixels[torch.from_numpy(indices)]
        return chosen


class SquaresOnDisk(Squares):
    """Decoded when needed, by threads (the decoder releases the interpreter's lock), some batches ahead."""

    def batches(self, samples: Iterator[NDArray[np.int64]]) -> Iterator[Shown]:
        shape = self.preprocessing.resize, self.preprocessing.resize, self.preprocessing.channels
        jobs = (batch.tolist() for batch in samples)
        for rows, shown in fill_ahead(jobs, lambda row, index: self._first_sound(row, index, self._square), shape, self.num_threads):
            yield Shown(torch.from_numpy(rows), np.array(shown, np.int64))

    def select(self, indices: NDArray[np.int64]) -> "SquaresOnDisk":
        return SquaresOnDisk(
            self.pictures.select(indices),
            self.preprocessing,
            self.content[indices],
            num_threads=self.num_threads,
            is_exact=self.is_exact,
        )


def fits_in_memory(pictures: Pictures, preprocessing: Preprocessing, largest_bytes: int | None = None) -> bool:
    """Whether the stored squares of all pictures do: within LARGEST_IN_MEMORY_BYTES, or as many as are given."""
    limit = LARGEST_IN_MEMORY_BYTES if largest_bytes is None else largest_bytes
    return len(pictures) * preprocessing.resize**2 * preprocessing.channels <= limit


def open_squares(
    pictures: Pictures,
    preprocessing: Preprocessing,
    *,
    num_threads: int,
    is_exact: bool = True,
    progress: Progress | None = None,
    largest_in_memory_bytes: int | None = None,
) -> tuple[Squares, dict[int, ImageError]]:
    """The squares of all pictures, and the error of each one that cannot be decoded (its square is black).

    Every picture is decoded once here, before anything is trained on it, so a broken one is known at the start and not after an hour.
    `stream_squares` does not, for sets of which one look at each takes long itself.
    """
    side, channels = preprocessing.resize, preprocessing.channels
    if isinstance(pictures, PixelArray) and pictures.pixels.shape[1:] == (side, side, channels):
        pixels = pictures.pixels if pictures.pixels.flags.writeable else pictures.pixels.copy()
        content = np.array([content_number(square.tobytes()) for square in pixels], dtype=np.uint64)
        whole = SquaresInMemory(pictures, preprocessing, content, num_threads=num_threads, is_exact=is_exact)
        whole.pixels = torch.from_numpy(pixels)
        return whole, {}
    fits = fits_in_memory(pictures, preprocessing, largest_in_memory_bytes)
    kept = np.zeros((len(pictures) if fits else 0, side, side, channels), np.uint8)
    content = np.zeros(len(pictures), dtype=np.uint64)
    kind = SquaresInMemory if fits else SquaresOnDisk
    squares: Squares = kind(pictures, preprocessing, content, num_threads=num_threads, is_exact=is_exact)
    broken: dict[int, ImageError] = {}

    def decode(index: int) -> None:
        try:
            square = squares._square(index)
        except ImageError as error:
            broken[index] = without_frames(error)
        else:
            content[index] = content_number(square.tobytes())
            if fits:
                kept[index] = square

    with in_order(decode, range(len(pictures)), num_threads, most_ahead=PICTURES_AHEAD) as decoded:
        for done, _ in enumerate(decoded, start=1):
            if progress and (done % 64 == 0 or done == len(pictures)):
                progress("reading pictures", done, len(pictures))
    if isinstance(squares, SquaresInMemory):
        squares.pixels = torch.from_numpy(kept)
    return squares, dict(sorted(broken.items()))


def stream_squares(pictures: Pictures, preprocessing: Preprocessing, *, num_threads: int, is_exact: bool = True) -> SquaresOnDisk:
    """The squares of all pictures, none of which is decoded before it is needed; known by their names and sizes."""
    return SquaresOnDisk(pictures, preprocessing, pictures.identities(), num_threads=num_threads, is_exact=is_exact)
