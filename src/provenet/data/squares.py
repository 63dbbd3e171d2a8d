"""Stored squares: decoded pictures, all in memory where they fit, else decoded by threads ahead of the training step.

Both give the same bytes for the same picture. Letters: N pictures, B batch, R side of the stored square, C channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.pictures import Pictures, PixelArray, content_number
from provenet.data.threads import decoding_threads
from provenet.errors import ImageError
from provenet.preprocessing import Preprocessing

LARGEST_IN_MEMORY_BYTES = 2**30
PICTURES_AT_ONCE = 1_024
BATCHES_AHEAD = 2

Progress = Callable[[str, int, int], None]


class Squares(ABC):
    """The stored squares of some pictures; `content` has a number for the pixels of each, uint64 [N]."""

    content: NDArray[np.uint64]

    @abstractmethod
    def batches(self, indices: Iterator[NDArray[np.int64]]) -> Iterator[Tensor]:
        """The squares of each batch of picture numbers [B], in order: uint8 [B, R, R, C]."""

    @abstractmethod
    def select(self, indices: NDArray[np.int64]) -> "Squares":
        """Those of some pictures, in that order."""


class SquaresInMemory(Squares):
    """All of them in one tensor, uint8 [N, R, R, C]: a batch is one gather."""

    def __init__(self, pixels: Tensor, content: NDArray[np.uint64]) -> None:
        self.pixels = pixels
        self.content = content

    def batches(self, indices: Iterator[NDArray[np.int64]]) -> Iterator[Tensor]:
        for batch in indices:
            yield self.pixels[torch.from_numpy(batch)]

    def select(self, indices: NDArray[np.int64]) -> "SquaresInMemory":
        return SquaresInMemory(self.pixels[torch.from_numpy(indices)], self.content[indices])


class SquaresOnDisk(Squares):
    """Decoded when needed, by threads (the decoder releases the interpreter's lock), some batches ahead."""

    def __init__(self, pictures: Pictures, preprocessing: Preprocessing, num_threads: int, content: NDArray[np.uint64]) -> None:
        self.pictures = pictures
        self.content = content
        self.preprocessing = preprocessing
        self.num_threads = num_threads

    def batches(self, indices: Iterator[NDArray[np.int64]]) -> Iterator[Tensor]:
        side, channels = self.preprocessing.resize, self.preprocessing.channels
        with decoding_threads(self.num_threads) as threads:

            def start(batch: NDArray[np.int64]) -> tuple[Tensor, list[Future[None]]]:
                squares = torch.empty(len(batch), side, side, channels, dtype=torch.uint8)
                return squares, [threads.start(self._decode_into, squares, row, int(index)) for row, index in enumerate(batch)]

            waiting = [start(batch) for batch in islice(indices, BATCHES_AHEAD)]
            while waiting:
                squares, decoding = waiting.pop(0)
                for future in decoding:
                    threads.wait_for(future)
                waiting += [start(batch) for batch in islice(indices, 1)]
                yield squares

    def select(self, indices: NDArray[np.int64]) -> "SquaresOnDisk":
        return SquaresOnDisk(self.pictures.select(indices), self.preprocessing, self.num_threads, self.content[indices])

    def _decode_into(self, squares: Tensor, row: int, index: int) -> None:
        squares[row] = torch.from_numpy(np.array(self.pictures.square(index, self.preprocessing)))


def open_squares(
    pictures: Pictures,
    preprocessing: Preprocessing,
    *,
    num_threads: int,
    progress: Progress | None = None,
    largest_in_memory_bytes: int = LARGEST_IN_MEMORY_BYTES,
) -> tuple[Squares, dict[int, ImageError]]:
    """The squares of all pictures, and the error of each one that cannot be decoded (its square is black).

    Every file is decoded once here, before anything is trained on it, so a broken one is known at the start and not after an hour.
    """
    side, channels = preprocessing.resize, preprocessing.channels
    if isinstance(pictures, PixelArray) and pictures.pixels.shape[1:] == (side, side, channels):
        pixels = pictures.pixels if pictures.pixels.flags.writeable else pictures.pixels.copy()
        content = np.array([content_number(square.tobytes()) for square in pixels], dtype=np.uint64)
        return SquaresInMemory(torch.from_numpy(pixels), content), {}
    fits = len(pictures) * side * side * channels <= largest_in_memory_bytes
    kept = torch.zeros(len(pictures) if fits else 0, side, side, channels, dtype=torch.uint8)
    content = np.zeros(len(pictures), dtype=np.uint64)
    broken: dict[int, ImageError] = {}

    def decode(index: int) -> None:
        try:
            square = pictures.square(index, preprocessing)
        except ImageError as error:
            broken[index] = error
        else:
            content[index] = content_number(square.tobytes())
            if fits:
                kept[index] = torch.from_numpy(np.array(square))

    with decoding_threads(num_threads) as threads:
        for start in range(0, len(pictures), PICTURES_AT_ONCE):  # a future a picture, for millions at once, would fill the memory
            chunk = range(start, min(start + PICTURES_AT_ONCE, len(pictures)))
            for done, future in enumerate([threads.start(decode, index) for index in chunk], start=start + 1):
                threads.wait_for(future)
                if progress and (done % 64 == 0 or done == len(pictures)):
                    progress("reading pictures", done, len(pictures))
    squares = SquaresInMemory(kept, content) if fits else SquaresOnDisk(pictures, preprocessing, num_threads, content)
    return squares, dict(sorted(broken.items()))
