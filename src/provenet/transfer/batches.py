"""Batches of features where a `Loader` gives batches of images: the same pictures in the same order."""

import hashlib
from collections.abc import Generator, Iterator
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from provenet.data.index import ImageSet
from provenet.data.loader import Batch
from provenet.data.order import Order
from provenet.errors import ImageError
from provenet.transfer.features import BATCH_SIZE, Features
from provenet.transfer.standardised import Standardised


class FeatureLoader:
    """Batches of features where a `Loader` gives batches of images: the same pictures in the same order."""

    def __init__(
        self,
        features: Features,
        images: ImageSet,
        *,
        batch_size: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """`images` are the sound ones, whose features these are."""
        self.contents = features.contents
        self.rows = features.rows
        self.way = features.way
        self.labels = torch.from_numpy(images.labels)
        self.batch_size = batch_size
        self.seed = seed
        self.device = torch.device(device)
        self.broken: dict[int, ImageError] = {}
        self._blocks = images.pictures.blocks()

    def __len__(self) -> int:
        return len(self.labels)

    def fingerprint(self) -> str:
        """A short name for exactly these pictures and labels, in this order."""
        digest = hashlib.sha256(self.labels.numpy().astype("<i8").tobytes())
        digest.update(self.contents.astype("<u8").tobytes())
        return digest.hexdigest()[:16]

    def training_batches(self, first_step: int, last_step: int) -> Generator[Batch, None, None]:
        """Global batches first_step .. last_step - 1 of features float32 [B, F]; each pass sees another view, where there are some."""
        order = Order(len(self), self.seed, self._blocks)
        for step in range(first_step, last_step):
            places = order.places_at(np.arange(step * self.batch_size, (step + 1) * self.batch_size))
            samples, views = order.samples(places), places.epochs % len(self.rows)
            rows = np.empty((len(samples), *self.rows[0].shape[1:]), np.float32)
            for view in np.unique(views).tolist():
                inside = np.flatnonzero(views == view)
                rows[inside] = self.rows[view][samples[inside]]
            yield self._batch(rows, samples)

    def undistorted(self) -> Batch:
        """All pictures, as evaluation sees them, as one batch."""
        samples = np.arange(len(self))
        return self._batch(self.rows[0][samples], samples)

    @cached_property
    def standardised(self) -> Standardised:
        """The features of `undistorted`, for all who solve a head on them."""
        return Standardised(self.undistorted().images)

    def everything(self) -> Batch:
        """All views of all pictures as one batch."""
        samples = np.arange(len(self))
        return self._batch(np.concatenate([rows[samples] for rows in self.rows]), np.tile(samples, len(self.rows)))

    def evaluation_batches(self) -> Iterator[Batch]:
        """Every picture once, in order, undistorted; the last batch may be smaller."""
        for start in range(0, len(self), BATCH_SIZE):
            samples = np.arange(start, min(start + BATCH_SIZE, len(self)))
            yield self._batch(self.rows[0][samples], samples)

    def _batch(self, rows: NDArray[Any], samples: NDArray[np.int64]) -> Batch:
        features = torch.from_numpy(np.asarray(rows, np.float32)).to(self.device)
        return Batch(features, self.labels[torch.from_numpy(samples)].to(self.device))
