"""What every page is put into: one HTML file with everything in it, in two languages, light and dark. It fetches and sends nothing.

Names of classes and files come from strangers: the templates escape them, what the scripts read is JSON in which no tag can end, and
the browser is told to run only the scripts whose digests the page names.
"""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from provenet.report.findings import share
from provenet.report.wording import bilingual, duration, embed, moment, percent
from provenet.version import __version__

STYLES = ("uplot/uPlot.min.css", "templates/report.css")
SCRIPTS = ("templates/head.js", "uplot/uPlot.iife.min.js", "templates/report.js")
POLICY = "default-src 'none'; script-src {digests}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def render(template: str, title: str, context: Mapping[str, Any], read_by_scripts: Mapping[str, Any]) -> str:
    """The page of a template that extends frame.html."""
    scripts = {name: _asset(name) for name in SCRIPTS}
    around = {
        "title": title,
        "embedded": embed(read_by_scripts),
        "policy": POLICY.format(digests=" ".join(_digest(text) for text in scripts.values())),
        "styles": [Markup(_asset(name)) for name in STYLES],
        "scripts": {name: Markup(text) for name, text in scripts.items()},
        "uplot_license": _asset("uplot/LICENSE"),
        "version": __version__,
    }
    return _environment().get_template(template).render(around | dict(context))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("provenet.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(t=bilingual, share=share)
    environment.filters.update(percent=percent, duration=duration, moment=moment)
    return environment


@cache
def _asset(name: str) -> str:
    return files("provenet.report").joinpath(name).read_text("utf-8")


def _digest(script: str) -> str:
    """How the policy names a script that may run."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
