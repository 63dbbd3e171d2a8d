"""Any DATA that the command line takes -> a DataSet. What it is, is asked in this order:

1. a built-in name, such as `fashion-mini`;
2. tar shards: a folder of them, one, many by `{000..009}`, or a list of their addresses (`data.shard_addresses`);
3. a file: a manifest, by its ending (`data.tables`), and nothing else;
4. a folder with IDX files;
5. a folder with the binary files of CIFAR, or above the folder that its archive makes;
6. a folder of class folders, or of train, val and test with these.
"""

import os
from dataclasses import replace
from pathlib import Path

from provenet.data.builtin import BUILTIN, read_idx_folder
from provenet.data.cifar import find_cifar, read_cifar
from provenet.data.folder import OnProblem, raise_it, read_folder
from provenet.data.idx import find_idx, find_lonely
from provenet.data.ignored import Ignored, Reason
from provenet.data.index import DataSet
from provenet.data.manifest import read_manifest
from provenet.data.shard_addresses import find_shards
from provenet.data.shards import open_shards
from provenet.data.tables import KINDS, is_table
from provenet.errors import DataError, show_path, suggest
from provenet.progress import Progress

ENDINGS = ", ".join(KINDS)
ACCEPTED = f"a folder of class folders, of IDX files or of CIFAR's binary files, tar shards, a manifest ({ENDINGS}), or a built-in set"


def open_data(
    data: str | os.PathLike[str], progress: Progress | None = None, on_problem: OnProblem = raise_it, *, allow_missing: bool = False
) -> DataSet:
    """The data set of that name, in that folder, or in that manifest. Raises DataError with what was expected, found, and what to do.

    Where a folder can be gone on with, though not trained on, the error goes to `on_problem`. Files that a manifest names and that are
    not there are an error; with `allow_missing` they are broken pictures, which whoever decodes them finds.

    >>> {split: len(images) for split, images in open_data("fashion-mini").splits.items()}
    {'train': 6000, 'test': 1000}
    """
    if str(data) in BUILTIN:
        return BUILTIN[str(data)](progress)
    if not os.fspath(data):
        raise DataError(f"expected DATA ({ACCEPTED}), found an empty name; give one")
    if shards := find_shards(data):
        return open_shards(shards, progress, on_problem)
    path = Path(os.path.expanduser(data))
    if not os.path.exists(path):
        raise DataError(f"{show_path(path)}: expected {ACCEPTED}, found nothing there; {suggest(str(data), BUILTIN)}")
    if os.path.isdir(path):
        return _open_folder(path, on_problem)
    if is_table(path) and os.path.isfile(path):
        return read_manifest(path, progress, allow_missing=allow_missing)
    raise DataError(
        f"{show_path(path)}: expected {ACCEPTED}, found {'a file' if os.path.isfile(path) else 'what is neither file nor folder'}; "
        "point at the folder that holds the classes, or at a manifest"
    )


def _open_folder(folder: Path, on_problem: OnProblem) -> DataSet:
    if lonely := find_lonely(folder):
        raise DataError(f"{show_path(folder)}: expected {lonely} or {lonely}.gz beside its twin, found neither; add it")
    name = show_path(folder.resolve().name)
    if paths := find_idx(folder):
        read = {path.name for pair in paths.values() for path in pair}
        return replace(read_idx_folder(name, folder), ignored=_beside(folder, read, Reason.BESIDE_IDX))
    if found := find_cifar(folder):
        place, layout = found
        read = {*layout.files, *layout.names_files}
        return replace(read_cifar(place, layout, name), ignored=_beside(place, read, Reason.BESIDE_CIFAR))
    try:
        return read_folder(folder, on_problem)
    except DataError as error:
        manifests = sorted(entry.name for entry in os.scandir(folder) if is_table(entry.name)) if error.kind == "no classes" else []
        if not manifests:
            raise
        raise DataError(f"{error}; or give the manifest in it: {show_path(folder / manifests[0])}", error.kind) from error


def _beside(folder: Path, read: set[str], reason: Reason) -> list[Ignored]:
    return [
        Ignored(show_path(folder / name), Reason.HIDDEN if name.startswith(".") else reason, show_path(folder))
        for name in sorted(os.listdir(folder))
        if name not in read
    ]
