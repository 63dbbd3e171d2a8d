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

from provenet.data.decode import EXTENSIONS
from provenet.data.index import DataSet, ImageSet
from provenet.data.pictures import PictureFiles
from provenet.errors import DataError, is_plain_text, show_path

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
    for name in sorted(set(folders) - set(splits.values())) if splits else ():
        notes.append(f"{show_path(folders[name])} is beside the split folders and is not read")
    if splits.get("test") and _has_no_classes(folders[splits["test"]]):
        notes.append(f"{show_path(folders[splits['test']])} has no class folders and is not read; `provenet predict` names its pictures")
        del splits["test"]
    if splits:
        image_sets = {split: _read_classes(folders[name], notes, may_be_empty=split != "train") for split, name in splits.items()}
    else:
        image_sets = {"all": _read_classes(root, notes, may_be_empty=False)}
    return DataSet(show_path(root.resolve().name or root), image_sets, notes=notes)


def find_pictures(folder: Path, notes: list[str]) -> list[str]:
    """Paths below `folder`, relative to it and sorted, of all files with a picture's ending. What is passed over is added to `notes`.

    Links are followed, but not to a folder above, nor to one already read by whatever name, so loops end.
    """
    found: list[str] = []
    passed_over: Counter[str] = Counter()
    seen = {_identity(above) for above in folder.resolve().parents}
    waiting = [""]
    while waiting:
        below = waiting.pop()
        here = folder / below
        identity = _identity(here)
        if identity in seen:
            notes.append(f"{show_path(here)} leads to a folder above or already read; it is not read again")
            continue
        seen.add(identity)
        for entry in _list(here):
            path = os.path.join(below, entry.name)
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry.path):
                waiting.append(path)
            elif Path(entry.name).suffix.lower() in EXTENSIONS:
                found.append(path)
            else:
                passed_over[Path(entry.name).suffix.lower() or "no ending"] += 1
    if passed_over:
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(passed_over.items()))
        notes.append(f"{show_path(folder)}: passed over what is no picture by its ending ({kinds})")
    return sorted(found)


def _read_classes(folder: Path, notes: list[str], *, may_be_empty: bool) -> ImageSet:
    class_folders = _subfolders(folder)
    if not class_folders:
        raise DataError(
            f"{show_path(folder)}: expected a folder for each class with its pictures inside, found no folder; make one a class"
        )
    classes = sorted({_class_name(path) for path in class_folders.values()})
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
        labels += [classes.index(_class_name(class_folders[name]))] * len(inside)
    if not paths:
        raise DataError(
            f"{show_path(folder)}: expected pictures in its {len(classes)} class folders, found none; add some or remove the folder"
        )
    return ImageSet(show_path(folder), tuple(classes), np.array(labels, dtype=np.int64), PictureFiles(folder, paths))


def _subfolders(folder: Path) -> dict[str, Path]:
    return {entry.name: Path(entry.path) for entry in _list(folder) if os.path.isdir(entry.path) and not entry.name.startswith(".")}


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise _unreadable(folder, error) from error
    return status.st_dev, status.st_ino


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
    """Split -> folder name, or nothing where the folders are classes.

    A folder `train` that holds class folders, with another split beside it, is a split; so is anything if all folders are splits.
    Without another split, `train` beside folders that hold pictures is a class: trains beside cars.
    """
    splits: dict[str, str] = {}
    for name in sorted(folders):
        split = SPLIT_NAMES.get(name.lower())
        if split in splits:
            raise DataError(
                f"{show_path(folders[name])}: expected one folder for {split}, found {splits[split]!r} too; remove or rename one"
            )
        if split:
            splits[split] = name
    with_classes = {split for split, name in splits.items() if not _has_no_classes(folders[name])}
    others_are_classes = any(_holds_pictures(path) for name, path in folders.items() if name not in splits.values())
    is_split = with_classes and (("train" in with_classes and len(splits) > 1) or not others_are_classes)
    return splits if is_split else {}


def _has_no_classes(folder: Path) -> bool:
    return not _subfolders(folder)


def _holds_pictures(folder: Path) -> bool:
    return any(Path(entry.name).suffix.lower() in EXTENSIONS for entry in _list(folder))


def _class_name(folder: Path) -> str:
    name = unicodedata.normalize("NFC", show_path(folder.name))
    if not is_plain_text(folder.name):  # bytes that are no text come as lone surrogates
        raise DataError(f"{show_path(folder)!r}: expected a class name of plain text, found other characters in it; rename the folder")
    return name
