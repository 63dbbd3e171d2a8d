"""Decoding in one process of its own, beside a trainer that feeds an accelerator: there, decoding threads would slow the launch of kernels.

The process decodes with threads, as squares.py does anywhere, and writes each batch into memory that both share; what goes through the pipe
is a few numbers. It ends when its batches are no longer asked for, and when the trainer dies. Batches are the same to the bit.
"""

import signal
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection

import numpy as np
import torch
import torch.multiprocessing
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.distortion import Distortion
from provenet.data.squares import Asked, Shown, Squares, SquaresOnDisk
from provenet.data.threads import BATCHES_AHEAD
from provenet.errors import DataError, ImageError

SLOTS = BATCHES_AHEAD + 2
"""Batches in shared memory: those that are decoded ahead, one that is finished, and one that the trainer is reading."""

Request = NDArray[np.int64] | Asked
Answer = tuple[NDArray[np.int64], dict[int, ImageError]]


class SquaresBeside(Squares):
    """What `squares` gives, decoded by a process of its own while a stream of batches is read.

    The pixels of a batch are overwritten after the next one is asked for.
    """

    def __init__(self, squares: Squares) -> None:
        super().__init__(
            squares.pictures, squares.preprocessing, squares.content, num_threads=squares.num_threads, is_exact=squares.is_exact
        )
        self.may_replace = squares.may_replace
        self.broken = squares.broken  # theirs too

    def batches(self, samples: Iterator[NDArray[np.int64]]) -> Iterator[Shown]:
        return self._stream(samples, self.preprocessing.resize, None)

    def crops(self, asked: Iterator[Asked], distortion: Distortion) -> Iterator[Shown]:
        return self._stream(asked, self.preprocessing.size, distortion)

    def select(self, indices: NDArray[np.int64]) -> "SquaresBeside":
        return SquaresBeside(self._here().select(indices))

    def _here(self) -> SquaresOnDisk:
        """The same, decoded by whoever asks."""
        squares = SquaresOnDisk(self.pictures, self.preprocessing, self.content, num_threads=self.num_threads, is_exact=self.is_exact)
        squares.may_replace = self.may_replace
        return squares

    def _stream(self, requests: Iterator[Request], side_pixels: int, distortion: Distortion | None) -> Iterator[Shown]:
        pending = next(requests, None)
        if pending is None:
            return
        num_rows = len(pending.samples if isinstance(pending, Asked) else pending)  # no later batch of a stream is larger
        slots = torch.empty(SLOTS, num_rows, side_pixels, side_pixels, self.preprocessing.channels, dtype=torch.uint8)
        slots.share_memory_()  # type: ignore[no-untyped-call]
        context = torch.multiprocessing.get_context("spawn")  # a fork would copy the locks of threads, and the accelerator's state
        here, there = context.Pipe()
        process = context.Process(target=_decode, args=(there, self._here(), distortion, slots), name="provenet decoding", daemon=True)
        process.start()
        there.close()
        try:
            waiting: deque[int] = deque()
            number = 0
            while pending is not None or waiting:
                while pending is not None and len(waiting) < SLOTS - 1:
                    _send(here, pending)
                    waiting.append(number % SLOTS)
                    number += 1
                    pending = next(requests, None)
                    if pending is None:
                        _send(here, None)
                samples, broken = _receive(here)
                self.broken |= broken
                yield Shown(slots[waiting.popleft(), : len(samples)], samples)
        finally:
            here.close()
            process.terminate()
            process.join()


def _send(here: Connection, request: Request | None) -> None:
    try:
        here.send(request)
    except OSError as error:
        raise _gone() from error


def _receive(here: Connection) -> Answer:
    try:
        answer: Answer | BaseException = here.recv()
    except (EOFError, OSError) as error:
        raise _gone() from error
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _gone() -> DataError:
    return DataError("expected the process that decodes pictures to be alive, found it gone (out of memory?); start again")


def _decode(there: Connection, squares: SquaresOnDisk, distortion: Distortion | None, slots: Tensor) -> None:
    """The other process: batches asked for come through the pipe, pixels go into the shared memory, what they are of comes back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the trainer decides when to stop
    torch.set_num_threads(1)
    try:
        requests = _requests(there)
        shown = squares.batches(requests) if distortion is None else squares.crops(requests, distortion)  # type: ignore[arg-type]
        for number, (pixels, samples) in enumerate(shown):
            slots[number % SLOTS, : len(samples)] = pixels
            broken, squares.broken = squares.broken, {}
            there.send((samples, broken))
    except OSError:  # the trainer is gone
        return
    except Exception as error:
        there.send(error)


def _requests(there: Connection) -> Iterator[Request]:
    while True:
        try:
            request: Request | None = there.recv()
        except (EOFError, OSError):  # the trainer has read enough, or is gone
            return
        if request is None:
            return
        yield request
