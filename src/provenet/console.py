"""What a run looks like in a terminal: a bar with speed, loss, accuracy and time left. Without a terminal, a line an epoch.

Everything here goes to standard error; standard output is for results.
"""

import contextlib
import io
import sys
import time
from typing import TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from provenet.errors import printable
from provenet.training.loop import EpochRecord, StepRecord

SECONDS_BEFORE_A_BAR = 2.0


class Unbreakable(io.TextIOBase):
    """A stream that may be full, closed or gone without anybody noticing: a run does not end because nobody listens."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        """As much as the stream takes."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As much as the stream takes."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self._stream.isatty()

    def fileno(self) -> int:
        """Of the stream, for the size of the terminal."""
        return self._stream.fileno()


class Terminal:
    """A `runs.watcher.Watcher` on standard error; use it in a `with` block."""

    def __init__(self) -> None:
        self.console = Console(file=cast("TextIO", Unbreakable(sys.stderr)), highlight=False, emoji=False)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._work_started: dict[str, float] = {}
        self._images_per_second = 0.0
        self._last_step_at: float | None = None
        self._loss: float | None = None
        self._correct = 0.0

    def __enter__(self) -> "Terminal":
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """One line above the bars."""
        self.console.print(printable(text), markup=False, soft_wrap=True)

    def progress(self, what: str, done: int, total: int) -> None:
        """A bar, once the work has taken two seconds."""
        started = self._work_started.setdefault(what, time.monotonic())
        if what not in self._tasks and time.monotonic() - started > SECONDS_BEFORE_A_BAR:
            self._tasks[what] = self._bars.add_task(what, total=total or None, facts="")
        if what in self._tasks:
            self._bars.update(self._tasks[what], completed=done)
            if done >= total > 0:
                self._bars.remove_task(self._tasks.pop(what))
        if done >= total > 0:
            del self._work_started[what]

    def step(self, record: StepRecord) -> None:
        """The bar of the whole run: smoothed speed, loss and accuracy."""
        now = time.monotonic()
        if "training" not in self._tasks:
            self._tasks["training"] = self._bars.add_task("training", total=record.num_steps, facts="")
        if self._last_step_at is not None:
            speed = record.images / max(now - self._last_step_at, 1e-9)
            self._images_per_second = speed if not self._images_per_second else 0.95 * self._images_per_second + 0.05 * speed
        self._last_step_at = now
        fraction = record.correct / record.images
        if self._loss is None:
            self._loss, self._correct = record.loss, fraction
        self._loss, self._correct = 0.95 * self._loss + 0.05 * record.loss, 0.95 * self._correct + 0.05 * fraction
        facts = f"{self._images_per_second:,.0f} images/s  loss {self._loss:.3f}  accuracy {self._correct:.1%}"
        self._bars.update(self._tasks["training"], completed=record.step, facts=facts)

    def epoch(self, record: EpochRecord, total_epochs: float) -> None:
        """A line that stays."""
        self._last_step_at = None  # the evaluation is not part of a step's time
        left = record.seconds * (record.num_steps / record.step - 1)
        best = " | best so far" if record.is_best else ""
        self.note(
            f"epoch {record.epoch:.3g}/{total_epochs:g}: {_time(record.seconds)}, {_time(left)} left"
            f", {self._images_per_second:,.0f} images/s"
            f" | training loss {record.train_loss:.3f}, accuracy {record.train_top1:.2%}"
            f" | validation loss {record.val.loss:.3f}, accuracy {record.val.top1:.2%}{best}"
        )


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
