"""Random numbers as a pure function of (seed, epoch, position): Philox 4x32-10, counter-based.

Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011. There is no state to save: a sample draws the same
numbers on any thread, in any process and after any restart, and on every version of NumPy, whose own streams may change.
"""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


class Purpose(IntEnum):
    """What the numbers are drawn for; two purposes never share numbers."""

    ORDER = 0
    DISTORTION = 1
    GEOMETRY = 2
    COLOUR = 3
    NOISE = 4
    ERASING = 5
    MIXING = 6
    BLOCKS = 7
    FEISTEL = 8
    CROP = 9


class Places(NamedTuple):
    """Where some samples stand in the endless sequence of training: all that decides their random numbers. Two arrays [N]."""

    seed: int
    epochs: NDArray[np.int64]
    positions: NDArray[np.int64]

    def select(self, samples: slice | NDArray[np.int64]) -> "Places":
        """Those of some of the samples."""
        return Places(self.seed, self.epochs[samples], self.positions[samples])


def philox(counter: tuple[NDArray[np.uint64], ...], key: tuple[int, int]) -> NDArray[np.uint64]:
    """Four 32-bit words for each counter: four arrays [N] and a key of two words -> [4, N].

    >>> [f"{int(word):08x}" for word in philox((np.zeros(1, np.uint64),) * 4, (0, 0))[:, 0]]  # the authors' known answer
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ np.uint64(k0), p1 & _LOW, (p0 >> _HALF) ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _KEY_STEPS[0]) & 0xFFFFFFFF, (k1 + _KEY_STEPS[1]) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


def draw(
    seed: int, purpose: Purpose, epochs: NDArray[np.int64], positions: NDArray[np.int64], block: int | NDArray[np.int64] = 0
) -> NDArray[np.uint64]:
    """Four random words of 32 bits for each (seed, epoch, position): two arrays [N] -> [4, N].

    Whoever needs more than four asks again with another `block`, 0 to 2^24 - 1, one for all or one for each.
    """
    where = positions.astype(np.uint64)
    fourth = np.full(len(where), int(purpose), np.uint64) | np.asarray(block).astype(np.uint64) << np.uint64(8)
    counter = where & _LOW, where >> _HALF, epochs.astype(np.uint64) & _LOW, fourth
    return philox(counter, (seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF))


def integers_below(limit: int | NDArray[np.int64], words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """32-bit words -> whole numbers 0 .. limit - 1, uniform to one part in 2^32 / limit; one limit for all or one for each."""
    return (words * np.asarray(limit).astype(np.uint64) >> _HALF).astype(np.int64)


def uniforms(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """32-bit words -> numbers above 0 and below 1, uniform, 2^-32 apart."""
    return (words.astype(np.float64) + 0.5) * 2.0**-32


def spread(words: NDArray[np.uint64], least: float, most: float) -> NDArray[np.float64]:
    """32-bit words -> numbers uniform between two."""
    return least + (most - least) * uniforms(words)


def normals(words: NDArray[np.uint64]) -> NDArray[np.float64]:
    """32-bit words -> normal numbers of mean 0 and deviation 1, at most 6.8: [4, N] -> [4, N].

    Box and Muller 1958, without the rejections of faster ways, so that every number has its own words.
    """
    radii = np.sqrt(-2 * np.log(uniforms(words[:2])))
    angles = 2 * np.pi * uniforms(words[2:])
    return np.concatenate([radii * np.cos(angles), radii * np.sin(angles)])
