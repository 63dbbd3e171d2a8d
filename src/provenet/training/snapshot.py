"""Snapshots on disk: whole or not there, whatever kills the program.

A snapshot is written beside its place, flushed to the disk and then renamed into it; its name holds the number in line, the step, and the
CRC-32 of its bytes. Whoever reads takes the newest one whose bytes give that sum. The last two are kept, so that one can be damaged.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from provenet.errors import SnapshotError, show_path
from provenet.files import flush, flush_folder
from provenet.training.state import Snapshot

KEPT = 2
STEPS_OF_COST = 50  # a snapshot that takes a second is taken every fifty seconds at most: two in a hundred of a run
HEADER_KEY = "provenet_snapshot"
WRITING = "writing"
NAME = re.compile(r"(\d{6,})-step-(\d+)-([0-9a-f]{8})\.safetensors")


class SnapshotFolder:
    """The snapshots of one run. Only one process at a time may write there; the lock of the run folder sees to that."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def list(self) -> list[Path]:
        """The snapshots, oldest first."""
        if not self.path.is_dir():
            return []
        files = (path for path in self.path.iterdir() if NAME.fullmatch(path.name) and path.is_file())
        return sorted(files, key=lambda path: int(path.name.split("-")[0]))

    def write(self, snapshot: Snapshot) -> None:
        """Add one and remove the oldest. Raises OSError; then those before are as they were, and no part of this one is left.

        A disk without room for one more gives up all but the newest first.
        """
        self.path.mkdir(exist_ok=True)
        try:
            self._write(snapshot)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or len(self.list()) < 2:
                raise
            self._remove_all_but(1)
            self._write(snapshot)

    def read_newest(self, on_damaged: Callable[[str], None]) -> Snapshot | None:
        """The newest sound one; None if there are none at all. `on_damaged` is told of each that had to be passed over, and removed.

        Raises SnapshotError where there are some and all are damaged, or one may not be read.
        """
        there, damaged = self.list(), []
        for path in reversed(there):
            try:
                snapshot = _read(path)
            except OSError as error:
                raise SnapshotError(f"{show_path(path)}: expected to read it, found: {error.strerror or error}; mend that first") from error
            except (SafetensorError, KeyError, ValueError, RecursionError, SnapshotError) as error:
                damaged.append(path)
                on_damaged(f"{show_path(path)}: expected a sound snapshot, found a damaged one ({error}); it is passed over")
            else:
                for other in damaged:  # else it would be one of those that are kept
                    other.unlink(missing_ok=True)
                return snapshot
        if there:
            raise SnapshotError(
                f"{show_path(self.path)}: expected a sound snapshot, found {len(there)} damaged ones; "
                "remove that folder to begin the run again from its first step"
            )
        return None

    def clear(self) -> None:
        """Remove them all."""
        self.remove_unfinished()
        self._remove_all_but(0)
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def remove_unfinished(self) -> None:
        """Remove what a kill in the middle of a write has left."""
        shutil.rmtree(self.path / WRITING, ignore_errors=True)

    def _write(self, snapshot: Snapshot) -> None:
        there = self.list()
        number = int(there[-1].name.split("-")[0]) + 1 if there else 1
        self.remove_unfinished()
        writing = self.path / WRITING  # the library that writes the file leaves others beside it when it is killed
        try:
            writing.mkdir()
            part = writing / f"{number:06}.safetensors"
            tensors = {name: tensor.cpu().contiguous() for name, tensor in snapshot.tensors.items()}
            save_file(tensors, part, metadata={HEADER_KEY: json.dumps(snapshot.facts, ensure_ascii=False)})
            flush(part)
            part.replace(self.path / f"{number:06}-step-{snapshot.facts['step']}-{_checksum(part):08x}.safetensors")
            flush_folder(self.path)
        except SafetensorError as error:
            raise _as_os_error(error) from error
        finally:
            self.remove_unfinished()
        self._remove_all_but(KEPT)

    def keep_newest(self) -> None:
        """Give up all others, for their room."""
        self._remove_all_but(1)

    def _remove_all_but(self, kept: int) -> None:
        there = self.list()
        for path in there[: len(there) - kept]:
            path.unlink(missing_ok=True)


class SnapshotKeeper:
    """Takes snapshots beside the training: the copy is made between two steps, the file is written by a thread meanwhile.

    `seconds_between` is at least that long; longer where that would take more than a fiftieth of the run; 0 takes the next snapshot as
    soon as the last one is written. A snapshot that cannot be written is told to `on_trouble` and tried again at the next time.
    """

    def __init__(
        self, folder: SnapshotFolder, *, seconds_between: float, on_trouble: Callable[[str], None], kept_step: int | None = None
    ) -> None:
        self.folder = folder
        self.seconds_between = seconds_between
        self.on_trouble = on_trouble
        self.kept_step = kept_step
        """The step of the newest snapshot that is on the disk."""
        self.seconds_of_work = 0.0
        """On the training path: what the copies took, and the processor time of the thread."""
        self._last_cost_seconds = 0.0
        self._last_taken = time.monotonic()
        self._writing: threading.Thread | None = None
        self._error: OSError | None = None
        self._trouble_told: str | None = None

    def is_due(self) -> bool:
        """Whether it is time for the next one."""
        if self._writing and self._writing.is_alive():
            return False
        pause = max(self.seconds_between, STEPS_OF_COST * self._last_cost_seconds) if self.seconds_between else 0.0
        return time.monotonic() - self._last_taken >= pause

    def take(self, capture: Callable[[], Snapshot]) -> None:
        """Copy now, write in a thread."""
        self.wait()
        started = time.perf_counter()
        snapshot = capture()
        self._last_taken, self._last_cost_seconds = time.monotonic(), time.perf_counter() - started
        self.seconds_of_work += self._last_cost_seconds
        self._error = OSError("the thread that writes it died")  # until it says otherwise
        thread = threading.Thread(target=self._write, args=(snapshot,), name="snapshot")
        thread.start()
        self._writing = thread

    def wait(self) -> None:
        """Until the thread has written its snapshot; trouble is told here, once."""
        if self._writing:
            self._writing.join()
            self._writing = None
            trouble = str(self._error.strerror or self._error) if self._error else None
            if trouble and trouble != self._trouble_told:
                kept = "none is kept yet" if self.kept_step is None else f"the one of step {self.kept_step} is kept"
                self.on_trouble(f"{show_path(self.folder.path)}: expected to write a snapshot, found: {trouble}; {kept}")
            self._trouble_told = trouble

    def take_now(self, capture: Callable[[], Snapshot]) -> bool:
        """Copy and write before this returns; whether it is on the disk."""
        self.take(capture)
        self.wait()
        return self._error is None

    def _write(self, snapshot: Snapshot) -> None:
        started = time.thread_time()
        try:
            self.folder.write(snapshot)
            self.kept_step, self._error = int(snapshot.facts["step"]), None
        except OSError as error:
            self._error = error
        except Exception as error:  # a thread that dies must be heard of
            self._error = OSError(f"{type(error).__name__}: {error}")
        self._last_cost_seconds += time.thread_time() - started
        self.seconds_of_work += time.thread_time() - started


def _read(path: Path) -> Snapshot:
    name = NAME.fullmatch(path.name)
    assert name is not None  # listed by that pattern
    with safe_open(path, framework="pt") as file:  # which refuses at once what is of another length than its header says
        checksum = _checksum(path)
        if checksum != int(name[3], 16):
            raise SnapshotError(f"its bytes give {checksum:08x}")
        facts = json.loads((file.metadata() or {})[HEADER_KEY])
        if not isinstance(facts, dict):
            raise SnapshotError("its facts are no table")
        return Snapshot({name: file.get_tensor(name).clone() for name in file.keys()}, facts)  # noqa: SIM118, no dict


def _checksum(path: Path) -> int:
    """CRC-32, which is several times faster than a cryptographic sum: it guards against accidents, not against people."""
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _as_os_error(error: SafetensorError) -> OSError:
    """The library says `I/O error: … (os error 28)`."""
    code = re.search(r"os error (\d+)", str(error))
    return OSError(int(code[1]), os.strerror(int(code[1]))) if code else OSError(str(error))
