"""A network as a picture: SVG without any program beside us, the same bytes each time; PNG of the same; in a notebook it shows itself."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from math import ceil, log
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from provenet.drawing.colours import COLOURS, class_of, font_bytes, style
from provenet.drawing.composition import aside, costs_of, series
from provenet.drawing.explorer import render_explorer
from provenet.drawing.figures import LARGE, SMALL, TEXT, Figure, arrow, beside, num, text_width, volume, words
from provenet.drawing.structure import Block, Stage, arrange
from provenet.errors import ModelError
from provenet.files import write_whole
from provenet.inspection.summary import Input, Summary, summarize
from provenet.inspection.tables import size_of
from provenet.papers.listing import show_count

MARGIN = 32.0
GAP = 34.0
"""Between two lines of stages."""
ASPECT = 16 / 9
"""Width over height that a picture comes close to, where it can: that of a slide."""


@dataclass(frozen=True)
class Diagram:
    """A picture of a network."""

    svg: str
    summary: Summary

    def _repr_svg_(self) -> str:
        return self.svg

    def save(self, path: Path | str) -> None:
        """Write it as a picture (.svg, .png) or as a page to explore (.html), whole or not at all.

        Raises ModelError for another ending, OSError where it cannot be written.
        """
        kind = Path(path).suffix.lower()
        writers: dict[str, Callable[[], bytes]] = {
            ".svg": self.svg.encode,
            ".png": self.png,
            ".html": lambda: render_explorer(self.summary).encode("utf-8", "replace"),
        }
        if kind not in writers:
            raise ModelError(f"{path}: expected a file that ends in .svg, .png or .html, found {kind or 'no ending'}; name one of these")
        write_whole(Path(path), writers[kind]())

    def png(self, *, zoom: float = 2.0) -> bytes:
        """As a PNG, each side `zoom` times as many pixels as the picture has units."""
        import resvg_py  # only pictures need it

        with TemporaryDirectory() as folder:  # the converter reads fonts from files alone
            fonts = []
            for weight in ("Regular", "SemiBold"):
                fonts.append(str(Path(folder, f"{weight}.otf")))
                Path(fonts[-1]).write_bytes(font_bytes(weight, "otf"))
            return bytes(resvg_py.svg_to_bytes(svg_string=self.svg, zoom=zoom, skip_system_fonts=True, font_files=fonts))


def draw(net: nn.Module | str | Summary, input: Input | list[Input] | None = None, *, unfold: bool = False) -> Diagram:
    """A picture of a network, of any torch module, or of a name of the catalog; `unfold` shows what is inside blocks.

    `input` is as in `summarize`.

    >>> draw("alexnet").svg[:4]
    '<svg'
    """
    summary = net if isinstance(net, Summary) else summarize(net, input)
    stages = arrange(summary)
    widest = max((side for shape in summary.input for side in shape[1:]), default=1)
    picture = volume(summary.input[0], widest)
    pieces = [picture, *(draw_stage(stage, widest, unfold=unfold) for stage in stages)]
    body = _lines(pieces)
    head = _heading(summary)
    legend = _legend(summary, stages)
    width = ceil(max(body.width, head.width, legend.width) + 2 * MARGIN)
    height = ceil(MARGIN + head.height + body.height + 30 + legend.height + MARGIN)
    parts = [
        f'<rect class="paper" x="0" y="0" width="{num(width)}" height="{num(height)}"/>',
        head.at(MARGIN, MARGIN),
        body.at(MARGIN, MARGIN + head.height),
        legend.at(MARGIN, height - MARGIN - legend.height),
    ]
    size = f'width="{num(width)}" height="{num(height)}" viewBox="0 0 {num(width)} {num(height)}"'
    title = f"{summary.name}: {summary.parameters:,} parameters"
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}"><style>{style()}</style>'
    return Diagram(f"{opening}{''.join(parts)}</svg>\n", summary)


def draw_stage(stage: Stage, widest: int, *, unfold: bool) -> Figure:
    """An arrow, the stage's boxes in a frame, an arrow, and the volume that it hands on."""
    return beside([arrow(shortest=20), _frame(stage, unfold=unfold), arrow(shortest=20), volume(stage.output, widest)], gap=3)


def _frame(stage: Stage, *, unfold: bool) -> Figure:
    inner = series(stage.items, unfold=unfold)
    costs = costs_of(stage)
    width = max(inner.width, text_width(stage.name, TEXT, bold=True), text_width(costs, SMALL)) + 24
    height = inner.height + 24
    x = (width - inner.width) / 2
    body = words(stage.name, 2, 13, style="b", anchor="start")
    body += f'<rect class="frame" x="0" y="20" width="{num(width)}" height="{num(height)}" rx="9"/>' + inner.at(x, 32)
    body += words(costs, 2, 20 + height + 15, size=SMALL, style="s", anchor="start") if costs else ""
    y = 20 + height + 20
    for part in stage.beside:
        card = aside(part)
        body += f'<path class="training" d="M{num(width - 12)} {num(20 + height)}V{num(y + 6)}"/>' + card.at(
            max(0, width - card.width), y + 6
        )
        y += card.height + 12
        width = max(width, card.width)
    return Figure(body, width, y, inner.axis + 32)


def _lines(pieces: Sequence[Figure]) -> Figure:
    """Stages in lines like words, as wide as comes closest to a slide; a line leads from the end of one to the beginning of the next."""
    longest = max(piece.width for piece in pieces)
    choices = [_wrap(pieces, max(limit, longest)) for limit in range(600, 6001, 20)]
    lines = min(choices, key=_ungainliness)
    width, height = _size(lines)
    body, y, entries = [], 0.0, []
    for k, line in enumerate(lines):
        body.append(line.at(24 if k else 0, y))
        entries.append((y + line.axis, line.width + (24 if k else 0), y + line.height))
        y += line.height + GAP
    for (axis, right, bottom), (next_axis, _, _) in pairwise(entries):
        turn = bottom + GAP / 2
        out = f"M{num(right + 2)} {num(axis)}H{num(width - 8)}q8 0 8 8V{num(turn - 8)}q0 8 -8 8"
        body.append(f'<path class="flow" d="{out}H18q-8 0 -8 8V{num(next_axis - 8)}q0 8 8 8h8"/>')
    return Figure("".join(body), width, height, 0)


def _ungainliness(lines: Sequence[Figure]) -> float:
    """How far from a slide's shape, and how much of the lines stays empty."""
    width, height = _size(lines)
    filled = sum(line.width for line in lines) / (len(lines) * max(line.width for line in lines))
    return abs(log(width / (height + 160) / ASPECT)) + 1.5 * (1 - filled)


def _wrap(pieces: Sequence[Figure], limit: float) -> list[Figure]:
    lines: list[list[Figure]] = [[]]
    for piece in pieces:
        if lines[-1] and sum(part.width + 3 for part in lines[-1]) + piece.width > limit:
            lines.append([])
        lines[-1].append(piece)
    return [beside(line, gap=3) for line in lines]


def _size(lines: Sequence[Figure]) -> tuple[float, float]:
    room = 24 + 16 if len(lines) > 1 else 0
    return max(line.width for line in lines) + room, sum(line.height + GAP for line in lines) - GAP


def _heading(summary: Summary) -> Figure:
    sizes = " and ".join(size_of(shape).replace("x", "×") for shape in summary.input)
    line = f"input {sizes} · {summary.parameters:,} parameters · {show_count(summary.macs)} multiply-adds"
    body = words(summary.name, 0, 20, size=LARGE, style="b", anchor="start") + words(line, 0, 42, style="s", anchor="start")
    return Figure(body, max(text_width(summary.name, LARGE, bold=True), text_width(line, TEXT)), 72, 0)


def _legend(summary: Summary, stages: Sequence[Stage]) -> Figure:
    """What the colours and lines mean, of those that are there."""
    used = {class_of(row) for row in summary.rows if row.kind not in ("add", "concatenate", "identity")}
    parts: list[Figure] = []
    for name, (text, _) in COLOURS.items():
        if name in used:
            parts.append(_entry(f'<rect class="{name}" x="0" y="3" width="20" height="14" rx="3"/>', 20, text))
    cube = '<path class="v1" d="M0 8h14v11h-14z"/><path class="v2" d="M0 8l7 -7h14l-7 7z"/><path class="v3" d="M14 8l7 -7v11l-7 7z"/>'
    parts.append(_entry(cube, 21, "volume: height × width × channels"))
    kinds = {row.kind for row in summary.rows}
    if "add" in kinds:
        parts.append(_entry('<path class="shortcut" d="M0 16q0 -10 10 -10h10q10 0 10 10"/>', 30, "shortcut"))
        parts.append(_entry('<circle class="join" cx="9" cy="10" r="8"/><path class="cross" d="M5 10h8M9 6v8"/>', 18, "addition"))
    if "concatenate" in kinds:
        parts.append(_entry('<rect class="join" x="0" y="1" width="10" height="18" rx="4"/>', 10, "concatenation of maps"))
    if any(isinstance(item, Block) and item.repeats > 1 for stage in stages for item in stage.items):
        parts.append(_entry(words("×3", 9, 14, style="b"), 18, "the same block so many times"))
    if any(stage.beside for stage in stages):
        parts.append(_entry('<path class="training" d="M0 10h22"/>', 22, "only in training"))
    return beside(parts, gap=22)


def _entry(sign: str, width: float, text: str) -> Figure:
    wide = text_width(text, TEXT)
    return Figure(sign + words(text, width + 8, 14, style="s", anchor="start"), width + 8 + wide, 20, 10)
