"""What a person runs before anybody trains: open the data, divide them as training will, look at each picture, say what was found."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from filelock import BaseFileLock

from provenet.checkup.alike import find_alike
from provenet.checkup.channels import ChannelTotals
from provenet.checkup.checkup import PAGE_NAME, Checkup
from provenet.checkup.duplicates import find_duplicates
from provenet.checkup.examine import Look, examine, thumbnail_of
from provenet.checkup.facts import Facts
from provenet.checkup.findings import Finding, judge
from provenet.checkup.page import MOST_PAIRS, render_page
from provenet.checkup.quarantine import move_unreadable, open_quarantine
from provenet.checkup.sheets import draw_sheet, name_sheets, plain_name
from provenet.data.holdout import default_fraction, hold_out
from provenet.data.index import DataSet, ImageSet
from provenet.data.pictures import PictureFiles
from provenet.data.sources import open_data
from provenet.errors import DataError, ImageError, SettingsError, show_path
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
    quarantine: str | os.PathLike[str] | None = None,
    watcher: Watcher | None = None,
) -> Checkup:
    """Look at every picture of `data` before anybody trains on it, and say what is wrong.

    Counts, sizes, unreadable files, pictures that are there twice or nearly so, classes that a split lacks or that have too few pictures,
    and what is ignored; with a contact sheet of each class and a page, in `output` or `checks/NAME`. What training refuses is a finding
    here; only data that cannot be read at all raise DataError. Files are moved only with `quarantine`: the unreadable ones, to that folder.
    """
    watcher = watcher or Silent()
    refusals: list[DataError] = []
    data_set = open_data(data, watcher.progress, on_problem=refusals.append, allow_missing=True)  # each is named below
    fraction = default_fraction(data_set) if val_fraction is None else val_fraction
    source = Source(data=os.fspath(data), model="", val_fraction=fraction)  # refuses what training would refuse
    root = Path(os.path.expanduser(source.data)) if _has_own_files(data_set) else None
    lock = _take_quarantine(quarantine, data_set, root, source.data)
    try:
        return _check(data_set, root, refusals, source, output, val_fraction, quarantine, watcher)
    finally:
        if lock:
            lock.release()


def _check(
    data_set: DataSet,
    root: Path | None,
    refusals: list[DataError],
    source: Source,
    output: str | os.PathLike[str] | None,
    val_fraction: float | None,
    quarantine: str | os.PathLike[str] | None,
    watcher: Watcher,
) -> Checkup:
    folder = _make_folder(output, data_set.name, source.data)
    fraction = source.val_fraction
    splits, held_out_from = _divide(data_set, fraction)
    seen = examine(splits, num_threads=count_cores(), progress=watcher.progress)
    facts = Facts(
        name=data_set.name,
        splits=tuple(splits),
        held_out_from=held_out_from,
        classes=_join_classes(splits),
        looks=seen.looks,
        duplicates=find_duplicates(seen.looks),
        ignored=data_set.ignored,
        refusals=list({str(refusal): refusal for refusal in refusals}.values()),  # a folder may be tried twice
        alike=find_alike(seen.looks),
        channels=seen.channels.get("train", ChannelTotals()),
        decode_seconds=None if seen.decode_seconds is None else seen.decode_seconds.get("train", 0.0) / seen.num_threads,
        num_threads=seen.num_threads,
        wording=data_set.wording,
    )
    train_words = [source.data] + ([] if val_fraction is None else ["--val-fraction", f"{val_fraction:g}"])
    findings = judge(facts)
    thumbnails = _shrink_pairs(splits, seen.looks, findings)
    checkup = Checkup(facts, findings, train_words, folder, name_sheets(facts), thumbnails, root)
    _write(checkup, watcher)  # which names what is moved next
    if quarantine is not None and root is not None:
        checkup = replace(checkup, quarantine=move_unreadable(facts.looks, root, Path(quarantine)))
        _put(checkup.page, render_page(checkup).encode())
    return checkup


def _has_own_files(data: DataSet) -> bool:
    """Whether each picture has a file of its own, below one folder."""
    return bool(data.splits) and all(isinstance(images.pictures, PictureFiles) for images in data.splits.values())


def _take_quarantine(quarantine: str | os.PathLike[str] | None, data_set: DataSet, root: Path | None, data: str) -> BaseFileLock | None:
    """Refuse, before the work, a folder that will not do and data of which nothing can be moved."""
    if quarantine is None:
        return None
    if root is None:
        raise SettingsError(
            f"--quarantine: expected a folder with a file for each picture, found {data_set.name}, which has none; leave --quarantine out"
        )
    refuse_inside(Path(quarantine), data, "--quarantine")
    return open_quarantine(Path(quarantine))


def _shrink_pairs(splits: dict[str, ImageSet], looks: Sequence[Look], findings: Sequence[Finding]) -> dict[tuple[str, str], bytes]:
    """Thumbnails of the pairs that the page shows; these few pictures are decoded once more."""
    shown = {id(look) for finding in findings for pair in finding.pairs[:MOST_PAIRS] for look in (pair.one, pair.other)}
    thumbnails: dict[tuple[str, str], bytes] = {}
    first = {split: sum(len(splits[before]) for before in list(splits)[:place]) for place, split in enumerate(splits)}
    for place, look in enumerate(looks):
        if id(look) in shown:
            try:
                picture = splits[look.split].pictures.rgb(place - first[look.split])
            except ImageError:
                continue  # gone since it was looked at
            thumbnails[look.split, look.path] = look.thumbnail or thumbnail_of(picture)
    return thumbnails


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
