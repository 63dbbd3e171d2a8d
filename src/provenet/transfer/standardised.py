"""Features by their own mean and deviation, as heads are solved on them; and by their principal components, where these are few.

Letters: N pictures, F features, K classes, R components.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from provenet.errors import TrainingError
from provenet.runtime import one_thread

SMALLEST_DEVIATION = 1e-4
"""Of a feature, over that of all: below it a feature says nothing, and is not enlarged."""
MOST_ROWS, MOST_COMPONENTS = 4_000, 1_024
"""To find the components takes as long as their number cubed: of more it does not pay."""
SMALLEST_COMPONENT = 1e-12
"""Sum of squares along a component, over that of the largest: below it there is rounding only."""


class Standardised:
    """Features [N, F], standardised: those that a head is to be solved on. Raises TrainingError for features that are no numbers."""

    def __init__(self, features: Tensor) -> None:
        with one_thread():
            is_sound = bool(features.isfinite().all())
            self.mean, self.deviation = _spread(features)
        if not is_sound:
            raise TrainingError(
                "expected features that are numbers, found NaN or infinity: the weights are damaged, or float16 was too small"
            )
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def scaled(self) -> Tensor:
        """[N, F]."""
        with one_thread():
            return (self.features - self.mean) / self.deviation

    @cached_property
    def components(self) -> "Components | None":
        """The same in another basis; None where they are too many for it to pay."""
        num_rows, num_features = self.features.shape
        if num_rows > MOST_ROWS or min(num_rows, num_features) > MOST_COMPONENTS:
            return None
        with one_thread():
            return find_components(self.scaled)

    def fold_into(self, layer: nn.Linear) -> None:
        """A layer that reads standardised features reads them as they come from now on."""
        with torch.no_grad():
            weight = layer.weight.double() / self.deviation
            layer.bias.copy_(layer.bias - weight @ self.mean.double())
            layer.weight.copy_(weight)


def _spread(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [F], and what to divide by [F]: the deviation, or 1 where there is none to speak of."""
    deviation, mean = torch.std_mean(features, 0, correction=0)
    floor = SMALLEST_DEVIATION * deviation.square().mean().sqrt()
    return mean, torch.where(deviation > floor, deviation, 1.0)


@dataclass(frozen=True)
class Components:
    """Standardised features by their principal components, in float64: a rotation, which changes no length and so no penalty.

    What a head's weights have beside the components changes no answer to these pictures and only adds to the penalty: at the minimum
    there is none of it, and of few pictures the components are far fewer than the features.
    """

    rows: NDArray[np.float64]
    """[N, R]."""
    parts: Tensor
    """[M, R]: what each of M directions, pictures or features, has of the components."""
    directions: Tensor | None
    """[M, F]: the pictures; None where they are the features themselves."""

    def to_features(self, weights: NDArray[np.float64]) -> Tensor:
        """Weights of components [R, K] -> of features [K, F]."""
        of_directions = (self.parts @ torch.from_numpy(weights)).T
        return of_directions if self.directions is None else of_directions @ self.directions


def find_components(scaled: Tensor) -> Components:
    """By the eigenvectors of the inner products of the rows [N, N], or of the columns [F, F], whichever are fewer."""
    numbers = scaled.detach().cpu().double()
    has_fewer_rows = len(numbers) <= numbers.shape[1]
    squares, vectors = torch.linalg.eigh(numbers @ numbers.T if has_fewer_rows else numbers.T @ numbers)
    kept = squares > SMALLEST_COMPONENT * squares[-1]
    vectors, lengths = vectors[:, kept], squares[kept].sqrt()
    if has_fewer_rows:
        return Components((vectors * lengths).numpy(), vectors / lengths, numbers)
    return Components((numbers @ vectors).numpy(), vectors, None)
