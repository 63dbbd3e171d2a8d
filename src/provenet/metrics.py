"""What is counted: exact totals over batches, in whole numbers and float64, whatever the batch size."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from provenet.outcomes import Outcomes, join, judge, rank_before

TOP = 5


@dataclass(frozen=True)
class ClassScore:
    """How one class fared."""

    name: str
    images: int
    correct: int

    @property
    def top1(self) -> float | None:
        """The fraction recognised, or None for a class without images."""
        return self.correct / self.images if self.images else None


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation: fractions between 0 and 1, `loss` the mean cross-entropy in nats."""

    images: int
    top1: float
    top5: float
    loss: float
    classes: list[ClassScore] = field(repr=False)
    outcomes: Outcomes | None = field(default=None, repr=False, compare=False)
    """What became of each picture, in their order."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        classes = [{"name": score.name, "images": score.images, "correct": score.correct, "top1": score.top1} for score in self.classes]
        return {"images": self.images, "top1": self.top1, "top5": self.top5, "loss": self.loss, "classes": classes}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Evaluation":
        """The inverse. Raises KeyError, TypeError or ValueError for anything that is none."""
        try:
            classes = [ClassScore(str(score["name"]), int(score["images"]), int(score["correct"])) for score in values["classes"]]
            found = cls(int(values["images"]), float(values["top1"]), float(values["top5"]), float(values["loss"]), classes)
        except OverflowError as error:
            raise ValueError(str(error)) from error
        is_sound = (
            found.images > 0
            and all(0 <= score.correct <= score.images for score in classes)
            and found.images == sum(score.images for score in classes)
            and 0 <= found.top1 <= 1
            and 0 <= found.top5 <= 1
            and math.isfinite(found.loss)
        )
        if not is_sound:
            raise ValueError("its counts or fractions")
        return found


def count_correct(logits: Tensor, labels: Tensor) -> int:
    """How many of [N, K] have their largest logit at their label [N], or at the likeliest class of [N, K]."""
    return int((logits.argmax(1) == (labels.argmax(1) if labels.ndim == 2 else labels)).sum())


class Totals:
    """Running totals of an evaluation: `add` batches, then `result`."""

    def __init__(self, num_classes: int) -> None:
        self.loss = torch.zeros((), dtype=torch.float64)
        self.images, self.correct, self.in_top = (torch.zeros(num_classes, dtype=torch.int64) for _ in range(3))
        self.outcomes: list[Outcomes] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """Count one batch: logits [N, K] and labels [N].

        An image is in the top five if fewer than five classes rank before its own; with fewer than five classes it always is. NaN is never
        right.
        """
        logits, labels = logits.detach().cpu().double(), labels.cpu()
        num_classes = len(self.images)
        self.loss += F.cross_entropy(logits, labels, reduction="sum")
        self.images += torch.bincount(labels, minlength=num_classes)
        is_number = logits.isfinite().all(1)
        self.correct += torch.bincount(labels[(logits.argmax(1) == labels) & is_number], minlength=num_classes)
        in_top = (rank_before(logits, labels) < TOP) & is_number
        self.in_top += torch.bincount(labels[in_top], minlength=num_classes)
        self.outcomes.append(judge(logits, labels))

    def result(self, classes: Sequence[str]) -> Evaluation:
        """The fractions over everything added; `classes` names the K classes."""
        num_images = int(self.images.sum())
        scores = [ClassScore(name, int(self.images[k]), int(self.correct[k])) for k, name in enumerate(classes)]
        return Evaluation(
            images=num_images,
            top1=int(self.correct.sum()) / num_images,
            top5=int(self.in_top.sum()) / num_images,
            loss=float(self.loss) / num_images,
            classes=scores,
            outcomes=join(self.outcomes),
        )
