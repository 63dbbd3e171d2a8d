"""Tar shards in WebDataset's convention -> labelled pictures, read where they lie inside the tars.

Classes are those of `classes.txt` (a name a line) or `classes.json` (a list, or number -> name) beside the shards; without it the labels
that were found: numbers by their value, names by their letters. N pictures, S shards.
"""

import json
import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provenet.data import shard_index
from provenet.data.asking import ask_several
from provenet.data.folder import OnProblem, raise_it
from provenet.data.ignored import Ignored, Reason
from provenet.data.index import TAR_SHARDS, DataSet, ImageSet
from provenet.data.labels import is_number, order_labels
from provenet.data.offsets import open_index
from provenet.data.paths import Paths
from provenet.data.pictures import EncodedPictures
from provenet.data.remote import open_asked
from provenet.data.shard_addresses import CLASSES_NAMES, PACK_NAME, ShardAddresses, is_remote
from provenet.data.shard_files import ShardFile, ShardFiles
from provenet.data.shard_index import LARGEST_NUM_CLASSES, Remark, ShardIndex
from provenet.errors import DataError, is_plain_text, printable, show_path
from provenet.progress import Progress

LARGEST_SMALL_BYTES = 2**24
_REASONS = {
    shard_index.HIDDEN: Reason.HIDDEN,
    shard_index.NO_FILE: Reason.NO_FILE_INSIDE,
    shard_index.LONELY_LABEL: Reason.LONELY_LABEL,
}
_PROBLEMS = {
    shard_index.NO_LABEL: "expected a label (.cls, .json or .txt) beside each picture, found none beside {}; add it",
    shard_index.BAD_LABEL: "expected a class number or a class name in each label, found neither in {}; mend it",
    shard_index.TWO_PICTURES: "expected one picture of a key, found another one, {}; give it a key of its own",
    shard_index.KEY_AGAIN: "expected each key once, its members lying together, found that of {} again; pack the shard again",
}


class ShardPictures(EncodedPictures):
    """Pictures inside tars: where each lies, in a few arrays [N] however many there are."""

    def __init__(self, table: "ShardTable", rows: NDArray[np.int64] | None = None) -> None:
        self.table = table
        self.rows = rows

    def __len__(self) -> int:
        return len(self.table.offsets) if self.rows is None else len(self.rows)

    def content(self, index: int) -> bytes:
        row = self._row(index)
        table = self.table
        return table.files.read(table.shard_of(row), show_path(table.names[row]), int(table.offsets[row]), int(table.sizes[row]))

    def size_bytes(self, index: int) -> int:
        return int(self.table.sizes[self._row(index)])

    def where(self, index: int) -> str:
        row = self._row(index)
        return f"{self.table.files.shards[self.table.shard_of(row)].name}: {show_path(self.table.names[row])}"

    def keys(self) -> list[str]:
        stems = [show_path(Path(shard.name).name).removesuffix(".tar") for shard in self.table.files.shards]
        rows = np.arange(len(self)) if self.rows is None else self.rows
        shards = np.searchsorted(self.table.starts, rows, side="right") - 1
        return [f"{stems[shard]}/{show_path(self.table.names[row])}" for shard, row in zip(shards.tolist(), rows.tolist(), strict=True)]

    def select(self, indices: NDArray[np.int64]) -> "ShardPictures":
        return ShardPictures(self.table, indices if self.rows is None else self.rows[indices])

    def blocks(self) -> tuple[int, ...]:
        rows = np.arange(len(self)) if self.rows is None else self.rows
        shards = np.searchsorted(self.table.starts, rows, side="right")
        changes = np.flatnonzero(np.diff(shards)) + 1  # where the next picture is of another shard
        return tuple(np.diff(np.concatenate([[0], changes, [len(rows)]])).tolist()) if len(rows) else ()

    def _row(self, index: int) -> int:
        return range(len(self.table.offsets))[index] if self.rows is None else int(self.rows[index])


@dataclass(frozen=True)
class ShardTable:
    """Where the pictures of S shards lie; those of shard s are rows starts[s] to starts[s + 1]."""

    files: ShardFiles
    starts: NDArray[np.int64]
    """[S], the first row of each"""
    offsets: NDArray[np.int64]
    """[N], in bytes from the start of the shard"""
    sizes: NDArray[np.int64]
    """[N], in bytes"""
    names: Paths

    @classmethod
    def of(cls, files: list[ShardFile], indexes: list[ShardIndex]) -> "ShardTable":
        """One table of the indexes of all shards."""
        starts = np.cumsum([0, *map(len, indexes)])[:-1].astype(np.int64)
        text_starts = np.cumsum([0, *(len(index.text) for index in indexes)])
        if len(indexes) == 1:  # the arrays of the offset file as they are
            index = indexes[0]
            return cls(ShardFiles(files), starts, index.offsets, index.sizes, Paths(index.text, index.ends))
        ends = [index.ends + start for index, start in zip(indexes, text_starts, strict=False)]
        names = Paths(_join([index.text for index in indexes], np.uint8), _join(ends, np.int64))
        offsets, sizes = (_join([getattr(index, column) for index in indexes], np.int64) for column in ("offsets", "sizes"))
        return cls(ShardFiles(files), starts, offsets, sizes, names)

    def shard_of(self, row: int) -> int:
        """The shard that a row lies in."""
        return int(np.searchsorted(self.starts, row, side="right")) - 1


def open_shards(addresses: ShardAddresses, progress: Progress | None, on_problem: OnProblem) -> DataSet:
    """The pictures in some shards. What is wrong with a shard goes to `on_problem`; if that returns, the rest of it is read."""
    folder = addresses.folder
    if not addresses.splits:
        on_problem = raise_it  # there is nothing to go on with
    facts = _read_pack(folder, on_problem) if folder else {}
    classes = _read_classes(folder) if folder else None
    if not addresses.splits:
        raise DataError(f"{addresses.name}: expected shards beside {PACK_NAME}, found none; put them there", "missing shard")
    reader = _Reader(on_problem, progress, sum(map(len, addresses.splits.values())))
    splits = {split: reader.read(f"{addresses.name}/{split}", shards, classes) for split, shards in addresses.splits.items()}
    if folder and addresses.is_folder:
        reader.pass_over_others(addresses, folder)
    can_mirror = facts.get("can_mirror") is not False
    return DataSet(addresses.name, splits, can_mirror=can_mirror, ignored=reader.ignored, wording=TAR_SHARDS)


class _Reader:
    def __init__(self, on_problem: OnProblem, progress: Progress | None, num_shards: int) -> None:
        self.on_problem = on_problem
        self.progress = progress
        self.num_shards = num_shards
        self.num_done = 0
        self.ignored: list[Ignored] = []

    def read(self, name: str, shards: list[str], classes: tuple[str, ...] | None) -> ImageSet:
        files: list[ShardFile] = []
        indexes: list[ShardIndex] = []
        answers = ask_several(filter(is_remote, shards), self.progress)
        for address in shards:
            try:
                file, index = open_asked(next(answers).result()) if is_remote(address) else self._open(address)
            except DataError as error:
                self.on_problem(error)
            else:
                self._report(file.name, index)
                files.append(file)
                indexes.append(index)
            self.num_done += 1
            if self.progress:
                self.progress("opening shards", self.num_done, self.num_shards)
        numbers = _number_classes(classes, indexes)
        classes = classes or tuple(numbers)
        labels = [self._translate(file.name, index, numbers) for file, index in zip(files, indexes, strict=True)]
        if not sum(map(len, indexes)):
            found = "expected pictures (.jpg, .png, …) with labels (.cls, .json, .txt) in its shards, found none"
            self.on_problem(DataError(f"{name}: {found}; give others", "no pictures"))
        images = ImageSet(name, classes, _join(labels, np.int64), ShardPictures(ShardTable.of(files, indexes)))
        known = np.flatnonzero(images.labels >= 0)
        return images if len(known) == len(images) else images.select(known)

    def pass_over_others(self, addresses: ShardAddresses, folder: Path) -> None:
        """What lies beside the shards and is none of theirs."""
        paths = [Path(shard) for shards in addresses.splits.values() for shard in shards]
        read = {path.name for path in paths}
        read |= {*CLASSES_NAMES, PACK_NAME, *(f"{name}.offsets" for name in read)}
        split_folders = {path.parent.name for path in paths if path.parent != folder}
        for name in sorted(os.listdir(folder)):
            if name not in read and name not in split_folders:
                reason = Reason.HIDDEN if name.startswith(".") else Reason.BESIDE_SHARDS
                self.ignored.append(Ignored(show_path(folder / name), reason, show_path(folder)))

    def _open(self, address: str) -> tuple[ShardFile, ShardIndex]:
        path, name = Path(address), show_path(address)
        try:
            index = open_index(path, name)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"{name}: expected a shard, found: {reason}; check the path and its permissions", "missing shard") from error
        return ShardFile(name, path, index.tar_bytes, index.tar_mtime_ns), index

    def _report(self, name: str, index: ShardIndex) -> None:
        for remark in index.ignored:
            reason = _REASONS.get(remark.kind, Reason.NO_PICTURE)
            self.ignored.append(Ignored(f"{name}: {remark.first}", reason, name, remark.count))
        for remark in index.problems:
            self.on_problem(DataError(f"{name}: {_describe(remark)}", remark.kind))

    def _translate(self, name: str, index: ShardIndex, numbers: dict[str, int]) -> NDArray[np.int64]:
        """The labels of one shard's pictures as rows of the classes, [N]; -1 where there is no such class."""
        found = [numbers.get(label, -1) for label in index.label_names]
        if unknown := [label for label, number in zip(index.label_names, found, strict=True) if number < 0]:
            self.on_problem(
                DataError(
                    f"{name}: expected each label to be of the classes beside the shards, found {unknown[0]!r}; add it to them",
                    "class name",
                )
            )
        return np.array([*found, -1], np.int64)[index.labels]


def _number_classes(classes: tuple[str, ...] | None, indexes: list[ShardIndex]) -> dict[str, int]:
    """Label, as the shards have it -> row of the classes. Where these are given, a number is a place among them, whatever their names."""
    if classes is None:
        return {label: row for row, label in enumerate(order_labels({label for index in indexes for label in index.label_names}))}
    return {label: row for row, label in enumerate(classes) if not is_number(label)} | {str(row): row for row in range(len(classes))}


def _describe(remark: Remark) -> str:
    if remark.kind not in _PROBLEMS:
        return remark.first
    return _PROBLEMS[remark.kind].format(remark.first + (f" and {remark.count - 1:,} others" if remark.count > 1 else ""))


def _read_pack(folder: Path, on_problem: OnProblem) -> dict[str, Any]:
    """What `provenet pack` left there; nothing where the shards are somebody else's."""
    content = _read_small(folder / PACK_NAME)
    if content is None:
        return {}
    try:
        facts = json.loads(content)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        raise DataError(f"{show_path(folder / PACK_NAME)}: expected what `provenet pack` wrote, found something else; remove it")
    if facts.get("is_whole") is not True:
        unfinished = "expected a pack that came to its end, found an unfinished one; run the same `provenet pack` again, it goes on"
        raise DataError(f"{show_path(folder)}: {unfinished}", "unfinished pack")
    shards = facts.get("shards")
    for shard in shards if isinstance(shards, list) else []:
        name = shard.get("name") if isinstance(shard, dict) else None
        if isinstance(name, str) and not os.path.isfile(folder / name):
            missing = f"expected {printable(name)}, as packed, found nothing of that name"
            on_problem(DataError(f"{show_path(folder)}: {missing}; put it back or pack again", "missing shard"))
    return facts


def _read_classes(folder: Path) -> tuple[str, ...] | None:
    """The names in `classes.txt` or `classes.json`, where one is there."""
    for name in CLASSES_NAMES:
        where = show_path(folder / name)
        content = _read_small(folder / name)
        if content is None:
            continue
        try:
            text = content.decode("utf-8")
            if name.endswith(".json"):
                found = json.loads(text)
                if isinstance(found, dict):  # number -> name
                    found = [found[str(number)] for number in range(len(found))]
                if not isinstance(found, list):
                    raise ValueError("neither a list nor an object")
            else:
                found = text.removesuffix("\n").split("\n") if text else []
                found = [line.removesuffix("\r") for line in found]
        except (ValueError, KeyError, RecursionError) as error:
            raise DataError(f"{where}: expected class names, found something else ({error}); mend or remove it") from error
        are_names = all(isinstance(label, str) and label and is_plain_text(label) for label in found)
        if not are_names or not 0 < len(found) <= LARGEST_NUM_CLASSES or len(set(found)) < len(found):
            raise DataError(
                f"{where}: expected different names of plain text, 1 to {LARGEST_NUM_CLASSES:,}, one a class, found others; "
                "mend or remove it"
            )
        return tuple(unicodedata.normalize("NFC", label) for label in found)
    return None


def _read_small(path: Path) -> bytes | None:
    """A file's bytes, or None where it is not there."""
    try:
        if not path.is_file():
            return None
        if path.stat().st_size > LARGEST_SMALL_BYTES:
            raise DataError(f"{show_path(path)}: expected at most {LARGEST_SMALL_BYTES:,} bytes, found more; mend or remove it")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{show_path(path)}: expected a readable file, found: {error.strerror or error}; check its permissions") from error


def _join(arrays: list[NDArray[Any]], kind: type[np.generic]) -> NDArray[Any]:
    return np.concatenate(arrays).astype(kind) if arrays else np.zeros(0, kind)
