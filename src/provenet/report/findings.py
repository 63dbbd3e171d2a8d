"""What is worth saying of one evaluation: the numbers that page and model card share."""

from dataclasses import dataclass
from typing import Literal

from provenet.evaluation.temperature import LEAST, MOST
from provenet.metrics import Evaluation
from provenet.outcomes import Calibration, LookAlikes, Outcomes, calibration, confusions, look_alikes, measure_classes, wilson_interval

Verdict = Literal["over", "under", "mixed", "fair", "unclear"]
FAIR_ERROR = 0.02
"""A calibration error that nobody would notice."""
SMALL_GAIN = 0.01
"""In the calibration error: what is less is not worth a temperature."""


@dataclass(frozen=True)
class Pair:
    """So many pictures of class `true` were taken for `predicted`."""

    true: str
    predicted: str
    images: int
    of: int
    """All pictures of class `true`."""


@dataclass(frozen=True)
class ClassRow:
    """A line of the per-class table."""

    number: int
    name: str
    images: int
    precision: float | None
    recall: float | None
    f1: float | None
    mistaken_for: Pair | None
    """Its most frequent confusion."""


@dataclass(frozen=True)
class Calibrated:
    """The network when its logits are divided by a temperature; each half of the pictures by what was fitted to the other."""

    calibration: Calibration
    temperatures: tuple[float, float]
    """The lesser and the greater; both halves would say the same of enough pictures."""


@dataclass(frozen=True)
class Findings:
    """One evaluation in numbers. Without the outcomes of each picture some of them are missing."""

    images: int
    correct: int
    top1: float
    interval: tuple[float, float]
    """Of 95 % confidence (Wilson)."""
    top5: float
    loss: float
    commonest: str
    """The class with the most pictures."""
    commonest_fraction: float
    """What always answering that class would achieve."""
    classes: list[ClassRow]
    pairs: list[Pair]
    cells: list[tuple[int, int, int]]
    """The confusion matrix without its zeros: true class, predicted class, pictures."""
    calibration: Calibration | None
    calibrated: Calibrated | None
    """None where there are too few pictures to fit a temperature to."""
    look_alikes: list[LookAlikes]
    """The pairs that are mixed up most, both directions together."""

    @property
    def is_better_than_guessing(self) -> bool:
        """Whether it beats always answering the commonest class, beyond chance."""
        return self.interval[0] > self.commonest_fraction

    @property
    def weakest(self) -> list[ClassRow]:
        """The classes with pictures, the hardest first."""
        return sorted((row for row in self.classes if row.f1 is not None), key=lambda row: (row.f1 or 0.0, row.number))

    @property
    def helps_to_calibrate(self) -> bool:
        """Whether a temperature makes the calibration error smaller by something, on pictures that it was not fitted to."""
        if self.calibration is None or self.calibrated is None:
            return False
        return self.calibration.error - self.calibrated.calibration.error >= SMALL_GAIN

    @property
    def verdict(self) -> Verdict | None:
        """Whether the network claims too much or too little; `unclear` where the number of pictures explains it as well."""
        if self.calibration is None:
            return None
        measured, excess = self.calibration, self.calibration.confidence - self.calibration.accuracy
        is_beyond_chance = not self.interval[0] <= measured.confidence <= self.interval[1]
        if is_beyond_chance and abs(excess) > max(FAIR_ERROR / 2, measured.error / 2):  # most of the error goes one way
            return "over" if excess > 0 else "under"
        if measured.error <= 2 * FAIR_ERROR:
            return "fair"
        return "mixed" if measured.error > self.interval[1] - self.interval[0] else "unclear"


def find(evaluation: Evaluation) -> Findings:
    """The findings of one evaluation."""
    scores, outcomes = evaluation.classes, evaluation.outcomes
    correct = sum(score.correct for score in scores)
    commonest = max(scores, key=lambda score: score.images)
    rows = [ClassRow(k, score.name, score.images, None, score.top1, None, None) for k, score in enumerate(scores)]
    pairs: list[Pair] = []
    cells: list[tuple[int, int, int]] = []
    if outcomes is not None:
        mistakes = confusions(outcomes, len(scores))
        pairs = [Pair(scores[true].name, scores[taken].name, images, scores[true].images) for true, taken, images in mistakes]
        first: dict[int, Pair] = {}
        for mistake, pair in zip(mistakes, pairs, strict=True):
            first.setdefault(mistake.true, pair)
        rows = [
            ClassRow(k, scores[k].name, found.images, found.precision, found.recall, found.f1, first.get(k))
            for k, found in enumerate(measure_classes(outcomes, len(scores)))
        ]
        cells = sorted([*mistakes, *((k, k, score.correct) for k, score in enumerate(scores) if score.correct)])
    return Findings(
        images=evaluation.images,
        correct=correct,
        top1=evaluation.top1,
        interval=wilson_interval(correct, evaluation.images),
        top5=evaluation.top5,
        loss=evaluation.loss,
        commonest=commonest.name,
        commonest_fraction=commonest.images / evaluation.images,
        classes=rows,
        pairs=pairs,
        cells=cells,
        calibration=calibration(outcomes) if outcomes is not None else None,
        calibrated=_when_calibrated(outcomes) if outcomes is not None else None,
        look_alikes=look_alikes(outcomes, len(scores)) if outcomes is not None else [],
    )


def _when_calibrated(outcomes: Outcomes) -> Calibrated | None:
    """None too where no temperature is best, since every picture of a half is right, or nothing was learnt."""
    calibrated = outcomes.when_calibrated
    if calibrated is None or outcomes.temperature is None:
        return None
    least, most = float(outcomes.temperature.min()), float(outcomes.temperature.max())
    return Calibrated(calibration(calibrated), (least, most)) if least > 1.01 * LEAST and most < 0.99 * MOST else None


def share(correct: int, images: int) -> tuple[int, int]:
    """A fraction as people say it: so many of ten, of a hundred or of a thousand; all or none only where it is so.

    >>> share(8831, 10_000), share(985, 1_000), share(9_999, 10_000), share(50, 50), share(3, 1_000)
    ((9, 10), (98, 100), (999, 1000), (10, 10), (3, 1000))
    """
    if correct in (0, images):
        return (10 if correct else 0), 10
    for of in (10, 100):
        said = round(correct / images * of)
        if 0 < said < of and abs(said / of - correct / images) <= min(correct, images - correct) / images / 2:
            return said, of
    return min(999, max(1, round(correct / images * 1000))), 1000
