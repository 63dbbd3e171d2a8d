"""Which stages of a network learn, how fast, and that the others stay as they are, to the bit.

The notes' rule: the more data, the fewer frozen layers. By the pictures of the smallest class:

    up to 20     a new head on features that are computed once: anything more would learn the pictures by heart
    up to 100    the last part of the features too
    up to 500    the later half
    more         everything, from the weights that are there
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from xxhash import xxh3_64

from provenet.errors import SettingsError, TrainingError, suggest
from provenet.models.classifier import Classifier
from provenet.runtime import one_thread
from provenet.transfer.settings import ALL, CACHED, FROM, HEAD

FEW, SOME, MANY = 20, 100, 500


def choose_mode(net: Classifier, counts: Mapping[str, int]) -> tuple[str, str]:
    """The mode for pictures of each class, by the rule above; and why, in words."""
    name, count = min(counts.items(), key=lambda pair: pair[1])
    with_weights = [stage for stage, module in net.stages.items() if any(True for _ in module.parameters())]
    body = with_weights[:-1]
    if count <= FEW or len(body) < 2:
        mode, rule = CACHED, f"up to {FEW} a class train a new head only"
    elif count <= SOME:
        mode, rule = FROM + body[-1], f"up to {SOME} a class train the last stage of the features too"
    elif count <= MANY:
        mode, rule = FROM + body[len(body) // 2], f"up to {MANY} a class train the later half of the stages"
    else:
        mode, rule = ALL, f"more than {MANY} a class train every stage"
    return mode, f"{name!r} has the fewest pictures, {count:,}, and {rule}"


def frozen_stages(net: Classifier, mode: str) -> list[str]:
    """The stages that do not learn. Raises SettingsError, with names that come close, for a stage that is not there."""
    names = list(net.stages)
    if mode == ALL:
        return []
    if mode in (HEAD, CACHED):
        return names[:-1]
    first = mode.removeprefix(FROM)
    if first not in names:
        raise SettingsError(f"--transfer {mode}: expected a stage of {net.name}, found {first!r}; {suggest(first, names)}")
    return names[: names.index(first)]


@dataclass(frozen=True)
class StageRow:
    """What becomes of one stage."""

    stage: str
    parameters: int
    learns: bool
    rate: float
    """Part of the learning rate; 0 where it does not learn."""
    batch_norm: str
    """`eval` where its statistics stay, `train` where they follow the pictures, empty where there is none."""


@dataclass(frozen=True)
class StagePlan:
    """What becomes of each stage."""

    rows: tuple[StageRow, ...]
    peak_learning_rate: float

    @property
    def rates(self) -> dict[str, float]:
        """Parts of the learning rate by stage, of those that learn."""
        return {row.stage: row.rate for row in self.rows if row.learns}

    def __str__(self) -> str:
        lines = [("stage", "parameters", "learns", "learning rate", "batch norm")]
        for row in self.rows:
            learning_rate = f"{self.peak_learning_rate * row.rate:.3g}" if row.learns and row.parameters else ""
            lines.append((row.stage, f"{row.parameters:,}", "yes" if row.learns else "frozen", learning_rate, row.batch_norm))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        is_number = (False, True, False, True, False)
        return "\n".join(
            "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(line, widths, is_number, strict=True))
            .rstrip()
            for line in lines
        )  # fmt: skip

    def to_dict(self) -> list[dict[str, Any]]:
        """Plain values, a table a stage."""
        return [vars(row) for row in self.rows]


def plan_stages(net: Classifier, mode: str, *, peak_learning_rate: float, depth_rate: float = 1.0) -> StagePlan:
    """Freeze what the mode leaves as it is, and say what becomes of each stage."""
    net.freeze(frozen_stages(net, mode))
    names = list(net.stages)
    with_weights = [name for name, stage in net.stages.items() if any(True for _ in stage.parameters())]
    rows = []
    for name, stage in net.stages.items():
        learns = name not in net.frozen
        steps_from_the_end = sum(names.index(other) > names.index(name) for other in with_weights)
        norms = [module for module in stage.modules() if isinstance(module, nn.BatchNorm2d)]
        rows.append(
            StageRow(
                name,
                sum(parameter.numel() for parameter in stage.parameters()),
                learns,
                depth_rate**steps_from_the_end if learns else 0.0,
                ("train" if learns else "eval") if norms else "",
            )
        )
    return StagePlan(tuple(rows), peak_learning_rate)


class FrozenWatch:
    """Says when what is called frozen is not: asked before each step, and to the bit at evaluations and at the end."""

    def __init__(self, net: Classifier, plan: StagePlan, begun: Mapping[str, Any] | None = None) -> None:
        """`begun` are the `facts` of an earlier sitting of the same run. Raises TrainingError where they are not those of this one."""
        self._net = net
        frozen = [net.get_submodule(name) for name in sorted(net.frozen)]
        self._layers = [layer for stage in frozen for layer in stage.modules()]  # once: there is a look before each step
        self._parameters = [parameter for stage in frozen for parameter in stage.parameters()]
        self._checked_at, self._seconds = 0.0, 0.0
        fingerprint = self._measure()
        now = {"stages": plan.to_dict(), "fingerprint": fingerprint}
        self.facts: dict[str, Any] = dict(begun or now)
        """What becomes of each stage, and a short name for exactly the numbers, parameters and statistics, of the frozen ones."""
        if self.facts.get("stages") != now["stages"]:
            raise TrainingError("expected the plan of stages that the run began with, found another; begin a new run")
        self._compare(fingerprint)

    def check(self) -> None:
        """Raise TrainingError where a frozen stage could change in the next step."""
        for layer in self._layers:
            if layer.training:
                raise TrainingError(f"expected every frozen layer in evaluation mode, found {type(layer).__name__} in training mode")
        for parameter in self._parameters:
            if parameter.requires_grad or parameter.grad is not None:
                raise TrainingError("expected no gradient of a frozen weight, found one; do not change requires_grad while it trains")

    def check_bits(self) -> None:
        """Raise TrainingError where a frozen stage has changed."""
        self._compare(self._measure())

    def check_bits_if_due(self) -> None:
        """The same, but no more often than takes a twentieth of the time."""
        if time.monotonic() - self._checked_at >= 20 * self._seconds:
            self.check_bits()

    def _compare(self, fingerprint: str) -> None:
        if fingerprint != self.facts.get("fingerprint"):
            raise TrainingError(
                f"expected the frozen stages ({', '.join(sorted(self._net.frozen))}) as they were when the run began, to the bit, "
                "found other numbers; put back what changed them, or begin a new run"
            )

    def _measure(self) -> str:
        started_at = time.monotonic()
        state = self._net.state_dict()
        found = fingerprint_of({name: tensor for name, tensor in state.items() if name.partition(".")[0] in self._net.frozen})
        self._checked_at = time.monotonic()
        self._seconds = self._checked_at - started_at
        return found


def fingerprint_of(tensors: Mapping[str, torch.Tensor] | Iterable[tuple[str, torch.Tensor]]) -> str:
    """A short name for exactly these numbers under these names."""
    digest = xxh3_64()
    with one_thread():
        for name, tensor in sorted(dict(tensors).items()):
            values = tensor.detach().cpu().contiguous()
            digest.update(f"{name}\0{values.dtype}\0{list(values.shape)}\0".encode())
            digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
