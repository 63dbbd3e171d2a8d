"""Pictures as a run reads them: divided always in the same way, and sound or not at all."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from provenet.data.distortion import Distortion
from provenet.data.folder import OnProblem
from provenet.data.index import ImageSet
from provenet.data.shard_index import CUT_OFF
from provenet.data.squares import Squares, fits_in_memory, open_squares, stream_squares
from provenet.errors import DataError, ImageError
from provenet.preprocessing import Preprocessing
from provenet.runs.watcher import Watcher
from provenet.runtime import count_cores

SPLIT_SEED = 0  # the held-out pictures are the same for every run on the same data, whatever its own seed


def refuse_or_note(*, skip_broken: bool, watcher: Watcher) -> OnProblem:
    """What a run does with a problem of its data: it ends, but for a shard that is cut off, whose whole pictures are used if asked."""

    def on_problem(problem: DataError) -> None:
        if problem.kind != CUT_OFF:
            raise problem
        if not skip_broken:
            raise DataError(f"{problem}; or go on with its whole pictures: --skip-broken", problem.kind) from problem
        watcher.note(f"skipped: {problem}")

    return on_problem


def open_sound_squares(
    images: ImageSet, preprocessing: Preprocessing, *, skip_broken: bool, training: Distortion | None, watcher: Watcher
) -> tuple[Squares, ImageSet]:
    """The squares of all pictures that can be decoded, and those pictures; `training` is what happens to them if they are trained on.

    Broken ones are an error that names the first, or, if asked, are left out, named and counted, where no class may lose all pictures
    that are trained on. Sets too large for memory are not looked through before they are trained on: then a broken picture is an error
    when it is met, or, if asked, gives its turn to the next.
    """
    fits, is_trained_on, num_threads = fits_in_memory(images.pictures, preprocessing), training is not None, count_cores()
    if not fits and (is_trained_on or not skip_broken):
        streamed = stream_squares(images.pictures, preprocessing, num_threads=num_threads, is_exact=not is_trained_on)
        streamed.may_replace = skip_broken
        return streamed, images
    squares, broken = open_squares(
        images.pictures,
        preprocessing,
        num_threads=num_threads,
        is_exact=not is_trained_on,
        progress=watcher.progress,
        largest_in_memory_bytes=None if training is None or training.crop == "window" else 0,
    )
    if not broken:
        return squares, images
    sound = leave_out_broken(images, broken, skip_broken=skip_broken, is_trained_on=is_trained_on, watcher=watcher)
    return squares.select(sound), images.select(sound)


def leave_out_broken(
    images: ImageSet, broken: Mapping[int, ImageError], *, skip_broken: bool, is_trained_on: bool, watcher: Watcher
) -> NDArray[np.int64]:
    """The numbers of the pictures that are not broken. Raises DataError unless broken ones are to be left out and no class loses all."""
    if not broken:
        return np.arange(len(images))
    first = next(iter(broken.values()))
    if not skip_broken:
        others = [images.pictures.where(index) for index in list(broken)[1:]]
        more = f" ({len(others)} more are broken: {', '.join(others[:5])}{' …' if len(others) > 5 else ''})" if others else ""
        raise DataError(f"{first}{more}; or go on without with --skip-broken")
    is_sound = np.ones(len(images), dtype=bool)
    is_sound[list(broken)] = False
    sound = np.flatnonzero(is_sound)
    kept = images.select(sound)
    lost = [name for name, count in kept.counts().items() if not count and images.counts()[name]]
    if lost and (is_trained_on or not len(sound)):
        raise DataError(f"{images.name}: expected a picture that can be decoded in class {lost[0]!r}, found none; first: {first}")
    for error in broken.values():
        watcher.note(f"skipped: {error}")
    watcher.note(f"{images.name}: skipped {len(broken)} broken of {len(images)} pictures")
    return sound
