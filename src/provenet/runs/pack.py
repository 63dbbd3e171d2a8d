"""Pictures of any source -> tar shards in WebDataset's convention, mixed, with their labels: fast to read, easy to move.

`OUT/train-000000.tar` … hold `00000000.jpg` and `00000000.cls` (the class number) and so on; `classes.txt` the names. `pack.json` says
of which data it is and how far it has come, so that a pack that was killed goes on at the shard it was at.
"""

import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from provenet.data.index import DataSet, ImageSet
from provenet.data.order import permutation
from provenet.data.packing import Packed, pack_picture
from provenet.data.shard_addresses import PACK_NAME
from provenet.data.sources import open_data
from provenet.data.tar_writing import END, member_bytes, write_member
from provenet.data.threads import in_order
from provenet.errors import DataError, ImageError, SettingsError, show_path, without_frames
from provenet.files import UNFINISHED, appearing, remove_unfinished, write_whole
from provenet.runs.folder import LOCK_NAME, refuse_inside
from provenet.runs.pictures import refuse_or_note
from provenet.runs.watcher import Silent, Watcher
from provenet.runtime import count_cores

CLASSES_NAME = "classes.txt"
PICTURES_A_THREAD = 2  # one that is decoded, one that waits to be written
VERSION = 1
_SHARD = re.compile(r"((?:train|val|test|all)-[0-9]{6,}\.tar)(?:\.offsets)?")
_COUNTS = ("next", "pictures", "skipped")


@dataclass
class Pack:
    """A folder of shards, as far as it has come."""

    source: str
    """A number for data and settings; another pack is not gone on with."""
    can_mirror: bool
    is_whole: bool = False
    shards: list[dict[str, Any]] = field(default_factory=list)
    """Of each that is whole: `name`, `split`, `next` (the place in its split's order where the next begins), `pictures`, `skipped`."""
    version: int = VERSION


@dataclass(frozen=True)
class PackResult:
    """What is in a folder of shards."""

    folder: Path
    shards: int
    pictures: int
    skipped: int
    bytes: int
    """Of all shards together."""

    def to_dict(self) -> dict[str, Any]:
        """The same for JSON."""
        return asdict(self) | {"folder": str(self.folder)}


def pack(
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    shard_megabytes: float = 512,
    longest_side: int | None = None,
    skip_broken: bool = False,
    watcher: Watcher | None = None,
) -> PackResult:
    """Write the pictures of `data` into tar shards in the new folder `output`, mixed, always in the same order.

    A shard is at most `shard_megabytes` (millions of bytes) long, if its pictures are. With `longest_side`, in pixels, longer pictures
    are reduced to it; all others are copied as they are. Raises DataError for a broken picture, unless `skip_broken`.
    """
    watcher = watcher or Silent()
    if not 0.001 <= shard_megabytes <= 1_000_000:
        raise SettingsError(f"--shard-megabytes: expected a number from 0.001 to 1,000,000, found {shard_megabytes:g}")
    if longest_side is not None and not 1 <= longest_side <= 65_500:
        raise SettingsError(f"--longest-side: expected 1 to 65,500 pixels, found {longest_side}")
    folder = Path(output)
    refuse_inside(folder, os.fspath(data))
    on_problem = refuse_or_note(skip_broken=skip_broken, watcher=watcher)
    data_set = _join_classes(open_data(data, watcher.progress, on_problem, allow_missing=skip_broken))
    options = f"{shard_megabytes:g} {longest_side}"
    fingerprints = [f"{split} {images.fingerprint()}" for split, images in data_set.splits.items()]
    begun = Pack(" | ".join([options, *fingerprints]), data_set.can_mirror)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_NAME, timeout=0, is_singleton=False)
        with lock:
            state = _take(folder, begun, skip_broken=skip_broken)
            for split, images in data_set.splits.items():
                _Packer(folder, state, split, images, int(shard_megabytes * 1e6), longest_side, skip_broken, watcher).write()
            if not any(shard["pictures"] for shard in state.shards):
                raise DataError(f"{data_set.name}: expected a picture that can be decoded, found none; give other data")
            classes = next(iter(data_set.splits.values())).classes
            write_whole(folder / CLASSES_NAME, "".join(f"{name}\n" for name in classes).encode())
            state.is_whole = True
            _save(folder, state)
            if os.name != "nt":  # which removes no file that is open
                (folder / LOCK_NAME).unlink(missing_ok=True)
    except Timeout as error:
        raise SettingsError(
            f"{show_path(folder)}: expected a folder for one pack, found another process at work in it; wait for it"
        ) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(
            f"{show_path(folder)}: expected to write shards there, found: {reason}; mend that and run the same command again, it goes on"
        ) from error
    pictures, skipped = (sum(shard[column] for shard in state.shards) for column in ("pictures", "skipped"))
    total = sum((folder / shard["name"]).stat().st_size for shard in state.shards)
    return PackResult(folder, len(state.shards), pictures, skipped, total)


def _join_classes(data: DataSet) -> DataSet:
    """The same with one list of classes for all splits: those of the first, then what the others add."""
    classes = tuple(dict.fromkeys(name for images in data.splits.values() for name in images.classes))
    order = ["train", "val", "test", "all"]
    splits = {split: data.splits[split].with_classes(classes) for split in order if split in data.splits}
    return DataSet(data.name, splits, can_mirror=data.can_mirror)


def _take(folder: Path, begun: Pack, *, skip_broken: bool) -> Pack:
    """The state to go on from: a new one in a new folder, or that of an unfinished pack of the same data."""
    there = {name for name in os.listdir(folder) if name != LOCK_NAME}
    if not there:
        _save(folder, begun)
        return begun
    found = _load(folder)
    if found is None or found.is_whole or found.source != begun.source:
        what = "one in use" if found is None else "a finished pack" if found.is_whole else "an unfinished pack of other data or settings"
        (folder / LOCK_NAME).unlink(missing_ok=True)
        raise SettingsError(f"{show_path(folder)}: expected a new or empty folder, found {what}; choose another, or remove it")
    unfinished = [match[1] for name in there if (match := UNFINISHED.fullmatch(name))]
    remove_unfinished(folder, tuple(name for name in unfinished if name in (PACK_NAME, CLASSES_NAME) or _SHARD.fullmatch(name)))
    sound = list(itertools.takewhile(lambda shard: (folder / shard["name"]).is_file(), found.shards))
    if not skip_broken:  # what was left out then must not be now
        sound = list(itertools.takewhile(lambda shard: not shard["skipped"], sound))
    found.shards = sound
    kept = {shard["name"] for shard in sound}
    for name in there:
        if (shard := _SHARD.fullmatch(name)) and shard[1] not in kept:
            (folder / name).unlink()
    return found


def _load(folder: Path) -> Pack | None:
    try:
        values = json.loads((folder / PACK_NAME).read_bytes())
        found = Pack(**values)
        is_sound = found.version == VERSION and all(
            isinstance(shard["name"], str) and "/" not in shard["name"] and all(type(shard[name]) is int for name in _COUNTS)
            for shard in found.shards
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if is_sound else None


def _save(folder: Path, state: Pack) -> None:
    write_whole(folder / PACK_NAME, json.dumps(asdict(state), indent=1).encode())


class _Item(NamedTuple):
    place: int
    """In the order of the split."""
    label: int
    packed: Packed | ImageError


class _Packer:
    """The shards of one split."""

    def __init__(
        self,
        folder: Path,
        state: Pack,
        split: str,
        images: ImageSet,
        largest_bytes: int,
        longest_side: int | None,
        skip_broken: bool,
        watcher: Watcher,
    ) -> None:
        self.folder = folder
        self.state = state
        self.split = split
        self.images = images
        self.largest_bytes = largest_bytes
        self.longest_side = longest_side
        self.skip_broken = skip_broken
        self.watcher = watcher

    def write(self) -> None:
        """Each shard appears when it is whole; then the state says so."""
        done = [shard for shard in self.state.shards if shard["split"] == self.split]
        first = done[-1]["next"] if done else 0
        items = self._items(first)
        item = next(items, None)
        for number in itertools.count(len(done)):
            if item is None:
                return
            name = f"{self.split}-{number:06d}.tar"
            num_pictures, num_skipped, num_bytes = 0, 0, len(END)
            with appearing(self.folder / name) as part, part.open("wb") as file:
                while item is not None:
                    if isinstance(item.packed, ImageError):
                        self.watcher.note(f"skipped: {item.packed}")
                        num_skipped += 1
                    else:
                        key, label = f"{item.place:08d}", str(item.label).encode()
                        added = member_bytes(len(item.packed.content)) + member_bytes(len(label))
                        if num_pictures and num_bytes + added > self.largest_bytes:
                            break
                        write_member(file, f"{key}.{item.packed.ending}", item.packed.content)
                        write_member(file, f"{key}.cls", label)
                        num_pictures += 1
                        num_bytes += added
                    item = next(items, None)
                file.write(END)
            place = len(self.images) if item is None else item.place
            self.state.shards.append({"name": name, "split": self.split, "next": place, "pictures": num_pictures, "skipped": num_skipped})
            _save(self.folder, self.state)

    def _items(self, first: int) -> Iterator[_Item]:
        """The pictures from place `first` of the order on, decoded by threads a few ahead, so that few files are in memory."""
        order = permutation(len(self.images), seed=0, epoch=0)

        def read(place: int) -> _Item:
            index = int(order[place])
            label = int(self.images.labels[index])
            try:
                return _Item(place, label, pack_picture(self.images.pictures, index, self.longest_side))
            except ImageError as error:
                return _Item(place, label, without_frames(error))

        num_threads = count_cores()
        with in_order(read, range(first, len(order)), num_threads, most_ahead=PICTURES_A_THREAD * num_threads) as items:
            for item in items:
                if isinstance(item.packed, ImageError) and not self.skip_broken:
                    raise DataError(f"{item.packed}; or go on without such pictures: the same command with --skip-broken")
                yield item
                self.watcher.progress(f"packing {self.split}", item.place + 1, len(order))
