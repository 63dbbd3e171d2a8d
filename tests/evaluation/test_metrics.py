"""Totals by hand, and the same whatever the batches."""

import math

import torch

from provenet.metrics import Totals

CLASSES = [f"class {k}" for k in range(7)]


def test_by_hand():
    totals = Totals(3)
    totals.add(torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 5.0]]), torch.tensor([0, 0, 2]))
    result = totals.result(["a", "b", "c"])
    assert (result.images, result.top1, result.top5) == (3, 2 / 3, 1.0)
    by_hand = [
        math.log(1 + math.exp(-1) + math.exp(-2)),
        math.log(2 + math.e),
        math.log(1 + 2 * math.exp(-5)),
    ]
    assert math.isclose(result.loss, sum(by_hand) / 3, rel_tol=1e-12)
    assert [(score.name, score.images, score.correct, score.top1) for score in result.classes] == [
        ("a", 2, 1, 0.5),
        ("b", 0, 0, None),
        ("c", 1, 1, 1.0),
    ]


def test_top_five_and_ties():
    totals = Totals(7)
    totals.add(torch.tensor([[6.0, 5, 4, 3, 2, 1, 0]]).repeat(7, 1), torch.arange(7))
    result = totals.result(CLASSES)
    assert (result.top1, result.top5) == (1 / 7, 5 / 7)


def test_the_batches_do_not_matter():
    logits, labels = torch.randn(100, 7), torch.arange(100) % 7
    results = []
    for size in (1, 13, 100):
        totals = Totals(7)
        for start in range(0, 100, size):
            totals.add(logits[start : start + size], labels[start : start + size])
        results.append(totals.result(CLASSES))
    assert all(result.top1 == results[0].top1 and result.classes == results[0].classes for result in results)
    assert all(math.isclose(result.loss, results[0].loss, rel_tol=1e-12) for result in results)


def test_no_number_is_never_right():
    totals = Totals(7)
    totals.add(torch.full((2, 7), float("nan")), torch.tensor([0, 3]))
    assert (totals.result(CLASSES).top1, totals.result(CLASSES).top5) == (0, 0)
