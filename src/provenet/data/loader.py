"""Batches of images for training and for evaluation, ready for the network.

Training reads the endless sequence of order.py from any step on; evaluation reads every picture once, in order. Several processes
share each global batch; what is in it does not depend on how many they are. Normalisation and distortion are done for the whole batch on
the device. Letters: B batch, S window, C channels.
"""

import hashlib
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, tee
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.beside import SquaresBeside
from provenet.data.distort import distort
from provenet.data.distortion import Distortion
from provenet.data.index import ImageSet
from provenet.data.mixing import mix
from provenet.data.order import LARGEST_TABLE_SAMPLES, Order
from provenet.data.random import Places, Purpose, draw
from provenet.data.squares import Asked, Shown, Squares, SquaresInMemory, stream_squares
from provenet.errors import ImageError, SettingsError
from provenet.preprocessing import Preprocessing, window
from provenet.runtime import count_cores

FOR_EVER = 2**48  # steps
STEPS_PLANNED_AT_ONCE = 32
STEPS_GATHERED_AT_ONCE = 8
LARGEST_NORMALISED_BYTES = 2**28


class Batch(NamedTuple):
    """Normalised images float32 [B, C, S, S] and their class numbers [B], on the device; probabilities [B, K] of mixed ones."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Share:
    """Which part of each global batch a process computes: the `rank`-th of `num_processes` nearly equal ones."""

    rank: int = 0
    num_processes: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.num_processes:
            raise SettingsError(f"share: expected a rank of 0 to {self.num_processes - 1}, found {self.rank}")

    def rows(self, batch_size: int) -> range:
        """Its rows of a global batch."""
        return range(self.rank * batch_size // self.num_processes, (self.rank + 1) * batch_size // self.num_processes)


class Loader:
    """The batches of one set of stored squares with their labels [N].

    Iterating gives the training batches of an endless sequence from `next_step` on; `state_dict` is all that is needed to go on.
    """

    def __init__(
        self,
        squares: Squares,
        labels: NDArray[np.int64],
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        device: torch.device | str = "cpu",
        seed: int = 0,
        distortion: Distortion | None = None,
        share: Share | None = None,
        num_classes: int | None = None,
    ) -> None:
        self.squares = squares
        self.labels = labels
        self.preprocessing = preprocessing
        self.batch_size = batch_size
        self.device = torch.device(device)
        self.seed = seed
        self.distortion = distortion or Distortion()
        self.share = share or Share()
        self.is_beside = self.device.type != "cpu"
        """Whether training pictures are decoded in a process of its own, which would else slow the accelerator's launches."""
        self.num_classes = num_classes or int(labels.max(initial=0)) + 1
        self.next_step = 0

    @classmethod
    def of(
        cls,
        images: ImageSet,
        preprocessing: Preprocessing,
        *,
        batch_size: int,
        num_threads: int | None = None,
        skip_broken: bool = False,
        **options: Any,
    ) -> "Loader":
        """A loader of pictures that are decoded as they are needed, by as many threads as there are cores.

        With `skip_broken`, one that cannot be decoded is replaced by the next one that can; `loader.squares.broken` has them.
        """
        threads = count_cores() if num_threads is None else num_threads
        squares = stream_squares(images.pictures, preprocessing, num_threads=threads, is_exact=False)
        squares.may_replace = skip_broken
        return cls(squares, images.labels, preprocessing, batch_size=batch_size, num_classes=len(images.classes), **options)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def broken(self) -> dict[int, ImageError]:
        """Pictures that could not be decoded when they were met, each of which gave its turn to another."""
        return self.squares.broken

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.training_batches(self.next_step):
            self.next_step += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Where the sequence of global batches is: a few numbers, the same in every process."""
        return {"seed": self.seed, "batch_size": self.batch_size, "num_samples": len(self), "next_step": self.next_step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there, on any number of threads and processes. Raises SettingsError for the state of another sequence."""
        for name, here in self.state_dict().items():
            if name != "next_step" and state.get(name) != here:
                raise SettingsError(f"loader state: expected {name} = {here}, as this loader has, found {state.get(name)}; give it its own")
        step = state.get("next_step")
        if type(step) is not int or step < 0:
            raise SettingsError(f"loader state: expected a step of 0 or more in next_step, found {step!r}")
        self.next_step = step

    def fingerprint(self) -> str:
        """A short name for exactly these pixels and labels, in this order."""
        digest = hashlib.sha256(self.labels.astype("<i8").tobytes())
        digest.update(self.squares.content.astype("<u8").tobytes())
        return digest.hexdigest()[:16]

    def training_batches(self, first_step: int, last_step: int = FOR_EVER) -> Generator[Batch, None, None]:
        """The share that is ours of global batches first_step .. last_step - 1; each depends on the seed, its number and its size only."""
        if self.distortion == Distortion() and self._normalised is not None:
            yield from self._gather(self._normalised, first_step, last_step)
            return
        yield from self.distorted_batches(self._plan(first_step, last_step))

    def distorted_batches(self, plan: Iterable[tuple[Places, NDArray[np.int64]]]) -> Iterator[Batch]:
        """Batches of chosen pictures, each distorted as at the place that is given for it, not at its own in the order."""
        here, ahead = tee(plan)
        for (places, _), shown in zip(here, self._show(ahead), strict=True):
            yield self._distorted(shown, places)

    def evaluation_batches(self) -> Iterator[Batch]:
        """Every picture once, in order, undistorted; the last batch may be smaller. Processes take batches in turn."""
        starts = range(self.share.rank * self.batch_size, len(self), self.share.num_processes * self.batch_size)
        numbers = (np.arange(start, min(start + self.batch_size, len(self))) for start in starts)
        for shown in self.squares.batches(numbers):
            windows = window(shown.pixels.to(self.device), self.preprocessing.size)
            yield Batch(self.preprocessing.normalise(windows), self._labels_of(shown))

    @cached_property
    def _normalised(self) -> Tensor | None:
        """All images as the network sees them, float32 [N, S S C] on the device, where they are in memory and few enough to be so twice."""
        size, squares = self.preprocessing.size, self.squares
        num_values = size * size * self.preprocessing.channels
        is_small = len(self) <= LARGEST_TABLE_SAMPLES and 4 * num_values * len(self) <= LARGEST_NORMALISED_BYTES
        if not isinstance(squares, SquaresInMemory) or not is_small:
            return None
        images = torch.empty(len(self), num_values, device=self.device)
        for start in range(0, len(self), 1_024):
            windows = window(squares.pixels[start : start + 1_024].to(self.device), size)
            images[start : start + 1_024] = self.preprocessing.normalise(windows).permute(0, 2, 3, 1).flatten(1)
        return images

    def _gather(self, images: Tensor, first_step: int, last_step: int) -> Generator[Batch, None, None]:
        """Undistorted training batches: a few of them are one gather."""
        labels = torch.from_numpy(self.labels).to(self.device)
        size, channels, count = self.preprocessing.size, self.preprocessing.channels, len(self.share.rows(self.batch_size))
        plan = self._plan(first_step, last_step)
        while some := [samples for _, samples in islice(plan, STEPS_GATHERED_AT_ONCE)]:
            samples = torch.from_numpy(np.concatenate(some)).to(self.device)
            chosen = images.index_select(0, samples).view(-1, size, size, channels).permute(0, 3, 1, 2)
            yield from map(Batch, torch.split(chosen, count or 1)[: len(some)], torch.split(labels.index_select(0, samples), count or 1))

    def _plan(self, first_step: int, last_step: int) -> Iterator[tuple[Places, NDArray[np.int64]]]:
        """For each step the places of our rows, and their samples; of many steps at once, since small nets take steps of microseconds."""
        order = Order(len(self), self.seed, self.squares.pictures.blocks())
        rows = self._rows()
        for first in range(first_step, last_step, STEPS_PLANNED_AT_ONCE):
            steps = np.arange(first, min(first + STEPS_PLANNED_AT_ONCE, last_step))
            places = order.places_at((steps[:, None] * self.batch_size + rows).ravel())
            samples = order.samples(places)
            for start in range(0, len(samples), len(rows)) if len(rows) else (0 for _ in steps):
                here = slice(start, start + len(rows))
                yield places.select(here), samples[here]

    def _show(self, plan: Iterator[tuple[Places, NDArray[np.int64]]]) -> Iterator[Shown]:
        """Stored squares, where a window of them is all that is asked for, else boxes of the pictures themselves."""
        are_cut = self.distortion.crop != "window"
        squares = self.squares
        if self.is_beside and (are_cut or not isinstance(squares, SquaresInMemory)):
            squares = SquaresBeside(squares)
        if not are_cut:
            return squares.batches(samples for _, samples in plan)
        return squares.crops((_ask(samples, places, self.distortion) for places, samples in plan), self.distortion)

    def _rows(self) -> NDArray[np.int64]:
        """Our rows of a global batch; if pictures are mixed, also the one after the last, where it is another process's."""
        rows = self.share.rows(self.batch_size)
        is_shared = self.share.num_processes > 1
        return np.array([*rows, rows.stop % self.batch_size] if self.distortion.mixes and is_shared and rows else rows, np.int64)

    def _distorted(self, shown: Shown, places: Places) -> Batch:
        images, labels = self._windows(shown, places), self._labels_of(shown)
        images = distort(images, self.distortion, places, self.preprocessing)
        if not self.distortion.mixes or not len(labels):
            return Batch(images, labels)
        count = len(self.share.rows(self.batch_size))
        following = torch.arange(1, count + 1, device=self.device) % len(images)
        own = places.select(slice(0, count))
        return Batch(*mix(images[:count], labels[:count], images[following], labels[following], self.distortion, own, self.num_classes))

    def _windows(self, shown: Shown, places: Places) -> Tensor:
        """Cropped and mirrored: uint8 [B, S, S, C]."""
        pixels, size = shown.pixels.to(self.device), self.preprocessing.size
        if self.distortion.crop != "window":
            return pixels  # cut and mirrored when they were decoded
        moves = self.distortion.moves(*places)
        if moves is None:
            return window(pixels, size)
        rows, columns, mirrored = (move.to(self.device) for move in moves)
        return window(pixels, size, rows=rows, columns=columns, mirrored=mirrored)

    def _labels_of(self, shown: Shown) -> Tensor:
        return torch.from_numpy(self.labels[shown.samples]).to(self.device)


def _ask(samples: NDArray[np.int64], places: Places, distortion: Distortion) -> Asked:
    """A box of each: four words that place it (across, down, extent, aspect), and whether it is mirrored."""
    across, down, _, extent = draw(places.seed, Purpose.DISTORTION, places.epochs, places.positions)
    aspect = draw(places.seed, Purpose.CROP, places.epochs, places.positions)[0]
    moves = distortion.moves(*places)
    mirrored = np.zeros(len(samples), bool) if moves is None else moves.mirrored.numpy()
    return Asked(samples, np.stack([across, down, extent, aspect]), mirrored)
