"""The page: one HTML file with everything in it. It fetches nothing and sends nothing, and says so to the browser.

Names of classes and files come from strangers: the templates escape them, what the scripts read is JSON in which no tag can end, and
the browser is told to run only the scripts whose digests the page names.
"""

import base64
import hashlib
import io
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from provenet.outcomes import Bin
from provenet.report.curves import Curves, draw_curves
from provenet.report.facts import EvaluatedPart, RunFacts
from provenet.report.findings import ClassRow, Findings, find, share
from provenet.report.guarded import number, table, whole, word, words
from provenet.report.writing import write_whole
from provenet.version import __version__

LARGEST_TABLE = 25
"""Classes of a confusion matrix that is shown as a table of numbers; with more it is a map, and a list of the most confused pairs."""
LARGEST_MAP = 2_000
MOST_PAIRS = 40
MOST_CLASS_ROWS = 1_000
MOST_EPOCH_ROWS = 200
LARGEST_LOSSLESS_PIXELS = 96 * 96
SECONDS_BETWEEN_RELOADS = 30

STYLES = ("uplot/uPlot.min.css", "templates/report.css")
SCRIPTS = ("templates/head.js", "uplot/uPlot.iife.min.js", "templates/report.js")
POLICY = "default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def write_report(path: Path, facts: RunFacts) -> None:
    """Write the page whole or not at all. Raises OSError where it cannot be written."""
    write_whole(path, render_report(facts))


def render_report(facts: RunFacts) -> str:
    """The page as text; the same facts give the same page."""
    curves = draw_curves(facts.events)
    parts = [(part, find(part.evaluation)) for part in facts.ordered_parts if part.evaluation.images]
    scripts = {name: _asset(name) for name in SCRIPTS}
    context = {
        "facts": facts,
        "parts": [_part_context(part, findings) for part, findings in parts],
        "curves": curves,
        "epoch_rows": _epoch_rows(curves),
        "progress": _progress(facts, curves),
        "loss_differs": _loss_differs(facts),
        "settings": show_settings(facts),
        "data": show_data(facts.data, facts.classes),
        "trained_on": show_data(facts.trained_on, facts.classes),
        "machine": words(facts.machine),
        "versions": words(facts.versions),
        "embedded": embed(_data_of_scripts(facts, curves, parts)),
        "policy": POLICY.format(digests=" ".join(_digest(text) for text in scripts.values())),
        "styles": [Markup(_asset(name)) for name in STYLES],
        "scripts": {name: Markup(text) for name, text in scripts.items()},
        "uplot_license": _asset("uplot/LICENSE"),
        "version": __version__,
    }
    return _environment().get_template("report.html").render(context)


def embed(value: Any) -> Markup:
    r"""JSON for a script element of type application/json: nothing in it can end the element or begin a comment.

    >>> print(embed(["</script><!--"]))
    ["\u003c/script\u003e\u003c!--"]
    """
    written = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return Markup(written)


def bilingual(english: str, chinese: str, **values: Any) -> Markup:
    """A text in both languages, of which the page shows one; `values` are put in and escaped.

    >>> bilingual("of {name}", "{name} 的", name="<b>")
    Markup('<span class="en" lang="en">of &lt;b&gt;</span><span class="zh" lang="zh-CN">&lt;b&gt; 的</span>')
    """
    spans = '<span class="en" lang="en">{}</span><span class="zh" lang="zh-CN">{}</span>'
    return Markup(spans).format(Markup(english).format(**values), Markup(chinese).format(**values))


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction for people; only all and nothing are shown as 100 % and 0 %.

    >>> [percent(fraction) for fraction in (0.8831, 0.99999, 1.0, 0.0001, 0.0, None)]
    ['88.3%', '99.9%', '100.0%', '<0.1%', '0.0%', '–']
    """
    if fraction is None:
        return "–"
    shown = f"{fraction:.{digits}%}"
    if fraction and float(shown[:-1]) == 0:
        return f"<{10**-digits:.{digits}f}%"
    return f"{100 - 10**-digits:.{digits}f}%" if shown.startswith("100") and fraction < 1 else shown


def duration(seconds: float | None) -> str:
    """A time in two units at most.

    >>> [duration(seconds) for seconds in (0.84, 42.3, 125, 7_322, 200_000)]
    ['0.8 s', '42 s', '2 min 5 s', '2 h 2 min', '2 d 7 h']
    """
    if seconds is None:
        return ""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def show_settings(facts: RunFacts) -> dict[str, dict[str, str]]:
    """The settings by section, as words; of where the data were only the last part, since a report is sent to others."""
    known = ("run", "preprocessing", "distortion", "training")
    given = table(facts.settings)
    sections = {word(name): words(given[name]) for name in (*[name for name in known if name in given], *sorted(set(given) - set(known)))}
    if "data" in sections.get("run", {}):
        sections["run"]["data"] = re.split(r"[/\\]", sections["run"]["data"].rstrip("/\\"))[-1]
    return {name: section for name, section in sections.items() if section}


def show_data(given: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Pictures of each split and class."""
    data = table(given)
    splits = {word(name): count for name, value in table(data.get("images")).items() if (count := whole(value)) is not None}
    counted = {word(name): table(counts) for name, counts in table(data.get("classes")).items()}
    names = sorted(counted, key=_place_of_split)
    rows = [(name, [whole(counted[split].get(name)) for split in names]) for name in classes] if counted else []
    return {
        "splits": {split: splits[split] for split in sorted(splits, key=_place_of_split)},
        "class_splits": names,
        "rows": rows[:MOST_CLASS_ROWS],
        "num_classes": len(classes),
        "most": max((count or 0 for _, counts in rows for count in counts), default=0),
        "held_out_from": word(data.get("held_out_from")),
        "fingerprints": words(data.get("fingerprints")),
    }


def _place_of_split(name: str) -> tuple[int, str]:
    known = ("train", "val", "test")
    return known.index(name) if name in known else len(known), name


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("provenet.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(t=bilingual, share=share)
    environment.filters.update(percent=percent, duration=duration, moment=_moment)
    return environment


@cache
def _asset(name: str) -> str:
    return files("provenet.report").joinpath(name).read_text("utf-8")


def _digest(script: str) -> str:
    """How the policy names a script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _moment(written: str | None) -> str:
    """An ISO time to the minute."""
    return written[:16].replace("T", " ") + (" UTC" if written.endswith(("+00:00", "Z")) else "") if written else ""


def _part_context(part: EvaluatedPart, findings: Findings) -> dict[str, Any]:
    """What the templates show of one evaluated part."""
    return {
        "split": part.split,
        "num_trained_on": part.num_trained_on,
        "findings": findings,
        "digits": 2 if findings.images >= 1_000 else 1,
        "matrix": _matrix(findings) if len(findings.classes) <= LARGEST_TABLE and findings.cells else None,
        "has_map": LARGEST_TABLE < len(findings.classes) <= LARGEST_MAP,
        "pairs": findings.pairs[:MOST_PAIRS],
        "rows": _class_rows(findings),
        "bins": [_bar(bar, findings) for bar in findings.calibration.bins] if findings.calibration else [],
        "mistakes": [(mistake, _data_url(mistake.picture) if mistake.picture else None) for mistake in part.mistakes],
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


def _bar(bar: Bin, findings: Findings) -> dict[str, Any]:
    """A bin of the reliability diagram, with the height of its pictures relative to the fullest bin."""
    assert findings.calibration is not None
    fullest = max(other.images for other in findings.calibration.bins)
    return {"bin": bar, "height": bar.images / fullest}


def _data_url(picture: Image.Image) -> str:
    """Small pictures to the bit, larger ones as JPEG."""
    written = io.BytesIO()
    is_small = picture.width * picture.height <= LARGEST_LOSSLESS_PIXELS
    if is_small:
        picture.save(written, format="PNG", optimize=True)
    else:
        picture.save(written, format="JPEG", quality=80)
    return f"data:image/{'png' if is_small else 'jpeg'};base64,{base64.b64encode(written.getvalue()).decode()}"


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
