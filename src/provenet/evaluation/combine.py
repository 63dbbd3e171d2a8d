"""Many networks, one answer: their scores of the same pictures, averaged; and which networks with which weights.

Letters: M networks, N pictures, K classes of all networks together, joined by name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.errors import DataError, SettingsError, printable
from provenet.evaluation.predictions import LEAST_PROBABILITY, UNKNOWN, Predictions
from provenet.models.ensemble import Combine

FIT_STEPS = 500
MOST_SELECTED = 100


class Joined(NamedTuple):
    """The scores of M networks of the same pictures, in one list of classes."""

    classes: tuple[str, ...]
    paths: Sequence[str]
    labels: NDArray[np.int64]
    """[N], UNKNOWN where there is none."""
    probabilities: Tensor
    """Float64 [M, N, K]; 0 for classes that a network does not know."""


def join(members: Sequence[Predictions]) -> Joined:
    """Classes joined by name, pictures by path. Raises DataError where they are other pictures, or other labels."""
    first = members[0]
    classes = tuple(dict.fromkeys(name for member in members for name in member.classes))
    places = {name: place for place, name in enumerate(classes)}
    rows = {path: row for row, path in enumerate(first.paths)}
    labels = _relabelled(first, places)
    found = torch.zeros(len(members), len(first), len(classes), dtype=torch.float64)
    for number, member in enumerate(members):
        if len(member) != len(first) or len(rows) != len(first) or any(path not in rows for path in member.paths):
            other = next((path for path in member.paths if path not in rows), None)
            raise DataError(
                f"{printable(member.name)}: expected predictions of the {len(first):,} pictures of {printable(first.name)}, found "
                + (f"{printable(other)!r} instead of one" if other else f"{len(member):,}")
                + "; predict the same ones"
            )
        order = torch.tensor([rows[path] for path in member.paths])
        own = _relabelled(member, places)
        differs = (own != labels[order.numpy()]) & (own != UNKNOWN) & (labels[order.numpy()] != UNKNOWN)
        if differs.any():
            path = member.paths[int(np.flatnonzero(differs)[0])]
            raise DataError(
                f"{printable(member.name)}: expected the labels of {printable(first.name)}, found another for {printable(path)!r}"
            )
        columns = torch.tensor([places[name] for name in member.classes])
        found[number, order[:, None], columns[None]] = member.probabilities
    return Joined(classes, first.paths, labels, found)


def _relabelled(member: Predictions, places: dict[str, int]) -> NDArray[np.int64]:
    numbers = np.array([*(places[name] for name in member.classes), UNKNOWN], np.int64)
    return numbers[member.labels]


def average(probabilities: Tensor, weights: Tensor | None = None, combine: Combine = "probabilities") -> Tensor:
    """Logarithms of what is made of [M, N, K] with weights [M] (equal ones by default): float64 [N, K], up to a constant a picture."""
    weights = torch.ones(len(probabilities), dtype=torch.float64) if weights is None else weights.double()
    weights = weights / weights.sum()
    if combine == "probabilities":
        return torch.einsum("m,mnk->nk", weights, probabilities).clamp_min(LEAST_PROBABILITY).log()
    return torch.einsum("m,mnk->nk", weights, probabilities.clamp_min(LEAST_PROBABILITY).log()).log_softmax(1)


def fit_weights(joined: Joined) -> Tensor:
    """Weights [M] of the mean of probabilities for which the loss on these pictures is least, as 'maximum likelihood of a mixture'.

    The loss is convex in them; each step of expectation-maximisation (Dempster et al. 1977) lowers it and keeps them a division of 1.
    """
    known = joined.labels >= 0
    if not known.any():
        raise DataError("expected pictures with labels to fit weights to, found none")
    labels = torch.from_numpy(joined.labels[known])
    own = joined.probabilities[:, torch.from_numpy(known)].gather(2, labels.expand(len(joined.probabilities), -1)[..., None])[..., 0]
    own = own.clamp_min(LEAST_PROBABILITY)  # [M, N]
    weights = torch.full((len(own),), 1 / len(own), dtype=torch.float64)
    for _ in range(FIT_STEPS):
        shares = weights[:, None] * own
        new = (shares / shares.sum(0)).mean(1)
        if (new - weights).abs().max() < 1e-9:
            break
        weights = new
    return weights


@dataclass(frozen=True)
class Selection:
    """Networks chosen one after the other, some more than once."""

    order: list[int]
    """Which, in the order in which they were added."""
    losses: list[float]
    """Of the mean after each, on the pictures that chose."""

    def weights(self, num_members: int) -> Tensor:
        """How often each was chosen, [M]."""
        return torch.bincount(torch.tensor(self.order), minlength=num_members).double()


def select(joined: Joined, most: int = MOST_SELECTED) -> Selection:
    """Greedy selection with replacement (Caruana et al. 2004): again and again the network whose addition lowers the loss of the mean most.

    It ends where that was least, the earliest if there are several. The loss decides and not the accuracy, which moves in steps.
    """
    known = torch.from_numpy(joined.labels >= 0)
    if not known.any():
        raise DataError("expected pictures with labels to select networks on, found none")
    if most < 1:
        raise SettingsError(f"expected at least one network to select, found {most}")
    labels = torch.from_numpy(joined.labels)[known]
    own = joined.probabilities[:, known].gather(2, labels.expand(len(joined.probabilities), -1)[..., None])[..., 0]  # [M, N]
    total = torch.zeros_like(own[0])
    order: list[int] = []
    losses: list[float] = []
    for count in range(1, most + 1):
        found = -((total + own) / count).clamp_min(LEAST_PROBABILITY).log().mean(1)  # [M]
        best = int(found.argmin())
        order.append(best)
        losses.append(float(found[best]))
        total = total + own[best]
    end = losses.index(min(losses)) + 1
    return Selection(order[:end], losses[:end])
