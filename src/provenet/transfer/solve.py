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
NOT_LEARNT = -100
"""A label that adds nothing to the loss."""
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
        self.first = _first_layer(head)
        self.mean, self.deviation = _spread(features)

    def scale(self, features: Tensor) -> Tensor:
        """Features [N, F] -> standardised [N, F]."""
        return (features - self.mean) / self.deviation

    def solve(self, features: Tensor, labels: Tensor, *, decay: float, weights: Tensor | None = None, num_iterations: int) -> float:
        """See `solve`; the features as they come."""
        scaled = self.scale(features)
        return minimise(
            list(self.head.parameters()),
            lambda: F.cross_entropy(self.head(scaled), labels, weight=weights),
            decay=decay,
            num_iterations=num_iterations,
        )

    def fold(self) -> None:
        """From now on the head reads features as they come."""
        with torch.no_grad():
            self.first.weight.div_(self.deviation)
            self.first.bias.sub_(self.first.weight @ self.mean)


def minimise(
    parameters: Sequence[nn.Parameter], loss_now: Callable[[], Tensor], *, decay: float, num_iterations: int = MOST_ITERATIONS
) -> float:
    """L-BFGS from where the parameters are, on a loss and half the decay times the squared weights; -> their sum afterwards."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    weights = [parameter for parameter in learning if parameter.ndim > 1]
    optimizer = torch.optim.LBFGS(
        learning, max_iter=num_iterations, history_size=20, tolerance_grad=1e-6, tolerance_change=1e-9, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_now() + 0.5 * decay * torch.stack([weight.square().sum() for weight in weights]).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    loss = float(closure())
    optimizer.zero_grad(set_to_none=True)
    return loss


def _first_layer(head: nn.Module) -> nn.Linear:
    return next(module for module in head.modules() if isinstance(module, nn.Linear))


def _spread(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [F], and what to divide by [F]: the deviation, or 1 where there is none to speak of."""
    deviation, mean = torch.std_mean(features, 0, correction=0)
    floor = SMALLEST_DEVIATION * deviation.square().mean().sqrt()
    return mean, torch.where(deviation > floor, deviation, 1.0)


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
    heads = _Heads([make_head() for _ in range(num_folds)], features, labels, folds, weights)
    losses: list[float] = []
    correct: list[int] = []
    for number, decay in enumerate(decays):
        loss, right = heads.judge(decay)
        losses.append(loss / len(labels))
        correct.append(right)
        if progress:
            progress("cross-validating", number + 1, len(decays))
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:  # weaker ones fit the pictures ever more by heart
            if progress:
                progress("cross-validating", len(decays), len(decays))
            break
    tried = tuple(decays[: len(losses)])
    best = losses.index(min(losses))
    return CrossValidation(tried, tuple(losses), tuple(count / len(labels) for count in correct), tried[best], len(labels), num_folds)


class _Heads:
    """A head for each fold, which learns from all pictures but those of the fold and goes from decay to decay.

    They learn side by side: to read the features for all of them takes as long as to read them for one.
    """

    def __init__(self, heads: Sequence[nn.Module], features: Tensor, labels: Tensor, folds: Tensor, weights: Tensor | None) -> None:
        mean, deviation = _spread(features)
        self.features, self.labels, self.weights = (features - mean) / deviation, labels, weights
        self.held_out = [folds == number for number in range(len(heads))]
        self.learnt_labels = [labels.masked_fill(held_out, NOT_LEARNT) for held_out in self.held_out]
        self.spreads = [_spread(self.features[~held_out]) for held_out in self.held_out]  # of what each learns from, no other
        self.parameters = [parameter for head in heads for parameter in head.parameters()]
        self.firsts = [_first_layer(head) for head in heads]
        self.rests = [_without(head, first) for head, first in zip(heads, self.firsts, strict=True)]

    def judge(self, decay: float) -> tuple[float, int]:
        """Learn, then the sum of the losses of those held out, and how many of them are recognised."""
        minimise(self.parameters, self._loss, decay=decay, num_iterations=ITERATIONS_TO_COMPARE)
        with torch.no_grad():
            logits = torch.cat([of_head[held_out] for of_head, held_out in zip(self._logits(), self.held_out, strict=True)]).double()
        labels = torch.cat([self.labels[held_out] for held_out in self.held_out])
        factors = None if self.weights is None else self.weights.double()
        loss = float(F.cross_entropy(logits, labels, weight=factors, reduction="sum"))
        return loss, int((logits.argmax(1) == labels).sum())

    def _loss(self) -> Tensor:
        """The sum of the heads' own: none knows of the others."""
        losses = [
            F.cross_entropy(of_head, labels, weight=self.weights, ignore_index=NOT_LEARNT)
            for of_head, labels in zip(self._logits(), self.learnt_labels, strict=True)
        ]
        return torch.stack(losses).sum()

    def _logits(self) -> list[Tensor]:
        """Of each head, of all pictures [N, K]."""
        scaled = [first.weight / deviation for first, (_, deviation) in zip(self.firsts, self.spreads, strict=True)]
        shifted = [first.bias - weight @ mean for first, weight, (mean, _) in zip(self.firsts, scaled, self.spreads, strict=True)]
        read = F.linear(self.features, torch.cat(scaled), torch.cat(shifted))
        parts = torch.split(read, [first.out_features for first in self.firsts], dim=1)
        return [rest(part) for rest, part in zip(self.rests, parts, strict=True)]


def _without(head: nn.Module, first: nn.Module) -> nn.Module:
    """What comes after the first layer."""
    for parent in head.modules():
        for name, child in parent.named_children():
            if child is first:
                setattr(parent, name, nn.Identity())
    return nn.Identity() if head is first else head


def _some(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """At most MOST_PICTURES_COMPARED of the pictures, of each class its share, in order."""
    if len(labels) <= MOST_PICTURES_COMPARED:
        return np.arange(len(labels))
    groups = -(-len(labels) // MOST_PICTURES_COMPARED)
    return np.flatnonzero(folds_of(labels, groups, seed) == 0)
