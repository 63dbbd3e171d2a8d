"""The order of samples: a pure function of (seed, epoch, position).

Training reads one endless sequence: a permutation of all samples for each epoch, one after the other. Global batch k is its places
k B to (k + 1) B, so a batch may reach over the end of an epoch, every sample is seen once an epoch, and all that is needed to go on
after a restart is k.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from provenet.data.random import Purpose, draw


@lru_cache(maxsize=4)
def permutation(num_samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """The order of one epoch: each of 0 .. num_samples - 1 once.

    >>> permutation(5, seed=0, epoch=0).tolist(), permutation(5, seed=0, epoch=1).tolist()
    ([2, 0, 3, 4, 1], [3, 0, 2, 1, 4])
    """
    positions = np.arange(num_samples)
    words = draw(seed, Purpose.ORDER, np.full(num_samples, epoch), positions)
    keys = words[0] << np.uint64(32) | words[1]
    order = np.argsort(keys, kind="stable")
    order.setflags(write=False)
    return order


def epochs_and_positions(first: int, count: int, num_samples: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places first .. first + count - 1 of the endless sequence -> the epoch of each [count] and its position in it [count]."""
    places = np.arange(first, first + count)
    return places // num_samples, places % num_samples


def sample_order(first: int, count: int, num_samples: int, seed: int) -> NDArray[np.int64]:
    """The samples at places first .. first + count - 1 of the endless sequence, [count].

    >>> sample_order(3, 4, num_samples=5, seed=0).tolist()  # the end of epoch 0 and the start of epoch 1
    [4, 1, 3, 0]
    """
    epochs, positions = epochs_and_positions(first, count, num_samples)
    samples = np.empty(count, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        samples[here] = permutation(num_samples, seed, int(epoch))[positions[here]]
    return samples
