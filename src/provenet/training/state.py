"""All that a run is between two steps: what the loop changes, and what a snapshot keeps.

A snapshot is tensors and plain values, never a pickle. The learning rate and the order of the pictures are functions of the step, so the
step number is all there is to keep of them.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from provenet.errors import SettingsError
from provenet.metrics import Evaluation
from provenet.training.optimizers import make_optimizer
from provenet.training.settings import TrainingSettings
from provenet.training.soundness import FORMAT_VERSION, check_snapshot


@dataclass(frozen=True)
class Snapshot:
    """A state as it can be written: tensors on the CPU by name, and plain values for JSON."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


@dataclass(frozen=True)
class Best:
    """The best evaluation so far, and the weights that it was made with."""

    evaluation: Evaluation
    tensors: dict[str, Tensor]


class TrainingState:
    """The network and its optimizer, how far they have come, and the best so far.

    It is whole between two steps only; `is_whole` says so to whoever catches an error.
    """

    def __init__(self, net: nn.Module, settings: TrainingSettings, *, num_images: int, rates: Mapping[str, float] | None = None) -> None:
        self.net = net
        self.optimizer = make_optimizer(net, settings, rates)
        self.num_images = num_images
        self.batch_size = settings.batch_size
        self.num_steps = count_steps(settings, num_images)
        self.step = 0
        self.evaluated_step = 0
        self.best: Best | None = None
        self.loss_sum, self.correct, self.seen = 0.0, 0, 0
        self.is_whole = True
        """Whether it can be captured now: it says so to whoever catches an error."""
        self._seconds_before, self._started = 0.0, time.perf_counter()

    @property
    def epoch(self) -> float:
        """Passes over the training pictures so far."""
        return self.step * self.batch_size / self.num_images

    @property
    def is_over(self) -> bool:
        """Whether every step is taken."""
        return self.step == self.num_steps

    @property
    def seconds(self) -> float:
        """Spent on this run, all its sittings together."""
        return self._seconds_before + time.perf_counter() - self._started

    @property
    def is_evaluation_due(self) -> bool:
        """At the end of each pass and of the run, once."""
        passes, passes_before = math.floor(self.epoch), math.floor((self.step - 1) * self.batch_size / self.num_images)
        return self.step > self.evaluated_step and (self.is_over or passes > passes_before)

    def count(self, images: int, loss: float, correct: int) -> None:
        """A step is done."""
        self.step += 1
        self.loss_sum, self.correct, self.seen = self.loss_sum + loss * images, self.correct + correct, self.seen + images
        self.is_whole = True

    def accept(self, val: Evaluation, *, is_best: bool) -> None:
        """An evaluation is done and recorded; the next pass is counted anew."""
        if is_best:
            self.best = Best(val, copy_weights(self.net))
        self.evaluated_step, self.loss_sum, self.correct, self.seen = self.step, 0.0, 0, 0

    def capture(self) -> Snapshot:
        """A copy that later steps do not change."""
        tensors = {f"net.{name}": _copy(tensor) for name, tensor in self.net.state_dict().items()}
        for name, parameter in self.net.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if value is not None:
                    tensors[f"optimizer.{name}.{key}"] = _copy(value)
        if self.best:  # never changed, only replaced
            tensors |= {f"best.{name}": tensor for name, tensor in self.best.tensors.items()}
            if outcomes := self.best.evaluation.outcomes:
                tensors |= {f"outcomes.{name}": column for name, column in vars(outcomes).items() if column is not None}
        tensors |= {f"random.{name}": state for name, state in random_states().items()}
        facts = {
            "format_version": FORMAT_VERSION,
            "step": self.step,
            "num_steps": self.num_steps,
            "evaluated_step": self.evaluated_step,
            "seconds": self.seconds,
            "loss_sum": self.loss_sum,
            "correct": self.correct,
            "seen": self.seen,
            "best": self.best.evaluation.to_dict() if self.best else None,
        }
        return Snapshot(tensors, facts)

    def restore(self, snapshot: Snapshot) -> None:
        """Become what was captured. Raises SnapshotError, and changes nothing, where the snapshot is of another network or run, or odd."""
        checked = check_snapshot(snapshot.tensors, snapshot.facts, self.net, self.optimizer, self.num_steps)
        self.net.load_state_dict(checked.weights)
        for (parameter, key), tensor in checked.moments.items():  # in the parameter's memory layout, which a fused step takes for granted
            self.optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(tensor)
        self.best = Best(checked.best, checked.best_weights) if checked.best else None
        facts = snapshot.facts
        self.step, self.evaluated_step, self.correct, self.seen = (facts[name] for name in ("step", "evaluated_step", "correct", "seen"))
        self.loss_sum, self._seconds_before = float(facts["loss_sum"]), float(facts["seconds"])
        self._started = time.perf_counter()
        put_random_states(checked.random)


def count_steps(settings: TrainingSettings, num_images: int) -> int:
    """Steps of a whole run over `num_images` training pictures. Raises SettingsError where they are fewer than its cycles."""
    num_steps = max(1, math.ceil(settings.epochs * num_images / settings.batch_size))
    if settings.cycles > num_steps:
        raise SettingsError(
            f"training.cycles (--cycles): expected at most {num_steps}, a cycle for each step of this run, found {settings.cycles}; "
            "choose fewer, or train in more steps"
        )
    return num_steps


def score(evaluation: Evaluation) -> tuple[float, float]:
    """What makes one evaluation better than another: top-1, then the loss."""
    return evaluation.top1, -evaluation.loss


def copy_weights(net: nn.Module) -> dict[str, Tensor]:
    """The weights and statistics of a network as they are now, on the CPU."""
    return {name: _copy(tensor) for name, tensor in net.state_dict().items()}


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def random_states() -> dict[str, Tensor]:
    """Torch's random generators: of the processor, and of each accelerator in use."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states |= {f"cuda{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        states["mps"] = torch.mps.get_rng_state()
    return states


def put_random_states(states: Mapping[str, Tensor]) -> None:
    """The inverse; generators of accelerators that are not here are left out."""
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            if f"cuda{number}" in states:
                torch.cuda.set_rng_state(states[f"cuda{number}"], number)
    if torch.backends.mps.is_available() and "mps" in states:
        torch.mps.set_rng_state(states["mps"])
