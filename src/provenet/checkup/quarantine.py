"""Unreadable files moved out of the data, and put back. Nothing is ever deleted or written over, and a kill loses nothing.

Each move is a line in `moved.jsonl` before it happens: {"from", "to", "reason"}. Where both places are on one file system it is a rename;
else the copy is whole and on the disk before the original goes. A move that failed has a second line, {"from", "to": null, "left"}.
"""

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from provenet.checkup.examine import Look
from provenet.errors import SettingsError, show_path
from provenet.files import appearing, flush_folder

LOG_NAME = "moved.jsonl"
LOCK_NAME = ".lock"


@dataclass(frozen=True)
class Quarantine:
    """What became of the unreadable files."""

    folder: Path
    moved: tuple[tuple[str, str, str], ...]
    """From, to, reason."""
    left: tuple[tuple[str, str], ...]
    """Files that could not be moved, and why."""

    @property
    def log(self) -> Path:
        """A line of JSON for each move, this one's and earlier ones'."""
        return self.folder / LOG_NAME

    def lines(self) -> Iterator[str]:
        """For people."""
        number = len(self.moved)
        if number:
            files = "1 unreadable file" if number == 1 else f"{number:,} unreadable files"
            yield f"Moved {files} to {show_path(self.folder)}; {show_path(self.log)} says from where"
        for path, why in self.left:
            yield f"Not moved: {path}: {why}"
        if not self.moved and not self.left:
            yield "Nothing to move: every file can be read"

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "folder": show_path(self.folder),
            "log": show_path(self.log),
            "moved": [{"from": show_path(old), "to": show_path(new), "reason": reason} for old, new, reason in self.moved],
            "left": [{"path": path, "why": why} for path, why in self.left],
        }


def open_quarantine(folder: Path) -> FileLock:
    """Take the folder: a new or empty one, or that of an earlier check. Raises SettingsError for another, or one in use."""
    if os.path.isdir(folder) and set(os.listdir(folder)) - {LOCK_NAME} and not os.path.isfile(folder / LOG_NAME):
        raise SettingsError(
            f"{show_path(folder)}: expected a new or empty folder, or that of an earlier check ({LOG_NAME}), found another; "
            "choose another --quarantine"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_NAME, timeout=0, is_singleton=False)
        lock.acquire()
    except Timeout as error:
        raise SettingsError(f"{show_path(folder)}: expected a folder for one check, found another at work in it; wait for it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{show_path(folder)}: expected to write there, found: {reason}; choose another --quarantine") from error
    return lock


def move_unreadable(looks: Iterable[Look], data: Path, folder: Path) -> Quarantine:
    """Move the files that cannot be read to the same relative paths below `folder`, which is taken; what cannot be moved stays."""
    root = data.resolve()
    moved: list[tuple[str, str, str]] = []
    left: list[tuple[str, str]] = []
    for look in looks:
        if look.kind is None or look.file is None:
            continue
        reason = look.message or look.kind
        try:
            source = Path(look.file).parent.resolve() / Path(look.file).name
            if not source.is_relative_to(root):
                raise OSError(errno.EXDEV, "it is reached through a link and lies outside of the data")
            if look.size_bytes is not None and look.size_bytes != source.stat().st_size:
                raise OSError(errno.EBUSY, "it has changed since it was looked at")
            source.lstat()  # what is gone needs no line
            target = _free_name(folder / os.path.relpath(look.file, data))
            target.parent.mkdir(parents=True, exist_ok=True)
            _note(folder, {"from": str(source), "to": str(target.parent.resolve() / target.name), "reason": show_path(reason)})
        except (OSError, ValueError) as error:
            left.append((look.path, _words(error)))
            continue
        try:
            _move(source, target)
        except OSError as error:
            left.append((look.path, _words(error)))
            _note(folder, {"from": str(source), "to": None, "left": _words(error)})
        else:
            moved.append((look.file, str(target), reason))
    return Quarantine(folder, tuple(moved), tuple(left))


def put_back(folder: str | os.PathLike[str]) -> list[str]:
    """Undo what `moved.jsonl` says, the last move first. Gives the paths that are back; where something stands by now, nothing is moved."""
    lines = [json.loads(line) for line in Path(folder, LOG_NAME).read_text(encoding="utf-8").splitlines()]
    back = []
    for line in reversed(lines):
        if line["to"] is not None and os.path.lexists(line["to"]) and not os.path.lexists(line["from"]):
            place = Path(line["from"])
            place.parent.mkdir(parents=True, exist_ok=True)
            _move(Path(line["to"]), place)
            back.append(line["from"])
    return back


def _free_name(path: Path) -> Path:
    """The path, or with a number where something stands there since an earlier check."""
    number = 1
    free = path
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.stem}.{number}{path.suffix}")
    return free


def _move(source: Path, target: Path) -> None:
    """By renaming; to another file system by a copy that is whole before the original is removed."""
    if os.path.lexists(target):
        raise OSError(errno.EEXIST, "something stands there", str(target))
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy_then_remove(source, target)
    flush_folder(target.parent)
    flush_folder(source.parent)


def _copy_then_remove(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_file():
        with appearing(target) as part:
            shutil.copyfile(source, part)
    else:
        raise OSError(errno.EXDEV, "it is no file, and the folder is on another file system")
    try:
        source.unlink()
    except OSError:
        target.unlink()  # the original stays, so the copy goes: one place each
        raise


def _note(folder: Path, line: dict[str, str | None]) -> None:
    """On the disk before anything follows from it."""
    with open(folder / LOG_NAME, "a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")  # ASCII: names that are no text come back as they were
        log.flush()
        os.fsync(log.fileno())


def _words(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
