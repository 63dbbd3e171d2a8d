"""Networks and views compared on the same pictures, the networks together too."""

import os
from collections.abc import Sequence
from typing import Any

from provenet.errors import SettingsError
from provenet.report.compared import Compared
from provenet.report.compared_page import write_comparison
from provenet.runs.evaluate import Model, score_models
from provenet.runs.report import check_report_path
from provenet.runs.tabulate import tabulate

COMPARED_VIEWS = ("center", "mirror", "ten", "144", "dense")
"""Where none are asked for."""


def compare(
    models: Sequence[Model],
    data: str | os.PathLike[str],
    *,
    views: Sequence[str] = COMPARED_VIEWS,
    report: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Compared:
    """Every network in all these views on the same pictures; of several networks their average too, as the papers' ensembles.

    `report` is an HTML file: of several networks the comparison, of one its whole report, with the views compared in it.

    Other options are those of `runs.evaluate.score_models`.
    """
    if not models or not views:
        raise SettingsError("expected a network and views to compare, found none; name some")
    report_path = check_report_path(report) if report is not None else None
    scored = score_models(models, data, views=views, report=report if len(models) == 1 else None, **options)
    compared = tabulate(scored, os.fspath(data))
    if report_path and len(models) > 1:
        write_comparison(report_path, compared)
    return compared
