"""Manifests: a file that lists pictures by `path` and `label`, and by `split` (train, val or test) where it has that column.

Paths count from the manifest's own folder, or are absolute; `..` is allowed, since the list is its user's own. Labels are text or whole
numbers, 1 and "1" are one; where all are whole numbers the classes are in numerical order, else in that of the folder reader.
"""

import itertools
import os
import re
import sys
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provenet.data.folder import SPLIT_NAMES
from provenet.data.index import ROWS, DataSet, ImageSet
from provenet.data.paths import Paths
from provenet.data.pictures import PictureFiles
from provenet.data.tables import Row, read_rows, row_error
from provenet.errors import DataError, is_plain_text, printable, show_path, suggest
from provenet.progress import Progress

SPLITS = ("train", "val", "test")
ALL = -1  # in place of a split's number where a row has none
LARGEST_LABEL_CHARACTERS = 1_000
FEW_IN_A_FOLDER = 4  # fewer files are asked for one by one, not by reading the folder's list
ROWS_BETWEEN_NEWS = 65_536
WHOLE_NUMBER = re.compile("-?[0-9]{1,100}")


def read_manifest(path: Path, progress: Progress | None = None, *, allow_missing: bool = False) -> DataSet:
    """The pictures that a manifest lists, by split where it says so.

    Raises DataError that names the row for one that cannot be used, and for files that are not there; with `allow_missing` whoever
    decodes them finds that out.
    """
    listed = _Listed(show_path(path), progress)
    listed.read(read_rows(path))
    listed.refuse_two_labels()
    if not allow_missing:
        listed.refuse_missing(path.parent)
    return DataSet(show_path(path.stem), dict(_divide(listed, path)), wording=ROWS)


class _Arrays(NamedTuple):
    """What is kept of each row, while reading: 45 bytes and the path's text."""

    text: bytearray
    ends: "array[int]"
    labels: "array[int]"
    splits: "array[int]"
    numbers: "array[int]"
    folders: "array[int]"
    hashes: "array[int]"


class _Listed:
    """The rows of a manifest as arrays [N]. `labels` count in `classes`, which are in the order in which they came."""

    def __init__(self, name: str, progress: Progress | None) -> None:
        self.name = name
        self.progress = progress
        self.classes: dict[str, int] = {}
        self.folders: dict[str, int] = {}
        self._folder_spellings: dict[str, int] = {}
        self._spellings: dict[str, int] = {}
        self._split_words: dict[Any, int] = {None: ALL, "": ALL}

    def read(self, rows: Iterable[Row]) -> None:
        """Take in all rows."""
        kept = _Arrays(bytearray(), *(array(code) for code in "qqbqqq"))
        text, (ends, labels, splits, numbers, folders, hashes) = kept.text, (values.append for values in kept[1:])
        spellings, split_words, folder_numbers = self._spellings, self._split_words, self._folder_spellings
        encoding = sys.getfilesystemencoding()
        first_without_split: int | None = None
        for number, path, label, split in rows:  # for millions of them: what was met before is one look into a dictionary
            if type(path) is not str or not path or "\0" in path:
                raise row_error(self.name, number, "a path", _say(path), "give one")
            try:
                text += path.encode(encoding)  # refuses lone surrogates
            except UnicodeEncodeError as error:
                raise row_error(self.name, number, "a path of plain text", _say(path)) from error
            ends(len(text))
            folder, _, name = path.rpartition("/")
            found = folder_numbers.get(folder)
            folders(self._number_folder(folder) if found is None else found)
            hashes(hash(name))  # 64 bits: a name that seems not to be there is asked for again, by itself
            found = spellings.get(label) if type(label) is str else None
            labels(self._number_label(label, number) if found is None else found)
            found = split_words.get(split) if split is None or type(split) is str else None
            found = self._number_split(split, number) if found is None else found
            splits(found)
            if found == ALL and first_without_split is None:
                first_without_split = number
            numbers(number)
            if self.progress and len(kept.numbers) % ROWS_BETWEEN_NEWS == 0:
                self.progress("reading the manifest", len(kept.numbers), 0)
        if not kept.numbers:
            raise DataError(f"{self.name}: expected rows with pictures, found none; write some", "manifest")
        self.labels, self.numbers, self._folder_numbers, self._hashes = (
            np.frombuffer(values, np.int64) for values in (kept.labels, kept.numbers, kept.folders, kept.hashes)
        )
        self.splits = np.frombuffer(kept.splits, np.int8)
        self.paths = Paths(np.frombuffer(text, np.uint8), np.frombuffer(kept.ends, np.int64))
        if first_without_split is not None and (self.splits != ALL).any():
            raise row_error(self.name, first_without_split, "train, val or test as its split, as in other rows", "none", "give one")
        self._order = np.lexsort((self._hashes, self._folder_numbers))  # the same path stays in the rows' order

    def refuse_two_labels(self) -> None:
        """Raise DataError where one path has two labels. With one label it may be there twice; `provenet check` finds it."""
        folders, hashes, labels = (values[self._order] for values in (self._folder_numbers, self._hashes, self.labels))
        is_other = (folders[1:] == folders[:-1]) & (hashes[1:] == hashes[:-1]) & (labels[1:] != labels[:-1])
        names = list(self.classes)
        for place in np.flatnonzero(is_other):
            one, other = self._order[place], self._order[place + 1]
            if os.path.normpath(self.paths[one]) == os.path.normpath(self.paths[other]):
                found = f"{names[self.labels[one]]!r} in row {self.numbers[one]:,} and {names[self.labels[other]]!r} in row"
                raise DataError(
                    f"{self.name}: expected one label for {printable(self.paths[other])}, "
                    f"found {found} {self.numbers[other]:,}; remove one",
                    "two labels",
                )

    def refuse_missing(self, root: Path) -> None:
        """Raise DataError where files are not there."""
        missing = self.find_missing(root)
        if len(missing):
            shown = ", ".join(f"{printable(self.paths[place])} (row {self.numbers[place]:,})" for place in missing[:3])
            is_windows = os.sep == "/" and "\\" in self.paths[missing[0]]
            where = "write them with / instead of \\" if is_windows else f"paths count from the manifest's folder, {show_path(root)}"
            raise DataError(
                f"{self.name}: expected {len(self.paths):,} files, found {len(missing):,} of them missing: "
                f"{shown}{' …' if len(missing) > 3 else ''}; {where}; correct them, or go on without with --skip-broken",
                "missing files",
            )

    def find_missing(self, root: Path) -> NDArray[np.int64]:
        """Which files are not there, in order. Each folder's list is read once: a million questions would take far longer."""
        missing: list[int] = []
        folders = self._folder_numbers[self._order]
        starts = np.concatenate([[0], np.flatnonzero(np.diff(folders)) + 1, [len(folders)]]).tolist()
        names = list(self.folders)
        for start, end in itertools.pairwise(starts):
            members = self._order[start:end]
            if len(members) >= FEW_IN_A_FOLDER:
                try:
                    with os.scandir(root / names[folders[start]]) as entries:
                        there = np.fromiter((hash(entry.name) for entry in entries), np.int64)
                    members = members[~np.isin(self._hashes[members], there)]
                except (FileNotFoundError, NotADirectoryError):
                    missing += members.tolist()
                    continue
                except OSError:
                    pass  # a folder may be opened and yet not listed; then each is asked for
            # Some systems take A for a, or é for e and an accent: only the system knows.
            missing += [place for place in members.tolist() if not os.path.exists(root / self.paths[place])]
            if self.progress:
                self.progress("looking for files", end, len(folders))
        return np.sort(np.array(missing, dtype=np.int64))

    def _number_folder(self, folder: str) -> int:
        plain = folder if ".." in folder else os.path.normpath(folder)  # through a link, .. leads elsewhere
        number = self.folders.setdefault(plain, len(self.folders))
        return self._folder_spellings.setdefault(folder, number)

    def _number_label(self, label: Any, number: int) -> int:
        if type(label) is int or (type(label) is float and label.is_integer()):  # pandas makes 1.0 of 1 where others are missing
            label = f"{int(label)}" if abs(label) < 10**100 else ""
        known = self._spellings.get(label) if type(label) is str else None
        if known is not None:
            return known
        if type(label) is not str or not (plain := unicodedata.normalize("NFC", label.strip())):
            raise row_error(self.name, number, "text or a whole number as its label", _say(label), "give one")
        if len(plain) > LARGEST_LABEL_CHARACTERS or not is_plain_text(plain):
            raise row_error(self.name, number, f"a label of plain text, {LARGEST_LABEL_CHARACTERS:,} characters at most", _say(label))
        return self._spellings.setdefault(label, self.classes.setdefault(plain, len(self.classes)))

    def _number_split(self, split: Any, number: int) -> int:
        word = split.strip().lower() if type(split) is str else ""
        if type(split) is str and not word:
            return ALL
        if word not in SPLIT_NAMES:
            advice = suggest(word, SPLIT_NAMES) if word else "give one of these"
            raise row_error(self.name, number, "train, val or test as its split", _say(split), advice)
        self._split_words[split] = SPLITS.index(SPLIT_NAMES[word])
        return self._split_words[split]


def _divide(listed: _Listed, path: Path) -> Iterator[tuple[str, ImageSet]]:
    """Split -> its pictures, of the classes that it has; they are joined by name as those of folders are."""
    found = list(listed.classes)
    are_numbers = all(WHOLE_NUMBER.fullmatch(name) for name in found)
    names = sorted(found, key=lambda name: (int(name), name)) if are_numbers else sorted(found)
    places = {name: place for place, name in enumerate(names)}
    labels = np.array([places[name] for name in found], np.int64)[listed.labels]
    for code in np.unique(listed.splits).tolist():
        split = "all" if code == ALL else SPLITS[code]
        members = np.flatnonzero(listed.splits == code)
        paths = listed.paths if code == ALL else listed.paths.select(members)
        present, numbers = np.unique(labels[members], return_inverse=True)
        name = show_path(path) if code == ALL else f"{show_path(path)} ({split})"
        yield split, ImageSet(name, tuple(names[k] for k in present), numbers.astype(np.int64), PictureFiles(path.parent, paths))


def _say(value: Any) -> str:
    """A cell's value for a message."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return "none"
    text = printable(value) if isinstance(value, str) else printable(str(value)[:80])
    return repr(text[:80]) if isinstance(value, str) else text
