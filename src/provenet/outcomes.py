"""What became of each picture, and what follows from it: confusion, look-alikes, precision and recall, calibration, mistakes.

Letters: N pictures, K classes, M bins.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

NUM_BINS = 15  # as in Guo et al. 2017, table 1
LEAST_MIXED_UP = 2
"""Pictures of two classes that must have been taken for the other, for the two to be called look-alikes."""


@dataclass(frozen=True)
class Outcomes:
    """One row a picture, in the order of the pictures; all on the CPU."""

    labels: Tensor
    """The true class, int64 [N]."""
    predicted: Tensor
    """The class with the largest logit, int64 [N]; -1 where the network answered with no number."""
    confidence: Tensor
    """The probability of the predicted class, float32 [N]."""
    own: Tensor
    """The probability of the true class, float32 [N]."""
    calibrated: Tensor | None = None
    """The probability of the predicted class at a temperature that was fitted to other pictures, float32 [N]."""
    temperature: Tensor | None = None
    """That temperature, float32 [N]."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def is_right(self) -> Tensor:
        """Which were recognised, bool [N]."""
        return self.predicted == self.labels

    @property
    def when_calibrated(self) -> "Outcomes | None":
        """The same with the calibrated confidence; None where that is not known."""
        return None if self.calibrated is None else replace(self, confidence=self.calibrated)


def judge(logits: Tensor, labels: Tensor) -> Outcomes:
    """The outcomes of one batch: logits float64 [N, K] and labels [N].

    >>> judge(torch.tensor([[0.0, 0.0, -torch.inf], [0.0, 3.0, 0.0]]).double(), torch.tensor([1, 1])).own
    tensor([0.5000, 0.9094])
    """
    probabilities = logits.softmax(1)
    confidence, predicted = probabilities.max(1).values, logits.argmax(1)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    is_number = ~own.isnan()
    return Outcomes(labels, torch.where(is_number, predicted, -1), confidence.where(is_number, 0).float(), own.where(is_number, 0).float())


def rank_before(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes rank before the true one, int64 [N], of logits [N, K] and labels [N]: of equal ones the first ranks first.

    >>> rank_before(torch.tensor([[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]]), torch.tensor([0, 2]))
    tensor([1, 2])
    """
    own = logits.gather(1, labels[:, None])
    comes_first = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    return ((logits > own) | ((logits == own) & comes_first)).sum(1)


def join(parts: list[Outcomes]) -> Outcomes:
    """Several batches as one."""
    columns = ("labels", "predicted", "confidence", "own")
    return Outcomes(*(torch.cat([getattr(part, column) for part in parts]) for column in columns))


def confusion_matrix(outcomes: Outcomes, num_classes: int) -> Tensor:
    """How many pictures of each class (row) were taken for each class (column): int64 [K, K].

    >>> nothing = torch.zeros(3)
    >>> confusion_matrix(Outcomes(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), nothing, nothing), 2)
    tensor([[1, 1],
            [0, 1]])
    """
    is_number = outcomes.predicted >= 0
    cells = outcomes.labels[is_number] * num_classes + outcomes.predicted[is_number]
    return torch.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


class Confusion(NamedTuple):
    """So many pictures of class `true` were taken for class `predicted`."""

    true: int
    predicted: int
    images: int


def confusions(outcomes: Outcomes, num_classes: int) -> list[Confusion]:
    """The mistakes by pair of classes, the most frequent first, then by class; without the [K, K] of `confusion_matrix`."""
    is_mistake = ~outcomes.is_right & (outcomes.predicted >= 0)
    cells, counts = torch.unique(outcomes.labels[is_mistake] * num_classes + outcomes.predicted[is_mistake], return_counts=True)
    pairs = [Confusion(cell // num_classes, cell % num_classes, count) for cell, count in zip(cells.tolist(), counts.tolist(), strict=True)]
    return sorted(pairs, key=lambda pair: (-pair.images, pair.true, pair.predicted))


class LookAlikes(NamedTuple):
    """Two classes of which pictures were taken for the other."""

    one: int
    other: int
    one_as_other: int
    """Pictures of `one` that were taken for `other`."""
    other_as_one: int
    images: int
    """All pictures of both."""

    @property
    def mixed_up(self) -> int:
        """In both directions."""
        return self.one_as_other + self.other_as_one

    @property
    def at_least(self) -> float:
        """The part that is mixed up, as far as these pictures are sure of it: the lower end of its 95 % interval."""
        return wilson_interval(self.mixed_up, self.images)[0]


def look_alikes(outcomes: Outcomes, num_classes: int) -> list[LookAlikes]:
    """The pairs of classes that are mixed up, both directions together, by (n_ab + n_ba) / (n_a + n_b): the largest first.

    What is compared is the lower end of that fraction's interval, so that one mistake among three pictures does not lead; ties by class.
    """
    counts = torch.bincount(outcomes.labels, minlength=num_classes).tolist()
    taken = {(found.true, found.predicted): found.images for found in confusions(outcomes, num_classes)}
    pairs = sorted({(min(cell), max(cell)) for cell in taken})
    found = [LookAlikes(a, b, taken.get((a, b), 0), taken.get((b, a), 0), counts[a] + counts[b]) for a, b in pairs]
    return sorted((pair for pair in found if pair.mixed_up >= LEAST_MIXED_UP), key=lambda pair: -pair.at_least)


@dataclass(frozen=True)
class ClassMeasures:
    """One class by itself; None where a measure is not defined."""

    images: int
    """Pictures of the class, TP + FN."""
    predicted: int
    """Pictures taken for it, TP + FP."""
    correct: int
    """TP."""

    @property
    def precision(self) -> float | None:
        """TP / (TP + FP): how often it is right when it says so. None where it never says so."""
        return self.correct / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """TP / (TP + FN): how many of its pictures are found. None where it has none."""
        return self.correct / self.images if self.images else None

    @property
    def f1(self) -> float | None:
        """2 TP / (2 TP + FP + FN), the harmonic mean of the two. None for a class without pictures.

        >>> ClassMeasures(images=4, predicted=2, correct=1).f1, ClassMeasures(images=0, predicted=2, correct=0).f1
        (0.3333333333333333, None)
        """
        return 2 * self.correct / (self.images + self.predicted) if self.images else None


def measure_classes(outcomes: Outcomes, num_classes: int) -> list[ClassMeasures]:
    """The measures of each of the K classes."""
    counts = (outcomes.labels, outcomes.predicted[outcomes.predicted >= 0], outcomes.labels[outcomes.is_right])
    return [ClassMeasures(*row) for row in zip(*(torch.bincount(column, minlength=num_classes).tolist() for column in counts), strict=True)]


@dataclass(frozen=True)
class Bin:
    """The pictures whose confidence lies above `above` and up to `up_to`."""

    above: float
    up_to: float
    images: int
    confidence: float | None
    """The mean of what the network claimed; None for an empty bin."""
    accuracy: float | None
    """How often it was right; None for an empty bin."""


@dataclass(frozen=True)
class Calibration:
    """Whether the network is right as often as it claims to be."""

    bins: list[Bin]
    error: float
    """The expected calibration error: the mean over bins of |accuracy - confidence|, weighted with their pictures."""
    confidence: float
    """The mean over all pictures."""
    accuracy: float


def calibration(outcomes: Outcomes, num_bins: int = NUM_BINS) -> Calibration:
    """M bins of equal width, ((m-1)/M, m/M], and ECE = sum over m of |B_m|/N |acc(B_m) - conf(B_m)| (Guo et al. 2017, equation 3).

    >>> half_sure = torch.full((4,), 0.5)
    >>> calibration(Outcomes(torch.tensor([0, 0, 0, 0]), torch.tensor([0, 0, 0, 1]), half_sure, half_sure)).error
    0.25
    """
    confidence, is_right = outcomes.confidence.double(), outcomes.is_right.double()
    numbers = ((confidence * num_bins).ceil().long() - 1).clamp(0, num_bins - 1)
    counts, claimed, right = (
        torch.bincount(numbers, weights=weights, minlength=num_bins).tolist()
        for weights in (torch.ones_like(confidence), confidence, is_right)
    )
    bins = [
        Bin(m / num_bins, (m + 1) / num_bins, int(count), claim / count if count else None, found / count if count else None)
        for m, (count, claim, found) in enumerate(zip(counts, claimed, right, strict=True))
    ]
    error = math.fsum(abs(found - claim) for claim, found in zip(claimed, right, strict=True)) / len(outcomes)
    return Calibration(bins, error, float(confidence.mean()), float(is_right.mean()))


def worst_mistakes(outcomes: Outcomes, count: int) -> list[int]:
    """The places of the wrong pictures to whose true class the network gave the lowest probability; ties by place."""
    wrong = (~outcomes.is_right).nonzero()[:, 0]
    order = outcomes.own[wrong].sort(stable=True).indices[:count]
    return wrong[order].tolist()  # type: ignore[no-any-return]


def surest_mistakes(outcomes: Outcomes, count: int) -> list[int]:
    """The places of the wrong pictures of whose wrong class the network was surest; ties by place."""
    wrong = (~outcomes.is_right).nonzero()[:, 0]
    order = outcomes.confidence[wrong].sort(stable=True, descending=True).indices[:count]
    return wrong[order].tolist()  # type: ignore[no-any-return]


def wilson_interval(correct: int, images: int, z: float = 1.959964) -> tuple[float, float]:
    """Where the true fraction lies with 95 % confidence when `correct` of `images` were right (Wilson 1927).

    (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n); unlike the usual p ± z sqrt(p(1-p)/n) it stays within 0 and 1.

    >>> tuple(round(limit, 4) for limit in wilson_interval(81, 263))
    (0.2553, 0.3662)
    """
    fraction = correct / images
    centre, reach = fraction + z**2 / (2 * images), z * math.sqrt(fraction * (1 - fraction) / images + z**2 / (4 * images**2))
    return max(0.0, (centre - reach) / (1 + z**2 / images)), min(1.0, (centre + reach) / (1 + z**2 / images))
