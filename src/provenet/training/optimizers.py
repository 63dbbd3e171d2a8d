"""The optimizer and the learning rate of each step."""

from collections.abc import Mapping

import torch
from torch import nn

from provenet.training.settings import TrainingSettings


def make_optimizer(net: nn.Module, settings: TrainingSettings, rates: Mapping[str, float] | None = None) -> torch.optim.SGD:
    """Stochastic gradient descent with Nesterov's momentum; weight decay for weights, not for biases and norms.

    Which is which is told by dimensions, never by name. `rates` are parts of the learning rate for the first level of modules, by name: a
    group has its own as `rate`.
    """
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            weight_decay = settings.weight_decay if parameter.ndim >= 2 else 0.0
            rate = (rates or {}).get(name.partition(".")[0], 1.0)
            groups.setdefault((rate, weight_decay), []).append(parameter)
    return torch.optim.SGD(
        [{"params": parameters, "weight_decay": decay, "rate": rate} for (rate, decay), parameters in groups.items()],
        lr=settings.peak_learning_rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        fused=True,
    )


def learning_rate(step: int, num_steps: int, settings: TrainingSettings) -> float:
    """The learning rate of step 0 .. num_steps - 1: a straight line up to the peak, then a straight line down to zero.

    In several cycles each does so by itself, as in 'Snapshot Ensembles' (Huang et al. 2017), whose way down is a cosine and begins at once.

    >>> settings = TrainingSettings(epochs=1, batch_size=1, peak_learning_rate=1.0, warmup_fraction=0.5)
    >>> [learning_rate(step, 4, settings) for step in range(4)]
    [0.25, 0.75, 0.75, 0.25]
    >>> settings = TrainingSettings(epochs=1, batch_size=1, peak_learning_rate=1.0, warmup_fraction=0.5, cycles=2)
    >>> [learning_rate(step, 4, settings) for step in range(4)]
    [0.5, 0.5, 0.5, 0.5]
    """
    cycle = find_cycle(step, num_steps, settings.cycles)
    begin, end = (cycle_end(number, num_steps, settings.cycles) for number in (cycle, cycle + 1))
    progress = (step - begin + 0.5) / (end - begin)
    if progress < settings.warmup_fraction:
        return settings.peak_learning_rate * progress / settings.warmup_fraction
    return settings.peak_learning_rate * (1 - progress) / (1 - settings.warmup_fraction)


def find_cycle(step: int, num_steps: int, cycles: int) -> int:
    """How many cycles are over before that step begins."""
    return ((step + 1) * cycles - 1) // num_steps


def cycle_end(number: int, num_steps: int, cycles: int) -> int:
    """How many steps the first `number` cycles of a run take together.

    >>> [cycle_end(number, 10, 3) for number in range(4)]
    [0, 3, 6, 10]
    """
    return num_steps * number // cycles
