"""The page of a comparison: error against cost as a picture, the table, and what each kind of views is.

What is compared of one network alone is a part of its report.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from provenet.evaluation.views import find_views
from provenet.files import write_whole
from provenet.report.compared import Compared, cells, draw_chart
from provenet.report.curves import draw_curves
from provenet.report.frame import render

IN_CHINESE = {
    "center": "中央，一次",
    "mirror": "中央及其镜像",
    "ten": "AlexNet：四角与中央，各加镜像",
    "144": "GoogLeNet：4 种尺寸 x 3 个正方形 x 6 个裁剪 x 2",
    "150": "VGG：3 种尺寸 x 5 x 5 网格裁剪 x 2",
    "dense": "VGG：在整张图片上全卷积计算，加镜像",
    "dense+crops": "VGG：150 个裁剪与同样 3 种尺寸的全卷积，各占一半",
    "multiscale": "ResNet：在 5 种尺寸上全卷积计算",
}


def write_comparison(path: Path, compared: Compared) -> None:
    """Write the page whole or not at all. Raises OSError where it cannot be written."""
    write_whole(path, render_comparison(compared).encode("utf-8", "replace"))


def render_comparison(compared: Compared) -> str:
    """The page as text."""
    read_by_scripts = {"state": "evaluated", "reload_seconds": 0, "curves": asdict(draw_curves([])), "classes": [], "parts": []}
    return render("compared.html", f"Views and networks on {compared.data_name}", show_comparison(compared), read_by_scripts)


def show_comparison(compared: Compared) -> dict[str, Any]:
    """What the templates show of it."""
    return {
        "compared": compared,
        "rows": [(entry, cells(entry, compared.num_classes)) for entry in compared.entries],
        "chart": draw_chart(compared),
        "about": [describe_views(name) for name in dict.fromkeys(entry.views for entry in compared.entries)],
    }


class AboutViews(NamedTuple):
    """What a kind of views is, in both languages."""

    name: str
    about: str
    chinese: str


def describe_views(name: str) -> AboutViews:
    """Of a name of evaluation/views.py, sizes included."""
    plain, colon, sizes = name.partition(":")
    return AboutViews(name, find_views(name).about, IN_CHINESE[plain] + (f"；{sizes.replace(',', '、')} 像素" if colon else ""))
