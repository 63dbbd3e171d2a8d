"""The optimizer and the learning rate of each step."""

import torch
from torch import nn

from provenet.training.settings import TrainingSettings


def make_optimizer(net: nn.Module, settings: TrainingSettings) -> torch.optim.SGD:
    """Stochastic gradient descent with Nesterov's momentum; weight decay for weights, not for biases and norms.

    Which is which is told by dimensions, never by name.
    """
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    weights = [parameter for parameter in trained if parameter.ndim >= 2]
    others = [parameter for parameter in trained if parameter.ndim < 2]
    groups = [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.SGD(
        [group for group in groups if group["params"]],
        lr=settings.peak_learning_rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        fused=True,
    )


def learning_rate(step: int, num_steps: int, settings: TrainingSettings) -> float:
    """The learning rate of step 0 .. num_steps - 1: a straight line up to the peak, then a straight line down to zero.

    >>> settings = TrainingSettings(epochs=1, batch_size=1, peak_learning_rate=1.0, warmup_fraction=0.5)
    >>> [learning_rate(step, 4, settings) for step in range(4)]
    [0.25, 0.75, 0.75, 0.25]
    """
    progress = (step + 0.5) / num_steps
    if progress < settings.warmup_fraction:
        return settings.peak_learning_rate * progress / settings.warmup_fraction
    return settings.peak_learning_rate * (1 - progress) / (1 - settings.warmup_fraction)
