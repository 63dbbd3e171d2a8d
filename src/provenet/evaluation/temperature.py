"""Temperature scaling (Guo et al. 2017, section 4.2): logits divided by one number, so that a network is as often right as it claims.

It changes no prediction, only how sure the network says it is. Letters: N pictures, K classes.
"""

import math

import torch
from torch import Tensor

LEAST, MOST = 0.02, 50.0
"""Between which it is looked for; where every picture is right, the most certain answer would be the best, and nothing is learnt."""
STEPS = 60
ROWS_AT_ONCE = 4_096


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T for which the loss of logits / T [N, K] is least on these labels [N].

    The loss is convex in 1 / T, so its slope has one zero, which is bracketed and halved.

    >>> sure = torch.tensor([[4.0, 0.0]] * 100)
    >>> round(fit_temperature(sure, torch.tensor([0] * 75 + [1] * 25)), 4)  # right in 3 of 4: 4 / T = log 3
    3.641
    """
    logits = logits.double()
    low, high = math.log(1 / MOST), math.log(1 / LEAST)
    for _ in range(STEPS):
        middle = (low + high) / 2
        if _slope(logits, labels, math.exp(middle)) > 0:
            high = middle
        else:
            low = middle
    return math.exp(-(low + high) / 2)


def cross_fitted(logits: Tensor, labels: Tensor) -> Tensor:
    """Logits [N, K] at the temperatures of pictures other than themselves: every second one's is fitted to the others."""
    scaled = logits.double().clone()
    is_even = torch.arange(len(labels)) % 2 == 0
    for chosen in (is_even, ~is_even):
        others = ~chosen
        if chosen.any() and others.any():
            scaled[chosen] /= fit_temperature(logits[others], labels[others])
    return scaled


def _slope(logits: Tensor, labels: Tensor, inverse: float) -> float:
    """Of the mean loss along 1 / T: the mean over pictures of sum_k p_k z_k - z_label."""
    total = 0.0
    for some, own in zip(torch.split(logits, ROWS_AT_ONCE), torch.split(labels, ROWS_AT_ONCE), strict=True):
        probabilities = (some * inverse).softmax(1)
        total += float((probabilities * some).sum() - some.gather(1, own[:, None]).sum())
    return total
