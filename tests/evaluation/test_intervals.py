"""Measures by hand, what ties and gaps mean, intervals that contain the truth as often as they say, and McNemar's test."""

import math

import numpy as np
import pytest
import torch

from provenet.evaluation.measures import Answers, mcnemar, measure
from provenet.evaluation.temperature import cross_fitted, fit_temperature
from provenet.metrics import Totals


def answers(rows, labels):
    return Answers(torch.tensor(rows, dtype=torch.float64).log(), torch.tensor(labels))


def test_measures_by_hand():
    """Two of three cats and one of one dog are found; a dog is predicted twice; there is no fish; one picture has no label."""
    found = answers(
        [[0.9, 0.1, 0.0], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [1.0, 0.0, 0.0]],
        [0, 0, 0, 1, -1],
    )
    measured = {name: number.value for name, number in measure(found).items()}
    assert len(found) == 4
    assert measured["top1"] == 0.75
    assert measured["balanced_accuracy"] == pytest.approx((2 / 3 + 1) / 2)
    assert measured["macro_f1"] == pytest.approx((2 * 2 / (3 + 2) + 2 * 1 / (1 + 2)) / 2)
    assert measured["loss"] == pytest.approx(-(math.log(0.9) + math.log(0.6) + math.log(0.2) + math.log(0.8)) / 4)
    assert measured["calibration_error"] == pytest.approx((0.1 + 0.4 + 0.7 + 0.2) / 4)
    assert measured["top5"] == 1
    assert (found.top(1), found.top(2)) == (0.75, 1.0)


def test_ties_are_as_they_are_said_to_be():
    """Of equal scores the first is predicted and ranks first: the top one is what is predicted, whatever is tied."""
    tied = answers([[0.4, 0.4, 0.2], [0.4, 0.4, 0.2], [0.2, 0.4, 0.4]], [0, 1, 2])
    assert tied.is_right.tolist() == [True, False, False]
    assert (tied.top(1), tied.top(2)) == (1 / 3, 1.0)
    alike = answers([[0.1] * 10] * 10, list(range(10)))  # a network that says the same of everything
    assert [alike.top(k) for k in (1, 5, 10)] == [0.1, 0.5, 1.0]
    totals = Totals(10)
    totals.add(torch.zeros(10, 10), torch.arange(10))
    found = totals.result([str(k) for k in range(10)])
    assert (found.top1, found.top5) == (0.1, 0.5)


def test_they_are_what_training_counts():
    generator = torch.Generator().manual_seed(1)
    logits, labels = torch.randn(500, 12, generator=generator), torch.randint(12, (500,), generator=generator)
    totals = Totals(12)
    totals.add(logits, labels)
    expected = totals.result([str(k) for k in range(12)])
    found = measure(Answers(logits, labels))
    assert (found["top1"].value, found["top5"].value) == (expected.top1, expected.top5)
    assert found["loss"].value == pytest.approx(expected.loss)


def test_intervals_contain_the_truth_about_as_often_as_they_say():
    """Of 200 sets of 150 pictures, 95 % of the intervals should; a binomial of 200 lies above 88 % in all but one of ten thousand."""
    generator = torch.Generator().manual_seed(2)
    hits = 0
    for seed in range(200):
        right = torch.rand(150, generator=generator) < 0.8
        labels = torch.where(right, 0, 1)
        found = measure(Answers(torch.tensor([[1.0, 0.0]]).expand(150, 2), labels), seed=seed)["top1"]
        hits += found.low <= 0.8 <= found.high
    assert hits >= 176


def test_mcnemar_by_hand():
    """Three and none: 2 * (1/2)^3 = 1/4. Of 10,000 to 9,000, z = 1,000 / sqrt(19,000) = 7.25."""
    one, other = np.array([True, True, True, False, True]), np.array([False, False, False, False, True])
    assert vars(mcnemar(one, other)) == {"only_first": 3, "only_second": 0, "p_value": 0.25}
    assert mcnemar(one, one).p_value == 1
    many = np.arange(19_000) < 10_000
    assert mcnemar(many, ~many).p_value == pytest.approx(math.erfc((1_000 - 1) / math.sqrt(19_000) / math.sqrt(2)), rel=0.05)


def test_temperature_finds_what_was_put_in():
    """Labels drawn from softmax(z), shown as 3 z: the temperature is 3, and the other half's is as good."""
    generator = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(20_000, 10, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.03)
    before, after = (measure(Answers(each, labels))["calibration_error"].value for each in (3 * logits, cross_fitted(3 * logits, labels)))
    assert before > 0.1
    assert after < 0.02
    assert torch.equal(cross_fitted(3 * logits, labels).argmax(1), logits.argmax(1))


def test_temperature_where_all_are_right_or_there_is_one_picture():
    logits = torch.tensor([[2.0, 0.0], [3.0, 1.0]])
    assert fit_temperature(logits, torch.tensor([0, 0])) == pytest.approx(0.02)
    assert torch.equal(cross_fitted(logits[:1], torch.tensor([0])), logits[:1].double())
