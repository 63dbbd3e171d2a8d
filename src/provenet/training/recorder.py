"""The log of a run: `log.jsonl`, one event a line, written as it happens."""

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from provenet.errors import show_path
from provenet.training.loop import EpochRecord, StepRecord

LINES_A_RUN = 500
"""Enough for a curve to show what happened; a long run has more."""
MOST_STEPS_A_LINE = 50
LARGEST_LOG_BYTES = 2**28


class Log:
    """Appends events to a file; each line is whole, whenever the program ends.

    What cannot be written waits for the next write; `on_trouble` is told once. A snapshot keeps `num_bytes` and `waiting`; who goes on
    from it gives them back as `keep_bytes` and `waiting`, and what was logged after it, which will happen again, is cut off.
    """

    def __init__(self, path: Path, on_trouble: Callable[[str], None], *, keep_bytes: int | None = None, waiting: str = "") -> None:
        self.path = path
        self.on_trouble = on_trouble
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe would wait for ever
            raise OSError(errno.EINVAL, "something there that is no file", str(path))
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        length = os.fstat(self._descriptor).st_size
        self.num_bytes = length if keep_bytes is None else min(keep_bytes, length)
        """How long the file is."""
        os.ftruncate(self._descriptor, self.num_bytes)
        self.waiting = waiting.encode()
        """Lines that could not be written yet."""

    @property
    def is_behind(self) -> bool:
        """Whether some events could not be written yet."""
        return bool(self.waiting)

    def write(self, event: str, **values: Any) -> None:
        """One line."""
        was_behind = self.is_behind
        self.waiting += (json.dumps({"event": event, **values}, ensure_ascii=False) + "\n").encode()
        self._write_waiting(is_news=not was_behind)

    def flush(self) -> None:
        """What is written is on the disk when this returns."""
        os.fsync(self._descriptor)

    def _write_waiting(self, *, is_news: bool) -> None:
        try:
            _write_all(self._descriptor, self.waiting)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self.num_bytes)  # no part of a line stays
            if is_news:
                self.on_trouble(
                    f"{show_path(self.path)}: expected to write, found: {error.strerror or error}; its lines wait, the run goes on"
                )
            return
        self.num_bytes += len(self.waiting)
        self.waiting = b""

    def step(self, record: StepRecord) -> None:
        """Every so many steps, and the first and last."""
        steps_a_line = min(MOST_STEPS_A_LINE, max(1, record.num_steps // LINES_A_RUN))
        if record.step in (1, record.num_steps) or record.step % steps_a_line == 0:
            self.write("step", step=record.step, epoch=round(record.epoch, 4), loss=record.loss, learning_rate=record.learning_rate)

    def epoch(self, record: EpochRecord) -> None:
        """Each evaluation."""
        self.write(
            "epoch",
            step=record.step,
            epoch=round(record.epoch, 4),
            seconds=round(record.seconds, 3),
            train_loss=record.train_loss,
            train_top1=record.train_top1,
            val_loss=record.val.loss,
            val_top1=record.val.top1,
            val_top5=record.val.top5,
            is_best=record.is_best,
        )

    def close(self) -> None:
        """No more events."""
        if self.is_behind:
            self._write_waiting(is_news=False)
        os.close(self._descriptor)


def _write_all(descriptor: int, content: bytes) -> None:
    """A disk that is getting full takes a part first, and complains at the next."""
    while content:
        content = content[os.write(descriptor, content) :]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The events of a log, if there is one; lines that are no events, as a stranger or a failing disk may leave them, are passed over."""
    events = []
    if not path.is_file():
        return []
    with contextlib.suppress(OSError), path.open("rb") as file:
        for line in file.read(LARGEST_LOG_BYTES).splitlines():
            with contextlib.suppress(ValueError, RecursionError):
                event = json.loads(line)
                if isinstance(event, dict) and isinstance(event.get("event"), str):
                    events.append(event)
    return events
