"""Batches of images for training and for evaluation, ready for the network.

Training reads the endless sequence of order.py from any step on; evaluation reads every picture once, in order. Normalisation and
distortion are done for the whole batch on the device. Letters: B batch, S window, C channels.
"""

import hashlib
from collections.abc import Generator, Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.distortion import Distortion
from provenet.data.order import epochs_and_positions, sample_order
from provenet.data.squares import Squares
from provenet.preprocessing import Preprocessing, window


class Batch(NamedTuple):
    """Normalised images float32 [B, C, S, S] and their class numbers [B], on the device."""

    images: Tensor
    labels: Tensor


class Loader:
    """The batches of one set of stored squares with their labels [N]."""

    def __init__(
        self,
        squares: Squares,
        labels: NDArray[np.int64],
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.squares = squares
        self.labels = labels
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.device = torch.device(device)

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """A short name for exactly these pixels and labels, in this order."""
        digest = hashlib.sha256(self.labels.astype("<i8").tobytes())
        digest.update(self.squares.content.astype("<u8").tobytes())
        return digest.hexdigest()[:16]

    def training_batches(self, first_step: int, last_step: int, *, seed: int, distortion: Distortion) -> Generator[Batch, None, None]:
        """Global batches first_step .. last_step - 1; each depends on the seed and its own number only."""
        size = self.batch_size
        steps = range(first_step, last_step)
        samples = (sample_order(step * size, size, len(self), seed) for step in steps)
        for step, squares in zip(steps, self.squares.batches(samples), strict=True):
            epochs, positions = epochs_and_positions(step * size, size, len(self))
            labels = self.labels[sample_order(step * size, size, len(self), seed)]
            yield self._batch(squares, labels, distortion, seed, epochs, positions)

    def evaluation_batches(self) -> Iterator[Batch]:
        """Every picture once, in order, undistorted; the last batch may be smaller."""
        starts = range(0, len(self), self.batch_size)
        numbers = (np.arange(start, min(start + self.batch_size, len(self))) for start in starts)
        for start, squares in zip(starts, self.squares.batches(numbers), strict=True):
            windows = window(squares.to(self.device), self.preprocessing.size)
            labels = torch.from_numpy(self.labels[start : start + self.batch_size]).to(self.device)
            yield Batch(self.preprocessing.normalise(windows), labels)

    def _batch(
        self,
        squares: Tensor,
        labels: NDArray[np.int64],
        distortion: Distortion,
        seed: int,
        epochs: NDArray[np.int64],
        positions: NDArray[np.int64],
    ) -> Batch:
        squares = squares.to(self.device)
        moves = distortion.moves(seed, epochs, positions)
        if moves is None:
            windows = window(squares, self.preprocessing.size)
        else:
            rows, columns, mirrored = (move.to(self.device) for move in moves)
            windows = window(squares, self.preprocessing.size, rows=rows, columns=columns, mirrored=mirrored)
        return Batch(self.preprocessing.normalise(windows), torch.from_numpy(labels).to(self.device))
