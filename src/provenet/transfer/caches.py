"""All stores of features: what there is, what may go, and that they do not fill the disk."""

import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from provenet.data.fetch import cache_folder
from provenet.errors import CacheError, SettingsError, printable, show_path, suggest
from provenet.transfer.store import ABOUT, INDEX, RECORD, ROWS, read_about, unused

LIMIT_SETTING = "PROVENET_CACHE_GB"
USUAL_LIMIT_GB = 20.0
LARGEST_PART_OF_FREE = 0.9
DAY_SECONDS = 86_400.0


def stores_folder() -> Path:
    """Where stores of features are."""
    return cache_folder() / "features"


def limit_bytes() -> int:
    """What all stores together may take: PROVENET_CACHE_GB billions of bytes. Raises SettingsError where that is no number."""
    asked = os.environ.get(LIMIT_SETTING, "")
    try:
        gigabytes = float(asked) if asked else USUAL_LIMIT_GB
        if not 0 <= gigabytes < 1e9:
            raise ValueError
    except ValueError as error:
        raise SettingsError(f"{LIMIT_SETTING}: expected a number of gigabytes, 0 or more, found {printable(asked)!r}") from error
    return int(gigabytes * 1e9)


@dataclass(frozen=True)
class Cache:
    """One store."""

    path: Path
    about: dict[str, Any] | None
    """What its numbers depend on; None where that cannot be read."""
    rows: int
    size_bytes: int
    used: float
    """When it was last opened, in seconds since 1970."""

    @property
    def key(self) -> str:
        """The end of its name, by which people call it."""
        return self.path.name.rpartition("-")[2]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        about = self.about or {}
        facts = {name: about.get(name) for name in ("network", "cut", "shape", "type", "engine", "precision", "weights")}
        used = datetime.fromtimestamp(self.used, UTC).isoformat(timespec="seconds")
        return {"key": self.key, **facts, "rows": self.rows, "bytes": self.size_bytes, "used": used, "folder": str(self.path)}


def list_caches(folder: Path | None = None) -> list[Cache]:
    """Every store, the one used last first; anything else in the folder is passed over."""
    folder = folder or stores_folder()
    found = []
    try:
        inside = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    for entry in inside:
        path = Path(entry.path)
        if not any((path / name).is_file() for name in (ABOUT, INDEX, ROWS)):
            continue
        try:
            with os.scandir(path) as files:
                size_bytes = sum(file.stat(follow_symlinks=False).st_size for file in files)
            used = (path / (ABOUT if (path / ABOUT).exists() else ".")).stat().st_mtime
            rows = (path / INDEX).stat().st_size // RECORD.itemsize if (path / INDEX).exists() else 0
        except OSError:
            continue  # gone meanwhile
        found.append(Cache(path, read_about(path), rows, size_bytes, used))
    return sorted(found, key=lambda cache: -cache.used)


def make_room(needed_bytes: int, own: Path, folder: Path | None = None) -> Iterator[Cache]:
    """Make room for so many more bytes in the store `own`; -> each that goes for it: used least lately, and not in use.

    Raises CacheError where there would not be room enough without all others, which then stay, or where those in use do not leave enough.
    """
    folder = folder or stores_folder()
    caches = list_caches(folder)
    others = sum(cache.size_bytes for cache in caches if cache.path != own)
    own_bytes = sum(cache.size_bytes for cache in caches) - others
    if not _is_room(needed_bytes, own_bytes, _free_bytes(folder) + others):
        raise _no_room(needed_bytes, own_bytes, folder)
    for oldest in sorted(caches, key=lambda cache: cache.used):
        if _is_room(needed_bytes, own_bytes + others, _free_bytes(folder)):
            return
        if oldest.path != own and _remove(oldest):
            others -= oldest.size_bytes
            yield oldest
    if not _is_room(needed_bytes, own_bytes + others, _free_bytes(folder)):
        raise _no_room(needed_bytes, own_bytes + others, folder)


def _is_room(needed_bytes: int, taken_bytes: int, free_bytes: int) -> bool:
    return taken_bytes + needed_bytes <= limit_bytes() and needed_bytes <= LARGEST_PART_OF_FREE * free_bytes


def _no_room(needed_bytes: int, taken_bytes: int, folder: Path) -> CacheError:
    return CacheError(
        f"{show_path(folder)}: expected room for {needed_bytes / 1e6:,.0f} MB of features, found a limit of {limit_bytes() / 1e9:g} GB "
        f"({LIMIT_SETTING}), {taken_bytes / 1e6:,.0f} MB of it taken, {_free_bytes(folder) / 1e6:,.0f} MB free; raise it, or free some"
    )


def show_caches(caches: Sequence[Cache], limit: int) -> str:
    """A table for people, and what all take together."""
    total = sum(cache.size_bytes for cache in caches)
    last = f"{len(caches)} of {total / 1e6:,.1f} MB together, limit {limit / 1e9:g} GB ({LIMIT_SETTING}), in {show_path(stores_folder())}"
    if not caches:
        return last
    lines: list[tuple[str, ...]] = [("key", "network", "cut", "shape", "type", "engine", "rows", "MB", "last used")]
    for cache in caches:
        facts = cache.to_dict()
        shape = "x".join(str(number) for number in facts["shape"]) if isinstance(facts["shape"], list) else "?"
        engine = f"{facts['engine']} {facts['precision']}"
        texts = [str(facts[name] or "?") for name in ("key", "network", "cut")]
        used = datetime.fromtimestamp(cache.used).strftime("%Y-%m-%d %H:%M")
        lines.append((*texts, shape, str(facts["type"] or "?"), engine, f"{cache.rows:,}", f"{cache.size_bytes / 1e6:,.1f}", used))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    is_number = [name in ("rows", "MB") for name in lines[0]]
    rows = (zip(line, widths, is_number, strict=True) for line in lines)
    table = ["  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in row).rstrip() for row in rows]
    return "\n".join([*map(printable, table), "", last])


@dataclass(frozen=True)
class Pruned:
    """What went, and what stayed because it is in use."""

    gone: list[Cache]
    in_use: list[Cache]

    @property
    def freed_bytes(self) -> int:
        """Of those that went."""
        return sum(cache.size_bytes for cache in self.gone)


def prune(
    keys: Sequence[str] = (), *, older_than_days: float | None = None, everything: bool = False, folder: Path | None = None
) -> Pruned:
    """Remove stores: those of some keys, those not used for so many days, or all; never one in use. Raises SettingsError for no choice."""
    if not keys and older_than_days is None and not everything:
        raise SettingsError("cache prune: expected keys of `provenet cache list`, --older-than DAYS or --all, found none; name some")
    if older_than_days is not None and not 0 <= older_than_days < 1e6:
        raise SettingsError(f"--older-than: expected a number of days, 0 or more, found {older_than_days}")
    caches = list_caches(folder)
    for key in keys:
        if key not in (known := [cache.key for cache in caches]):
            raise SettingsError(f"cache prune: expected a key of `provenet cache list`, found {printable(key)!r}; {suggest(key, known)}")
    chosen = [
        cache
        for cache in caches
        if everything or cache.key in keys or (older_than_days is not None and cache.used < time.time() - older_than_days * DAY_SECONDS)
    ]
    pruned = Pruned([], [])
    for cache in chosen:
        (pruned.gone if _remove(cache) else pruned.in_use).append(cache)
    return pruned


def _remove(cache: Cache) -> bool:
    """Remove a store; whether that was done, which it is not while anybody has it open."""
    try:
        with unused(cache.path) as is_unused:
            if is_unused:
                _move_and_remove(cache.path)
            return is_unused
    except OSError:
        return False


def _move_and_remove(path: Path) -> None:
    """Moved first: whoever waits to open it makes a new one. What cannot be removed is put back. Raises OSError."""
    moved = path.with_name(f"{path.name}.gone{os.getpid()}")
    path.rename(moved)
    try:
        shutil.rmtree(moved)
    except OSError:
        moved.rename(path)
        raise


def _free_bytes(folder: Path) -> int:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0
