"""Any DATA that the command line takes -> a DataSet: a built-in name, a folder of IDX files, tar shards, or class folders."""

import os
from dataclasses import replace
from pathlib import Path

from provenet.data.builtin import BUILTIN, Progress, read_idx_folder
from provenet.data.folder import OnProblem, raise_it, read_folder
from provenet.data.idx import find_idx, find_lonely
from provenet.data.ignored import Ignored, Reason
from provenet.data.index import DataSet
from provenet.data.shard_addresses import find_shards
from provenet.data.shards import open_shards
from provenet.errors import DataError, show_path, suggest


def open_data(data: str | os.PathLike[str], progress: Progress | None = None, on_problem: OnProblem = raise_it) -> DataSet:
    """The data set of that name, or in that folder. Raises DataError with what was expected, found, and what to do.

    Where a folder can be gone on with, though not trained on, the error goes to `on_problem`.

    >>> {split: len(images) for split, images in open_data("fashion-mini").splits.items()}
    {'train': 6000, 'test': 1000}
    """
    if str(data) in BUILTIN:
        return BUILTIN[str(data)](progress)
    if not os.fspath(data):
        raise DataError("expected DATA (a folder of class folders, or a built-in set), found an empty name; give one")
    if shards := find_shards(data):
        return open_shards(shards, progress, on_problem)
    folder = Path(os.path.expanduser(data))
    if not os.path.exists(folder):
        raise DataError(
            f"{show_path(folder)}: expected a folder of class folders or a built-in set, found nothing there; {suggest(str(data), BUILTIN)}"
        )
    if not os.path.isdir(folder):
        raise DataError(
            f"{show_path(folder)}: expected a folder of class folders, found a file; point at the folder that holds the classes"
        )
    if lonely := find_lonely(folder):
        raise DataError(f"{show_path(folder)}: expected {lonely} or {lonely}.gz beside its twin, found neither; add it")
    if paths := find_idx(folder):
        return replace(read_idx_folder(show_path(folder.resolve().name), folder), ignored=_beside_idx(folder, paths))
    return read_folder(folder, on_problem)


def _beside_idx(folder: Path, paths: dict[str, tuple[Path, Path]]) -> list[Ignored]:
    read = {path.name for pair in paths.values() for path in pair}
    return [
        Ignored(show_path(folder / name), Reason.HIDDEN if name.startswith(".") else Reason.BESIDE_IDX, show_path(folder))
        for name in sorted(os.listdir(folder))
        if name not in read
    ]
