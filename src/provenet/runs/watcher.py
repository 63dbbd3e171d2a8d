"""Who watches a run: the interface that progress bars and notebooks implement, and one that keeps silent."""

from typing import Protocol

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
