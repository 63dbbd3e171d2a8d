"""The log of a run: `log.jsonl`, one event a line, written as it happens."""

import json
from pathlib import Path
from typing import Any, TextIO

from provenet.training.loop import EpochRecord, StepRecord

STEPS_A_LINE = 50


class Log:
    """Appends events to a file; each line is whole, whenever the program ends."""

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("a", encoding="utf-8", buffering=1)

    def write(self, event: str, **values: Any) -> None:
        """One line."""
        self._file.write(json.dumps({"event": event, **values}, ensure_ascii=False) + "\n")

    def step(self, record: StepRecord) -> None:
        """Every so many steps, and the first and last."""
        if record.step in (1, record.num_steps) or record.step % STEPS_A_LINE == 0:
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
        self._file.close()
