"""One reading of a shard, a tar in WebDataset's convention: where each picture lies in it and what its label is.

Members that share their path up to the first dot of the base name, lying together, are one sample: `0001.jpg`, `0001.cls`. A picture is a
member with a picture's ending, a label one of `data.labels.LABEL_ENDINGS`; what else there is, is passed over. N pictures.
"""

import os
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from provenet.data.decode import EXTENSIONS
from provenet.data.labels import LABEL_ENDINGS, LARGEST_LABEL_BYTES, read_label
from provenet.data.tar_headers import Member, TarBytes, read_members
from provenet.errors import DataError, printable, show_path

LARGEST_NUM_CLASSES = 100_000
LARGEST_NUM_REMARKS = 100


@dataclass(frozen=True)
class Remark:
    """Something about some members of a shard: what is wrong, or why they are passed over; the first of them, and how many."""

    kind: str
    first: str
    count: int


@dataclass(frozen=True)
class ShardIndex:
    """What is known of one shard. Names are bytes one after the other, as `data.paths.Paths` has them."""

    tar_bytes: int
    tar_mtime_ns: int
    offsets: NDArray[np.int64]
    """[N], in bytes"""
    sizes: NDArray[np.int64]
    """[N], in bytes"""
    ends: NDArray[np.int64]
    """[N]: where each member's name ends in `text`"""
    labels: NDArray[np.int32]
    """[N], rows of `label_names`"""
    text: NDArray[np.uint8]
    label_names: tuple[str, ...]
    ignored: tuple[Remark, ...] = ()
    """By kind: `hidden`, `no file`, `no label's picture`, or the ending of what is neither picture nor label."""
    problems: tuple[Remark, ...] = ()
    """By kind; of a shard that is cut off, `first` is the whole message after the shard's name."""

    def __len__(self) -> int:
        return len(self.offsets)


HIDDEN, NO_FILE, LONELY_LABEL = "hidden", "no file", "a label without a picture"
NO_LABEL, BAD_LABEL, TWO_PICTURES, KEY_AGAIN, CUT_OFF = "no label", "bad label", "two pictures", "key again", "cut-off shard"


def index_shard(path: Path, name: str) -> ShardIndex:
    """Read one shard's headers and labels. Raises DataError where it is no plain tar at all, or changes meanwhile."""
    try:
        with path.open("rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            index = _Reader(TarBytes(file.fileno(), status.st_size), name, status.st_mtime_ns).read()
            after = os.fstat(file.fileno())
    except OSError as error:
        raise DataError(f"{name}: expected a readable tar, found: {error.strerror or error}; check the path and its permissions") from error
    if (after.st_size, after.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
        raise DataError(f"{name}: expected it to stay as it is while it is read, found it changed; try again when it is whole")
    return index


@dataclass
class _Sample:
    """The members of one key, as far as they have come."""

    key: bytes = b""
    picture: Member | None = None
    labels: dict[str, Member] = field(default_factory=dict)


class _Reader:
    def __init__(self, tar: TarBytes, name: str, mtime_ns: int) -> None:
        self.tar = tar
        self.name = name
        self.mtime_ns = mtime_ns
        self.offsets, self.sizes, self.ends, self.labels, self.text = array("q"), array("q"), array("q"), array("i"), bytearray()
        self.label_rows: dict[str, int] = {}
        self.ignored: Counter[str] = Counter()
        self.problems: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.key_numbers = array("q")

    def read(self) -> ShardIndex:
        sample = _Sample()
        try:
            for member in read_members(self.tar, self.name):
                sample = self._take(member, sample)
        except DataError as error:
            if error.kind != CUT_OFF:
                raise
            self._problem(CUT_OFF, str(error).removeprefix(f"{self.name}: "))
            if not sample.labels:  # its label may be in what is missing
                sample = _Sample()
        self._finish(sample)
        num_again = len(self.key_numbers) - len(np.unique(np.frombuffer(self.key_numbers, np.int64))) if self.key_numbers else 0
        if num_again:
            self.problems[KEY_AGAIN] = num_again
            self.first[KEY_AGAIN] = self._first_again()
        return ShardIndex(
            tar_bytes=self.tar.size_bytes,
            tar_mtime_ns=self.mtime_ns,
            offsets=np.array(self.offsets, np.int64),
            sizes=np.array(self.sizes, np.int64),
            ends=np.array(self.ends, np.int64),
            labels=np.array(self.labels, np.int32),
            text=np.frombuffer(bytes(self.text), np.uint8),
            label_names=tuple(self.label_rows),
            ignored=self._remarks(self.ignored),
            problems=self._remarks(self.problems),
        )

    def _take(self, member: Member, sample: _Sample) -> _Sample:
        """The sample that this member belongs to: the one before, or a new one."""
        if not member.is_file:
            if not member.name.endswith(b"/"):  # a folder says nothing
                self._pass_over(NO_FILE, member.name)
            return sample
        folder, slash, base = member.name.rpartition(b"/")
        stem, dot, ending_bytes = base.partition(b".")
        if not stem or base.startswith(b"._"):
            self._pass_over(HIDDEN, member.name)
            return sample
        key = folder + slash + stem
        if key != sample.key:
            self._finish(sample)
            sample = _Sample(key)
        ending = ending_bytes.decode("utf-8", "replace").lower()
        if dot and f".{ending}" in EXTENSIONS:
            if sample.picture:
                self._problem(TWO_PICTURES, member.name)
            else:
                sample.picture = member
        elif ending in LABEL_ENDINGS:
            sample.labels.setdefault(ending, member)
        else:
            self._pass_over(f".{printable(ending)[:32]}" if dot else "no ending", member.name)
        return sample

    def _finish(self, sample: _Sample) -> None:
        """A sample to which nothing more comes."""
        if sample.picture is None:
            if sample.labels:
                self._pass_over(LONELY_LABEL, next(iter(sample.labels.values())).name)
            return
        if not sample.labels:
            self._problem(NO_LABEL, sample.picture.name)
            return
        ending = next(ending for ending in LABEL_ENDINGS if ending in sample.labels)
        member = sample.labels[ending]
        label = None
        if member.size_bytes <= LARGEST_LABEL_BYTES[ending]:
            label = read_label(self.tar.read(member.offset, member.size_bytes), ending)
        if label is None:
            self._problem(BAD_LABEL, member.name)
            return
        if label not in self.label_rows and len(self.label_rows) >= LARGEST_NUM_CLASSES:
            raise DataError(
                f"{self.name}: expected at most {LARGEST_NUM_CLASSES:,} classes, found more; "
                f"its .{ending} members are captions, not classes"
            )
        self.offsets.append(sample.picture.offset)
        self.sizes.append(sample.picture.size_bytes)
        self.text += sample.picture.name
        self.ends.append(len(self.text))
        self.labels.append(self.label_rows.setdefault(label, len(self.label_rows)))
        self.key_numbers.append(hash(sample.key))

    def _first_again(self) -> str:
        numbers = np.frombuffer(self.key_numbers, np.int64)
        _, first_places = np.unique(numbers, return_index=True)
        place = int(np.setdiff1d(np.arange(len(numbers)), first_places)[0])
        return _shown(bytes(self.text[self.ends[place - 1] if place else 0 : self.ends[place]]))

    def _pass_over(self, kind: str, name: bytes) -> None:
        if kind not in self.ignored and len(self.ignored) >= LARGEST_NUM_REMARKS:
            kind = "other endings"
        self.ignored[kind] += 1
        self.first.setdefault(kind, _shown(name))

    def _problem(self, kind: str, name: bytes | str) -> None:
        self.problems[kind] += 1
        self.first.setdefault(kind, name if isinstance(name, str) else _shown(name))

    def _remarks(self, counts: Counter[str]) -> tuple[Remark, ...]:
        return tuple(Remark(kind, self.first[kind], count) for kind, count in counts.items())


def _shown(name: bytes) -> str:
    return printable(show_path(os.fsdecode(name[:4_096])))
