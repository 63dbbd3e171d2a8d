"""A sheet of what a network will be shown in training, from the very batches that training would compute."""

import os
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from provenet.checkup.variants import Variant, VariantRow, draw_variants
from provenet.data.distortion import Distortion
from provenet.data.index import ImageSet
from provenet.data.loader import Loader
from provenet.data.squares import stream_squares
from provenet.errors import SettingsError, printable, show_path
from provenet.files import write_whole
from provenet.preprocessing import Preprocessing
from provenet.runs.pictures import open_sound_squares
from provenet.runs.settings import RunSettings
from provenet.runs.train import plan_run
from provenet.runs.watcher import Silent, Watcher
from provenet.runs.wishes import make_wishes
from provenet.runtime import count_cores

NUM_VARIANTS = 8
MOST_PICTURES = 64


def preview(
    data: str | os.PathLike[str],
    model: str | None = None,
    *,
    output: str | os.PathLike[str],
    num_pictures: int = 8,
    skip_broken: bool = False,
    watcher: Watcher | None = None,
    **wishes: Any,
) -> RunSettings:
    """Write a PNG of some training pictures of `data`: each as evaluation sees it, then as eight passes of training would.

    `wishes` are those of `train`; augment, colours, size, shift_pixels, mirror and seed are the ones that change what is seen. Returns
    the settings that training would have. Raises DataError for a broken picture among those chosen; with `skip_broken` it is left out.
    """
    watcher = watcher or Silent()
    path = _check(output, num_pictures)
    settings, data_set, splits, _ = plan_run(os.fspath(data), model, None, skip_broken, make_wishes(wishes), watcher)
    chosen = choose_pictures(splits.train, num_pictures)
    _, images = open_sound_squares(chosen, settings.preprocessing, skip_broken=skip_broken, training=None, watcher=watcher)
    rows = make_rows(images, settings)
    title = f"{data_set.name}, as {settings.source.model} is shown it in training"
    sheet = draw_variants(printable(title), _describe(settings), images.classes, rows)
    try:
        write_whole(path, sheet)
    except OSError as error:
        raise SettingsError(f"{show_path(path)}: expected to write there, found: {error.strerror}; choose another --output") from error
    return settings


def choose_pictures(images: ImageSet, count: int) -> ImageSet:
    """The first picture of each class, then the second, until there are `count`; of many classes evenly spaced ones."""
    by_class = [np.flatnonzero(images.labels == number) for number in range(len(images.classes))]
    by_class = [places for places in by_class if len(places)]
    if len(by_class) > count:
        by_class = [by_class[k] for k in np.linspace(0, len(by_class) - 1, count).astype(np.int64)]
    turns = [int(places[turn]) for turn in range(max(map(len, by_class))) for places in by_class if turn < len(places)]
    return images.select(np.array(turns[:count], dtype=np.int64))


def make_rows(images: ImageSet, settings: RunSettings) -> list[VariantRow]:
    """Batches of just these pictures, a pass each; their numbers are taken for classes, so that labels tell which are in an image."""
    preprocessing, distortion, seed = settings.preprocessing, settings.distortion, settings.training.seed
    plain: dict[int, Image.Image] = {}
    for batch in _loader(images, preprocessing, is_exact=True).evaluation_batches():
        plain |= dict(zip(batch.labels.tolist(), to_pictures(batch.images, preprocessing), strict=True))
    variants: dict[int, list[Variant]] = {number: [] for number in range(len(images))}
    # The undistorted one says which picture stands where.
    loaders = [_loader(images, preprocessing, is_exact=False, seed=seed, distortion=shown) for shown in (Distortion(), distortion)]
    for undistorted, batch in zip(*(loader.training_batches(0, NUM_VARIANTS) for loader in loaders), strict=True):
        shown = to_pictures(batch.images, preprocessing)
        for number, image, label in zip(undistorted.labels.tolist(), shown, batch.labels, strict=True):
            variants[number].append(Variant(image, _parts(number, label, images.labels)))
    return [VariantRow(int(images.labels[number]), plain[number], variants[number]) for number in variants]


def to_pictures(images: Tensor, preprocessing: Preprocessing) -> Iterator[Image.Image]:
    """Normalised images [B, C, S, S] back to what a person can look at."""
    std = torch.tensor(preprocessing.std).view(-1, 1, 1)
    mean = preprocessing.mean_by_place(torch.device("cpu")).permute(2, 0, 1) * std
    pixels = ((images.cpu() * std + mean) * (255 / preprocessing.white)).round().clamp(0, 255).to(torch.uint8)
    if preprocessing.channel_order == "BGR":
        pixels = pixels.flip(1)
    for image in pixels.permute(0, 2, 3, 1).numpy():
        yield Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else np.ascontiguousarray(image))


def _loader(images: ImageSet, preprocessing: Preprocessing, *, is_exact: bool, **options: Any) -> Loader:
    squares = stream_squares(images.pictures, preprocessing, num_threads=count_cores(), is_exact=is_exact)
    return Loader(squares, np.arange(len(images)), preprocessing, batch_size=len(images), **options)


def _parts(number: int, label: Tensor, labels: NDArray[np.int64]) -> list[tuple[int, float]]:
    """The classes in an image and their parts, the own one first, where there is another picture in it."""
    if not label.ndim:
        return []
    parts = {other: float(part) for other, part in enumerate(label) if part > 0.005}
    order = sorted(parts, key=lambda other: (other != number, other))
    return [] if order == [number] else [(int(labels[other]), parts[other]) for other in order]


def _describe(settings: RunSettings) -> str:
    """The settings that do something, in a line."""
    distortion, size = settings.distortion, settings.preprocessing.size
    changed = [field.name for field in fields(Distortion) if getattr(distortion, field.name) != field.default]
    words = [f"{name.replace('_', ' ')} {_show(getattr(distortion, name))}".strip() for name in changed if not name.startswith("pca_eigen")]
    return f"{size}x{size}; left: as evaluation sees it; then: {', '.join(words) or 'nothing is changed'}"


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return " to ".join(f"{number:.3g}" for number in value)
    return "" if value is True else f"{value:g}" if isinstance(value, float) else str(value)


def _check(output: str | os.PathLike[str], num_pictures: int) -> Path:
    if not 1 <= num_pictures <= MOST_PICTURES:
        raise SettingsError(f"--pictures: expected 1 to {MOST_PICTURES}, found {num_pictures}")
    path = Path(output)
    if path.suffix.lower() != ".png":
        raise SettingsError(f"{show_path(path)}: expected a file that ends in .png, found {path.suffix or 'no ending'}; rename it")
    return path
