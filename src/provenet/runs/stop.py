"""Ctrl-C, SIGTERM and a terminal that is closed ask a run to stop; it does so where its state is whole, and says how to go on."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """A run was asked to stop and did; the message says what is kept."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class StopRequest:
    """Notices the signals inside its `with` block. The first is remembered; a second one interrupts at once.

    Elsewhere than in the main thread Python has no signals, and nothing is noticed.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            listened_to = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores SIGHUP
            self._before = {number: signal.signal(number, self._notice) for number in listened_to}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: set by a program that Python is part of
        if error is None and self.signal_number is not None:  # asked for after the last look: what comes next shall hear of it
            raise Stopped("asked to stop when the run was complete", self.signal_number)

    def check(self) -> None:
        """Stop here, if asked to."""
        if self.signal_number is not None:
            raise Stopped("interrupted", self.signal_number)

    def between(self, batches: Iterable[T]) -> Iterator[T]:
        """The same batches, with a check before each."""
        for batch in batches:
            self.check()
            yield batch

    def _notice(self, number: int, _: FrameType | None) -> None:
        if self.signal_number is not None:
            raise Stopped("interrupted", number)
        self.signal_number = number
        if sys.stderr is not None and sys.stderr.isatty():  # written past its buffer, which the interrupted code may be using
            with contextlib.suppress(OSError):
                os.write(sys.stderr.fileno(), b"\nstopping after this step (once more: at once)\n")
