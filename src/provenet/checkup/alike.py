"""Pictures that are nearly the same: saved again with loss, resized, mirrored. Found without comparing each with each.

A sketch becomes a vector of unit length: the cosine transform of its brightness up to MOST_WAVES, without the mean, each wave weighted
by the root of its frequency, which evens out that photographs have more of the long ones. The likeness of two pictures is the product of
their vectors, or of one with the other mirrored, whichever is more; mirroring turns the sign of every second column of waves.

Candidates are pictures that share, in one of WORDS words, the first BAND_BITS bits: on which side of so many random planes a vector lies
(Charikar, "Similarity estimation techniques from rounding algorithms", 2002). Sorting puts them beside each other, and each is compared
with the next NEIGHBOURS only, so the work grows with the number of pictures whatever they show. Where more than MOST_CHECK_BITS of 64
further planes tell two vectors apart, they are not multiplied at all. Letters: N pictures, D waves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from provenet.checkup.examine import Look
from provenet.checkup.sketch import SIDE, open_sketches

SMALLEST_SIDE_PIXELS = 48
"""Smaller pictures are not compared: in few pixels many different things look alike (bench/near_duplicates.py measures it)."""
LEAST_DETAIL = 2.5
"""The deviation, in levels of 0 to 255, of a sketch without its three longest waves; below, a picture is too plain to tell from others."""
LEAST_LIKENESS = 0.965
SURE_LIKENESS = 0.985
LARGEST_CHANGE_OF_BRIGHTNESS = 8.0
LARGEST_CHANGE_OF_COLOUR = 12

MOST_WAVES = 11
WORDS = 24
WORD_BITS = 32
BAND_BITS = 20
NEIGHBOURS = 32
CHECK_BITS = 64
MOST_CHECK_BITS = 15  # at LEAST_LIKENESS the angle is 15.2 degrees: 5.4 of 64 planes differ, deviation 2.2
AT_ONCE = 16_384
SEED = 0

Vectors = NDArray[np.float32]
Places = NDArray[np.int64]


@dataclass(frozen=True)
class Pair:
    """Two pictures that are nearly the same, as far as their sketches tell."""

    one: Look
    other: Look
    likeness: float
    """From LEAST_LIKENESS to 1."""
    is_mirrored: bool

    @property
    def is_sure(self) -> bool:
        """Whether it is almost surely so, and not only probably."""
        return self.likeness >= SURE_LIKENESS

    @property
    def certainty(self) -> str:
        """The same in words."""
        return "almost surely" if self.is_sure else "probably"

    @property
    def splits(self) -> frozenset[str]:
        """The one or two splits they are in."""
        return frozenset((self.one.split, self.other.split))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "files": [{"path": look.path, "split": look.split, "class": look.label} for look in (self.one, self.other)],
            "likeness": round(self.likeness, 4),
            "certainty": self.certainty,
            "mirrored": self.is_mirrored,
        }


@dataclass(frozen=True)
class Alike:
    """What comparing the sketches told. Of each picture only the one most like it is kept, in each split, in its own class and others."""

    pairs: Sequence[Pair] = ()
    """Most alike first; pictures of equal pixels are not among them."""
    num_compared: int = 0
    num_small: int = 0
    num_plain: int = 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "compared": self.num_compared,
            "not_compared": {"small": self.num_small, "plain": self.num_plain},
            "least_likeness": LEAST_LIKENESS,
            "pairs": [pair.to_dict() for pair in self.pairs],
        }


class _Links(NamedTuple):
    """Pairs of places, each pair both ways."""

    ones: Places
    others: Places
    likeness: Vectors
    is_mirrored: NDArray[np.bool_]


def find_alike(looks: Sequence[Look]) -> Alike:
    """The pictures that are nearly the same as another. The same for the same looks, whatever the threads that took them."""
    chosen, num_small = _choose(looks)
    if not chosen:
        return Alike(num_small=num_small)
    vectors, brightness, colours, detail = _prepare([look.sketch or b"" for look in chosen])
    kept = np.flatnonzero(detail >= LEAST_DETAIL)
    chosen = [chosen[place] for place in kept]
    vectors, brightness, colours = vectors[kept], brightness[kept], colours[kept]
    relations = _relations(chosen)
    links = _Links(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.bool_))
    for ones, others, is_mirrored in _candidates(vectors):
        likeness = _compare(vectors, brightness, colours, ones, others, is_mirrored)
        found = np.flatnonzero(likeness >= LEAST_LIKENESS)
        links = _keep_best(links, _Links(ones[found], others[found], likeness[found], is_mirrored[found]), relations)
    return Alike(_as_pairs(chosen, links), len(chosen), num_small, len(detail) - len(kept))


def _choose(looks: Sequence[Look]) -> tuple[list[Look], int]:
    """Pictures that are large enough, one of those with equal pixels in a class of a split; and how many are too small."""
    seen: set[tuple[bytes, str, str]] = set()
    chosen = []
    num_small = 0
    for look in looks:
        if look.digest is None or look.sketch is None or look.width is None or look.height is None:
            continue
        if min(look.width, look.height) < SMALLEST_SIDE_PIXELS:
            num_small += 1
        elif (name := (look.digest, look.split, look.label)) not in seen:
            seen.add(name)
            chosen.append(look)
    return chosen, num_small


def _prepare(sketches: list[bytes]) -> tuple[Vectors, Vectors, NDArray[np.uint8], Vectors]:
    """Vectors [N, D], mean brightness [N], colours [N, 2, 4, 4] and detail [N] of N sketches."""
    levels, colours = open_sketches(sketches)
    waves, weights, _ = _waves()
    vectors = np.empty((len(levels), len(weights)), np.float32)
    brightness, detail = np.empty((2, len(levels)), np.float32)
    for start in range(0, len(levels), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        values = levels[part].astype(np.float32)
        brightness[part] = values.mean(1)
        values -= brightness[part, None]
        found = values @ waves  # [n, D]
        long = np.square(found[:, weights < np.sqrt(2)]).sum(1)
        detail[part] = np.sqrt(np.maximum(np.square(values).sum(1) - long, 0)) / SIDE
        found *= weights
        vectors[part] = found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-6)
    return vectors, brightness, colours, detail


@cache
def _waves() -> tuple[Vectors, Vectors, Vectors]:
    """The cosine transform's waves [256, D], the weight of each [D], and what mirroring does to it: 1 or -1 [D]."""
    number, place = np.arange(SIDE)[:, None], np.arange(SIDE)[None]
    lines = np.cos(np.pi * (2 * place + 1) * number / (2 * SIDE)) * np.sqrt(np.where(number == 0, 1, 2) / SIDE)  # [16, 16]
    rows, columns = np.divmod(np.arange(SIDE * SIDE), SIDE)
    frequency = np.hypot(rows, columns)
    used = np.flatnonzero((frequency > 0) & (frequency <= MOST_WAVES))
    waves = np.einsum("da,db->abd", lines[rows[used]], lines[columns[used]]).reshape(SIDE * SIDE, len(used))
    signs = np.where(columns[used] % 2 == 0, 1, -1)
    return waves.astype(np.float32), np.sqrt(frequency[used]).astype(np.float32), signs.astype(np.float32)


def _candidates(vectors: Vectors) -> Iterator[tuple[Places, Places, NDArray[np.bool_]]]:
    """Places of pictures that may be alike, and whether one of the two is mirrored; some come more than once."""
    num = len(vectors)
    if num < 2:
        return
    _, _, signs = _waves()
    centre = vectors.mean(0) * (signs > 0)  # of the pictures and their mirror images together
    random = np.random.default_rng(SEED)

    def words_of(num_bits: int, centre: Vectors) -> NDArray[np.uint64]:
        """Of the pictures and then of their mirror images: [2N]."""
        planes = random.integers(0, 2, (vectors.shape[1], num_bits)).astype(np.float32) * 2 - 1
        return np.concatenate([_words(vectors, centre, planes), _words(vectors, centre, planes * signs[:, None])])

    checks = words_of(CHECK_BITS, np.zeros_like(centre))
    for _ in range(WORDS):
        words = words_of(WORD_BITS, centre).astype(np.uint32)
        order = np.argsort(words, kind="stable")
        bands = words[order] >> np.uint32(WORD_BITS - BAND_BITS)
        for step in range(1, min(NEIGHBOURS, len(order) - 1) + 1):
            first = np.flatnonzero(bands[step:] == bands[:-step])
            if not len(first):
                break
            ones, others = order[first], order[first + step]
            kept = np.bitwise_count(checks[ones] ^ checks[others]) <= MOST_CHECK_BITS
            kept &= (ones < num) | (others < num)  # two mirror images are as alike as what they are of
            kept &= ones % num != others % num
            ones, others = ones[kept], others[kept]
            yield ones % num, others % num, (ones >= num) | (others >= num)


def _words(vectors: Vectors, centre: Vectors, planes: Vectors) -> NDArray[np.uint64]:
    """On which side of each plane a vector lies, a bit a plane: [N]. Planes turned as mirroring turns vectors tell it of mirror images."""
    num_bytes = planes.shape[1] // 8
    words = np.empty(len(vectors), np.uint64)
    middle = centre @ planes
    for start in range(0, len(vectors), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        packed = np.packbits(vectors[part] @ planes > middle, axis=1)
        words[part] = packed.view(f">u{num_bytes}")[:, 0]
    return words


def _compare(
    vectors: Vectors, brightness: Vectors, colours: NDArray[np.uint8], ones: Places, others: Places, is_mirrored: NDArray[np.bool_]
) -> Vectors:
    """The likeness of each pair of places; 0 where brightness or colour is another."""
    _, _, signs = _waves()
    likeness = np.zeros(len(ones), np.float32)
    for start in range(0, len(ones), AT_ONCE):
        part = slice(start, start + AT_ONCE)
        one, other, turned = ones[part], others[part], is_mirrored[part]
        values = vectors[one] * vectors[other]
        likeness[part] = np.where(turned, values @ signs, values.sum(1))
        close = np.flatnonzero(likeness[part] >= LEAST_LIKENESS)
        one, other, turned = one[close], other[close], turned[close]
        theirs = colours[other].astype(np.int16)
        theirs = np.where(turned[:, None, None, None], theirs[..., ::-1], theirs)
        changed = np.abs(colours[one] - theirs).max((1, 2, 3), initial=0) > LARGEST_CHANGE_OF_COLOUR
        changed |= np.abs(brightness[one] - brightness[other]) > LARGEST_CHANGE_OF_BRIGHTNESS
        likeness[start + close[changed]] = 0
    return likeness


def _relations(looks: Sequence[Look]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """A number for the split of each look, one for its class, and how many splits there are."""
    splits = {split: number for number, split in enumerate(dict.fromkeys(look.split for look in looks))}
    labels = {label: number for number, label in enumerate(dict.fromkeys(look.label for look in looks))}
    return (
        np.array([splits[look.split] for look in looks], dtype=np.int64),
        np.array([labels[look.label] for look in looks], dtype=np.int64),
        max(1, len(splits)),
    )


def _keep_best(kept: _Links, found: _Links, relations: tuple[NDArray[np.int64], NDArray[np.int64], int]) -> _Links:
    """Of each picture the most alike one in each split, in its own class and in others: a bounded number, whatever the pictures are."""
    if not len(found.ones):
        return kept
    splits, labels, num_splits = relations
    ones = np.concatenate([kept.ones, found.ones, found.others])
    others = np.concatenate([kept.others, found.others, found.ones])
    likeness = np.concatenate([kept.likeness, found.likeness, found.likeness])
    is_mirrored = np.concatenate([kept.is_mirrored, found.is_mirrored, found.is_mirrored])
    relation = (ones * num_splits + splits[others]) * 2 + (labels[ones] != labels[others])
    order = np.lexsort((others, is_mirrored, -likeness, relation))  # the best of each relation comes first
    best = order[np.unique(relation[order], return_index=True)[1]]
    return _Links(ones[best], others[best], likeness[best], is_mirrored[best])


def _as_pairs(looks: Sequence[Look], links: _Links) -> list[Pair]:
    """Each pair once, most alike first; without those of equal pixels, which are found by their digests."""
    pairs: dict[tuple[int, int], Pair] = {}
    for one, other, likeness, is_mirrored in zip(*(values.tolist() for values in links), strict=True):
        first, second = sorted((one, other))
        if looks[first].digest != looks[second].digest:
            pairs.setdefault((first, second), Pair(looks[first], looks[second], min(1.0, likeness), is_mirrored))
    return sorted(pairs.values(), key=lambda pair: -pair.likeness)
