"""Temperature scaling (Guo et al. 2017, section 4.2): logits divided by one number, so that a network is as often right as it claims.

It changes no prediction, only how sure the network says it is. Letters: N pictures, K classes.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from provenet.metrics import Evaluation

LEAST, MOST = 0.02, 50.0
"""Between which it is looked for; where every picture is right, the most certain answer would be the best, and nothing is learnt."""
MOST_STEPS = 100
PRECISION = 1e-12
ROWS_AT_ONCE = 4_096
LEAST_TO_CALIBRATE = 100
"""Pictures; fewer say nothing about a temperature."""


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T for which the loss of logits / T [N, K] is least on these labels [N].

    The loss is convex in 1 / T, so its slope has one zero: Newton's method finds it, kept within a bracket that every step narrows.

    >>> sure = torch.tensor([[4.0, 0.0]] * 100)
    >>> round(fit_temperature(sure, torch.tensor([0] * 75 + [1] * 25)), 4)  # right in 3 of 4: 4 / T = log 3
    3.641
    """
    logits = logits.double()
    low, high = 1 / MOST, 1 / LEAST
    if _slope(logits, labels, high)[0] <= 0:
        return LEAST
    if _slope(logits, labels, low)[0] >= 0:
        return MOST
    inverse = 1.0
    for _ in range(MOST_STEPS):
        slope, curvature = _slope(logits, labels, inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        following = inverse - slope / curvature if curvature > 0 else low
        if not low < following < high:
            following = math.sqrt(low * high)
        if abs(following - inverse) <= PRECISION * inverse:
            break
        inverse = following
    return 1 / inverse


def cross_fitted(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits [N, K] at the temperatures of pictures other than themselves."""
    return logits.double() / temperatures_of_others(logits, labels)[:, None]


def temperatures_of_others(logits: Tensor, labels: Tensor) -> Tensor:
    """For each picture a temperature that it had no part in, float64 [N]: that of every second one is fitted to the others."""
    found = torch.ones(len(labels), dtype=torch.float64)
    is_even = torch.arange(len(labels)) % 2 == 0
    for chosen in (is_even, ~is_even):
        others = ~chosen
        if chosen.any() and others.any():
            found[chosen] = fit_temperature(logits[others], labels[others])
    return found


def with_calibrated(evaluation: Evaluation, logits: Tensor) -> Evaluation:
    """The evaluation, its outcomes with the confidence that its logits [N, K] have when calibrated, if its pictures are enough to tell."""
    outcomes = evaluation.outcomes
    if outcomes is None or len(outcomes) < LEAST_TO_CALIBRATE:
        return evaluation
    found = temperatures_of_others(logits, outcomes.labels)
    rows = zip(torch.split(logits, ROWS_AT_ONCE), torch.split(found[:, None], ROWS_AT_ONCE), strict=True)
    confidence = torch.cat([(some.double() / temperatures).softmax(1).amax(1).float() for some, temperatures in rows])
    return replace(evaluation, outcomes=replace(outcomes, calibrated=confidence, temperature=found.float()))


def _slope(logits: Tensor, labels: Tensor, inverse: float) -> tuple[float, float]:
    """Of the summed loss along 1 / T, and how that changes: sums over pictures of sum_k p_k z_k - z_label, and of the variance of z."""
    slope = curvature = 0.0
    for some, own in zip(torch.split(logits, ROWS_AT_ONCE), torch.split(labels, ROWS_AT_ONCE), strict=True):
        probabilities = (some * inverse).softmax(1)
        mean = (probabilities * some).sum(1)
        slope += float((mean - some.gather(1, own[:, None])[:, 0]).sum())
        curvature += float((probabilities * (some - mean[:, None]).square()).sum())
    return slope, curvature
