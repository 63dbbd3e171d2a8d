"""A head on features that are kept: solved at once over all pictures, its regularisation chosen by cross-validation.

The loss is the mean cross-entropy plus half the decay times the squared weights (biases are free), of features that are standardised by
their own mean and deviation; both are folded into the head's first layer afterwards, so that it reads features as they come. For a linear
head the loss has one minimum, which Newton's method finds whatever the start (transfer/newton.py); other heads, and those on very many
pictures, go by L-BFGS (Nocedal 1980). Letters: N pictures, F features, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from provenet.data.random import Purpose, draw
from provenet.outcomes import wilson_interval
from provenet.progress import Progress
from provenet.runtime import one_thread
from provenet.transfer.newton import LinearHeads
from provenet.transfer.standardised import MOST_ROWS, Components, Standardised

DECAYS = (1.0, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
"""From strong to weak: each solution is the start of the next."""
NUM_FOLDS, NUM_FOLDS_OF_MANY, MANY_PICTURES = 5, 3, 1_000
"""Of many pictures fewer folds tell as much."""
MOST_PICTURES_COMPARED = MOST_ROWS
"""Pictures that cross-validation looks at: with more the choice is the same and takes longer."""
MOST_ITERATIONS, ITERATIONS_TO_COMPARE = 200, 20
TOLERANCE, TOLERANCE_TO_COMPARE = 1e-12, 1e-3
"""What is left to gain, as a part of the loss, when a linear head is solved, and when it is near enough to be judged."""
NOT_LEARNT = -100
"""A label that adds nothing to the loss."""


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


def solve(head: nn.Module, features: Tensor | Standardised, labels: Tensor, *, decay: float, weights: Tensor | None = None) -> float:
    """Train a head, in place, on all features [N, F] and labels [N] at once; -> the loss, decay included.

    Its first layer must be a Linear. `weights` [K] are those of the classes. Where there is more than that layer, the head's own numbers
    are the start, as if for standardised features. Raises TrainingError for features that are no numbers.
    """
    standardised = features if isinstance(features, Standardised) else Standardised(features)
    layer = _only_layer(head)
    if layer is not None and standardised.components is not None:
        loss = _solve_linear(layer, standardised.components, labels, decay, weights)
    else:
        scaled = standardised.scaled
        loss = minimise(list(head.parameters()), lambda: F.cross_entropy(head(scaled), labels, weight=weights), decay=decay)
    standardised.fold_into(_first_layer(head))
    return loss


def _solve_linear(layer: nn.Linear, components: Components, labels: Tensor, decay: float, weights: Tensor | None) -> float:
    everybody = torch.ones(1, len(labels), dtype=torch.bool)
    heads = LinearHeads(components.rows, labels.cpu().numpy(), _shares(everybody, labels, weights), layer.out_features)
    (loss,) = heads.solve(decay, TOLERANCE)
    with torch.no_grad(), one_thread():
        layer.weight.copy_(components.to_features(heads.weights[0, :-1]))
        layer.bias.copy_(torch.from_numpy(heads.weights[0, -1]))
    return float(loss)


def _shares(learns: Tensor, labels: Tensor, weights: Tensor | None) -> NDArray[np.float64]:
    """What each picture counts in the mean loss of those that a head learns from: bool [H, N] -> [H, N]."""
    counted = learns.double().cpu()
    if weights is not None:
        counted = counted * weights.cpu().double()[labels.cpu()]
    shares: NDArray[np.float64] = (counted / counted.sum(1, keepdim=True)).numpy()
    return shares


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


def _only_layer(head: nn.Module) -> nn.Linear | None:
    """The linear layer that is all there is in a head; None where there is more."""
    leaves = [module for module in head.modules() if not any(True for _ in module.children())]
    return leaves[0] if len(leaves) == 1 and isinstance(leaves[0], nn.Linear) else None


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
    features: Tensor | Standardised,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    decays: Sequence[float] = DECAYS,
    seed: int = 0,
    progress: Progress | None = None,
) -> CrossValidation | None:
    """Try each decay on pictures held out in turn; None where no class has two pictures.

    `make_head` gives a fresh head. Of many pictures MOST_PICTURES_COMPARED are looked at, spread evenly over the classes' own shares.
    Their features are standardised together, held out or not, so that a decay means the same in every fold as in the end; of those held
    out no label is known.
    """
    if len(labels) > MOST_PICTURES_COMPARED:
        kept = torch.from_numpy(_some(labels.cpu().numpy(), seed)).to(labels.device)
        features, labels = (features.features if isinstance(features, Standardised) else features)[kept], labels[kept]
    standardised = features if isinstance(features, Standardised) else Standardised(features)
    num_folds = min(NUM_FOLDS if len(labels) <= MANY_PICTURES else NUM_FOLDS_OF_MANY, int(torch.bincount(labels).max()))
    if num_folds < 2:
        return None
    folds = torch.from_numpy(folds_of(labels.cpu().numpy(), num_folds, seed)).to(labels.device)
    held_out = folds == torch.arange(num_folds, device=folds.device)[:, None]
    learn = _learner([make_head() for _ in range(num_folds)], standardised, labels, held_out, weights)
    factors = None if weights is None else weights.double()
    losses: list[float] = []
    correct: list[int] = []
    for number, decay in enumerate(decays):
        logits = learn(decay)[folds, torch.arange(len(labels), device=folds.device)].double()
        losses.append(float(F.cross_entropy(logits, labels, weight=factors, reduction="sum")) / len(labels))
        correct.append(int((logits.argmax(1) == labels).sum()))
        if progress:
            progress("cross-validating", number + 1, len(decays))
        if len(losses) > 2 and losses[-1] > losses[-2] > losses[-3]:  # weaker ones fit the pictures ever more by heart
            if progress:
                progress("cross-validating", len(decays), len(decays))
            break
    tried = tuple(decays[: len(losses)])
    best = losses.index(min(losses))
    return CrossValidation(tried, tuple(losses), tuple(count / len(labels) for count in correct), tried[best], len(labels), num_folds)


Learn = Callable[[float], Tensor]
"""A decay -> what the heads [H], each of which learnt with it from all pictures but those of its fold, say of all: logits [H, N, K]."""


def _learner(heads: Sequence[nn.Module], standardised: Standardised, labels: Tensor, held_out: Tensor, weights: Tensor | None) -> Learn:
    """Heads that learn side by side, as to read features for all takes as long as for one; each decay goes on from the one before."""
    layer = _only_layer(heads[0])
    if layer is None or (components := standardised.components) is None:
        return _Heads(heads, standardised.scaled, labels, held_out, weights)
    linear = LinearHeads(components.rows, labels.cpu().numpy(), _shares(~held_out, labels, weights), layer.out_features)

    def learn(decay: float) -> Tensor:
        linear.solve(decay, TOLERANCE_TO_COMPARE)
        return torch.from_numpy(linear.logits()).to(labels.device)

    return learn


class _Heads:
    """Heads of any kind that learn by L-BFGS."""

    def __init__(self, heads: Sequence[nn.Module], scaled: Tensor, labels: Tensor, held_out: Tensor, weights: Tensor | None) -> None:
        self.scaled, self.weights = scaled, weights
        self.learnt_labels = [labels.masked_fill(of_fold, NOT_LEARNT) for of_fold in held_out]
        self.parameters = [parameter for head in heads for parameter in head.parameters()]
        self.firsts = [_first_layer(head) for head in heads]
        self.rests = [_without(head, first) for head, first in zip(heads, self.firsts, strict=True)]

    def __call__(self, decay: float) -> Tensor:
        """See `Learn`."""
        minimise(self.parameters, self._loss, decay=decay, num_iterations=ITERATIONS_TO_COMPARE)
        with torch.no_grad():
            return torch.stack(self._logits())

    def _loss(self) -> Tensor:
        """The sum of the heads' own: none knows of the others."""
        losses = [
            F.cross_entropy(of_head, labels, weight=self.weights, ignore_index=NOT_LEARNT)
            for of_head, labels in zip(self._logits(), self.learnt_labels, strict=True)
        ]
        return torch.stack(losses).sum()

    def _logits(self) -> list[Tensor]:
        """Of each head, of all pictures [N, K]."""
        firsts = self.firsts
        read = F.linear(self.scaled, torch.cat([first.weight for first in firsts]), torch.cat([first.bias for first in firsts]))
        parts = torch.split(read, [first.out_features for first in firsts], dim=1)
        return [rest(part) for rest, part in zip(self.rests, parts, strict=True)]


def _without(head: nn.Module, first: nn.Module) -> nn.Module:
    """What comes after the first layer."""
    for parent in head.modules():
        for name, child in parent.named_children():
            if child is first:
                setattr(parent, name, nn.Identity())
    return nn.Identity() if head is first else head


def _some(labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """At most MOST_PICTURES_COMPARED of more pictures, of each class its share, in order."""
    groups = -(-len(labels) // MOST_PICTURES_COMPARED)
    return np.flatnonzero(folds_of(labels, groups, seed) == 0)
