"""Charts of docs, from what tools/*_story.py measured: SVG that follows the reader's light or dark page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 58, 150, 46, 52
LABEL_APART = 17
STYLE = """<style>
 svg { font: 13px system-ui, sans-serif; } text { fill: #24292f; } .soft { fill: #57606a; } .grid { stroke: #d0d7de; }
 .a { --ink: #0b61c9; } .b { --ink: #b3470b; } .c { --ink: #1a7f4b; } .d { --ink: #7a3fc0; } .e { --ink: #6b6f76; }
 .line { stroke: var(--ink); fill: none; stroke-width: 2; } .dot { fill: var(--ink); } .name { fill: var(--ink); }
 .ring { fill: none; stroke: var(--ink); stroke-width: 2; }
 @media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .soft { fill: #9da7b1; } .grid { stroke: #3d444d; }
  .a { --ink: #6cb0ff; } .b { --ink: #ff9d5c; } .c { --ink: #5fd08d; } .d { --ink: #c39bff; } .e { --ink: #a8adb5; }
 }
</style>"""


@dataclass(frozen=True)
class Line:
    """A name, and for each place the mean, least and most, as fractions."""

    name: str
    values: tuple[tuple[float, float, float], ...]


@dataclass(frozen=True)
class Pair:
    """Of one network: a fraction with its interval, and another beside it."""

    name: str
    value: float
    interval: tuple[float, float]
    beside: float


@dataclass(frozen=True)
class Scale:
    """The axis of accuracy: fractions, with a row every `step_percent`."""

    floor: float
    ceiling: float
    step_percent: int

    def y(self, value: float) -> float:
        """Where it is drawn."""
        return HEIGHT - BOTTOM - (value - self.floor) / (self.ceiling - self.floor) * (HEIGHT - TOP - BOTTOM)


def find_scale(values: Iterable[float]) -> Scale:
    """Up to 100 %, unless the values lie so close together that nothing could be told apart there."""
    values = list(values)
    low, high = min(values), max(values)
    for step in (1, 2):
        if high - low <= 0.07 * step:
            return Scale(int(low * 100 / step) * step / 100, -int(-high * 100 // step) * step / 100, step)
    return Scale(int(low * 10) / 10, 1.0, 10)


def draw_lines(title: str, places: Sequence[str], below: str, lines: Sequence[Line]) -> str:
    """Accuracy over some places: a line for each way, with the spread of the draws."""
    scale = find_scale(value for line in lines for values in line.values for value in values)
    y = scale.y
    step = (WIDTH - LEFT - RIGHT) / len(places)
    parts = [*_frame(title), *_rows(scale)]
    for number, place in enumerate(places):
        x = LEFT + step * (number + 0.5)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{escape(place)}</text>')
    parts.append(
        f'<text class="soft" x="{LEFT + step * len(places) / 2:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{escape(below)}</text>'
    )
    ends = _apart([y(line.values[-1][0]) for line in lines])
    for number, (line, ink, label_y) in enumerate(zip(lines, "abcde", ends, strict=False)):
        shift = (number - (len(lines) - 1) / 2) * 9  # so that spreads do not lie upon each other
        points = [(LEFT + step * (place + 0.5) + shift, *map(y, values)) for place, values in enumerate(line.values)]
        parts.append(f'<g class="{ink}"><polyline class="line" points="{" ".join(f"{x:.1f},{mean:.1f}" for x, mean, _, _ in points)}"/>')
        parts += [f'<path class="line" d="M{x:.1f} {low:.1f}V{high:.1f}"/>' for x, _, low, high in points]
        parts += [f'<circle class="dot" cx="{x:.1f}" cy="{mean:.1f}" r="4"/>' for x, mean, _, _ in points]
        parts.append(f'<text class="name" x="{WIDTH - RIGHT + 8}" y="{label_y + 4:.1f}">{escape(line.name)}</text></g>')
    return "\n".join([*parts, "</svg>\n"])


def draw_pairs(title: str, pairs: Sequence[Pair], names: tuple[str, str]) -> str:
    """For each network a dot with its interval and a ring, from the best on the left."""
    scale = find_scale(value for pair in pairs for value in (*pair.interval, pair.beside))
    y = scale.y
    step = (WIDTH - LEFT - 20) / len(pairs)
    parts = [*_frame(title), *_rows(scale, right=20)]
    for number, pair in enumerate(pairs):
        x = LEFT + step * (number + 0.5)
        low, high = map(y, pair.interval)
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{escape(pair.name)}</text>')
        parts.append(f'<g class="a"><path class="line" d="M{x - 8:.1f} {low:.1f}V{high:.1f}"/>')
        parts.append(f'<circle class="dot" cx="{x - 8:.1f}" cy="{y(pair.value):.1f}" r="5"/></g>')
        parts.append(f'<g class="b"><circle class="ring" cx="{x + 8:.1f}" cy="{y(pair.beside):.1f}" r="5"/></g>')
    parts.append(f'<g class="a"><circle class="dot" cx="{LEFT + 8}" cy="{HEIGHT - 15}" r="5"/></g>')
    parts.append(f'<text x="{LEFT + 20}" y="{HEIGHT - 10}">{escape(names[0])}</text>')
    parts.append(f'<g class="b"><circle class="ring" cx="{LEFT + 358}" cy="{HEIGHT - 15}" r="5"/></g>')
    parts.append(f'<text x="{LEFT + 370}" y="{HEIGHT - 10}">{escape(names[1])}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _frame(title: str) -> list[str]:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
    return [head, STYLE, f'<text x="{LEFT}" y="24" font-weight="600">{escape(title)}</text>']


def _rows(scale: Scale, right: int = RIGHT) -> list[str]:
    parts = []
    for percent in range(round(scale.floor * 100), round(scale.ceiling * 100) + 1, scale.step_percent):
        place = scale.y(percent / 100)
        parts.append(f'<path class="grid" d="M{LEFT} {place:.1f}H{WIDTH - right}"/>')
        parts.append(f'<text class="soft" x="{LEFT - 8}" y="{place + 4:.1f}" text-anchor="end">{percent} %</text>')
    return parts


def _apart(places: Sequence[float]) -> list[float]:
    """The same places, moved so that labels there do not touch."""
    order = sorted(range(len(places)), key=lambda number: places[number])
    moved = list(places)
    for before, after in pairwise(order):
        moved[after] = max(moved[after], moved[before] + LABEL_APART)
    over = max(0.0, max(moved) - (HEIGHT - BOTTOM))
    return [place - over for place in moved]
