"""Whether a snapshot is what it should be, before anything is changed by it: its file may be from another run, or from a stranger."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from provenet.errors import SnapshotError
from provenet.metrics import Evaluation
from provenet.outcomes import Outcomes

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Checked:
    """The contents of a snapshot that fits."""

    weights: dict[str, Tensor]
    moments: dict[tuple[nn.Parameter, str], Tensor]
    """What the optimizer keeps of each parameter."""
    best: Evaluation | None
    best_weights: dict[str, Tensor]
    random: dict[str, Tensor]


def check_snapshot(
    tensors: Mapping[str, Tensor], facts: Mapping[str, Any], net: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int
) -> Checked:
    """What a snapshot holds, found to fit the network, its optimizer and a run of so many steps. Raises SnapshotError."""
    kinds: dict[str, dict[str, Tensor]] = {"net": {}, "optimizer": {}, "best": {}, "outcomes": {}, "random": {}}
    for full, tensor in tensors.items():
        kind, _, name = full.partition(".")
        if kind not in kinds:
            raise SnapshotError(f"expected tensors of {', '.join(kinds)}, found {full!r}")
        kinds[kind][name] = tensor
    weights = net.state_dict()
    try:
        _check_facts(facts, num_steps)
        _check_tensors("network", kinds["net"], weights)
        best = None
        if facts["best"] is not None:
            _check_tensors("best network", kinds["best"], weights)
            best = Evaluation.from_dict(facts["best"])
            best = replace(best, outcomes=_check_outcomes(kinds["outcomes"], best))
        moments = _check_moments(kinds["optimizer"], net, optimizer, int(facts["step"]))
        _check_random(kinds["random"])
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise SnapshotError(f"expected a whole snapshot, found one in which {error} is missing or of another kind") from error
    return Checked(kinds["net"], moments, best, kinds["best"], kinds["random"])


def _check_facts(facts: Mapping[str, Any], num_steps: int) -> None:
    found = facts["format_version"], facts["num_steps"]
    if found != (FORMAT_VERSION, num_steps):
        raise SnapshotError(
            f"expected a snapshot of format {FORMAT_VERSION} and a run of {num_steps} steps, found format {found[0]} and {found[1]} steps"
        )
    counts = {name: facts[name] for name in ("step", "evaluated_step", "correct", "seen")}
    is_sound = (
        all(type(count) is int for count in counts.values())
        and 0 <= counts["evaluated_step"] <= counts["step"] <= num_steps
        and 0 <= counts["correct"] <= counts["seen"] < 2**63
        and all(type(facts[name]) in (int, float) and math.isfinite(facts[name]) for name in ("loss_sum", "seconds"))
        and facts["seconds"] >= 0
        and (facts["best"] is None) == (counts["evaluated_step"] == 0)
    )
    if not is_sound:
        raise SnapshotError(f"expected the counts of a run of {num_steps} steps, found others: {counts}")


def _check_tensors(what: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """The same names, shapes and types."""
    for name in [*expected, *found]:
        if name not in found or name not in expected:
            raise SnapshotError(f"expected the tensors of this {what}, found {name} only in {'it' if name in expected else 'the snapshot'}")
        (shape, kind), (found_shape, found_kind) = ((list(side[name].shape), side[name].dtype) for side in (expected, found))
        if (found_shape, found_kind) != (shape, kind):
            raise SnapshotError(f"expected {name} of the {what} as {shape} of {kind}, found {found_shape} of {found_kind}")


def _check_moments(
    found: Mapping[str, Tensor], net: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> dict[tuple[nn.Parameter, str], Tensor]:
    """The momentum of each parameter that is trained: all of them after the first step, none before."""
    momentum = {id(parameter): group["momentum"] for group in optimizer.param_groups for parameter in group["params"]}
    trained = {name: parameter for name, parameter in net.named_parameters() if momentum.get(id(parameter))} if step else {}
    _check_tensors("optimizer", found, {f"{name}.momentum_buffer": parameter for name, parameter in trained.items()})
    return {(trained[name], key): tensor for full, tensor in found.items() for name, _, key in [full.rpartition(".")]}


def _check_outcomes(found: Mapping[str, Tensor], evaluation: Evaluation) -> Outcomes | None:
    """A row for each picture of the evaluation, every class one of its classes."""
    if not found:
        return None
    whole = torch.empty(evaluation.images, dtype=torch.int64, device="meta")
    part = torch.empty(evaluation.images, dtype=torch.float32, device="meta")
    wanted = {"labels": whole, "predicted": whole, "confidence": part, "own": part}
    wanted |= {name: part for name in ("calibrated", "temperature") if name in found}
    _check_tensors("best evaluation", found, wanted)
    for name, least in (("labels", 0), ("predicted", -1)):
        if not ((found[name] >= least) & (found[name] < len(evaluation.classes))).all():
            raise SnapshotError(f"expected {name} of {len(evaluation.classes)} classes, found others")
    if not all(((found[name] >= 0) & (found[name] <= 1)).all() for name in ("confidence", "own", "calibrated") if name in found):
        raise SnapshotError("expected probabilities, found other numbers")
    if "temperature" in found and not (found["temperature"].isfinite() & (found["temperature"] > 0)).all():
        raise SnapshotError("expected temperatures above 0, found other numbers")
    return Outcomes(**found)


def _check_random(found: Mapping[str, Tensor]) -> None:
    expected = torch.get_rng_state()
    if "cpu" not in found:
        raise SnapshotError("expected the state of the random generator, found none")
    _check_tensors("random generator", {"cpu": found["cpu"]}, {"cpu": expected})
