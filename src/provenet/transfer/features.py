"""What the frozen part of a network makes of pictures: computed once, kept on disk, and handed to a head in batches.

Letters: N pictures, B batch, F features, V views: the first is the picture as evaluation sees it, the others are distorted.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.distortion import Distortion
from provenet.data.index import ImageSet
from provenet.data.loader import Loader
from provenet.data.random import Places
from provenet.data.squares import stream_squares
from provenet.data.threads import in_order
from provenet.engines.engine import Engine, reference
from provenet.engines.ways import REFERENCE, Way
from provenet.errors import CacheError, ImageError, without_frames
from provenet.preprocessing import Preprocessing, window
from provenet.progress import Progress
from provenet.runtime import count_cores
from provenet.transfer.caches import make_room, stores_folder
from provenet.transfer.parts import FrozenPart
from provenet.transfer.store import FeatureStore, FeatureType, MappedRows, StoreKey, as_kept

BATCH_SIZE = 64
"""Pictures that the frozen part sees at once, always as many: the last batch is filled up, so that no row depends on the others."""
LARGEST_IN_MEMORY_BYTES = 2**30
PICTURES_AHEAD = 256
FILES_AT_A_TIME = 32
"""That a thread looks at: to hand over a file costs more than to read one."""


class JoinedRows:
    """Rows [N, *shape] of which some are elsewhere: `rows[numbers]`."""

    def __init__(self, there: NDArray[Any] | MappedRows, elsewhere: NDArray[Any], is_elsewhere: NDArray[np.bool_]) -> None:
        self._there, self._elsewhere, self._is_elsewhere = there, elsewhere, is_elsewhere
        self._places = np.where(is_elsewhere, np.cumsum(is_elsewhere), np.cumsum(~is_elsewhere)) - 1
        self.shape = (len(is_elsewhere), *elsewhere.shape[1:])

    def __getitem__(self, numbers: NDArray[np.int64]) -> NDArray[Any]:
        found = np.empty((len(numbers), *self.shape[1:]), self._elsewhere.dtype)
        is_elsewhere, places = self._is_elsewhere[numbers], self._places[numbers]
        found[is_elsewhere] = self._elsewhere[places[is_elsewhere]]
        found[~is_elsewhere] = self._there[places[~is_elsewhere]]
        return found


Rows = NDArray[Any] | MappedRows | JoinedRows
"""Rows [N, F] that can be asked for by numbers [B] -> [B, F]."""


@dataclass(frozen=True, kw_only=True)
class Views:
    """Distorted views beside each picture, drawn by its content: another seed, other views."""

    count: int = 0
    distortion: Distortion = field(default_factory=Distortion)
    seed: int = 0


@dataclass(frozen=True)
class Features:
    """The features of some pictures: those that could be decoded, and of each of them all views."""

    sound: NDArray[np.int64]
    """Their numbers in the set that was asked for."""
    broken: dict[int, ImageError]
    contents: NDArray[np.uint64]
    """A key for what is in each file [N]."""
    rows: tuple[Rows, ...]
    """Of each view, [N, F], float32 or float16: in memory, or mapped where they are many."""
    num_computed: int
    """Rows that were not there before."""
    way: Way
    """How they were computed, all of them."""
    float16_error: float | None = None
    """What float16 has changed of these, as a part of their length."""


@dataclass(frozen=True)
class Wanted:
    """Pictures whose features are wanted, and what is known of them before anything is decoded."""

    images: ImageSet
    contents: NDArray[np.uint64]
    """A key for what is in each file [N]."""
    broken: dict[int, ImageError]
    """Of each that cannot be read."""

    @classmethod
    def look_at(cls, images: ImageSet, progress: Progress | None = None) -> "Wanted":
        """Read every file once."""
        return cls(images, *content_keys(images, progress))


def compute_features(
    part: FrozenPart,
    images: ImageSet,
    preprocessing: Preprocessing,
    *,
    way: Way = REFERENCE,
    open_engine: Callable[[], Engine] | None = None,
    looked_at: Wanted | None = None,
    type: FeatureType = "float32",
    views: Views | None = None,
    device: torch.device | str = "cpu",
    keeps: bool = True,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> Features:
    """The features of pictures, taken from the disk as far as they are there, computed and kept where not.

    `open_engine` is asked for what runs the frozen part in this `way` if anything is to be computed. A cache that cannot be used, or has no
    room, costs a line and no work: the features stay in memory.
    """
    views, note = views or Views(), note or (lambda _: None)
    plain = key_of(part, preprocessing, way, type, device)
    keys = [plain]
    if views.count:
        described = {**views.distortion.to_dict(), "seed": views.seed}
        keys += [StoreKey(**{**vars(plain), "distortion": described})] * views.count
    wanted = looked_at or Wanted.look_at(images, progress)
    work = _Work(part, wanted, preprocessing, open_engine or (lambda: reference(part)), views, torch.device(device), progress)
    with ExitStack() as opened:
        lookups = [_rows_of_view(work, view, key, opened, keeps=keeps, note=note) for view, key in enumerate(keys)]
        sound = work.sound()
        rows = tuple(lookup(sound) for lookup in lookups)
    return Features(sound, dict(sorted(work.broken.items())), wanted.contents[sound], rows, work.num_computed, way, work.float16_error)


def key_of(
    part: FrozenPart, preprocessing: Preprocessing, way: Way = REFERENCE, type: FeatureType = "float32", device: torch.device | str = "cpu"
) -> StoreKey:
    """What features of undistorted pictures depend on."""
    facts = preprocessing.to_dict()
    if preprocessing.mean_image:
        facts["mean_image"] = preprocessing.mean_image.fingerprint()
    return StoreKey(
        network=part.network, cut=part.cut, shape=part.shape, weights=part.fingerprint, preprocessing=facts,
        engine=way.engine, precision=way.precision, device=torch.device(device).type, type=type,
    )  # fmt: skip


def kept_part(key: StoreKey, wanted: Sequence[Wanted]) -> float:
    """The part of the pictures whose features are kept under this key."""
    if not (stores_folder() / key.name).is_dir():
        return 0.0
    sound = [np.delete(some.contents, list(some.broken)) for some in wanted]
    try:
        with FeatureStore(stores_folder(), key, reads_only=True) as store:
            num_kept = sum(int(store.knows(contents).sum()) for contents in sound)
    except CacheError:
        return 0.0
    return num_kept / max(1, sum(map(len, sound)))


def content_keys(images: ImageSet, progress: Progress | None = None) -> tuple[NDArray[np.uint64], dict[int, ImageError]]:
    """A key for what is in each picture's file [N], and the error of each that cannot be read."""
    contents, broken = np.zeros(len(images), np.uint64), {}

    def look(numbers: range) -> list[int | ImageError]:
        found: list[int | ImageError] = []
        for number in numbers:
            try:
                found.append(images.pictures.content_key(number))
            except ImageError as error:
                found.append(without_frames(error))
        return found

    groups = [range(start, min(start + FILES_AT_A_TIME, len(images))) for start in range(0, len(images), FILES_AT_A_TIME)]
    with in_order(look, groups, count_cores(), most_ahead=PICTURES_AHEAD) as looked:
        for numbers, found in zip(groups, looked, strict=True):
            for number, key in zip(numbers, found, strict=True):
                if isinstance(key, int):
                    contents[number] = key
                else:
                    broken[number] = key
            if progress:
                progress("looking for kept features", numbers.stop, len(images))
    return contents, broken


class _Work:
    """The frozen part at work on pictures whose features are not there."""

    def __init__(
        self,
        part: FrozenPart,
        wanted: Wanted,
        preprocessing: Preprocessing,
        open_engine: Callable[[], Engine],
        views: Views,
        device: torch.device,
        progress: Progress | None,
    ) -> None:
        self.part = part
        self.images = wanted.images
        self.contents = wanted.contents
        self.broken = dict(wanted.broken)
        self.preprocessing = preprocessing
        self.open_engine = cache(open_engine)
        self.views = views
        self.device = device
        self.progress = progress
        self.num_computed = 0
        self._squares, self._square_errors = 0.0, 0.0

    def sound(self) -> NDArray[np.int64]:
        """The numbers of all that are not known to be broken."""
        return np.array([number for number in range(len(self.contents)) if number not in self.broken], np.int64)

    @property
    def float16_error(self) -> float | None:
        """See `Features`."""
        return (self._square_errors / self._squares) ** 0.5 if self._squares else None

    def compare(self, rows: NDArray[np.float32]) -> None:
        """Count what float16 changes of these rows."""
        self._squares += float(np.square(rows, dtype=np.float64).sum())
        self._square_errors += float(np.square(rows.astype(np.float16).astype(np.float64) - rows).sum())

    def compute(self, missing: NDArray[np.int64], view: int) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Numbers of pictures [B] and their features [B, F], batch by batch; those that cannot be decoded are `broken` from now on."""
        batches = self._plain(missing) if view == 0 else self._distorted(missing, view)
        what = "computing features" if view == 0 else f"computing features, view {view} of {self.views.count}"
        done, broken_before = 0, len(self.broken)
        self.part.eval()
        for numbers, images in batches:
            features = self.open_engine()(_filled_up(images))[: len(images)]
            yield numbers, features
            self.num_computed += len(numbers)
            done += len(numbers)
            if self.progress:
                self.progress(what, min(done + len(self.broken) - broken_before, len(missing)), len(missing))
        if self.progress:
            self.progress(what, len(missing), len(missing))

    def _plain(self, missing: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        pictures, preprocessing = self.images.pictures, self.preprocessing

        def decode(number: int) -> NDArray[np.uint8] | ImageError:
            try:
                square = pictures.square(number, preprocessing)
                self._check_unchanged(number)
            except ImageError as error:
                return without_frames(error)
            return square

        with in_order(decode, missing.tolist(), count_cores(), most_ahead=PICTURES_AHEAD) as decoded:
            coming = zip(missing.tolist(), decoded, strict=True)
            while some := list(islice(coming, BATCH_SIZE)):
                self.broken.update({number: square for number, square in some if isinstance(square, ImageError)})
                sound = [(number, square) for number, square in some if not isinstance(square, ImageError)]
                if sound:
                    squares = torch.from_numpy(np.stack([square for _, square in sound])).to(self.device)
                    yield np.array([number for number, _ in sound]), preprocessing.normalise(window(squares, preprocessing.size))

    def _distorted(self, missing: NDArray[np.int64], view: int) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        squares = stream_squares(self.images.pictures, self.preprocessing, num_threads=count_cores(), is_exact=False)
        loader = Loader(
            squares, self.images.labels, self.preprocessing, batch_size=BATCH_SIZE, device=self.device, seed=self.views.seed,
            distortion=self.views.distortion,
        )  # fmt: skip
        groups = [missing[start : start + BATCH_SIZE] for start in range(0, len(missing), BATCH_SIZE)]
        drawn_by = self.contents.view(np.int64) & (2**62 - 1)
        plan = ((Places(self.views.seed, np.full(len(group), view), drawn_by[group]), group) for group in groups)
        for group, batch in zip(groups, loader.distorted_batches(plan), strict=True):
            for number in group.tolist():
                try:
                    self._check_unchanged(number)
                except ImageError as error:
                    self.broken[number] = without_frames(error)
            is_sound = [number not in self.broken for number in group.tolist()]
            if any(is_sound):
                yield group[is_sound], batch.images[torch.tensor(is_sound)]

    def _check_unchanged(self, number: int) -> None:
        """Raise ImageError for a picture that is another one by now: its features would be kept as those of what was there before."""
        pictures = self.images.pictures
        if pictures.content_key(number) != self.contents[number]:
            raise ImageError(
                f"{pictures.where(number)}: expected the picture that was there before, found it changed meanwhile; start again"
            )


def _filled_up(images: Tensor) -> Tensor:
    """As many images as in every batch, the last one repeated."""
    return images if len(images) == BATCH_SIZE else torch.cat([images, images[-1:].expand(BATCH_SIZE - len(images), -1, -1, -1)])


Lookup = Callable[[NDArray[np.int64]], Rows]
"""Numbers of pictures [N] -> their rows [N, F]."""


def _rows_of_view(work: _Work, view: int, key: StoreKey, opened: ExitStack, *, keeps: bool, note: Callable[[str], None]) -> Lookup:
    """Compute what is missing of one view; -> where its rows are, for as long as what is `opened` here is open."""
    kept = _Kept(work.contents, view, key, opened, keeps=keeps, note=note)
    missing = kept.missing(work.sound())
    kept.make_room(len(missing))
    rounds = 0
    while len(missing):
        for numbers, features in work.compute(missing, view):
            rows = features.cpu().numpy()
            kept.add(work.contents[numbers], rows)
            if key.type == "float16":
                work.compare(rows)
        sound = work.sound()
        contents, left = work.contents[sound], work.contents[kept.missing(sound)]
        missing = sound[np.isin(contents, left)]  # all that are equal to one that could not be decoded: each is named
        rounds += 1
        kept.is_written &= rounds < 2  # else the disk forgets what it is given
    return kept.rows


class _Kept:
    """Rows of one view: those on the disk, and beside them, in memory, what cannot be kept there."""

    def __init__(
        self, contents: NDArray[np.uint64], view: int, key: StoreKey, opened: ExitStack, *, keeps: bool, note: Callable[[str], None]
    ) -> None:
        self._contents, self._view, self._key, self._note = contents, view, key, note
        self._store: FeatureStore | None = None
        self._in_memory: dict[int, NDArray[Any]] = {}
        self.is_written = keeps
        """Whether rows that come go to the disk."""
        if keeps:
            try:
                self._store = opened.enter_context(FeatureStore(stores_folder(), key))
            except CacheError as error:
                note(f"{error}; features are not kept")
                self.is_written = False

    def missing(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those whose rows are not there; of equal pictures the first."""
        contents = self._contents[numbers]
        if self._store is not None:
            places = self._store.missing(contents, self._view)
        else:
            places = np.sort(np.unique(contents, return_index=True)[1])
        return numbers[[place for place in places.tolist() if contents[place].item() not in self._in_memory]]

    def make_room(self, num_rows: int) -> None:
        """On the disk, for so many more."""
        if self._store is None or not num_rows:
            return
        try:
            self._store.check_writable()
            for gone in make_room(num_rows * self._key.row_bytes, self._store.path):
                self._note(f"made room for features: those of {gone.path.name}, not used for longest, are removed")
        except CacheError as error:
            self._note(f"{error}; those that are computed now are not kept")
            self.is_written = False

    def add(self, contents: NDArray[np.uint64], rows: NDArray[np.float32]) -> None:
        """Keep rows [B, F]: on the disk, or where that does not take them, in memory."""
        if self._store is not None and self.is_written:
            try:
                self._store.append(contents, rows, self._view)
                return
            except CacheError as error:
                self._note(f"{error}; what comes now is not kept")
                self.is_written = False
        self._in_memory |= zip(contents.tolist(), as_kept(rows, self._key), strict=True)

    def rows(self, numbers: NDArray[np.int64]) -> Rows:
        """Of some pictures [N, F]; mapped where they are many."""
        contents = self._contents[numbers]
        if self._store is None:
            return self._from_memory(contents)
        is_in_memory = np.array([content in self._in_memory for content in contents.tolist()], bool)
        on_disk = contents[~is_in_memory]
        is_large = len(on_disk) * self._key.row_bytes > LARGEST_IN_MEMORY_BYTES
        there = (self._store.mapped if is_large else self._store.rows)(on_disk, self._view)
        if not is_in_memory.any():
            return there
        joined = JoinedRows(there, self._from_memory(contents[is_in_memory]), is_in_memory)
        return joined if is_large else joined[np.arange(len(numbers))]

    def _from_memory(self, contents: NDArray[np.uint64]) -> NDArray[Any]:
        rows = [self._in_memory[content] for content in contents.tolist()]
        return np.stack(rows) if rows else np.empty((0, *self._key.shape), self._key.type)
