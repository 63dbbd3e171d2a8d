"""Several trained networks as one: their scores averaged, with weights or without, and whether that helps."""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from provenet.errors import DataError, ModelError, ProvenetError, SettingsError, printable, show_path
from provenet.evaluation.combine import Joined, average, fit_weights, join, select
from provenet.evaluation.measures import Answers, mcnemar
from provenet.models.ensemble import Combine, Ensemble, Member, sees_exactly
from provenet.outcomes import wilson_interval
from provenet.runs.evaluate import score_models
from provenet.runs.tabulate import kept
from provenet.runs.watcher import Silent, Watcher
from provenet.weights.bundle import Bundle, check_bundle_path, load_bundle, save_bundle

Choose = Literal["all", "weights", "greedy"]
"""Of the members: all alike; weights for which the loss is least; or greedily, the one that helps most, again and again."""
LEAST_SHARE = 0.002
"""A member that counts less is left out: it costs as much as any other."""


@dataclass(frozen=True, kw_only=True)
class MemberFound:
    """One network, alone and in the ensemble."""

    name: str
    share: float
    """Its weight; all of them are 1 together. 0 for one that was not chosen."""
    top1: float
    loss: float
    without_top1: float | None
    """Of the ensemble without it; None where nothing would be left, or it is not in it."""
    without_loss: float | None


@dataclass(frozen=True, kw_only=True)
class EnsembleFound:
    """What became of some networks together, on pictures that none was trained on."""

    data: str
    num_images: int
    members: tuple[MemberFound, ...]
    chosen_on: str
    """Which pictures weights were fitted to; empty where all count alike."""
    top1: float
    interval: tuple[float, float]
    loss: float
    best: str
    """The member that is the best alone, and how often it is right."""
    best_top1: float
    best_loss: float
    chance: float
    """How probable so large a difference from the best member is if both are equally good (McNemar)."""
    bundle: Path | None = None
    bundle_top1: float | None = None
    """Of the bundle that was written, run as one model."""
    num_changed: int | None = None
    """Of the pictures, how many the bundle names otherwise than the average does."""

    @property
    def num_members(self) -> int:
        """Those that count."""
        return sum(member.share > 0 for member in self.members)

    @property
    def helps(self) -> bool:
        """Whether it is right more often than its best member, and that is hardly chance."""
        return self.top1 > self.best_top1 and self.chance <= 0.05

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"bundle": None if self.bundle is None else str(self.bundle), "helps": self.helps}


def make_ensemble(
    models: Sequence[str | os.PathLike[str]],
    data: str | os.PathLike[str],
    *,
    choose: Choose = "all",
    combine: Combine = "probabilities",
    output: str | os.PathLike[str] | None = None,
    views: str = "center",
    split: str | None = None,
    skip_broken: bool = False,
    watcher: Watcher | None = None,
    **options: Any,
) -> EnsembleFound:
    """Average what the networks say of the pictures; `output` is a bundle to write, a model.safetensors that is used like any other.

    Weights are fitted to validation pictures, or to what was held out; where there are none but those that it is judged on, each half of
    these is judged with the weights of the other. `options` are `device`, `engine` and `precision`.

    With `skip_broken`, pictures that cannot be decoded and networks that answer with no numbers are left out, each with a note.
    """
    watcher = watcher or Silent()
    if choose not in get_args(Choose):
        raise SettingsError(f"--choose: expected {', '.join(get_args(Choose))}, found {choose!r}")
    if choose != "all" and combine != "probabilities":
        raise SettingsError("--combine: expected probabilities where members are chosen or weighted, found logits; leave one out")
    if output is not None:
        check_bundle_path(Path(output))
    bundles = _load_members(models, skip_broken=skip_broken, watcher=watcher)
    options |= {"views": [views], "skip_broken": skip_broken, "watcher": watcher}

    def joined_on(split: str | None) -> tuple[Joined, str]:
        members = dict(bundles)
        on_failed = failed if skip_broken else None
        scored = score_models(list(members.values()), data, names=list(members), split=split, on_failed=on_failed, **options)
        return join([kept(each) for each in scored]), scored[0].images.name

    def failed(name: str, error: ModelError) -> None:
        watcher.note(f"left out: {name}: {error}")
        del bundles[name]

    judged, judged_on = joined_on(split)
    if not (judged.labels >= 0).any():
        raise DataError(f"{os.fspath(data)}: expected pictures with labels to judge an ensemble on, found none; give labelled ones")
    chosen_on, weights, logits = (
        "",
        torch.full((len(bundles),), 1 / len(bundles), dtype=torch.float64),
        average(judged.probabilities, combine=combine),
    )
    if choose != "all":
        fitted = _other_pictures(lambda: joined_on("val"), judged_on)
        chosen_on = "each half of the pictures for the other" if fitted is None else f"{len(fitted.paths):,} other pictures, held out"
        weights = _weights(fitted or judged, choose)
        logits = _cross_fitted(judged, choose) if fitted is None else average(judged.probabilities, weights)
    found = _summarise(os.fspath(data), list(bundles), judged, weights, logits, combine, chosen_on)
    return found if output is None else _write(Path(output), found, bundles, judged, combine, data, split, options)


def _load_members(models: Sequence[str | os.PathLike[str]], *, skip_broken: bool, watcher: Watcher) -> dict[str, Bundle]:
    """By the names that tables show."""
    found: dict[str, Bundle] = {}
    for model in models:
        name = show_path(model)
        while name in found:
            name += "'"
        try:
            found[name] = load_bundle(model)
        except ProvenetError as error:
            if not skip_broken:
                raise
            watcher.note(f"left out: {error}")
    if len(found) < 2:
        raise SettingsError(f"ensemble: expected at least two networks and then DATA, found {len(found)}; name more, or evaluate the one")
    return found


def _other_pictures(score: Callable[[], tuple[Joined, str]], judged_on: str) -> Joined | None:
    """Held-out pictures to fit weights to, where there are others than those that it is judged on, which are of another set."""
    try:
        found, name = score()
    except DataError:
        return None
    return None if name == judged_on or not (found.labels >= 0).any() else found


def _weights(joined: Joined, choose: Choose) -> Tensor:
    """[M], which add up to 1; 0 of those that would count too little."""
    weights = fit_weights(joined) if choose == "weights" else select(joined).weights(len(joined.probabilities))
    shares = weights / weights.sum()
    shares = torch.where(shares < LEAST_SHARE, 0.0, shares)
    return shares / shares.sum()


def _cross_fitted(judged: Joined, choose: Choose) -> Tensor:
    """Logarithms of averages [N, K], every second picture with weights of the others."""
    logits = torch.empty(judged.probabilities.shape[1:], dtype=torch.float64)
    is_even = np.arange(len(judged.labels)) % 2 == 0
    for chosen in (is_even, ~is_even):
        others = Joined(judged.classes, [], judged.labels[~chosen], judged.probabilities[:, torch.from_numpy(~chosen)])
        weights = _weights(others, choose) if (others.labels >= 0).any() else None
        logits[torch.from_numpy(chosen)] = average(judged.probabilities[:, torch.from_numpy(chosen)], weights)
    return logits


def _summarise(
    data: str, names: Sequence[str], judged: Joined, shares: Tensor, logits: Tensor, combine: Combine, chosen_on: str
) -> EnsembleFound:
    labels = torch.from_numpy(judged.labels)
    alone = [Answers(average(each[None]), labels) for each in judged.probabilities]
    together = Answers(logits, labels)
    best = min(range(len(names)), key=lambda k: (-alone[k].top(1), float(alone[k].losses.mean())))
    members = []
    for k, name in enumerate(names):
        others = shares.clone()
        others[k] = 0
        is_needed = bool(shares[k] > 0) and bool(others.sum() > 0)
        without = Answers(average(judged.probabilities, others, combine), labels) if is_needed else None
        members.append(
            MemberFound(
                name=name,
                share=float(shares[k]),
                top1=alone[k].top(1),
                loss=float(alone[k].losses.mean()),
                without_top1=without.top(1) if without else None,
                without_loss=float(without.losses.mean()) if without else None,
            )
        )
    return EnsembleFound(
        data=data,
        num_images=len(together),
        members=tuple(members),
        chosen_on=chosen_on,
        top1=together.top(1),
        interval=wilson_interval(int(together.is_right.sum()), len(together)),
        loss=float(together.losses.mean()),
        best=names[best],
        best_top1=alone[best].top(1),
        best_loss=float(alone[best].losses.mean()),
        chance=mcnemar(together.is_right, alone[best].is_right).p_value,
    )


def _write(
    path: Path,
    found: EnsembleFound,
    bundles: dict[str, Bundle],
    judged: Joined,
    combine: Combine,
    data: str | os.PathLike[str],
    split: str | None,
    options: dict[str, Any],
) -> EnsembleFound:
    """The bundle, and what it answers as one model."""
    chosen = [member for member in found.members if member.share > 0]
    members = [Member(each.network, each.classes, each.preprocessing, each.temperature) for each in (bundles[m.name] for m in chosen)]
    net = Ensemble(members, [member.share for member in chosen], combine).eval()
    rule = net.input_spec.preprocessing
    watcher: Watcher = options["watcher"]
    for member, each in zip(chosen, members, strict=True):
        if not sees_exactly(each.preprocessing, rule):
            own = f"{each.preprocessing.resize} pixels, {each.preprocessing.interpolation}"
            watcher.note(
                f"{member.name} sees stored squares of {own}; as one model it sees those of {rule.resize} resized: nearly the same"
            )
    made_of = [{"name": member.name, "share": member.share, "provenance": bundles[member.name].provenance} for member in chosen]
    bundle = Bundle(net, net.classes, rule, {"ensemble": {"members": made_of, "top1": found.top1, "images": found.num_images}})
    save_bundle(bundle, path)
    scored = kept(score_models([path], data, split=split, trained_on=list(bundles.values()), **options)[0])
    answers = Answers(scored.logits, torch.from_numpy(scored.labels))
    joined = average(judged.probabilities, torch.tensor([member.share for member in found.members]), combine)
    names = [judged.classes[k] for k in joined.argmax(1).tolist()]
    changed = sum(name != net.classes[k] for name, k in zip(names, scored.logits.argmax(1).tolist(), strict=True))
    return EnsembleFound(**{**vars(found), "bundle": path, "bundle_top1": answers.top(1), "num_changed": changed})


HEADINGS = ("member", "weight", "top-1", "loss", "without it: top-1", "loss")


def show_ensemble(found: EnsembleFound) -> str:
    """A row for each member, then what they are together, and whether it is worth it."""
    rows = [HEADINGS, *map(_cells, found.members)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = []
    for row in rows:
        right = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join([row[0].ljust(widths[0]), *right]).rstrip())
    return "\n".join([*lines, "", *conclude(found)])


def conclude(found: EnsembleFound) -> list[str]:
    """What follows, a line each."""
    low, high = found.interval
    together = f"top-1 {found.top1:.2%} ({low:.2%} to {high:.2%}), loss {found.loss:.4f}"
    best, number = printable(found.best), found.num_members
    lines = [f"{number} together: {together}, on {found.num_images:,} pictures"]
    if found.chosen_on:
        lines.append(f"weights were fitted to {found.chosen_on}")
    lines.append(f"{best}, the best alone: top-1 {found.best_top1:.2%}, loss {found.best_loss:.4f}")
    chance = f"so large a difference is chance with probability {found.chance:.2g} (McNemar)"
    if found.helps:
        lines.append(f"it helps: {chance}; it takes {number} times the work")
    elif found.top1 > found.best_top1:
        lines.append(f"these pictures do not tell whether it helps: {chance}")
    else:
        lines.append(f"it does not help: {best} alone is right as often, with a part of the work")
    if found.bundle is not None:
        others = f"{found.num_changed:,} of {found.num_images:,} pictures named otherwise than above"
        lines.append(f"{show_path(found.bundle)} is all of it as one model: top-1 {found.bundle_top1:.2%}, {others}")
    return lines


def _cells(member: MemberFound) -> tuple[str, ...]:
    """For a table, under HEADINGS."""
    share = f"{member.share:.3f}" if member.share else "–"
    alone = (printable(member.name), share, f"{member.top1:.2%}", f"{member.loss:.4f}")
    if member.without_top1 is None or member.without_loss is None:
        return (*alone, "", "")
    return (*alone, f"{member.without_top1:.2%}", f"{member.without_loss:.4f}")
