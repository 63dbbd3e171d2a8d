"""A head on features that are kept: solved at once over all pictures, its regularisation chosen by cross-validation.

The loss is the mean cross-entropy plus half the decay times the squared weights (biases are free), of features that are standardised by
their own mean and deviation; both are folded into the head's first layer afterwards, so that it reads features as they come. For a linear
head the loss has one minimum, which L-BFGS (Nocedal 1980) finds whatever the start. Letters: N pictures, F features, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from provenet.data.random import Purpose, draw
from provenet.errors import TrainingError
from provenet.outcomes import wilson_interval
from provenet.progress import Progress

DECAYS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
"""From strong to weak: each solution is the start of the next."""
NUM_FOLDS, NUM_FOLDS_OF_MANY, MANY_PICTURES = 5, 3, 1_000
"""Of many pictures fewer folds tell as much."""
MOST_PICTURES_COMPARED = 4_000
"""Pictures that cross-validation looks at: with more the choice is the same and takes longer."""
MOST_ITERATIONS, ITERATIONS_TO_COMPARE = 200, 20
SMALLEST_DEVIATION = 1e-4
"""Of a feature, over that of all: below it a feature says nothing, and is not enlarged."""


@dataclass(frozen=True)
class CrossValidation:
    """How each decay did on pictures that were held out in turn."""

    decays: tuple[float, ...]
    losses: tuple[float, ...]
    """Mean cross-entropy of the held-out pictures, in nats."""
    top1: tuple[float, ...]
    decay: float
    """The one of the lowest loss."""
    images: int
    folds: int

    @property
    def chosen_top1(self) -> float:
        """The fraction of held-out pictures that the chosen one recognised."""
        return self.top1[self.decays.index(self.decay)]

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 % confidence (Wilson), taking the pictures as independent."""
        return wilson_interval(round(self.chosen_top1 * self.images), self.images)


def solve(
    head: nn.Module,
    features: Tensor,
    labels: Tensor,
    *,
    decay: float,
    weights: Tensor | None = None,
    num_iterations: int = MOST_ITERATIONS,
) -> float:
    """Train a head, in place, on all features [N, F] and labels [N] at once; -> the loss, decay included.

    Its first layer must be a Linear. `weights` [K] are those of the classes. The head's own numbers are the start, as if for standardised
    features. Raises TrainingError for features that are no numbers.
    """
    scaled = Standardised(head, features)
    loss = scaled.solve(features, labels, decay=decay, weights=weights, num_iterations=num_iterations)
    scaled.fold()
    return loss


class Standardised:
    """A head that reads standardised features, until `fold` makes it read them as they come."""

    def __init__(self, head: nn.Module, features: Tensor) -> None:
        if not features.isfinite().all():
            raise TrainingError(
                "expected features that are numbers, found NaN or infinity: the weights are damaged, or float16 was too small"
            )
        self.head = head
        self.first = next(module for module in head.modules() if isinstance(module, nn.Linear))
        self.mean = features.mean(0)
        deviation = features.std(0, correction=0)
        floor = SMALLEST_DEVIATION * deviation.square().mean().sqrt()
        self.deviation = torch.where(deviation > floor, deviation, 1.0)

    def scale(self, features: Tensor) -> Tensor:
        """Features [N, F] -> standardised [N, F]."""
        return (features - self.mean) / self.deviation

    def solve(self, features: Tensor, labels: Tensor, *, decay: float, weights: Tensor | None = None, num_iterations: int) -> float:
        """See `solve`; the features as they come."""
        return minimise(self.head, self.scale(features), labels, decay=decay, weights=weights, num_iterations=num_iterations)

    def fold(self) -> None:
        """From now on the head reads features as they come."""
        with torch.no_grad():
            self.first.weight.div_(self.deviation)
            self.first.bias.sub_(self.first.weight @ self.mean)


def minimise(
    head: nn.Module, features: Tensor, labels: Tensor, *, decay: float, weights: Tensor | None = None, num_iterations: int = MOST_ITERATIONS
) -> float:
    """L-BFGS from where the head is, on features [N, F] as they are given; -> the loss, decay included."""
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=num_iterations, history_size=20, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(head(features), labels, weight=weights)
        loss = loss + 0.5 * decay * torch.stack([p.square().sum() for p in parameters if p.ndim > 1]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    loss = float(closure())
    optimizer.zero_grad(set_to_none=True)
    return loss


def folds_of(labels: NDArray[np.int64], num_folds: int, seed: int = 0) -> NDArray[np.int64]:
    """The fold of each picture [N]: of each class nearly as many in every fold, which ones decided by the seed."""
    places = np.arange(len(labels))
    words = draw(seed, Purpose.ORDER, np.zeros(len(labels), np.int64), places)[0]
    order = np.lexsort((words, labels))
    folds = np.empty(len(labels), np.int64)
    folds[order] = places % num_folds  # goes on from class to class, so that the rests are spread as well
    return folds


def cross_validate(
    make_head: Callable[[], nn.Module],
    features: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    decays: Sequence[float] = DECAYS,
    seed: int = 0,
    progress: Progress | None = None,
) -> CrossValidation | None:
    """Try each decay on pictures held out in turn; None where no class has two pictures.

    `make_head` gives a fresh head. Of many pictures MOST_PICTURES_COMPARED are looked at, spread evenly over the classes' own shares.
    """
    kept = _some(labels.cpu().numpy(), seed)
    features, labels = features[torch.from_numpy(kept).to(features.device)], labels[torch.from_numpy(kept).to(labels.device)]
    counts = torch.bincount(labels)
    num_folds = min(NUM_FOLDS if len(labels) <= MANY_PICTURES else NUM_FOLDS_OF_MANY, int(counts.max()))
    if num_folds < 2:
        return None
    folds = torch.from_numpy(folds_of(labels.cpu().numpy(), num_folds, seed)).to(labels.device)
    trials = [_Trial(make_head(), features, labels, folds == fold) for fold in range(num_folds)]
    losses: list[float] = []
    correct: list[int] = []
    for number, decay in enumerate(decays):
        judged = [trial.judge(decay, weights) for trial in trials]
        losses.append(sum(loss for loss, _ in judged) / len(labels))
        correct.append(sum(right for _, right in judged))
        if progress:
            progress("cross-validating", number + 1, len(decays))
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:  # weaker ones fit the pictures ever more by heart
            if progress:
                progress("cross-validating", len(decays), len(decays))
            break
    tried = tuple(decays[: len(losses)])
    best = losses.index(min(losses))
    return CrossValidation(tried, tuple(losses), tuple(count / len(labels) for count in correct), tried[best], len(labels), num_folds)


class _Trial:
    """A head on all pictures but those held out, which goes from decay to decay."""

    def __init__(self, head: nn.Module, features: Tensor, labels: Tensor, held_out: Tensor) -> None:
        self.scaled = Standardised(head, features[~held_out])
        self.trained_on, self.labels = self.scaled.scale(features[~held_out]), labels[~held_out]
        self.judged_on, self.judged_labels = self.scaled.scale(features[held_out]), labels[held_out]

    def judge(self, decay: float, weights: Tensor | None) -> tuple[float, int]:
        """Sum of the losses of those held out, and how many of them are recognised."""
        head = self.scaled.head
        minimise(head, self.trained_on, self.labels, decay=decay, weights=weights, num_iterations=ITERATIONS_TO_COMPARE)
        with torch.no_grad():
            logits = head(self.judged_on).double()
        factors = None if weights is None else weights.double()
        loss = float(F.cross_entropy(logits, self.judged_labels, weight=factors, reduction="sum"))
        return loss, int((logits.argmax(1) == self.judged_labels).sum())


def _some(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """At most MOST_PICTURES_COMPARED of the pictures, of each class its share, in order."""
    if len(labels) <= MOST_PICTURES_COMPARED:
        return np.arange(len(labels))
    groups = -(-len(labels) // MOST_PICTURES_COMPARED)
    return np.flatnonzero(folds_of(labels, groups, seed) == 0)
