"""Two pictures in one: labels are what is in the image, and a sample does not know its batch."""

from math import gamma

import numpy as np
import pytest
import torch

from provenet.data.distortion import Distortion
from provenet.data.mixing import beta_numbers, draw_mixture, mix
from provenet.data.random import Places

BOTH = Distortion(mixup=0.2, cutmix=1.0)


def places(count, seed=3):
    return Places(seed, np.zeros(count, np.int64), np.arange(count))


def batch(count=7, side=16):
    images = torch.arange(count).view(-1, 1, 1, 1).float().expand(count, 3, side, side).contiguous(memory_format=torch.channels_last)
    return images, torch.arange(count) % 5


def mixed(distortion, count=7, rows=slice(None), **options):
    images, labels = batch(count, **options)
    inputs = images[rows], labels[rows], images.roll(-1, 0)[rows], labels.roll(-1)[rows]
    return mix(*inputs, distortion, places(count).select(rows), 5)


@pytest.mark.parametrize("distortion", [Distortion(mixup=0.4), Distortion(cutmix=1.0), BOTH], ids=["mixup", "cutmix", "both"])
@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_sample_does_not_know_its_batch(distortion, num_threads):
    before = torch.get_num_threads()
    torch.set_num_threads(num_threads)
    try:
        images, probabilities = mixed(distortion)
        assert images.is_contiguous(memory_format=torch.channels_last)
        for rows in [*(slice(row, row + 1) for row in range(7)), slice(0, 3), slice(3, 6), slice(2, 7)]:
            for one, other in zip(mixed(distortion, rows=rows), (images, probabilities), strict=True):
                assert torch.equal(one, other[rows])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("distortion", [Distortion(mixup=0.4), Distortion(cutmix=1.0), BOTH], ids=["mixup", "cutmix", "both"])
def test_probabilities_are_what_is_in_the_image(distortion):
    """Picture n is n everywhere, so its mean tells how much of the partner, n + 1, is in it."""
    images, probabilities = mixed(distortion, count=200, side=20)
    assert probabilities.dtype == torch.float32
    torch.testing.assert_close(probabilities.sum(1), torch.ones(200), atol=1e-6, rtol=0)
    _, labels = batch(200)
    own = probabilities.gather(1, labels[:, None])[:199, 0].double()
    partner = images.double().mean((1, 2, 3))[:199] - torch.arange(199)
    torch.testing.assert_close(1 - own, partner, atol=1e-4, rtol=0)
    assert ((probabilities > 0).sum(1) <= 2).all()


def test_mixup_blends_and_cutmix_puts_in_a_box():
    blended, _ = mixed(Distortion(mixup=1.0))
    assert all(image.unique().numel() == 1 for image in blended)
    cut, probabilities = mixed(Distortion(cutmix=1.0), count=50, side=20)
    for number in range(49):
        box = (cut[number, 0] == number + 1).nonzero()
        if len(box):
            height, width = (box.max(0).values - box.min(0).values + 1).tolist()
            assert height * width == len(box)
            assert probabilities[number, (number + 1) % 5].item() == pytest.approx(len(box) / 400)
        assert set(cut[number].unique().tolist()) <= {number, number + 1}


def test_with_both_a_coin_decides():
    mixture = draw_mixture(BOTH, places(10_000), 32)
    is_cut = mixture.boxes.areas() > 0
    assert (mixture.weights[is_cut] == 1).all()
    assert is_cut.mean() == pytest.approx(0.5, abs=0.02)  # a box of no pixels is as rare as 1 in 1,000
    assert 0.6 < (mixture.weights[~is_cut] < 1).mean() <= 1


def test_a_partner_of_the_same_class_changes_no_label():
    images, _ = batch(4)
    _, probabilities = mix(images, torch.ones(4, dtype=torch.int64), images, torch.ones(4, dtype=torch.int64), BOTH, places(4), 3)
    torch.testing.assert_close(probabilities, torch.tensor([[0.0, 1, 0]] * 4), atol=1e-6, rtol=0)


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 3.0, 100.0])
def test_weights_are_those_of_the_beta_distribution(alpha):
    numbers = beta_numbers(alpha, places(20_000))
    assert ((numbers >= 0) & (numbers <= 1)).all()
    # Moments of Beta(a, a), from B(a + n, a) / B(a, a).
    second, fourth = (alpha + 1) / (2 * (2 * alpha + 1)), np.prod([(alpha + k) / (2 * alpha + k) for k in range(4)])
    assert numbers.mean() == pytest.approx(0.5, abs=0.012)
    assert numbers.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.04)
    assert (numbers**2).mean() == pytest.approx(second, rel=0.02)
    assert (numbers**4).mean() == pytest.approx(fourth, rel=0.04)
    if alpha == 1:
        assert np.abs(np.sort(numbers) - np.linspace(0, 1, 20_000)).max() < 0.015  # uniform
    if alpha == 3:
        density = gamma(6) / gamma(3) ** 2 * 0.5**4  # x^2 (1 - x)^2 / B(3, 3) at the middle
        assert ((numbers > 0.45) & (numbers < 0.55)).mean() == pytest.approx(0.1 * density, rel=0.06)
