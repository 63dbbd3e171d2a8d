"""The page: one HTML file with everything in it. It fetches nothing and sends nothing, and says so to the browser.

Names of classes and files come from strangers: the templates escape them, what the scripts read is JSON in which no tag can end, and
the browser is told to run only the scripts whose digests the page names.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from provenet.files import write_whole
from provenet.outcomes import Calibration
from provenet.report.arranged import show_examples, show_look_alikes, show_mistakes
from provenet.report.circumstances import MOST_CLASS_ROWS, show_data, show_settings
from provenet.report.compared_page import describe_views, show_comparison
from provenet.report.curves import Curves, draw_curves
from provenet.report.facts import EvaluatedPart, RunFacts
from provenet.report.findings import ClassRow, Findings, find
from provenet.report.frame import render
from provenet.report.guarded import number, table, words

LARGEST_TABLE = 25
"""Classes of a confusion matrix that is shown as a table of numbers; with more it is a map, and a list of the most confused pairs."""
LARGEST_MAP = 2_000
MOST_PAIRS = 40
MOST_EPOCH_ROWS = 200
SECONDS_BETWEEN_RELOADS = 30


def write_report(path: Path, facts: RunFacts) -> None:
    """Write the page whole or not at all. Raises OSError where it cannot be written."""
    write_whole(path, render_report(facts).encode("utf-8", "replace"))


def render_report(facts: RunFacts) -> str:
    """The page as text; the same facts give the same page."""
    curves = draw_curves(facts.events)
    parts = [(part, find(part.evaluation)) for part in facts.ordered_parts if part.evaluation.images]
    context = {
        "facts": facts,
        "parts": [_part_context(number, part, findings) for number, (part, findings) in enumerate(parts)],
        "shown_views": describe_views(facts.views) if facts.views != "center" else None,
        "views": show_comparison(facts.compared) if facts.compared else None,
        "curves": curves,
        "epoch_rows": _epoch_rows(curves),
        "progress": _progress(facts, curves),
        "loss_differs": _loss_differs(facts),
        "settings": show_settings(facts),
        "data": show_data(facts.data, facts.classes),
        "trained_on": show_data(facts.trained_on, facts.classes),
        "machine": words(facts.machine),
        "versions": words(facts.versions),
    }
    return render("report.html", facts.title, context, _data_of_scripts(facts, curves, parts))


def _part_context(number: int, part: EvaluatedPart, findings: Findings) -> dict[str, Any]:
    """What the templates show of one evaluated part."""
    examples = show_examples(part.gallery)
    rows = _class_rows(findings)
    return {
        "number": number,
        "split": part.split,
        "num_trained_on": part.num_trained_on,
        "findings": findings,
        "digits": 2 if findings.images >= 1_000 else 1,
        "matrix": _matrix(findings) if len(findings.classes) <= LARGEST_TABLE and findings.cells else None,
        "has_map": LARGEST_TABLE < len(findings.classes) <= LARGEST_MAP,
        "pairs": findings.pairs[:MOST_PAIRS],
        "rows": rows,
        "examples": examples,
        "num_with_pictures": sum(row.images > 0 for row in rows),
        "num_with_examples": sum(row.number in examples for row in rows),
        "look_alikes": show_look_alikes(part.gallery, findings),
        "diagrams": [
            _diagram(measured) for measured in (findings.calibration, findings.calibrated and findings.calibrated.calibration) if measured
        ],
        "mistakes": show_mistakes(part.gallery),
        "pictures": [shown for shown in part.gallery.pictures.values() if shown.picture],
    }


def _data_of_scripts(facts: RunFacts, curves: Curves, parts: Sequence[tuple[EvaluatedPart, Findings]]) -> dict[str, Any]:
    return {
        "state": facts.state,
        "reload_seconds": SECONDS_BETWEEN_RELOADS,
        "curves": {"steps": _short(curves.steps), "epochs": _short(curves.epochs), "best": curves.best, "resumed": curves.resumed},
        "classes": list(facts.classes) if len(facts.classes) <= LARGEST_MAP else [],
        "parts": [_part_data(part, findings) for part, findings in parts],
    }


def _part_data(part: EvaluatedPart, findings: Findings) -> dict[str, Any]:
    """What the scripts read of one evaluated part."""
    measured = findings.calibration
    return {
        "split": part.split,
        "images": findings.images,
        "correct": findings.correct,
        "top1": findings.top1,
        "interval": findings.interval,
        "calibration_error": measured.error if measured else None,
        "cells": [value for cell in findings.cells for value in cell] if len(findings.classes) <= LARGEST_MAP else [],
        "class_images": [row.images for row in findings.classes] if len(findings.classes) <= LARGEST_MAP else [],
    }


def _matrix(findings: Findings) -> list[list[dict[str, Any]]]:
    """The cells of the table: count, part of its row, and how strongly to colour it (square roots, so that rare mistakes show)."""
    counts = {(true, taken): images for true, taken, images in findings.cells}
    rows = []
    for true in findings.classes:
        cells = []
        for taken in findings.classes:
            images = counts.get((true.number, taken.number), 0)
            fraction = images / true.images if true.images else 0.0
            heat = fraction if taken is true else fraction**0.5
            cells.append({"images": images, "fraction": fraction, "heat": round(heat, 3)})
        rows.append(cells)
    return rows


def _class_rows(findings: Findings) -> list[ClassRow]:
    """The hardest first, then those without pictures."""
    weakest = findings.weakest
    if len(weakest) < len(findings.classes):
        shown = {row.number for row in weakest}
        weakest += [row for row in findings.classes if row.number not in shown]
    return weakest[:MOST_CLASS_ROWS]


def _diagram(measured: Calibration) -> dict[str, Any]:
    """A reliability diagram; each bin has the height of its pictures relative to the fullest."""
    fullest = max(bar.images for bar in measured.bins)
    return {"measured": measured, "bars": [{"bin": bar, "height": bar.images / fullest} for bar in measured.bins]}


def _short(columns: Mapping[str, list[float | None]]) -> dict[str, list[float | None]]:
    """Six digits are more than a chart can show."""
    return {name: [None if value is None else float(f"{value:.6g}") for value in column] for name, column in columns.items()}


def _epoch_rows(curves: Curves) -> list[dict[str, float | None]]:
    """The last evaluations as a table: for those who cannot see a chart, and for paper."""
    columns = curves.epochs
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return rows[-MOST_EPOCH_ROWS:]


def _progress(facts: RunFacts, curves: Curves) -> dict[str, float] | None:
    """How far a run has come that is still going on, and about how long it will take."""
    total = number(table(table(facts.settings).get("training")).get("epochs"))
    done = next((column[-1] for column in (curves.steps["epoch"], curves.epochs["epoch"]) if column), None)
    if facts.state == "ended" or facts.state == "evaluated" or not total or total <= 0 or done is None:
        return None
    fraction = min(1.0, max(0.0, done / total))
    measured = [(row["epoch"], row["seconds"]) for row in _epoch_rows(curves) if row["epoch"] and row["seconds"]]
    left = measured[-1][1] * (total - done) / measured[-1][0] if measured else -1.0  # type: ignore[operator]
    return {"done": done, "total": total, "fraction": fraction, "seconds_left": left}


def _loss_differs(facts: RunFacts) -> bool:
    """Whether the loss trained on is another than the cross-entropy of the evaluations, so that the two cannot be compared."""
    training = table(table(facts.settings).get("training"))
    return training.get("loss", "cross_entropy") != "cross_entropy" or bool(number(training.get("label_smoothing")))
