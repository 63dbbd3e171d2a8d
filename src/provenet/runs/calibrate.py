"""A trained network's temperature: fitted to pictures that it was not trained on, judged on others, and stored in its bundle."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from provenet.errors import DataError, printable, show_path
from provenet.evaluation.measures import Answers, Measured, measure
from provenet.evaluation.temperature import LEAST_TO_CALIBRATE, cross_fitted, fit_temperature
from provenet.runs.evaluate import score_models
from provenet.runs.folder import LOCK_NAME, RunFolder
from provenet.runs.tabulate import answers_of, kept
from provenet.runs.watcher import Silent, Watcher
from provenet.weights.bundle import LEAST_TEMPERATURE, MOST_TEMPERATURE, check_bundle_path, load_bundle, save_bundle


@dataclass(frozen=True, kw_only=True)
class Calibrated:
    """What a temperature does to a network's probabilities; its labels stay as they are."""

    bundle: Path
    """Where it is stored, if it helps."""
    data: str
    num_images: int
    was: float
    """The temperature that the bundle had; 1 for none."""
    temperature: float
    """The one fitted to all of the pictures."""
    error_before: Measured
    """The expected calibration error at the temperature it had."""
    error_after: Measured
    """At a new one: each half of the pictures at the temperature that was fitted to the other."""
    loss_before: float
    loss_after: float

    @property
    def helps(self) -> bool:
        """Whether the network's probabilities of pictures that it was not fitted to are better than before."""
        return self.loss_after < self.loss_before

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"bundle": str(self.bundle), "helps": self.helps}


def calibrate(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str],
    *,
    output: str | os.PathLike[str] | None = None,
    split: str | None = None,
    watcher: Watcher | None = None,
    **options: Any,
) -> Calibrated:
    """Fit the temperature of a bundle to labelled pictures and store it there, or in `output`; where it would not help, the old one stays.

    Temperature scaling (Guo et al. 2017, 'On Calibration of Modern Neural Networks'): logits are divided by one number, for which the loss
    is least. The pictures are the validation pictures, or what was held out in training, where there are any; `options` are `skip_broken`,
    `device`, `engine` and `precision`. Raises DataError where they are too few, or all are recognised, so that there is nothing to fit.
    """
    path = Path(model) / "model.safetensors" if os.path.isdir(model) else Path(model)
    target = path if output is None else Path(output)
    if output is not None:
        check_bundle_path(target)
    with _alone(target):
        bundle = load_bundle(path)
        untempered = replace(bundle, temperature=1.0)
        scored = score_models(
            [untempered], data, split=split, names=[show_path(model)], prefers_held_out=True, watcher=watcher or Silent(), **options
        )[0]
        answers, predictions = answers_of(kept(scored)), kept(scored)
        known = torch.from_numpy(predictions.labels >= 0)
        logits, labels = predictions.logits[known], torch.from_numpy(predictions.labels)[known]
        if len(labels) < LEAST_TO_CALIBRATE:
            raise DataError(
                f"{scored.images.name}: expected at least {LEAST_TO_CALIBRATE} pictures with labels to fit a temperature to, "
                f"found {len(labels)}; give more"
            )
        fitted = fit_temperature(logits, labels)
        if not LEAST_TEMPERATURE < fitted < MOST_TEMPERATURE or answers.is_right.all():
            raise DataError(
                f"{scored.images.name}: expected pictures of which some are recognised and some are not, found that no temperature "
                f"is best ({answers.is_right.sum():,} of {len(labels):,} are recognised); give others"
            )
        before, after = Answers(logits / bundle.temperature, labels), Answers(cross_fitted(logits, labels), labels)
        found = Calibrated(
            bundle=target,
            data=scored.images.name,
            num_images=len(labels),
            was=bundle.temperature,
            temperature=fitted,
            error_before=measure(before)["calibration_error"],
            error_after=measure(after)["calibration_error"],
            loss_before=float(before.losses.mean()),
            loss_after=float(after.losses.mean()),
        )
        if not found.helps and target != path:
            save_bundle(bundle, target)
        if found.helps:
            about = {name: value for name, value in found.to_dict().items() if name not in ("bundle", "helps")}
            save_bundle(replace(bundle, temperature=fitted, provenance={**bundle.provenance, "calibration": about}), target)
    return found


@contextlib.contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Nobody else writes into the run folder that the bundle is in. Raises SettingsError where a run is at work there."""
    if not os.path.exists(target.parent / LOCK_NAME):
        yield
        return
    folder = RunFolder(target.parent)
    try:
        yield
    finally:
        folder.release()


def show_calibrated(found: Calibrated) -> str:
    """What was found, and what became of it."""
    had = "" if found.was == 1 else f" (it was {found.was:.3f})"
    stored = f"{show_path(found.bundle)} divides its logits by it from now on; its labels are the same"
    lines = (
        f"temperature {found.temperature:.3f}{had}, fitted to {found.num_images:,} pictures of {printable(found.data)}",
        f"calibration error {_show(found.error_before)} before, {_show(found.error_after)} after",
        f"loss {found.loss_before:.4f} before, {found.loss_after:.4f} after",
        "after: each half of the pictures at the temperature that was fitted to the other",
        stored if found.helps else f"it would not help: {show_path(found.bundle)} has the temperature that it had",
    )
    return "\n".join(lines)


def _show(number: Measured) -> str:
    return f"{number.value:.2%} ({number.low:.2%} to {number.high:.2%})"
