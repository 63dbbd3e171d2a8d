"""What a person runs before anybody trains: open the data, divide them as training will, look at each picture, say what was found."""

import os
from pathlib import Path

from provenet.checkup.checkup import PAGE_NAME, Checkup
from provenet.checkup.duplicates import find_duplicates
from provenet.checkup.examine import Look, examine
from provenet.checkup.facts import Facts
from provenet.checkup.findings import judge
from provenet.checkup.page import render_page
from provenet.checkup.sheets import draw_sheet, name_sheets, plain_name
from provenet.data.holdout import default_fraction, hold_out
from provenet.data.index import DataSet, ImageSet
from provenet.data.sources import open_data
from provenet.errors import DataError, SettingsError, show_path
from provenet.files import write_whole
from provenet.runs.folder import refuse_inside
from provenet.runs.pictures import SPLIT_SEED
from provenet.runs.settings import Source
from provenet.runs.watcher import Silent, Watcher
from provenet.runtime import count_cores


def check_data(
    data: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    val_fraction: float | None = None,
    watcher: Watcher | None = None,
) -> Checkup:
    """Look at every picture of `data` before anybody trains on it, and say what is wrong.

    Counts, sizes, unreadable files, duplicates, classes that a split lacks or that have too few pictures, and what is ignored; with a
    contact sheet of each class and a page, in `output` or `checks/NAME`. What training refuses is a finding here; only data that
    cannot be read at all raise DataError.
    """
    watcher = watcher or Silent()
    refusals: list[DataError] = []
    data_set = open_data(data, watcher.progress, on_problem=refusals.append, allow_missing=True)  # each is named below
    fraction = default_fraction(data_set) if val_fraction is None else val_fraction
    source = Source(data=os.fspath(data), model="", val_fraction=fraction)  # refuses what training would refuse
    folder = _make_folder(output, data_set.name, source.data)
    splits, held_out_from = _divide(data_set, fraction)
    looks = examine(splits, num_threads=count_cores(), progress=watcher.progress)
    facts = Facts(
        name=data_set.name,
        splits=tuple(splits),
        held_out_from=held_out_from,
        classes=_join_classes(splits),
        looks=looks,
        duplicates=find_duplicates(looks),
        ignored=data_set.ignored,
        refusals=list({str(refusal): refusal for refusal in refusals}.values()),  # a folder may be tried twice
    )
    train_words = [source.data] + ([] if val_fraction is None else ["--val-fraction", f"{val_fraction:g}"])
    checkup = Checkup(facts, judge(facts), train_words, folder, name_sheets(facts))
    _write(checkup, watcher)
    return checkup


def _divide(data: DataSet, val_fraction: float) -> tuple[dict[str, ImageSet], str | None]:
    """The splits as training will have them, in order; and the one that `val` is held out of, where it is."""
    splits: dict[str, ImageSet] = {name: data.splits[name] for name in ("train", "val", "test") if name in data.splits}
    source = next((name for name in ("train", "all") if name in data.splits), None)
    if "val" in splits or source is None:
        return splits, None
    train, val = hold_out(data.splits[source], val_fraction=val_fraction, seed=SPLIT_SEED)
    return {"train": train, "val": val} | {name: images for name, images in splits.items() if name == "test"}, source


def _join_classes(splits: dict[str, ImageSet]) -> tuple[str, ...]:
    """By name: those of the first split in its order, then what the others add."""
    return tuple(dict.fromkeys(label for images in splits.values() for label in images.classes))


def _make_folder(output: str | os.PathLike[str] | None, name: str, data: str) -> Path:
    """The folder for sheets and page, which may be there already. Made before the work, so that a bad name costs nothing."""
    folder = Path("checks", plain_name(name)) if output is None else Path(output)
    refuse_inside(folder, data)
    if os.path.isdir(folder) and os.listdir(folder) and not os.path.exists(folder / PAGE_NAME):
        raise SettingsError(
            f"{show_path(folder)}: expected a new or empty folder, or that of an earlier check ({PAGE_NAME}), found another; "
            "choose another --output"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise _cannot_write(folder, error) from error
    return folder


def _write(checkup: Checkup, watcher: Watcher) -> None:
    """The sheets, then the page that shows them; each file appears when it is whole."""
    facts = checkup.facts
    duplicates = {look.digest: group for group in facts.duplicates for look in group.looks if look.digest}
    shown: dict[str, list[Look]] = {label: [] for label in facts.classes}
    for look in facts.looks:
        if look.is_shown:
            shown[look.label].append(look)
    for done, (label, name) in enumerate(checkup.sheets.items(), start=1):
        _put(checkup.folder / name, draw_sheet(facts, label, shown[label], duplicates))
        watcher.progress("drawing sheets", done, len(checkup.sheets))
    _put(checkup.page, render_page(checkup).encode())


def _put(path: Path, content: bytes) -> None:
    try:
        write_whole(path, content)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError | ValueError) -> SettingsError:
    reason = getattr(error, "strerror", None) or error
    return SettingsError(f"{show_path(path)}: expected to write the sheets there, found: {reason}; choose another --output, or make room")
