"""Rows of a file that lists pictures: CSV, TSV, JSON lines or Parquet, one row after the other, in little memory whatever its size.

Columns are found by name, in any case: `path`, `label` and, where there is one, `split`; without `path` or `label` another name that
people use for it will do, if there is only one such.
"""

import csv
import importlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from provenet.errors import DataError, printable, show_path

Row = tuple[int, Any, Any, Any]
"""Its number as people count, path, label, and split or None; the values as the file has them."""

KINDS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet"}
"""Ending of a file -> how it is read."""
NAMES = {
    "path": ("path", ("file", "filename", "file_name", "filepath", "file_path", "image", "image_path")),
    "label": ("label", ("class", "target", "category")),
    "split": ("split", ()),
}
"""What is looked for, and by which other names where that one is missing."""
DELIMITERS = {"csv": (",", ";", "\t"), "tsv": ("\t",)}
"""Excel writes semicolons where the comma separates decimals."""
LARGEST_ROW_CHARACTERS = 2**20
LARGEST_CELL_BYTES = 2**15  # of Parquet, where a small file may repeat a large cell; the csv module has a limit of its own
LARGEST_ROW_GROUP_BYTES = 2**31
ROWS_AT_ONCE = 4_096


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a table. Raises DataError that names the row where one cannot be read."""
    kind = KINDS[path.suffix.lower()]
    try:
        if kind == "parquet":
            yield from _read_parquet(path)
            return
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            lines = Lines(file, show_path(path))
            yield from _read_json(lines) if kind == "jsonl" else _read_csv(lines, DELIMITERS[kind])
    except OSError as error:
        reason = error.strerror or error
        raise DataError(f"{show_path(path)}: expected a readable manifest, found: {reason}; check the path and its permissions") from error


class _Places(NamedTuple):
    """Where in a row the columns are."""

    path: int
    label: int
    split: int | None


class Lines:
    """The lines of a text file. One of ten gigabytes is refused before it is read, and so is a row of very many lines."""

    def __init__(self, file: TextIO, name: str) -> None:
        self.file = file
        self.name = name
        self.row_number = 0
        self._characters_in_row = 0

    def __iter__(self) -> "Lines":
        return self

    def __next__(self) -> str:
        line = self.file.readline(LARGEST_ROW_CHARACTERS + 1)
        if not line:
            raise StopIteration
        self._characters_in_row += len(line)
        if self._characters_in_row > LARGEST_ROW_CHARACTERS:
            raise self.error(f"at most {LARGEST_ROW_CHARACTERS:,} characters in a row", "more", "is it a manifest, its quotes in pairs?", 1)
        if "\0" in line:
            raise self.error("text", "a NUL byte", "save it as UTF-8 text", 1)
        if not line.isascii():
            try:
                line.encode()
            except UnicodeEncodeError as error:
                raise self.error("text in UTF-8", "other bytes", "save it as UTF-8 (in Excel: CSV UTF-8)", 1) from error
        return line

    def next_row(self) -> None:
        """What was read since the last call was one row."""
        self.row_number += 1
        self._characters_in_row = 0

    def error(self, expected: str, found: str, advice: str = "correct it", rows_ahead: int = 0) -> DataError:
        """About the row that was read last, or one after it."""
        return row_error(self.name, self.row_number + rows_ahead, expected, found, advice)


def row_error(name: str, number: int, expected: str, found: str, advice: str = "correct it") -> DataError:
    """About one row of a file."""
    return DataError(f"{name}, row {number:,}: expected {expected}, found {found}; {advice}", "manifest")


def _read_csv(lines: Lines, delimiters: Sequence[str]) -> Iterator[Row]:
    """Row 1 is the header, as a spreadsheet counts. Rows of empty cells are passed over, and so are empty cells beyond the header."""
    first = next(lines, None)
    if first is None:
        raise DataError(f"{lines.name}: expected a header with the columns path and label, found an empty file; write one", "manifest")
    headers = {delimiter: next(csv.reader([first], delimiter=delimiter), []) for delimiter in delimiters}
    delimiter = max(delimiters, key=lambda delimiter: (_has_columns(headers[delimiter]), len(headers[delimiter])))
    header = headers[delimiter]
    path, label, split = _find_columns(header, f"{lines.name}, row 1")
    last = max(path, label, split or 0)
    lines.next_row()
    try:
        for cells in csv.reader(lines, delimiter=delimiter, strict=True):
            lines.next_row()
            if len(cells) != len(header):
                if not any(cells):
                    continue
                if len(cells) <= last or any(cells[len(header) :]):
                    advice = "complete it" if len(cells) <= last else f"put what contains {delimiter!r} into quotes"
                    raise lines.error(f"{len(header)} cells as in the header", str(len(cells)), advice)
            elif not (cells[path] or cells[label] or any(cells)):
                continue
            yield lines.row_number, cells[path], cells[label], None if split is None else cells[split]
    except csv.Error as error:
        raise lines.error("cells in proper quotes", str(error), "is a quote missing?", 1) from error


def _read_json(lines: Lines) -> Iterator[Row]:
    """Row 1 is the first line. Empty lines are passed over."""
    names: list[str] | None = None
    for line in lines:
        lines.next_row()
        if line.isspace():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise lines.error("a JSON object", f"something else ({error})") from error
        if not isinstance(values, dict):
            raise lines.error("a JSON object", type(values).__name__, 'write {"path": …, "label": …} on each line')
        if list(values) != names:
            names = list(values)
            path, label, split = (
                None if place is None else names[place] for place in _find_columns(names, f"{lines.name}, row {lines.row_number:,}")
            )
        yield lines.row_number, values[path], values[label], None if split is None else values[split]
    if not lines.row_number:
        raise DataError(f"{lines.name}: expected a JSON object on each line, found an empty file; write some", "manifest")


def _read_parquet(path: Path) -> Iterator[Row]:
    """Row 1 is the first; the file has no other header. Text stays in Arrow's dictionaries until its lengths are known."""
    name = show_path(path)
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
        compute: Any = importlib.import_module("pyarrow.compute")
    except Exception as error:  # half an installation raises anything
        raise DataError(f"{name}: expected pyarrow to read Parquet, found none that works; pip install 'provenet[tables]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            places = _find_columns(file.schema_arrow.names, name)
            wanted = [file.schema_arrow.names[place] for place in places if place is not None]
            metadata = file.metadata
            for group in range(metadata.num_row_groups):
                facts = metadata.row_group(group)
                chunks = [facts.column(number) for number in range(facts.num_columns)]
                size = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in wanted)
                if size > LARGEST_ROW_GROUP_BYTES:
                    raise DataError(
                        f"{name}: expected row groups of at most {LARGEST_ROW_GROUP_BYTES:,} bytes, found {size:,}; write smaller"
                    )
            texts = [
                column
                for column in wanted
                if arrow.types.is_string(kind := file.schema_arrow.field(column).type) or arrow.types.is_large_string(kind)
            ]
        with parquet.ParquetFile(path, read_dictionary=texts) as file:
            number = 0
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=wanted, use_threads=False):
                columns = [batch.column(batch.schema.get_field_index(column)) for column in wanted]
                for column in columns:
                    _refuse_long_cells(arrow, compute, column, name, number)
                values = [column.to_pylist() for column in columns]
                for row in zip(*values, strict=True):
                    number += 1
                    yield number, row[0], row[1], row[2] if len(row) > 2 else None
            if not number:
                raise DataError(f"{name}: expected rows, found none; write some", "manifest")
    except (arrow.ArrowException, ValueError, OSError) as error:  # damaged ones are OSError without a number
        raise DataError(f"{name}: expected a Parquet file, found: {printable(str(error))[:200]}; write it again") from error


def _refuse_long_cells(arrow: Any, compute: Any, column: Any, name: str, number: int) -> None:
    values = column.dictionary if arrow.types.is_dictionary(column.type) else column
    if arrow.types.is_string(values.type) or arrow.types.is_large_string(values.type):
        if (compute.max(compute.binary_length(values)).as_py() or 0) > LARGEST_CELL_BYTES:
            raise DataError(f"{name}: expected text of at most {LARGEST_CELL_BYTES:,} bytes, found more after row {number:,}; correct it")
    elif arrow.types.is_nested(values.type):
        raise DataError(f"{name}: expected text or whole numbers, found a column of {values.type}; write others")


def _has_columns(names: Sequence[str]) -> bool:
    try:
        _find_columns(names, "")
    except DataError:
        return False
    return True


def _find_columns(names: Sequence[str], where: str) -> _Places:
    """Where the columns are among `names`."""
    plain = [name.strip().lower() for name in names]
    places: dict[str, int | None] = {}
    for wanted, (usual, others) in NAMES.items():
        found = [place for place, name in enumerate(plain) if name == usual] or [
            place for place, name in enumerate(plain) if name in others
        ]
        if len(found) > 1:
            several = " and ".join(repr(printable(names[place])) for place in found[:3])
            raise DataError(f"{where}: expected one column {wanted!r}, found {several}; name the right one {wanted!r}", "manifest")
        if not found and wanted != "split":
            there = ", ".join(repr(printable(name)[:40]) for name in names[:8]) + (" …" if len(names) > 8 else "")
            known = ", ".join(others)
            raise DataError(f"{where}: expected a column {wanted!r} (or {known}), found {there or 'none'}; name it so", "manifest")
        places[wanted] = found[0] if found else None
    assert places["path"] is not None
    assert places["label"] is not None
    return _Places(places["path"], places["label"], places["split"])


def is_table(path: str | os.PathLike[str]) -> bool:
    """Whether a file is one by its ending."""
    return Path(path).suffix.lower() in KINDS
