"""A network as a page to explore: one HTML file with everything in it, which fetches nothing and says so to the browser.

The pieces are those of the picture (`figures.py`); the browser lays them out, so a block can be unfolded where it stands.
"""

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from provenet.drawing.chinese import CHINESE, LABELS
from provenet.drawing.colours import DARK, LIGHT, style
from provenet.drawing.composition import aside, costs_of, draw_item
from provenet.drawing.figures import Figure, arrow, num, volume
from provenet.drawing.structure import Block, Stage, arrange
from provenet.inspection.summary import Row, Summary
from provenet.inspection.tables import describe, show_bytes, size_of
from provenet.papers.listing import show_count
from provenet.version import __version__

POLICY = "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'"

MEASURES = (
    ("parameters", "Parameters", "参数量", show_count),
    ("macs", "Multiply-adds", "乘加次数", show_count),
    ("training_bytes", "Memory kept in training, per picture", "训练时每张图保留的内存", show_bytes),
    ("inference_bytes", "Memory alive in inference, per picture", "推理时每张图占用的内存", show_bytes),
)


def render_explorer(summary: Summary) -> str:
    """The page as text; the same network gives the same page."""
    widest = max((side for shape in summary.input for side in shape[1:]), default=1)
    stages = arrange(summary)
    script = _asset("explorer.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    context = {
        "summary": summary,
        "sizes": " + ".join(size_of(shape).replace("x", "×") for shape in summary.input),
        "macs": show_count(summary.macs),
        "policy": POLICY.format(digest=digest),
        "style": Markup(style(dark='html[data-theme="dark"]') + _asset("explorer.css")),
        "light": LIGHT,
        "dark": DARK,
        "script": Markup(script),
        "rows": Markup(_embed({row.name: _facts(row) for row in (*summary.rows, *summary.only_in_training)})),
        "labels": Markup(_embed(LABELS)),
        "picture": _svg(volume(summary.input[0], widest)),
        "arrow": _svg(arrow(shortest=22)),
        "stages": [_stage(stage, widest) for stage in stages],
        "has_blocks": any(isinstance(item, Block) for stage in stages for item in stage.items),
        "bars": _bars(summary),
        "version": __version__,
    }
    environment = Environment(
        loader=PackageLoader("provenet.drawing"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("explorer.html").render(context)


def _stage(stage: Stage, widest: int) -> dict[str, Any]:
    items = [
        {
            "label": _svg(arrow(size_of(stage.items[k - 1].output).replace("x", "×"))) if k else None,
            "folded": _svg(draw_item(item, unfold=False)),
            "unfolded": _svg(draw_item(item, unfold=True)) if isinstance(item, Block) else None,
            "name": item.name if isinstance(item, Block) else "",
        }
        for k, item in enumerate(stage.items)
    ]
    heads = [aside(part) for part in stage.beside]
    return {
        "name": stage.name,
        "costs": costs_of(stage),
        "items": items,
        "volume": _svg(volume(stage.output, widest)),
        "beside": [_svg(head) for head in heads],
        "room": num(max((head.height + 12 for head in heads), default=0)),
    }


def _svg(figure: Figure) -> Markup:
    """A piece whose axis is in the middle of its height, so that pieces stand in line."""
    half = max(figure.axis, figure.height - figure.axis)
    size = f'width="{num(figure.width)}" height="{num(2 * half)}" viewBox="0 {num(figure.axis - half)} {num(figure.width)} {num(2 * half)}"'
    return Markup(f"<svg {size}>{figure.body}</svg>")  # figures escape what strangers named


def _facts(row: Row) -> dict[str, Any]:
    """What hovering tells of a row."""
    kind, size = describe(row), size_of(row.output).replace("x", "×")
    chinese = CHINESE.get(row.kind)
    return {
        "kind": kind,
        "kind_zh": chinese + kind[len(row.kind.replace("_", " ")) :].replace("groups", "组") if chinese else kind,
        "output": size,
        "parameters": f"{row.parameters:,}",
        "macs": f"{row.macs:,}",
        "activation": show_bytes(row.activation_bytes),
        "inference": show_bytes(row.inference_bytes),
        "training": show_bytes(row.training_bytes),
        "field": "" if row.receptive_field is None else f"{row.receptive_field}",
        "is_whole": row.receptive_field is not None and row.stride is None,
    }


def _bars(summary: Summary) -> list[dict[str, Any]]:
    """For each measure the share of each stage."""
    charts = []
    for measure, english, chinese, show in MEASURES:
        values = {stage.name: int(getattr(stage, measure)) for stage in summary.stages}
        largest = max(1, *values.values())
        total = sum(values.values()) if measure != "inference_bytes" else 0
        bars = [
            {
                "name": name,
                "percent": f"{100 * value / largest:.1f}",
                "text": show(value) + (f" · {100 * value / total:.0f} %" if total and value else ""),
            }
            for name, value in values.items()
        ]
        charts.append({"en": english, "zh": chinese, "bars": bars, "measure": measure})
    return charts


def _asset(name: str) -> str:
    return files("provenet.drawing").joinpath("templates", name).read_text(encoding="utf-8")


def _embed(value: Any) -> str:
    """JSON in which no tag can end."""
    text = json.dumps(value, ensure_ascii=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
