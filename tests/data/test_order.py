"""The order of samples and the random numbers behind it: pure functions, checked against the generator's published answers."""

import numpy as np
import pytest

from provenet.data.order import LARGEST_TABLE_SAMPLES, WINDOW_SAMPLES, Order, permutation, permute, windowed
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


@pytest.mark.parametrize("num_samples", [1, 2, 3, 5, 16, 17, 1_000, 9_999])
def test_an_order_without_a_table_has_every_sample_once(num_samples):
    orders = [permute(np.arange(num_samples), num_samples, seed=3, epoch=epoch) for epoch in range(2)]
    assert all(np.array_equal(np.sort(order), np.arange(num_samples)) for order in orders)
    if num_samples > 100:
        assert (orders[0] == orders[1]).mean() < 0.02
        assert (orders[0] == permute(np.arange(num_samples), num_samples, seed=4, epoch=0)).mean() < 0.02
        assert abs(np.corrcoef(np.arange(num_samples), orders[0])[0, 1]) < 0.1
        neighbours = np.abs(np.diff(orders[0]))  # far from each other, as those of any order are: a third of all in the mean
        assert abs(neighbours.mean() - num_samples / 3) < 0.05 * num_samples
        assert len(np.unique(np.diff(orders[0]))) > num_samples / 3  # and not in steps


def test_a_place_of_a_very_long_order_needs_no_other():
    order = Order(10**10, seed=1)
    places = order.places(9 * 10**9, 128)
    samples = order.samples(places)
    assert len(np.unique(samples)) == 128
    assert samples.min() >= 0
    assert samples.max() < 10**10
    assert np.array_equal(order.samples(places.select(slice(50, 60))), samples[50:60])
    assert LARGEST_TABLE_SAMPLES < 10**8


def test_shards_are_read_a_few_at_a_time():
    blocks = (5_000, 7, 0, 12_000, 1, *[8_000] * 12)
    num_samples = sum(blocks)
    orders = [windowed(blocks, 2, epoch, np.arange(num_samples)) for epoch in range(2)]
    assert all(np.array_equal(np.sort(order), np.arange(num_samples)) for order in orders)
    assert (orders[0] == orders[1]).mean() < 0.02
    shard_of = np.repeat(np.arange(len(blocks)), blocks)
    for start in range(0, num_samples, WINDOW_SAMPLES):
        used = np.unique(shard_of[orders[0][start : start + WINDOW_SAMPLES]])
        assert np.isin(used, [1, 4], invert=True).sum() <= 5  # of shards that are no crumbs
    assert np.array_equal(windowed(blocks, 2, 0, np.arange(20_000, 20_100)), orders[0][20_000:20_100])
    order = Order(num_samples, 2, blocks)
    assert np.array_equal(order.samples(order.places(num_samples - 5, 10)), [*orders[0][-5:], *orders[1][:5]])
