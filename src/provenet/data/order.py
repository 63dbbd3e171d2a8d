"""The order of samples: a pure function of (seed, epoch, position).

Training reads one endless sequence: a permutation of all samples for each epoch, one after the other. Global batch k is its places
k B to (k + 1) B, so a batch may reach over the end of an epoch, every sample is seen once an epoch, and all that is needed to go on
after a restart is k. Three permutations, by what the samples are in:

    up to 2^18 files  any order at all, made at the start of an epoch (8 bytes a sample)
    more              any order at all, computed place by place, so that it takes neither memory nor time to start
    shards            shards in any order, and samples in any order within a window of some shards, so that few shards are read at a time

Letters: N samples, M of them asked for.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import isqrt

import numpy as np
from numpy.typing import NDArray

from provenet.data.random import Places, Purpose, draw

LARGEST_TABLE_SAMPLES = 2**18
WINDOW_SAMPLES = 16_384
ROUNDS = 6  # of the Feistel network; four are the least that theory asks for
CHUNK_SAMPLES = 2**15  # drawn at a time, so that they stay in the processor's cache


@dataclass(frozen=True)
class Order:
    """The endless sequence of one set of samples. `blocks` are the samples of each shard [number of shards], where they are in shards."""

    num_samples: int
    seed: int
    blocks: tuple[int, ...] | None = None

    def places(self, first: int, count: int) -> Places:
        """Places first .. first + count - 1: the epoch and the position of each, [count]."""
        return self.places_at(np.arange(first, first + count))

    def places_at(self, numbers: NDArray[np.int64]) -> Places:
        """Some places of the sequence by their numbers, [M]."""
        epochs = numbers // self.num_samples
        return Places(self.seed, epochs, numbers - epochs * self.num_samples)

    def samples(self, places: Places) -> NDArray[np.int64]:
        """Which sample is there, [M]."""
        samples = np.empty(len(places.positions), np.int64)
        for epoch in np.unique(places.epochs):
            here = places.epochs == epoch
            samples[here] = self._of_epoch(int(epoch), places.positions[here])
        return samples

    def _of_epoch(self, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        if self.blocks is not None:
            return windowed(self.blocks, self.seed, epoch, positions)
        if self.num_samples > LARGEST_TABLE_SAMPLES:
            return permute(positions, self.num_samples, self.seed, epoch)
        return permutation(self.num_samples, self.seed, epoch)[positions]


@lru_cache(maxsize=3)
def permutation(num_samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of one epoch: each of 0 .. num_samples - 1 once.

    >>> permutation(5, seed=0, epoch=0).tolist(), permutation(5, seed=0, epoch=1).tolist()
    ([2, 0, 3, 4, 1], [3, 0, 2, 1, 4])
    """
    return _shuffle(num_samples, seed, epoch, Purpose.ORDER, 0)


def _shuffle(count: int, seed: int, epoch: int, purpose: Purpose, first: int) -> NDArray[np.int64]:
    """0 .. count - 1 sorted by a random number for each; the number's low bits are the place itself, so no two are equal."""
    low_bits = np.uint64(max(1, (count - 1).bit_length()))
    keys = np.empty(count, np.uint64)
    for start in range(0, count, CHUNK_SAMPLES):
        places = np.arange(start, min(start + CHUNK_SAMPLES, count))
        words = draw(seed, purpose, np.full(len(places), epoch), first + places)
        random = words[0] << np.uint64(32) | words[1]
        keys[start : start + len(places)] = random >> low_bits << low_bits | places.astype(np.uint64)
    keys.sort()
    order: NDArray[np.int64] = (keys & ((np.uint64(1) << low_bits) - np.uint64(1))).astype(np.int64)
    order.setflags(write=False)
    return order


def windowed(blocks: tuple[int, ...], seed: int, epoch: int, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The samples at some positions of an epoch whose samples are in blocks of those sizes, [M].

    Blocks come in any order, one after the other; then each window of WINDOW_SAMPLES of this sequence is put in any order.
    """
    block_order, starts, firsts = _place_blocks(blocks, seed, epoch)
    num_samples = sum(blocks)
    found = np.empty(len(positions), np.int64)
    windows = positions // WINDOW_SAMPLES
    for window in np.unique(windows):
        here = windows == window
        first = int(window) * WINDOW_SAMPLES
        inside = _window(min(WINDOW_SAMPLES, num_samples - first), seed, epoch, first)
        line = first + inside[positions[here] - first]
        nth = np.searchsorted(starts, line, side="right") - 1
        found[here] = firsts[block_order[nth]] + line - starts[nth]
    return found


@lru_cache(maxsize=4)
def _window(count: int, seed: int, epoch: int, first: int) -> NDArray[np.int64]:
    return _shuffle(count, seed, epoch, Purpose.ORDER, first)


@lru_cache(maxsize=4)
def _place_blocks(blocks: tuple[int, ...], seed: int, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Which block comes when; where each begins in that sequence; and the first sample of each, in the blocks' own order."""
    sizes = np.array(blocks, np.int64)
    order = _shuffle(len(blocks), seed, epoch, Purpose.BLOCKS, 0)
    return order, np.cumsum(sizes[order]) - sizes[order], np.cumsum(sizes) - sizes


def permute(positions: NDArray[np.int64], num_samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The samples at some positions of an epoch, computed one by one without a table, [M]: a permutation of 0 .. num_samples - 1.

    A Feistel network over the smallest square that holds all samples, walked again wherever it leads beyond the last one (Black and
    Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002).
    """
    side = isqrt(num_samples - 1) + 1
    found = positions.astype(np.int64)
    beyond = np.ones(len(found), bool)
    while beyond.any():
        found[beyond] = _feistel(found[beyond], side, seed, epoch)
        beyond = found >= num_samples
    return found


def _feistel(numbers: NDArray[np.int64], side: int, seed: int, epoch: int) -> NDArray[np.int64]:
    left, right = numbers // side, numbers % side
    epochs = np.full(len(numbers), epoch)
    for number in range(ROUNDS):
        words = draw(seed, Purpose.FEISTEL, epochs, right * ROUNDS + number)
        moved = ((words[0] << np.uint64(32) | words[1]) % np.uint64(side)).astype(np.int64)
        left, right = right, (left + moved) % side
    return left * side + right
