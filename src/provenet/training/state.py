"""All that a run is between two steps: what the loop changes, and what a snapshot keeps.

A snapshot is tensors and plain values, never a pickle. The learning rate and the order of the pictures are functions of the step, so the
step number is all there is to keep of them.
"""

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from provenet.errors import SnapshotError
from provenet.metrics import Evaluation
from provenet.outcomes import Outcomes
from provenet.training.optimizers import make_optimizer
from provenet.training.settings import TrainingSettings

FORMAT_VERSION = 1


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

    @property
    def score(self) -> tuple[float, float]:
        """Higher is better: top-1, then the loss."""
        return self.evaluation.top1, -self.evaluation.loss


class TrainingState:
    """The network and its optimizer, how far they have come, and the best so far.

    It is whole between two steps only; `is_whole` says so to whoever catches an error.
    """

    def __init__(self, net: nn.Module, settings: TrainingSettings, *, num_images: int) -> None:
        self.net = net
        self.optimizer = make_optimizer(net, settings)
        self.num_images = num_images
        self.batch_size = settings.batch_size
        self.num_steps = count_steps(settings, num_images)
        self.step = 0
        self.evaluated_step = 0
        self.best: Best | None = None
        self.loss_sum, self.correct, self.seen = 0.0, 0, 0
        self.is_whole = True
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

    def capture(self) -> Snapshot:
        """A copy that later steps do not change."""
        tensors = {f"net.{name}": _copy(tensor) for name, tensor in self.net.state_dict().items()}
        for name, parameter in self.net.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                if value is not None:
                    tensors[f"optimizer.{name}.{key}"] = _copy(value)
        if self.best:  # never changed, only replaced
            tensors |= {f"best.{name}": tensor for name, tensor in self.best.tensors.items()}
            if self.best.evaluation.outcomes:
                tensors |= {f"outcomes.{name}": tensor for name, tensor in vars(self.best.evaluation.outcomes).items()}
        tensors |= {f"random.{name}": state for name, state in _random_states().items()}
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
        """Become what was captured. Raises SnapshotError, and changes nothing, where the snapshot is of another network or run."""
        facts, tensors = snapshot.facts, _by_kind(snapshot.tensors)
        weights, parameters = self.net.state_dict(), dict(self.net.named_parameters())
        try:
            if (facts["format_version"], facts["num_steps"]) != (FORMAT_VERSION, self.num_steps):
                raise SnapshotError(
                    f"expected a snapshot of format {FORMAT_VERSION} and a run of {self.num_steps} steps, "
                    f"found format {facts['format_version']} and {facts['num_steps']} steps"
                )
            _check(tensors["net"], weights)
            best = None
            if facts["best"]:
                _check(tensors["best"], weights)
                outcomes = Outcomes(**tensors["outcomes"]) if tensors["outcomes"] else None
                best = Best(replace(Evaluation.from_dict(facts["best"]), outcomes=outcomes), tensors["best"])
            moments = [(*full.rpartition(".")[::2], tensor) for full, tensor in tensors["optimizer"].items()]
            for name, _, tensor in moments:
                if tensor.ndim and tensor.shape != parameters[name].shape:
                    raise SnapshotError(f"the optimizer's {name} is {list(tensor.shape)}, the network's {list(parameters[name].shape)}")
            counts = {name: int(facts[name]) for name in ("step", "evaluated_step", "correct", "seen")}
            sums = {name: float(facts[name]) for name in ("loss_sum", "seconds")}
        except (KeyError, TypeError, ValueError) as error:
            raise SnapshotError(f"expected a whole snapshot, found one in which {error} is missing or of another kind") from error

        self.net.load_state_dict(tensors["net"])
        for name, key, tensor in moments:
            parameter = parameters[name]  # in its memory layout, which a fused step takes for granted
            self.optimizer.state[parameter][key] = torch.empty_like(parameter).copy_(tensor) if tensor.ndim else tensor
        self.best = best
        self.step, self.evaluated_step, self.correct, self.seen = counts.values()
        self.loss_sum, self._seconds_before = sums.values()
        self._started = time.perf_counter()
        _put_random_states(tensors["random"])


def count_steps(settings: TrainingSettings, num_images: int) -> int:
    """Steps of a whole run over `num_images` training pictures."""
    return max(1, math.ceil(settings.epochs * num_images / settings.batch_size))


def copy_weights(net: nn.Module) -> dict[str, Tensor]:
    """The weights and statistics of a network as they are now."""
    return copy.deepcopy(net.state_dict())


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)


def _by_kind(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    kinds: dict[str, dict[str, Tensor]] = {"net": {}, "optimizer": {}, "best": {}, "outcomes": {}, "random": {}}
    for full, tensor in tensors.items():
        kind, _, name = full.partition(".")
        kinds.setdefault(kind, {})[name] = tensor
    return kinds


def _check(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """That two networks have the same tensors, by name, shape and type."""
    for name in [*expected, *found]:
        if name not in found or name not in expected:
            raise SnapshotError(
                f"expected the tensors of this network, found {name} only in {'it' if name in expected else 'the snapshot'}"
            )
        if (found[name].shape, found[name].dtype) != (expected[name].shape, expected[name].dtype):
            raise SnapshotError(f"expected {name} of shape {list(expected[name].shape)}, found {list(found[name].shape)}")


def _random_states() -> dict[str, Tensor]:
    """Torch's random generators: of the processor, and of each CUDA device that has been used."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states |= {f"cuda{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _put_random_states(states: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(states["cpu"])
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            if f"cuda{number}" in states:
                torch.cuda.set_rng_state(states[f"cuda{number}"], number)
