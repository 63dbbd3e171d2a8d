"""Class folders: `DATA/CLASS/…/picture.jpg`, or the same below `DATA/train`, `DATA/val` and `DATA/test`.

A class is the name of a folder; whatever lies below it, at any depth, is of that class. Names are compared in Unicode's composed
form, because some systems store the same name decomposed. Hidden files and files that are no pictures by their ending are passed
over and counted.
"""

import os
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np

from provenet.data.decode import EXTENSIONS, show_path
from provenet.data.index import DataSet, ImageSet
from provenet.data.pictures import PictureFiles
from provenet.errors import DataError

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def read_folder(root: Path) -> DataSet:
    """The class folders below `root`, by split where there are split folders."""
    folders = _subfolders(root)
    notes: list[str] = []
    splits = _split_folders(folders)
    if splits:
        for name in sorted(set(folders) - set(splits.values())):
            notes.append(f"{show_path(folders[name])} is beside the split folders and is not read")
        image_sets = {split: _read_classes(folders[name], notes, may_be_empty=split != "train") for split, name in splits.items()}
    else:
        image_sets = {"all": _read_classes(root, notes, may_be_empty=False)}
    return DataSet(show_path(root.resolve().name or root), image_sets, notes=notes)


def find_pictures(folder: Path, notes: list[str]) -> list[str]:
    """Paths below `folder`, relative to it and sorted, of all files with a picture's ending. What is passed over is added to `notes`.

    Links are followed; a folder that was already read, by whatever name, is not read again, so loops end.
    """
    found: list[str] = []
    passed_over: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    waiting = [""]
    while waiting:
        below = waiting.pop()
        here = folder / below
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in seen:
                notes.append(f"{show_path(here)} leads to a folder already read; it is not read again")
                continue
            seen.add((status.st_dev, status.st_ino))
        except OSError as error:
            raise _unreadable(here, error) from error
        for entry in _list(here):
            path = os.path.join(below, entry.name)
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                waiting.append(path)
            elif Path(entry.name).suffix.lower() in EXTENSIONS:
                found.append(path)
            else:
                passed_over[Path(entry.name).suffix.lower() or "no ending"] += 1
    if passed_over:
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(passed_over.items()))
        notes.append(f"{show_path(folder)}: {passed_over.total()} files that are no pictures are passed over ({kinds})")
    return sorted(found)


def _read_classes(folder: Path, notes: list[str], *, may_be_empty: bool) -> ImageSet:
    class_folders = _subfolders(folder)
    if not class_folders:
        raise DataError(
            f"{show_path(folder)}: expected a folder for each class with its pictures inside, found no folder; make one a class"
        )
    classes = sorted({_class_name(name) for name in class_folders})
    paths: list[str] = []
    labels: list[int] = []
    for name in sorted(class_folders):
        inside_notes: list[str] = []
        inside = find_pictures(class_folders[name], inside_notes)
        if not inside and not may_be_empty:
            other = f" ({inside_notes[0]})" if inside_notes else ""
            raise DataError(
                f"{show_path(class_folders[name])}: expected pictures of this class, found none{other}; add some or remove the folder"
            )
        if not inside:
            notes.append(f"{show_path(class_folders[name])} has no pictures")
        notes += inside_notes
        paths += [os.path.join(name, path) for path in inside]
        labels += [classes.index(_class_name(name))] * len(inside)
    if not paths:
        raise DataError(
            f"{show_path(folder)}: expected pictures in its {len(classes)} class folders, found none; add some or remove the folder"
        )
    return ImageSet(show_path(folder), tuple(classes), np.array(labels, dtype=np.int64), PictureFiles(folder, paths))


def _subfolders(folder: Path) -> dict[str, Path]:
    return {entry.name: Path(entry.path) for entry in _list(folder) if entry.is_dir() and not entry.name.startswith(".")}


def _list(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(folder, error) from error


def _unreadable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"{show_path(folder)}: expected a readable folder, found: {error.strerror or error}; check the path and its permissions"
    )


def _split_folders(folders: dict[str, Path]) -> dict[str, str]:
    """Split -> folder name, or nothing where the folders are classes: trains beside cars are a class, and hold pictures themselves."""
    splits: dict[str, str] = {}
    for name in sorted(folders):
        split = SPLIT_NAMES.get(name.lower())
        if split in splits:
            raise DataError(
                f"{show_path(folders[name])}: expected one folder for {split}, found {splits[split]!r} too; remove or rename one"
            )
        if split:
            splits[split] = name
    has_classes = bool(splits) and all(_subfolders(folders[name]) for name in splits.values())
    others_are_classes = any(_holds_pictures(path) for name, path in folders.items() if name not in splits.values())
    return splits if "train" in splits and has_classes and not others_are_classes else {}


def _holds_pictures(folder: Path) -> bool:
    return any(Path(entry.name).suffix.lower() in EXTENSIONS for entry in _list(folder))


def _class_name(folder_name: str) -> str:
    return unicodedata.normalize("NFC", show_path(folder_name))
