"""What is subtracted from pixels and what they are divided by, measured on the training pictures and on no others.

`--mean` decides what is subtracted, and nothing else: the deviation is the same whichever is asked for, so that runs that differ in the
mean differ in nothing more.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from provenet.data.index import ImageSet
from provenet.data.pictures import PixelArray
from provenet.data.squares import open_squares
from provenet.data.threads import in_order
from provenet.errors import ImageError
from provenet.mean_image import MeanImage, check_side
from provenet.models.classifier import Measured
from provenet.preprocessing import Preprocessing, window
from provenet.progress import Progress
from provenet.runs.wishes import Mean
from provenet.runtime import count_cores

PICTURES_MEASURED = 2_000
"""For the mean and the deviation by channel, to which each picture gives thousands of pixels."""
BYTES_AT_ONCE = 2**25


def measure(
    preprocessing: Preprocessing, measured: Measured, mean: Mean | None, train: ImageSet, progress: Progress | None = None
) -> Preprocessing:
    """The rule with what the network's paper measures (`measured`) taken from the training pictures, and the mean that was asked for."""
    if mean == "pixel":
        check_side(preprocessing.size)
    if mean == "channel" and measured == "nothing":
        measured = "mean"
    if measured == "mean and deviation" or (measured == "mean" and mean in (None, "channel")):
        preprocessing = _measure_channels(preprocessing, measured, train, progress)
    if mean == "none":
        return replace(preprocessing, mean=(0.0,) * preprocessing.channels)
    return _with_mean_image(preprocessing, train, progress) if mean == "pixel" else preprocessing


def _measure_channels(preprocessing: Preprocessing, measured: Measured, train: ImageSet, progress: Progress | None) -> Preprocessing:
    """Mean, and perhaps deviation, of the pictures' own pixels, channel by channel, over evenly spaced pictures of the set."""
    chosen = np.unique(np.linspace(0, len(train) - 1, min(PICTURES_MEASURED, len(train))).astype(np.int64))
    squares, broken = open_squares(train.pictures.select(chosen), preprocessing, num_threads=count_cores(), progress=progress)
    sound = np.array([place for place in range(len(chosen)) if place not in broken], dtype=np.int64)
    if not len(sound):
        return preprocessing  # every one is broken, which is said when they are read
    totals = np.zeros((2, preprocessing.channels))
    for pixels, _ in squares.batches(iter(np.array_split(sound, max(1, len(sound) // 64)))):
        values = pixels.double() / 255
        totals += np.stack([values.mean((0, 1, 2)).numpy(), values.square().mean((0, 1, 2)).numpy()]) * len(pixels) / len(sound)
    if preprocessing.channel_order == "BGR":
        totals = totals[:, ::-1]
    mean, std = totals[0], np.sqrt(np.maximum(totals[1] - totals[0] ** 2, 1e-4))
    if measured == "mean":
        return replace(preprocessing, mean=tuple(round(float(v) * preprocessing.white, 4) for v in mean))
    return replace(preprocessing, white=1.0, mean=tuple(round(float(v), 4) for v in mean), std=tuple(round(float(v), 4) for v in std))


def _with_mean_image(preprocessing: Preprocessing, train: ImageSet, progress: Progress | None) -> Preprocessing:
    """The mean by place of every picture's centred window, as evaluation sees it; sums of whole numbers, so exact in any order.

    Pictures that cannot be decoded do not count: they are named when they are read.
    """
    sums, count = np.zeros((preprocessing.size, preprocessing.size, preprocessing.channels), np.int64), 0
    for squares, done in _exact_squares(train, preprocessing):
        windows = window(torch.from_numpy(squares if squares.flags.writeable else squares.copy()), preprocessing.size)
        sums += windows.sum(0, dtype=torch.int64).numpy()
        count += len(windows)
        if progress:
            progress("measuring the mean image", done, len(train))
    if not count:
        return preprocessing
    image = MeanImage.from_sums(sums, count)
    mean = image.levels().mean((0, 1)) * (preprocessing.white / 255)
    if preprocessing.channel_order == "BGR":
        mean = mean[::-1]
    return replace(preprocessing, mean=tuple(round(float(v), 4) for v in mean), mean_image=image)


def _exact_squares(train: ImageSet, preprocessing: Preprocessing) -> Iterator[tuple[NDArray[np.uint8], int]]:
    """The stored squares [B, R, R, C] of all pictures that can be decoded, a few megabytes at once, and how many have been tried."""
    pictures, shape = train.pictures, (preprocessing.resize, preprocessing.resize, preprocessing.channels)
    num_at_once = max(1, BYTES_AT_ONCE // (shape[0] * shape[1] * shape[2]))
    chunks = [range(start, min(start + num_at_once, len(pictures))) for start in range(0, len(pictures), num_at_once)]
    if isinstance(pictures, PixelArray) and pictures.pixels.shape[1:] == shape:
        for chunk in chunks:
            yield pictures.pixels[chunk.start : chunk.stop], chunk.stop
        return

    def decode(index: int) -> NDArray[np.uint8] | None:
        try:
            return pictures.square(index, preprocessing)
        except ImageError:
            return None

    with in_order(decode, range(len(pictures)), count_cores(), most_ahead=num_at_once) as decoded:
        for chunk in chunks:
            sound = [square for square in islice(decoded, len(chunk)) if square is not None]
            yield np.stack(sound) if sound else np.empty((0, *shape), np.uint8), chunk.stop
