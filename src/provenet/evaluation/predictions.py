"""What a network said of each picture, kept: as columns of a table that people can do their own sums with, and read again.

    path, label, predicted, p(cat), p(dog) …

A row a picture; `label` is empty where it is not known, and probabilities have all their digits, so that whatever is worked out from the
file is what was worked out before it was written. Letters: N pictures, K classes.
"""

import csv
import importlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.tables import Lines, row_error
from provenet.errors import DataError, SettingsError, is_plain_text, printable, show_path
from provenet.files import appearing

ENDINGS = (".csv", ".parquet")
PATH, LABEL, PREDICTED = "path", "label", "predicted"
UNKNOWN = -1
LARGEST_BYTES = 2**31
"""Of all probabilities together, in memory."""
LARGEST_ERROR = 1e-3
"""By which the probabilities of a picture may miss 1: other programs write few digits."""
LEAST_PROBABILITY = float(np.finfo(np.float64).tiny)
ROWS_AT_ONCE = 1_024


@dataclass(frozen=True)
class Predictions:
    """What was said of N pictures."""

    name: str
    """What to call it in a table."""
    classes: tuple[str, ...]
    paths: Sequence[str]
    """As the data names its pictures."""
    labels: NDArray[np.int64]
    """Their numbers in `classes` [N], UNKNOWN where there is none."""
    logits: Tensor
    """Logits or logarithms of probabilities, float64 [N, K] on the CPU."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def probabilities(self) -> Tensor:
        """Float64 [N, K]."""
        return self.logits.softmax(1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the table, as the name's ending says. Raises SettingsError where that cannot be."""
        path = Path(path)
        check_predictions_path(path)
        try:
            with appearing(path) as part:
                if path.suffix.lower() == ".csv":
                    self._write_csv(part)
                else:
                    self._write_parquet(part)
        except OSError as error:
            raise SettingsError(
                f"--predictions {show_path(path)}: expected to write it, found: {error.strerror or error}; free space or name another"
            ) from error

    def _columns(self) -> list[str]:
        return [PATH, LABEL, PREDICTED, *(f"p({name})" for name in self.classes)]

    def _rows(self) -> Iterator[tuple[list[str], list[str | None], list[str], NDArray[np.float64]]]:
        """Some at a time: paths, labels, predicted classes, probabilities [_, K]."""
        for start in range(0, len(self), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            labels = [None if label == UNKNOWN else self.classes[label] for label in self.labels[some].tolist()]
            predicted = [self.classes[k] for k in self.logits[some].argmax(1).tolist()]
            yield list(self.paths[some]), labels, predicted, self.logits[some].softmax(1).numpy()

    def _write_csv(self, path: Path) -> None:
        with path.open("w", encoding="utf-8", newline="", errors="replace") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self._columns())
            for paths, labels, predicted, probabilities in self._rows():
                for *words, values in zip(paths, labels, predicted, probabilities.tolist(), strict=True):
                    writer.writerow([*words, *map(repr, values)])

    def _write_parquet(self, path: Path) -> None:
        arrow, parquet = _import_parquet()
        kinds = [arrow.string()] * 3 + [arrow.float64()] * len(self.classes)
        schema = arrow.schema(list(zip(self._columns(), kinds, strict=True)))
        with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
            for *words, probabilities in self._rows():
                arrays = [arrow.array(column, kind) for column, kind in zip([*words, *probabilities.T], kinds, strict=True)]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))


def check_predictions_path(path: Path) -> None:
    """Raise SettingsError for a file that predictions cannot be written to: said before the evaluation and not after it."""
    shown = show_path(path)
    if path.suffix.lower() not in ENDINGS:
        raise SettingsError(f"--predictions {shown}: expected a file that ends in {' or '.join(ENDINGS)}, found another; name one")
    if path.exists() and not path.is_file():
        raise SettingsError(f"--predictions {shown}: expected a file to write, found something else there; name another")
    if not path.parent.is_dir():
        raise SettingsError(f"--predictions {shown}: expected a folder to write into, found none; make it first")
    if path.suffix.lower() == ".parquet":
        try:
            _import_parquet()
        except DataError as error:
            raise SettingsError("--predictions: Parquet is written with pyarrow: pip install 'provenet[tables]', or name a .csv") from error


def load_predictions(path: str | os.PathLike[str], *, leave_out_broken: bool = False) -> tuple[Predictions, int]:
    """Predictions that were saved, or that another program wrote so; and how many rows were left out, with values that are no numbers.

    Such rows are an error that names the first, unless they are to be left out. Columns that nobody asks for are passed over.
    Raises DataError for a file that is none.
    """
    path = Path(path)
    shown = show_path(path)
    if path.suffix.lower() not in ENDINGS or not path.is_file():
        raise DataError(f"{shown}: expected predictions that were saved ({' or '.join(ENDINGS)}), found none; check the path")
    chunks = _read_csv(path) if path.suffix.lower() == ".csv" else _read_parquet(path)
    classes = next(chunks).classes
    numbers = {name: number for number, name in enumerate(classes)}
    paths: list[str] = []
    labels: list[int] = []
    found: list[NDArray[np.float64]] = []
    left_out = 0
    for chunk in chunks:
        is_sound = _is_sound(chunk.probabilities)
        if not is_sound.all() and not leave_out_broken:
            number = chunk.first_row + int(np.flatnonzero(~is_sound)[0])
            raise row_error(
                shown, number, "probabilities that add up to 1", "others, or values that are no numbers", "correct it, or --skip-broken"
            )
        left_out += int((~is_sound).sum())
        for row in np.flatnonzero(is_sound).tolist():
            label = chunk.labels[row]
            if label and label not in numbers:
                raise row_error(shown, chunk.first_row + row, "a label that has a column p(label), or none", repr(printable(label)[:80]))
            labels.append(numbers[label] if label else UNKNOWN)
            paths.append(chunk.paths[row])
        found.append(chunk.probabilities[is_sound])
        if 8 * len(labels) * len(classes) > LARGEST_BYTES:
            raise _too_many(shown)
    if not labels:
        raise DataError(f"{shown}: expected rows with predictions, found none; write some")
    probabilities = torch.from_numpy(np.concatenate(found))
    logits = probabilities.clamp_min(LEAST_PROBABILITY).log()
    return Predictions(path.stem, classes, paths, np.array(labels, np.int64), logits), left_out


@dataclass(frozen=True)
class _Chunk:
    """Some rows of a file; the first chunk has none, and says which classes there are."""

    classes: tuple[str, ...]
    first_row: int = 0
    """As people count."""
    paths: Sequence[str] = ()
    labels: Sequence[str | None] = ()
    probabilities: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))


def _is_sound(probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which rows [_, K] are probabilities."""
    with np.errstate(invalid="ignore"):
        return np.asarray((probabilities >= 0).all(1) & (np.abs(probabilities.sum(1) - 1) <= LARGEST_ERROR))


def _find_columns(names: Sequence[str], shown: str) -> tuple[int | None, int | None, dict[str, int]]:
    """Where path and label are, if anywhere, and the class of each column of probabilities."""
    classes: dict[str, int] = {}
    for place, name in enumerate(names):
        if name.startswith("p(") and name.endswith(")"):
            if name[2:-1] in classes:
                raise DataError(f"{shown}: expected a column for each class, found {printable(name)!r} twice; rename one")
            if not is_plain_text(name[2:-1]):
                raise DataError(f"{shown}: expected classes of plain text, found control characters in one; rename it")
            classes[name[2:-1]] = place
    if not classes:
        there = ", ".join(repr(printable(name)[:40]) for name in names[:6])
        raise DataError(f"{shown}: expected a column p(NAME) for each class, such as p(cat), found {there or 'none'}; name them so")
    places = [names.index(name) if name in names else None for name in (PATH, LABEL)]
    return places[0], places[1], classes


def _read_csv(path: Path) -> Iterator[_Chunk]:
    shown = show_path(path)
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = Lines(file, shown)
            rows = csv.reader(lines, strict=True)
            header = next(rows, None) or []
            lines.next_row()
            path_at, label_at, classes = _find_columns(header, shown)
            yield _Chunk(tuple(classes))
            waiting: list[tuple[str, str, list[float]]] = []
            first_row = lines.row_number + 1
            for cells in rows:
                lines.next_row()
                if len(cells) != len(header):
                    raise lines.error(f"{len(header)} cells as in the header", str(len(cells)), "complete it")
                try:
                    values = [float(cells[place]) for place in classes.values()]
                except ValueError as error:
                    raise lines.error("numbers as probabilities", f"others ({error})") from error
                waiting.append(("" if path_at is None else cells[path_at], "" if label_at is None else cells[label_at], values))
                if len(waiting) == ROWS_AT_ONCE:
                    yield _chunk_of(waiting, tuple(classes), first_row)
                    waiting, first_row = [], lines.row_number + 1
            if waiting:
                yield _chunk_of(waiting, tuple(classes), first_row)
    except csv.Error as error:
        raise lines.error("cells in proper quotes", str(error), "is a quote missing?", 1) from error
    except OSError as error:
        raise DataError(f"{shown}: expected a readable file, found: {error.strerror or error}; check the path") from error


def _chunk_of(rows: list[tuple[str, str, list[float]]], classes: tuple[str, ...], first_row: int) -> _Chunk:
    paths, labels, values = zip(*rows, strict=True)
    return _Chunk(classes, first_row, paths, labels, np.array(values, np.float64))


def _read_parquet(path: Path) -> Iterator[_Chunk]:
    shown = show_path(path)
    arrow, parquet = _import_parquet()
    try:
        with parquet.ParquetFile(path) as file:
            schema = file.schema_arrow
            path_at, label_at, classes = _find_columns(schema.names, shown)
            if any(not arrow.types.is_floating(schema.field(place).type) for place in classes.values()):
                raise DataError(f"{shown}: expected numbers in the columns p(…), found another type; write them again")
            if 8 * file.metadata.num_rows * len(classes) > LARGEST_BYTES:
                raise _too_many(shown)
            yield _Chunk(tuple(classes))
            first_row = 1
            wanted = [schema.names[place] for place in (path_at, label_at, *classes.values()) if place is not None]
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=wanted, use_threads=False):
                words = [
                    [""] * len(batch) if place is None else [str(word or "") for word in batch.column(schema.names[place]).to_pylist()]
                    for place in (path_at, label_at)
                ]
                values = [batch.column(schema.names[place]).to_numpy(zero_copy_only=False) for place in classes.values()]
                yield _Chunk(tuple(classes), first_row, words[0], words[1], np.stack(values, axis=1).astype(np.float64))
                first_row += len(batch)
    except (arrow.ArrowException, ValueError, OSError) as error:  # damaged ones are OSError without a number
        raise DataError(f"{shown}: expected a Parquet file, found: {printable(str(error))[:200]}; write it again") from error


def _too_many(shown: str) -> DataError:
    return DataError(f"{shown}: expected at most {LARGEST_BYTES:,} bytes of probabilities, found more; give fewer pictures at a time")


def _import_parquet() -> tuple[Any, Any]:
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except Exception as error:  # half an installation raises anything
        raise DataError("expected pyarrow for Parquet, found none that works; pip install 'provenet[tables]'") from error
