"""The colours of a data set: measured, written to a file, and used by a distortion in place of ImageNet's."""

import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import tomli_w

from provenet.data.components import Colours, measure_colours
from provenet.data.distortion import Distortion
from provenet.data.holdout import default_fraction, divide
from provenet.data.sources import open_data
from provenet.errors import DataError, SettingsError, show_path
from provenet.files import write_whole
from provenet.preprocessing import IMAGENET_PREPROCESSING
from provenet.runs.pictures import SPLIT_SEED, open_sound_squares, refuse_or_note
from provenet.runs.settings import read_toml
from provenet.runs.watcher import Silent, Watcher
from provenet.training.settings import check_types

MOST_PICTURES = 4_000
LARGEST_SIDE_PIXELS = 256


def find_colours(
    data: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    skip_broken: bool = False,
    watcher: Watcher | None = None,
) -> Colours:
    """Mean and principal components of the colours of the training pictures of `data`, written to `output` (TOML) where that is given.

    Of sets of more than 4,000 pictures evenly spaced ones are measured: the middle square of each, at 256 pixels or, of
    smaller pictures, in its own size. Raises DataError where no picture is coloured, or, unless `skip_broken`, where one of them is broken.
    """
    watcher = watcher or Silent()
    path = None if output is None else _check_output(output)
    on_problem = refuse_or_note(skip_broken=skip_broken, watcher=watcher)
    data_set = open_data(data, watcher.progress, on_problem, allow_missing=skip_broken)
    train = divide(data_set, val_fraction=default_fraction(data_set), seed=SPLIT_SEED).train
    if train.pictures.native_channels() != 3:
        raise DataError(f"{data_set.name}: expected pictures in colour, found grey ones, whose colours have no principal components")
    side = min(LARGEST_SIDE_PIXELS, train.pictures.native_side() or LARGEST_SIDE_PIXELS)
    preprocessing = replace(IMAGENET_PREPROCESSING, size=side, resize=side)
    chosen = np.unique(np.linspace(0, len(train) - 1, min(MOST_PICTURES, len(train))).astype(np.int64))
    squares, kept = open_sound_squares(train.select(chosen), preprocessing, skip_broken=skip_broken, training=None, watcher=watcher)
    batches = np.array_split(np.arange(len(kept)), max(1, len(kept) // 16))
    found = measure_colours(shown.pixels for shown in squares.batches(iter(batches)))
    if path is not None:
        _write(found, path)
    return found


def read_colours(path: str | os.PathLike[str]) -> Colours:
    """What `find_colours` wrote. Raises SettingsError with one line that names the file."""
    try:
        return Colours(**check_types(Colours, read_toml(path, "a file of colours"), "colours"))
    except SettingsError as error:
        message = str(error)
        raise SettingsError(message if message.startswith(show_path(path)) else f"{show_path(path)}: {message}") from error


def with_colours(distortion: Distortion, colours: Colours) -> Distortion:
    """The distortion with these principal components."""
    return replace(distortion, pca_eigenvalues=colours.pca_eigenvalues, pca_eigenvectors=colours.pca_eigenvectors)


def show_colours(colours: Colours) -> str:
    """As text."""
    lines = [f"of {colours.pictures:,} pictures      red      green       blue", "mean      " + _row(colours.mean)]
    for k, value in enumerate(colours.pca_eigenvalues):
        lines.append(f"{('first', 'second', 'third')[k]:10}" + _row(colours.pca_eigenvectors[k::3]) + f"   eigenvalue {value:.6f}")
    return "\n".join(lines)


def _row(values: tuple[float, ...]) -> str:
    return "".join(f"{value:11.6f}" for value in values)


def _check_output(output: str | os.PathLike[str]) -> Path:
    path = Path(output)
    if path.suffix != ".toml":
        raise SettingsError(f"{show_path(path)}: expected a file that ends in .toml, found {path.suffix or 'no ending'}; rename it")
    return path


def _write(colours: Colours, path: Path) -> None:
    words = "# Pixels of 0 to 1; the eigenvectors are columns, row by row: red, green, blue. provenet train --colours THIS_FILE\n\n"
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(colours).items()}
    try:
        write_whole(path, (words + tomli_w.dumps(values)).encode())
    except OSError as error:
        raise SettingsError(f"{show_path(path)}: expected to write there, found: {error.strerror}; choose another --output") from error
