"""Who watches a run: the interface that progress bars and notebooks implement, and one that keeps silent."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from provenet.data.loader import Batch
from provenet.training.loop import EpochRecord, StepRecord


class Watcher(Protocol):
    """Told what happens; never asked."""

    def note(self, text: str) -> None:
        """Something worth a line."""
        ...

    def progress(self, what: str, done: int, total: int) -> None:
        """How far a longer piece of work has come."""
        ...

    def step(self, record: StepRecord) -> None:
        """A training step is done."""
        ...

    def epoch(self, record: EpochRecord, total_epochs: float) -> None:
        """An evaluation is done."""
        ...


class Silent:
    """Watches and says nothing."""

    def note(self, text: str) -> None:
        """Nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Nothing."""

    def step(self, record: StepRecord) -> None:
        """Nothing."""

    def epoch(self, record: EpochRecord, total_epochs: float) -> None:
        """Nothing."""


class SaidOnce:
    """Another watcher, told each note once, however often the same work is done."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._said: set[str] = set()
        self.progress, self.step, self.epoch = watcher.progress, watcher.step, watcher.epoch

    def note(self, text: str) -> None:
        """Passed on the first time."""
        if text not in self._said:
            self._said.add(text)
            self._watcher.note(text)


def follow(batches: Iterable[Batch], what: str, num_images: int, watcher: Watcher) -> Iterator[Batch]:
    """The same batches, the watcher told how many of the images have come."""
    done = 0
    for batch in batches:
        yield batch
        done += len(batch.labels)
        watcher.progress(what, done, num_images)
