"""Class folders: `DATA/CLASS/…/picture.jpg`, or the same below `DATA/train`, `DATA/val` and `DATA/test`.

A class is the name of a folder; whatever lies below it, at any depth, is of that class. Names are compared in Unicode's composed
form, because some systems store the same name decomposed. Whatever is passed over is recorded with its reason.
"""

import os
import unicodedata
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import numpy as np

from provenet.data.decode import EXTENSIONS
from provenet.data.ignored import Ignored, Reason, summarise
from provenet.data.index import CLASS_FOLDERS, DataSet, ImageSet
from provenet.data.paths import Paths
from provenet.data.pictures import PictureFiles
from provenet.data.remembered import FolderTimes, folder_times, recall, remember
from provenet.errors import DataError, is_plain_text, printable, show_path

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

_MOST_USUAL = (".jpg", ".JPG", ".jpeg", ".JPEG", ".png", ".PNG")
_ENDINGS = (*_MOST_USUAL, *sorted(EXTENSIONS | {ending.upper() for ending in EXTENSIONS}))

OnProblem = Callable[[DataError], None]
"""Told of each thing that training refuses: it raises it, or keeps it, and then the rest is read."""


def raise_it(problem: DataError) -> None:
    """The `OnProblem` of whoever cannot go on."""
    raise problem


def read_folder(root: Path, on_problem: OnProblem = raise_it) -> DataSet:
    """The class folders below `root`, by split where there are split folders. A root without any folder cannot be gone on from."""
    if known := recall(root):
        return known
    reader = _Reader(raise_it)
    folders = _subfolders(reader.entries(root))
    if not folders:
        raise _without_classes(root)
    problems: list[DataError] = []

    def tell(problem: DataError) -> None:
        problems.append(problem)
        on_problem(problem)

    reader.on_problem = tell
    data = DataSet(show_path(root.resolve().name or root), reader.read(root, folders), ignored=reader.ignored, wording=CLASS_FOLDERS)
    if not problems:
        remember(root, data, reader.times)
    return data


def find_pictures(folder: Path) -> tuple[list[str], list[Ignored]]:
    """Paths below `folder`, relative to it and sorted, of all files with a picture's ending; and what was passed over.

    Links are followed, but not to a folder above, nor to one already read by whatever name, so loops end.
    """
    reader = _Reader(raise_it)
    return reader.find_pictures(folder), reader.ignored


class _Reader:
    """One reading of a folder: who is told of problems, and what was passed over so far."""

    def __init__(self, on_problem: OnProblem) -> None:
        self.on_problem = on_problem
        self.ignored: list[Ignored] = []
        self._above: dict[Path, set[tuple[int, int] | None]] = {}
        self.times: FolderTimes = {}
        """Of each folder, before it was listed."""

    def entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """What is in a folder, by name; nothing, and a problem, where it cannot be read."""
        return _by_name(self.listing(folder))

    def listing(self, folder: Path) -> list[os.DirEntry[str]]:
        """The same in any order."""
        try:
            self.times.setdefault(str(folder), folder_times(folder))
            with os.scandir(folder) as entries:
                return list(entries)
        except OSError as error:
            self.on_problem(_unreadable(folder, error))
            return []

    def read(self, root: Path, folders: dict[str, Path]) -> dict[str, ImageSet]:
        """Split -> its pictures, or `all` where the folders are classes."""
        splits = self._split_folders(folders)
        if not splits:
            return {"all": self._read_classes(root, may_be_empty=False)}
        self._pass_over_files(root)
        for name in sorted(set(folders) - set(splits.values())):
            self._pass_over(folders[name], Reason.FOLDER_BESIDE_SPLITS, root)
        image_sets = {}
        for split, name in splits.items():
            if not self._has_no_classes(folders[name]):
                image_sets[split] = self._read_classes(folders[name], may_be_empty=split != "train")
            elif split == "test":
                self._pass_over(folders[name], Reason.NO_LABELS, root)
            else:
                self.on_problem(_without_classes(folders[name]))
        return image_sets

    def find_pictures(self, folder: Path) -> list[str]:
        """As the function of that name."""
        found: list[str] = []
        like_pictures: list[str] = []
        seen = set(self._identities_above(folder))
        waiting = [""]
        while waiting:
            below = waiting.pop()
            here = folder / below
            identity = _identity(here, self.on_problem)
            if identity is None:
                continue
            if identity in seen:
                self._pass_over(here, Reason.READ_BEFORE, folder)
                continue
            seen.add(identity)
            prefix = below and f"{below}{os.sep}"
            entries = self.listing(here)
            files = _usual_pictures(entries)
            found += [prefix + name for name in files] if prefix else files
            for entry in _others(entries, files):
                name = entry.name
                path = prefix + name
                if name.startswith("."):
                    self._pass_over(entry.path, Reason.HIDDEN, folder)
                elif _is_folder(entry):
                    waiting.append(path)
                    like_pictures += [path] if is_named_like_a_picture(name) else []
                elif is_named_like_a_picture(name):
                    found.append(path)
                else:
                    self._pass_over(entry.path, _why_no_picture(entry), folder)
        for path in like_pictures:
            if not any(name.startswith(path + os.sep) for name in found):
                self._pass_over(folder / path, Reason.NO_PICTURES_INSIDE, folder)
        return sorted(found)

    def _identities_above(self, folder: Path) -> set[tuple[int, int] | None]:
        """Of the folders above one; all classes have the same, unless they are links."""
        place = folder if folder.is_symlink() or folder.name in ("", "..") else folder.parent / "…"  # any name in there
        if place not in self._above:
            self._above[place] = {_identity(above, self.on_problem) for above in place.resolve().parents}
        return self._above[place]

    def _read_classes(self, folder: Path, *, may_be_empty: bool) -> ImageSet:
        self._pass_over_files(folder)
        class_folders = _subfolders(self.entries(folder))
        names = {name: self._class_name(path) for name, path in sorted(class_folders.items())}
        classes = sorted(set(names.values()))
        numbers = {class_name: number for number, class_name in enumerate(classes)}
        inside = {name: self._read_class(class_folders[name], folder, may_be_empty=may_be_empty) for name in names}
        counts = [len(paths) for paths in inside.values()]
        if not any(counts):
            found = f"expected pictures in its {len(classes)} class folders, found none"
            self.on_problem(DataError(f"{show_path(folder)}: {found}; add some or remove the folder", "no pictures"))
        labels = np.repeat(np.array([numbers[class_name] for class_name in names.values()], dtype=np.int64), counts)
        return ImageSet(show_path(folder), tuple(classes), labels, PictureFiles(folder, Paths.below(inside)))

    def _read_class(self, folder: Path, place: Path, *, may_be_empty: bool) -> list[str]:
        num_before = len(self.ignored)
        found = self.find_pictures(folder)
        if found:
            return found
        lines = summarise(self.ignored[num_before:])
        if not may_be_empty:
            other = f" ({lines[0]})" if lines else ""
            nothing = f"expected pictures of this class, found none{other}"
            self.on_problem(DataError(f"{show_path(folder)}: {nothing}; add some or remove the folder", "empty class"))
        self._pass_over(folder, Reason.EMPTY_CLASS, place)
        return []

    def _class_name(self, folder: Path) -> str:
        name = unicodedata.normalize("NFC", show_path(folder.name))
        if is_plain_text(folder.name):  # bytes that are no text come as lone surrogates
            return name
        problem = "expected a class name of plain text, found other characters in it"
        self.on_problem(DataError(f"{show_path(folder)!r}: {problem}; rename the folder", "class name"))
        return printable(name)

    def _split_folders(self, folders: dict[str, Path]) -> dict[str, str]:
        """Split -> folder name, or nothing where the folders are classes.

        A folder `train` that holds class folders, with another split beside it, is a split; so is anything if all folders are splits.
        Without another split, `train` beside folders that hold pictures is a class: trains beside cars.
        """
        splits: dict[str, str] = {}
        for name in sorted(folders):
            split = SPLIT_NAMES.get(name.lower())
            if split in splits:
                twice = f"expected one folder for {split}, found {splits[split]!r} too"
                self.on_problem(DataError(f"{show_path(folders[name])}: {twice}; remove or rename one", "split twice"))
            elif split:
                splits[split] = name
        with_classes = {split for split, name in splits.items() if not self._has_no_classes(folders[name])}
        others_are_classes = any(self._holds_pictures(path) for name, path in folders.items() if name not in splits.values())
        is_split = with_classes and (("train" in with_classes and len(splits) > 1) or not others_are_classes)
        return splits if is_split else {}

    def _has_no_classes(self, folder: Path) -> bool:
        return not _subfolders(self.entries(folder))

    def _holds_pictures(self, folder: Path) -> bool:
        return any(is_named_like_a_picture(entry.name) for entry in self.entries(folder))

    def _pass_over_files(self, folder: Path) -> None:
        """What lies beside class folders or split folders and is no folder."""
        for entry in self.entries(folder):
            if entry.name.startswith("."):
                self._pass_over(entry.path, Reason.HIDDEN, folder)
            elif _leads_nowhere(entry):
                self._pass_over(entry.path, Reason.LEADS_NOWHERE, folder)
            elif not _is_folder(entry):
                self._pass_over(entry.path, Reason.FILE_BESIDE_FOLDERS, folder)

    def _pass_over(self, path: str | os.PathLike[str], reason: Reason, place: Path) -> None:
        self.ignored.append(Ignored(show_path(path), reason, show_path(place)))


def is_named_like_a_picture(name: str) -> bool:
    """Whether a file's name ends as those of pictures do, in letters of any case."""
    return name[name.rfind(".") :].lower() in EXTENSIONS and name.rfind(".") > 0


def _by_name(entries: list[os.DirEntry[str]]) -> list[os.DirEntry[str]]:
    return sorted(entries, key=attrgetter("name"))


def _usual_pictures(entries: list[os.DirEntry[str]]) -> list[str]:
    """Their names, which are nearly always all there are; in few operations each, for folders of a million."""
    try:
        return [name for entry in entries if (name := entry.name).endswith(_ENDINGS) and name[0] != "." and not entry.is_dir()]
    except OSError:  # a link in a circle
        return []


def _others(entries: list[os.DirEntry[str]], names: list[str]) -> list[os.DirEntry[str]]:
    """Those of other names, which is nearly always none."""
    if len(names) == len(entries):
        return []
    known = set(names)
    return _by_name([entry for entry in entries if entry.name not in known])


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Also through a link. The listing itself tells of all but links, so that files are not asked one by one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _subfolders(entries: list[os.DirEntry[str]]) -> dict[str, Path]:
    return {entry.name: Path(entry.path) for entry in entries if _is_folder(entry) and not entry.name.startswith(".")}


def _why_no_picture(entry: os.DirEntry[str]) -> Reason:
    return Reason.LEADS_NOWHERE if _leads_nowhere(entry) else Reason.NO_PICTURE


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)


def _identity(folder: Path, on_problem: OnProblem) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError as error:
        on_problem(_unreadable(folder, error))
        return None
    return status.st_dev, status.st_ino


def _unreadable(folder: Path, error: OSError) -> DataError:
    return DataError(
        f"{show_path(folder)}: expected a readable folder, found: {error.strerror or error}; check the path and its permissions",
        "unreadable folder",
    )


def _without_classes(folder: Path) -> DataError:
    return DataError(
        f"{show_path(folder)}: expected a folder for each class with its pictures inside, found no folder; make one a class", "no classes"
    )
