"""The result of an evaluation for people and for machines: classes, measures with intervals, and how sure the network is."""

import os
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from provenet.evaluation.measures import Answers, Measured, measure
from provenet.evaluation.predictions import Predictions, load_predictions
from provenet.evaluation.temperature import fit_temperature, with_calibrated
from provenet.metrics import Evaluation, Totals
from provenet.outcomes import calibration, confusions, measure_classes
from provenet.runs.scores import Scored
from provenet.runs.watcher import Silent, Watcher


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was found on some pictures."""

    evaluation: Evaluation | None
    """None where no picture has a label."""
    measures: dict[str, Measured]
    """By name, see `evaluation.measures.MEASURES`; none where what was said of each picture was not kept."""
    predicted: dict[str, int]
    """How many pictures were taken for each class; those without labels too."""
    temperature: float | None = None
    """By which logits would be divided for the network to be as often right as it says; None where there are too few pictures."""
    calibrated_error: float | None = None
    """The calibration error then; each half of the pictures at the temperature of the other."""
    views: str = ""
    milliseconds: float | None = None
    """For a picture."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        about: dict[str, Any] = {"predicted": self.predicted}
        if self.views:
            about |= {"views": self.views, "milliseconds": self.milliseconds}
        if self.evaluation is None:
            return {"images": sum(self.predicted.values())} | about
        measures = {name: number.to_dict() for name, number in self.measures.items()}
        fitted = {"temperature": self.temperature, "calibrated_error": self.calibrated_error}
        return self.evaluation.to_dict() | self._by_class() | {"measures": measures} | fitted | about

    def _by_class(self) -> dict[str, Any]:
        """Precision, recall and F1 of each class, null where they are not defined; and the confusions: true, predicted, pictures."""
        evaluation = self.evaluation
        if evaluation is None or evaluation.outcomes is None:
            return {}
        names = [score.name for score in evaluation.classes]
        measured = measure_classes(evaluation.outcomes, len(names))
        rows = {
            name: {"precision": found.precision, "recall": found.recall, "f1": found.f1}
            for name, found in zip(names, measured, strict=True)
        }
        mistakes = confusions(evaluation.outcomes, len(names))
        return {"by_class": rows, "confusions": [[names[true], names[taken], images] for true, taken, images in mistakes]}


def result_of(scored: Scored) -> Result:
    """Of what was just scored."""
    if scored.predictions is None:
        return Result(evaluation=scored.evaluation, measures={}, predicted={}, views=scored.views.name, milliseconds=scored.milliseconds)
    return _result(scored.predictions, scored.evaluation, scored.views.name, scored.milliseconds)


def result_of_file(path: str | os.PathLike[str], *, skip_broken: bool = False, watcher: Watcher | None = None) -> Result:
    """The same sums of predictions that were saved, without a network."""
    watcher = watcher or Silent()
    predictions, left_out = load_predictions(path, leave_out_broken=skip_broken)
    if left_out:
        watcher.note(f"{left_out:,} rows without numbers were left out")
    known = predictions.labels >= 0
    if not known.all() and known.any():
        watcher.note(f"{(~known).sum():,} of {len(known):,} pictures have no label and do not count")
    evaluation = None
    if known.any():
        totals = Totals(len(predictions.classes))
        logits = predictions.logits[torch.from_numpy(known)]
        totals.add(logits, torch.from_numpy(predictions.labels[known]))
        evaluation = with_calibrated(totals.result(predictions.classes), logits)
    return _result(predictions, evaluation)


def _result(predictions: Predictions, evaluation: Evaluation | None, views: str = "", milliseconds: float | None = None) -> Result:
    taken = Counter(predictions.logits.argmax(1).tolist())
    predicted = {name: taken[number] for number, name in enumerate(predictions.classes)}
    if evaluation is None:
        return Result(evaluation=None, measures={}, predicted=predicted, views=views, milliseconds=milliseconds)
    known = np.flatnonzero(predictions.labels >= 0)
    logits, labels = predictions.logits[known], torch.from_numpy(predictions.labels[known])
    measures = measure(Answers(logits, labels))
    calibrated = evaluation.outcomes.when_calibrated if evaluation.outcomes else None
    return Result(
        evaluation=evaluation,
        measures=measures,
        predicted=predicted,
        temperature=fit_temperature(logits, labels) if calibrated else None,
        calibrated_error=calibration(calibrated).error if calibrated else None,
        views=views,
        milliseconds=milliseconds,
    )


def show_result(result: Result) -> str:
    """A line a class, then the measures, the most asked for last."""
    found = result.evaluation
    if found is None:
        width = max(map(len, result.predicted))
        lines = [f"{name:{width}}  {count:,}" for name, count in result.predicted.items() if count]
        return "\n".join([*lines, f"{sum(result.predicted.values()):,} pictures without labels, as they were named"])
    lines = _class_lines(found)
    if result.measures:
        named = (("top1", "top-1"), ("balanced_accuracy", "balanced accuracy"), ("macro_f1", "F1 over classes"))
        lines.append(", ".join(f"{words} {_percent(result.measures[name])}" for name, words in named))
        sure = f"calibration error {_percent(result.measures['calibration_error'])}"
        if result.temperature is not None and result.calibrated_error is not None:
            sure += (
                f"; divided by a temperature of {result.temperature:.2f} (as `provenet calibrate` stores): {result.calibrated_error:.2%}"
            )
        lines.append(f"{sure} (in brackets: where 95 % of such sets of pictures would lie)")
    lines.append(f"{found.images:,} images: top-1 {found.top1:.2%}, top-5 {found.top5:.2%}, loss {found.loss:.4f}")
    return "\n".join(lines)


def _class_lines(found: Evaluation) -> list[str]:
    """A line a class: its pictures, and where what became of each is known, recall, precision and F1."""
    width = max(5, *(len(score.name) for score in found.classes))
    if found.outcomes is None:
        recalls = ["none" if score.top1 is None else f"{score.top1:.2%}" for score in found.classes]
        return [f"{score.name:{width}}  {recall:>7} of {score.images:,}" for score, recall in zip(found.classes, recalls, strict=True)]
    lines = [f"{'class':{width}}  pictures   recall  precision       F1"]
    for score, measured in zip(found.classes, measure_classes(found.outcomes, len(found.classes)), strict=True):
        cells = ["–" if value is None else f"{value:.2%}" for value in (measured.recall, measured.precision, measured.f1)]
        lines.append(f"{score.name:{width}}  {score.images:8,}  {cells[0]:>7}  {cells[1]:>9}  {cells[2]:>7}")
    return lines


def _percent(number: Measured) -> str:
    return f"{number.value:.2%} ({number.low:.2%} to {number.high:.2%})"
