"""Confusion, measures and calibration of a few pictures, by hand."""

import math

import pytest
import torch

from provenet.metrics import Totals
from provenet.outcomes import (
    Bin,
    Confusion,
    LookAlikes,
    Outcomes,
    calibration,
    confusion_matrix,
    confusions,
    look_alikes,
    measure_classes,
    surest_mistakes,
    wilson_interval,
    worst_mistakes,
)

#                        right  right  wrong  right  wrong  wrong
LABELS = torch.tensor([0, 0, 0, 1, 1, 3])
PREDICTED = torch.tensor([0, 0, 1, 1, 2, 1])
CONFIDENCE = torch.tensor([0.9, 0.8, 0.6, 0.5, 0.95, 0.6])
OWN = torch.tensor([0.9, 0.8, 0.3, 0.5, 0.02, 0.02])
OUTCOMES = Outcomes(LABELS, PREDICTED, CONFIDENCE, OWN)


def test_confusion():
    assert confusion_matrix(OUTCOMES, 4).tolist() == [[2, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    assert confusions(OUTCOMES, 4) == [Confusion(0, 1, 1), Confusion(1, 2, 1), Confusion(3, 1, 1)]
    twice = Outcomes(LABELS.repeat(2)[:9], PREDICTED.repeat(2)[:9], CONFIDENCE.repeat(2)[:9], OWN.repeat(2)[:9])
    assert confusions(twice, 4)[0] == Confusion(0, 1, 2)
    matrix = confusion_matrix(twice, 4)
    assert all(matrix[pair.true, pair.predicted] == pair.images for pair in confusions(twice, 4))
    assert int(matrix.sum() - matrix.trace()) == sum(pair.images for pair in confusions(twice, 4)) == 4


def test_measures_and_what_is_not_defined():
    measures = measure_classes(OUTCOMES, 4)
    assert [(m.images, m.predicted, m.correct) for m in measures] == [(3, 2, 2), (2, 3, 1), (0, 1, 0), (1, 0, 0)]
    assert [m.precision for m in measures] == [1.0, 1 / 3, 0.0, None]
    assert [m.recall for m in measures] == [2 / 3, 1 / 2, None, 0.0]
    assert [m.f1 for m in measures] == [pytest.approx(0.8), pytest.approx(0.4), None, 0.0]
    assert measures[0].f1 == pytest.approx(2 / (1 / measures[0].precision + 1 / measures[0].recall))


def test_calibration():
    """Five bins: 0.5 | 0.6 0.6 0.8 (0.6 belongs to (0.4, 0.6]) ..."""
    half, three_quarters = torch.full((4,), 0.5), torch.full((4,), 0.75)
    labels = torch.zeros(8, dtype=torch.int64)
    predicted = torch.tensor([0, 0, 0, 1, 0, 1, 1, 1])  # three of four right at 0.5, one of four at 0.75
    confidence = torch.cat([half, three_quarters])
    found = calibration(Outcomes(labels, predicted, confidence, confidence), num_bins=4)
    assert found.bins == [
        Bin(0.0, 0.25, 0, None, None),
        Bin(0.25, 0.5, 4, 0.5, 0.75),
        Bin(0.5, 0.75, 4, 0.75, 0.25),
        Bin(0.75, 1.0, 0, None, None),
    ]
    assert found.error == 4 / 8 * 0.25 + 4 / 8 * 0.5
    assert (found.confidence, found.accuracy) == (0.625, 0.5)


def test_the_ends_of_the_bins():
    ends = torch.tensor([0.0, 1.0])
    found = calibration(Outcomes(torch.zeros(2).long(), torch.zeros(2).long(), ends, ends))
    assert len(found.bins) == 15
    assert [found.bins[0].images, found.bins[-1].images] == [1, 1]


def test_the_worst_mistakes_are_by_own_probability_then_place():
    assert worst_mistakes(OUTCOMES, 24) == [4, 5, 2]
    assert worst_mistakes(OUTCOMES, 1) == [4]
    right = Outcomes(LABELS, LABELS, CONFIDENCE, OWN)
    assert worst_mistakes(right, 24) == []


def test_the_surest_mistakes_are_by_confidence_then_place():
    assert surest_mistakes(OUTCOMES, 24) == [4, 2, 5]  # 0.95, and 0.6 twice; the worst ones come as 4, 5, 2
    assert surest_mistakes(OUTCOMES, 1) == [4]
    assert surest_mistakes(Outcomes(LABELS, LABELS, CONFIDENCE, OWN), 24) == []


def taken(*rows):
    """Outcomes of (true class, class it was taken for, how many pictures)."""
    labels = torch.tensor([true for true, _, count in rows for _ in range(count)])
    predicted = torch.tensor([taken for _, taken, count in rows for _ in range(count)])
    nothing = torch.zeros(len(labels))
    return Outcomes(labels, predicted, nothing, nothing)


def test_look_alikes_count_both_directions():
    """Of 10 + 10 pictures of 0 and 1 five are mixed up, of 10 + 20 of 0 and 2 six: 5/20 is more than 6/30."""
    found = look_alikes(taken((0, 0, 3), (0, 1, 1), (0, 2, 6), (1, 1, 6), (1, 0, 4), (2, 2, 20)), 3)
    assert found == [LookAlikes(0, 1, 1, 4, 20), LookAlikes(0, 2, 6, 0, 30)]
    assert [pair.mixed_up / pair.images for pair in found] == [0.25, 0.2]
    assert found[0].at_least == wilson_interval(5, 20)[0] > wilson_interval(6, 30)[0] == found[1].at_least


def test_few_pictures_do_not_make_look_alikes():
    """Two of three is more than 40 of 100, but as far as is sure (0.21) less than that (0.31); one picture alone says nothing."""
    many, few = (0, 1, 40), (2, 3, 2)
    found = look_alikes(taken((0, 0, 30), many, (1, 1, 30), few, (3, 3, 1), (4, 5, 1), (5, 4, 0), (-1, -1, 0)), 6)
    assert [(pair.one, pair.other) for pair in found] == [(0, 1), (2, 3)]
    assert look_alikes(taken((0, 0, 5), (1, 1, 5)), 2) == []


def test_ties_of_look_alikes_are_by_class():
    pairs = look_alikes(taken((5, 2, 2), (2, 2, 2), (3, 0, 2), (0, 0, 2), (4, 1, 1), (1, 4, 1), (1, 1, 1), (4, 4, 1)), 6)
    assert [(pair.one, pair.other, pair.one_as_other, pair.other_as_one) for pair in pairs] == [(0, 3, 0, 2), (1, 4, 1, 1), (2, 5, 0, 2)]


def test_intervals_published():
    """Newcombe 1998, table I, method 3."""
    for correct, images, published in ((81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611))):
        assert wilson_interval(correct, images) == pytest.approx(published, abs=5e-5)
    assert wilson_interval(29, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)


def test_totals_keep_the_outcome_of_each_picture_in_order():
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 5.0]])
    totals = Totals(3)
    totals.add(logits[:2], torch.tensor([0, 0]))
    totals.add(logits[2:], torch.tensor([2]))
    result = totals.result(["a", "b", "c"])
    outcomes = result.outcomes
    assert outcomes.labels.tolist() == [0, 0, 2]
    assert outcomes.predicted.tolist() == [0, 1, 2]
    by_hand = [1 / (1 + math.exp(-1) + math.exp(-2)), math.e / (2 + math.e), 1 / (1 + 2 * math.exp(-5))]
    assert outcomes.confidence.tolist() == pytest.approx(by_hand, rel=1e-7)
    assert outcomes.own.tolist() == pytest.approx([by_hand[0], 1 / (2 + math.e), by_hand[2]], rel=1e-7)
    assert outcomes.confidence.dtype == outcomes.own.dtype == torch.float32
    assert int(outcomes.is_right.sum()) == sum(score.correct for score in result.classes)
    assert "outcomes" not in result.to_dict()


def test_no_number_is_no_class():
    totals = Totals(2)
    totals.add(torch.full((2, 2), float("nan")), torch.tensor([0, 1]))
    outcomes = totals.result(["a", "b"]).outcomes
    assert outcomes.predicted.tolist() == [-1, -1]
    assert outcomes.own.tolist() == [0, 0]
    assert confusion_matrix(outcomes, 2).sum() == 0
    assert [m.recall for m in measure_classes(outcomes, 2)] == [0, 0]
