"""What evaluations are summed up in, each number with how far it would move with other pictures; and two networks on the same ones.

Letters: N pictures, K classes.

Defined for ties and gaps: of equal scores the class that comes first ranks first, so that the predicted one is the first of those with the
largest score, and the top one is the predicted one; classes without pictures are left out of balanced accuracy and F1, and pictures without
labels of all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from provenet.metrics import TOP
from provenet.outcomes import NUM_BINS, rank_before

RESAMPLES = 1_000
CONFIDENCE = 0.95
MOST_RESAMPLED = 2e8
"""Pictures in all resamples together; of more pictures fewer resamples are drawn, whose spread is then small."""
LEAST_RESAMPLES = 200


class Answers:
    """What a network answered to labelled pictures: logits [N, K], or logarithms of probabilities, and labels [N]; -1 is no label."""

    def __init__(self, logits: Tensor, labels: Tensor) -> None:
        known = labels >= 0
        self.num_classes = logits.shape[1]
        self.labels: NDArray[np.int64] = labels[known].numpy()
        chosen = logits[known].double()
        normaliser = chosen.logsumexp(1)
        own = chosen.gather(1, labels[known][:, None])[:, 0]
        self.predicted: NDArray[np.int64] = chosen.argmax(1).numpy()
        self.confidence: NDArray[np.float64] = (chosen.max(1).values - normaliser).exp().numpy()
        self.losses: NDArray[np.float64] = (normaliser - own).numpy()
        self.num_above: NDArray[np.int64] = rank_before(chosen, labels[known]).numpy()
        """Classes that rank before the true one, [N]."""

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def is_right(self) -> NDArray[np.bool_]:
        """Which were recognised, [N]."""
        return np.equal(self.predicted, self.labels)

    def top(self, k: int) -> float:
        """The fraction whose class is among the k likeliest."""
        return float((self.num_above < k).mean())


@dataclass(frozen=True)
class Measured:
    """A number, and between which it lies for other pictures of the same kind, with 95 % confidence (percentile bootstrap)."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """For JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


Measure = Callable[[Answers, NDArray[np.float64]], float]
"""Of answers and how often each picture counts [N]."""


def top1(answers: Answers, counts: NDArray[np.float64]) -> float:
    """The fraction recognised."""
    return float(counts @ answers.is_right / counts.sum())


def top5(answers: Answers, counts: NDArray[np.float64]) -> float:
    """The fraction whose class is among the five likeliest."""
    return float(counts @ (answers.num_above < TOP) / counts.sum())


def loss(answers: Answers, counts: NDArray[np.float64]) -> float:
    """The mean of -log p of the true class, in nats."""
    return float(counts @ answers.losses / counts.sum())


def balanced_accuracy(answers: Answers, counts: NDArray[np.float64]) -> float:
    """The mean of the classes' recalls."""
    there, right = _by_class(answers, answers.labels, counts), _by_class(answers, answers.labels, counts * answers.is_right)
    return float((right[there > 0] / there[there > 0]).mean())


def macro_f1(answers: Answers, counts: NDArray[np.float64]) -> float:
    """The mean of the classes' F1 = 2 TP / (2 TP + FP + FN)."""
    there, right = _by_class(answers, answers.labels, counts), _by_class(answers, answers.labels, counts * answers.is_right)
    taken = _by_class(answers, answers.predicted, counts)
    return float((2 * right[there > 0] / (there + taken)[there > 0]).mean())


def calibration_error(answers: Answers, counts: NDArray[np.float64]) -> float:
    """ECE in 15 bins of equal width; see `outcomes.calibration`."""
    numbers = np.clip(np.ceil(answers.confidence * NUM_BINS).astype(np.int64) - 1, 0, NUM_BINS - 1)
    gaps = np.bincount(numbers, weights=counts * (answers.is_right - answers.confidence), minlength=NUM_BINS)
    return float(np.abs(gaps).sum() / counts.sum())


MEASURES: dict[str, Measure] = {
    "top1": top1,
    "top5": top5,
    "balanced_accuracy": balanced_accuracy,
    "macro_f1": macro_f1,
    "loss": loss,
    "calibration_error": calibration_error,
}


def measure(answers: Answers, *, seed: int = 0) -> dict[str, Measured]:
    """All measures with their intervals: pictures are drawn again from those there are, as many, with replacement (Efron 1979)."""
    num_images = len(answers)
    generator = np.random.default_rng(seed)
    resamples = max(LEAST_RESAMPLES, min(RESAMPLES, int(MOST_RESAMPLED / num_images)))
    drawn: dict[str, list[float]] = {name: [] for name in MEASURES}
    for _ in range(resamples):
        counts = np.bincount(generator.integers(num_images, size=num_images), minlength=num_images).astype(np.float64)
        for name, of in MEASURES.items():
            drawn[name].append(of(answers, counts))
    once = np.ones(num_images)
    tails = (1 - CONFIDENCE) / 2
    found = {}
    for name, of in MEASURES.items():
        value, (low, high) = of(answers, once), np.quantile(drawn[name], (tails, 1 - tails)).tolist()
        if of is calibration_error:  # drawing again adds to it what chance adds, which the reflected limits take off
            low, high = max(0.0, 2 * value - high), max(0.0, 2 * value - low)
        found[name] = Measured(value, low, high)
    return found


@dataclass(frozen=True)
class McNemar:
    """Two networks on the same pictures: how often only one of them was right, and whether that may be chance."""

    only_first: int
    only_second: int
    p_value: float
    """How probable so uneven a division is where both are equally good; exact and two-sided."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self)


def mcnemar(first: NDArray[np.bool_], second: NDArray[np.bool_]) -> McNemar:
    """McNemar's exact test (1947) of which pictures [N] the one and the other got right.

    Pictures on which they agree say nothing; of the others each would win half, so the smaller part is binomial with p = 1/2.

    >>> mcnemar(np.array([True] * 10 + [False] * 2), np.array([False] * 10 + [True] * 2))
    McNemar(only_first=10, only_second=2, p_value=0.03857421875)
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    total, fewer = only_first + only_second, min(only_first, only_second)
    ways = term = 1  # of dividing them so unevenly, in whole numbers
    for i in range(fewer):
        term = term * (total - i) // (i + 1)
        ways += term
    return McNemar(only_first, only_second, min(1.0, 2 * ways / 2**total))


def _by_class(answers: Answers, classes: NDArray[np.int64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.bincount(classes, weights=counts, minlength=answers.num_classes).astype(np.float64)
