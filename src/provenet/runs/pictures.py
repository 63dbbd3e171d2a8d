"""Pictures as a run reads them: divided always in the same way, and sound or not at all."""

import numpy as np

from provenet.data.index import ImageSet
from provenet.data.squares import Squares, open_squares
from provenet.errors import DataError
from provenet.preprocessing import Preprocessing
from provenet.runs.watcher import Watcher
from provenet.runtime import count_cores

SPLIT_SEED = 0  # the held-out pictures are the same for every run on the same data, whatever its own seed


def open_sound_squares(images: ImageSet, preprocessing: Preprocessing, *, skip_broken: bool, watcher: Watcher) -> tuple[Squares, ImageSet]:
    """The squares of all pictures that can be decoded, and those pictures.

    Broken ones are an error that names the first, or, if asked, are left out, named and counted.
    """
    squares, broken = open_squares(images.pictures, preprocessing, num_threads=count_cores(), progress=watcher.progress)
    if not broken:
        return squares, images
    first = next(iter(broken.values()))
    more = f" (and {len(broken) - 1} more like it)" if len(broken) > 1 else ""
    if not skip_broken:
        raise DataError(f"{first}{more}; or go on without with --skip-broken")
    sound = np.array([index for index in range(len(images)) if index not in broken], dtype=np.int64)
    lost = [name for name, count in images.select(sound).counts().items() if not count and images.counts()[name]]
    if lost or not len(sound):
        raise DataError(f"{images.name}: expected a picture that can be decoded in class {lost[0]!r}, found none; first: {first}")
    for error in broken.values():
        watcher.note(f"skipped: {error}")
    watcher.note(f"{images.name}: skipped {len(broken)} broken of {len(images)} pictures")
    kept = images.select(sound)
    return open_squares(kept.pictures, preprocessing, num_threads=count_cores(), progress=watcher.progress)[0], kept
