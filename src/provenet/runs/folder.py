"""The folder of a run: a new one, or one to go on in; never one that another process is using."""

import contextlib
import os
import re
import shlex
from pathlib import Path

from filelock import FileLock, Timeout

from provenet.errors import SettingsError, show_path
from provenet.files import UNFINISHED, remove_unfinished

LOCK_NAME = ".lock"
NAMES = ("settings.toml", "model.safetensors", "report.html", "README.md")
"""Files that are written whole; the log is appended to."""


class RunFolder:
    """Where a run keeps what it leaves, and the lock that keeps other processes out; the system frees the lock of a killed process."""

    def __init__(self, path: Path) -> None:
        """Take the folder `path`, which is there. Raises SettingsError where another process has it, or nothing can be written."""
        self.path = path
        self.settings = path / "settings.toml"
        self.log = path / "log.jsonl"
        self.bundle = path / "model.safetensors"
        self.snapshots = path / "snapshot"
        self.cycles = path / "cycles"
        self.report = path / "report.html"
        self.card = path / "README.md"
        self._lock = FileLock(path / LOCK_NAME, timeout=0, is_singleton=False)
        try:
            self._lock.acquire()
        except Timeout as error:
            raise SettingsError(
                f"{show_path(path)}: expected a folder for one run, found another process at work in it; wait for it, or choose another"
            ) from error
        except (OSError, NotImplementedError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"{show_path(path)}: expected to write into this folder, found: {reason}; mend that first") from error

    def is_begun(self) -> bool:
        """Whether there is anything in it but the lock and what a kill left of a file it was writing."""
        unfinished = {name for name in os.listdir(self.path) if (found := UNFINISHED.fullmatch(name)) and found[1] in NAMES}
        return bool(set(os.listdir(self.path)) - unfinished - {LOCK_NAME})

    def remove_unfinished(self) -> None:
        """Remove what a kill has left of files that it was writing."""
        remove_unfinished(self.path, NAMES)
        if self.cycles.is_dir():
            remove_unfinished(self.cycles)

    def release(self, *, remove_if_unused: bool = False) -> None:
        """Let others have it. With `remove_if_unused` a folder in which nothing was kept is removed."""
        is_unused = False
        with contextlib.suppress(OSError):
            is_unused = not self.is_begun()
        if is_unused:
            self._clear(remove=remove_if_unused)
        self._lock.release()
        if is_unused and os.name == "nt":  # which removes no file that is open; elsewhere the lock may be another's by now
            self._clear(remove=remove_if_unused)

    def _clear(self, *, remove: bool) -> None:
        with contextlib.suppress(OSError):
            self.remove_unfinished()
            (self.path / LOCK_NAME).unlink(missing_ok=True)
            if remove:
                self.path.rmdir()


def refuse_inside(path: Path, data: str, option: str = "--output") -> None:
    """Raise SettingsError for a path among the pictures, where what is written would be read as a class the next time."""
    pictures = os.path.realpath(os.path.expanduser(data))
    if os.path.isdir(pictures) and Path(os.path.realpath(path)).is_relative_to(pictures):
        raise SettingsError(
            f"{show_path(path)}: expected a folder outside of the pictures, where training would not read it, found one inside; "
            f"choose another {option}"
        )


def make_run_folder(output: str | os.PathLike[str] | None, data_name: str, model: str, data: str) -> tuple[RunFolder, bool]:
    """A new folder, `output`, else `runs/DATA-MODEL` with the first free number; and whether it was made here, not found empty."""
    refuse_inside(Path("runs") if output is None else Path(output), data)
    plain = re.sub(r"[^\w.-]+", "-", data_name).strip("-.") or "data"
    try:
        if output is not None:
            return _take_empty(Path(output))
        for number in range(1, 10_000):
            folder = Path("runs") / (f"{plain}-{model}" + (f"-{number}" if number > 1 else ""))
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                if not os.path.lexists(folder):  # it is `runs` that is in the way
                    raise
                continue
            return RunFolder(folder), True
    except (OSError, ValueError) as error:
        raise _unwritable(Path(output) if output is not None else folder, error) from error
    raise SettingsError("runs: expected a free name, found 9,999 runs of this network on these data; choose an --output")


def _take_empty(path: Path) -> tuple[RunFolder, bool]:
    """`path` as a folder of its own, made if need be."""
    in_use = f"{show_path(path)}: expected a new or empty folder, found one in use; choose another --output"
    if os.path.exists(path) and not os.path.isdir(path):
        raise SettingsError(in_use)
    is_new = not os.path.exists(path)
    path.mkdir(parents=True, exist_ok=True)
    folder = RunFolder(path)
    if folder.is_begun():
        folder.release()
        hint = f"; go on with it: provenet resume {shlex.quote(show_path(path))}" if os.path.exists(folder.settings) else ""
        raise SettingsError(in_use + hint)
    return folder, is_new


def _unwritable(path: Path, error: Exception) -> SettingsError:
    reason = getattr(error, "strerror", None) or error
    return SettingsError(f"{show_path(path)}: expected to make a run folder, found: {reason}; choose another --output")
