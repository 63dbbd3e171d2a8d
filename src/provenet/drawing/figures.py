"""Pieces of a picture of a network: boxes, arrows, volumes. A figure is SVG text with a size, and an axis along which data flow.

Widths of texts are measured in the font that the picture carries, so that nothing overlaps and the same network gives the same bytes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from io import BytesIO
from math import log2, sqrt

from PIL import ImageFont

from provenet.drawing.colours import class_of, font_bytes
from provenet.drawing.structure import Unit
from provenet.inspection.summary import Row
from provenet.inspection.tables import describe, show_bytes, size_of

SMALL, TEXT, LARGE = 10.0, 12.0, 22.0
STRIP = 20.0
"""Height of one line of a box."""


@dataclass(frozen=True)
class Figure:
    """A piece: what it draws, from (0, 0) to (width, height); data enter at the left and leave at the right, at height `axis`."""

    body: str
    width: float
    height: float
    axis: float

    def at(self, x: float, y: float) -> str:
        """The piece somewhere."""
        return f'<g transform="translate({num(x)} {num(y)})">{self.body}</g>'


def num(value: float) -> str:
    """A length with one decimal at most."""
    return f"{round(value, 1):g}"


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """Width of a text in the font of the picture; a full size for each letter that it lacks."""
    known = "".join(letter for letter in text if ord(letter) < 256 or letter in "→−–…")
    return (_font(bold).getlength(known) / 1000 + len(text) - len(known)) * size


@cache
def _font(bold: bool) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(BytesIO(font_bytes("SemiBold" if bold else "Regular", "otf")), 1000, layout_engine=ImageFont.Layout.BASIC)


def words(text: str, x: float, y: float, *, size: float = TEXT, style: str = "", anchor: str = "middle") -> str:
    """A text at (x, y), its base line."""
    return f'<text class="{style or "t"}" x="{num(x)}" y="{num(y)}" font-size="{num(size)}" text-anchor="{anchor}">{escape(text)}</text>'


def label_of(row: Row) -> str:
    """What a strip says."""
    settings, kind = row.settings, row.kind
    if kind in ("convolution", "sparse_convolution"):
        stride = f" /{settings['stride']}" if settings.get("stride", 1) != 1 else ""
        groups = f" · {settings['groups']} groups" if settings.get("groups", 1) != 1 else ""
        sparse = " · sparse" if kind == "sparse_convolution" else ""
        return f"{_window(settings.get('kernel'))} conv {row.output[0]}{stride}{groups}{sparse}"
    if kind in ("max_pool", "average_pool", "subsampling"):
        name = {"max_pool": "max", "average_pool": "mean", "subsampling": "subsample"}[kind]
        return f"{name} {_window(settings.get('kernel'))} /{settings.get('stride')}"
    names = {
        "relu": "ReLU", "mean": "global mean", "linear": "fully connected", "rbf": "distances to codes", "concatenate": "concatenate",
        "adaptive_average_pool": "mean to size",
    }  # fmt: skip
    text = names.get(kind, kind.replace("_", " "))
    return f"{text} {row.output[-1]}" if kind == "linear" else text


def tooltip(rows: Iterable[Row]) -> str:
    """What hovering tells: name, size, costs, memory and field of each row."""
    lines = []
    for row in rows:
        parts = [f"{row.name}: {describe(row)}", size_of(row.output)]
        parts += [f"{row.parameters:,} parameters"] if row.parameters else []
        parts += [f"{row.macs:,} multiply-adds"] if row.macs else []
        parts += [f"{show_bytes(row.activation_bytes)} of activations"] if row.activation_bytes else []
        parts += [f"sees {row.receptive_field} pixels"] if row.receptive_field and row.stride else []
        lines.append(" · ".join(parts))
    return f"<title>{escape(chr(10).join(lines))}</title>"


def box(unit: Unit) -> Figure:
    """A strip for each row of a unit, one below the other."""
    labels = [label_of(row) for row in unit.rows]
    width = max(text_width(label, TEXT, bold=k == 0) for k, label in enumerate(labels)) + 20
    strips = []
    for k, (row, label) in enumerate(zip(unit.rows, labels, strict=True)):
        y = k * (STRIP + 2)
        strips.append(f'<rect class="{class_of(row)}" x="0" y="{num(y)}" width="{num(width)}" height="{num(STRIP)}" rx="4"/>')
        strips.append(words(label, width / 2, y + 14, style="" if k else "b"))
    height = len(labels) * (STRIP + 2) - 2
    return Figure(group(unit.rows, "".join(strips)), width, height, height / 2)


def arrow(label: str = "", *, shortest: float = 24) -> Figure:
    """An arrow with what flows along it."""
    width = max(shortest, text_width(label, SMALL) + 16) if label else shortest
    body = f'<path class="flow" d="M0 16H{num(width - 6)}"/><path class="head" d="M{num(width - 7)} 12l7 4l-7 4z"/>'
    return Figure(body + (words(label, (width - 4) / 2, 10, size=SMALL, style="s") if label else ""), width, 20, 16)


def volume(shape: tuple[int, ...], widest: int) -> Figure:
    """A volume in perspective, its size below it: as high as its maps, as thick as they are many. `widest` is the side of the picture."""
    label = size_of(shape).replace("x", "×")
    maps, side = shape[0] if shape else 1, max(shape[1:], default=0)
    high = 12 + 62 * sqrt(side / widest) if side > 1 else 26 + 4 * log2(max(2, maps))
    thick = 3 + 3.2 * log2(max(2, maps)) if side > 1 else 7.0
    deep = high * 0.36 if side > 1 else 4.0
    width = max(thick + deep, text_width(label, SMALL, bold=True)) + 4
    x, top = (width - thick - deep) / 2, deep
    front = f'<path class="v1" d="M{num(x)} {num(top)}h{num(thick)}v{num(high)}h{num(-thick)}z"/>'
    upper = f'<path class="v2" d="M{num(x)} {num(top)}l{num(deep)} {num(-deep)}h{num(thick)}l{num(-deep)} {num(deep)}z"/>'
    right = f'<path class="v3" d="M{num(x + thick)} {num(top)}l{num(deep)} {num(-deep)}v{num(high)}l{num(-deep)} {num(deep)}z"/>'
    height = deep + high + 18
    return Figure(front + upper + right + words(label, width / 2, height - 4, size=SMALL, style="b"), width, height, deep / 2 + high / 2)


def beside(parts: Sequence[Figure], gap: float = 0) -> Figure:
    """Pieces from left to right, on one axis."""
    axis = max((part.axis for part in parts), default=0)
    below = max((part.height - part.axis for part in parts), default=0)
    x, bodies = 0.0, []
    for part in parts:
        bodies.append(part.at(x, axis - part.axis))
        x += part.width + gap
    return Figure("".join(bodies), max(0.0, x - gap), axis + below, axis)


def _window(kernel: object) -> str:
    return "×".join(map(str, (kernel, kernel) if isinstance(kernel, int) else kernel)) if isinstance(kernel, int | tuple) else "?"


def group(rows: Sequence[Row], body: str) -> str:
    """A part of the picture that stands for rows, and tells of them."""
    return f'<g class="node" data-rows="{escape("|".join(row.name for row in rows))}">{tooltip(rows)}{body}</g>'
