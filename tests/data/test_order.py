"""The order of samples and the random numbers behind it: pure functions, checked against the generator's published answers."""

import numpy as np
import pytest

from provenet.data.order import Order, permutation
from provenet.data.random import Purpose, draw, integers_below, philox

# Known answers of Random123, the authors' own library (kat_vectors, philox4x32 with 10 rounds).
KNOWN_ANSWERS = [
    ((0,) * 4, (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN_ANSWERS)
def test_philox_gives_the_published_answers(counter, key, answer):
    words = philox(tuple(np.array([word], np.uint64) for word in counter), key)
    assert " ".join(f"{int(word):08x}" for word in words[:, 0]) == answer


def test_numbers_depend_on_each_argument_and_nothing_else():
    places, epochs = np.arange(100), np.zeros(100, np.int64)
    words = draw(1, Purpose.ORDER, epochs, places)
    assert np.array_equal(words[:, 40:], draw(1, Purpose.ORDER, epochs[40:], places[40:]))
    for other in (
        draw(2, Purpose.ORDER, epochs, places),
        draw(2**40 + 1, Purpose.ORDER, epochs, places),
        draw(1, Purpose.DISTORTION, epochs, places),
        draw(1, Purpose.ORDER, epochs + 1, places),
        draw(1, Purpose.ORDER, epochs, places + 2**33),
    ):
        assert not (words == other).any()


def test_whole_numbers_are_uniform():
    words = draw(0, Purpose.ORDER, np.zeros(60_000, np.int64), np.arange(60_000))
    counts = np.bincount(integers_below(6, words[0]), minlength=6)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 20.5  # chi squared, 5 degrees of freedom, p = 0.001


def test_each_epoch_sees_every_sample_once_in_an_order_of_its_own():
    orders = [permutation(1_000, seed=0, epoch=epoch) for epoch in range(3)]
    assert all(np.array_equal(np.sort(order), np.arange(1_000)) for order in orders)
    assert (orders[0] == orders[1]).mean() < 0.02
    assert not np.array_equal(orders[0], permutation(1_000, seed=1, epoch=0))


@pytest.mark.parametrize("batch_size", [1, 7, 50, 64, 130])
def test_batches_are_cuts_of_one_endless_sequence(batch_size):
    endless = np.concatenate([permutation(50, seed=9, epoch=epoch) for epoch in range(8)])
    for k in range(len(endless) // batch_size):
        order = Order(50, seed=9)
        batch = order.samples(order.places(k * batch_size, batch_size))
        assert np.array_equal(batch, endless[k * batch_size : (k + 1) * batch_size])
