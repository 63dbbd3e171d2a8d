"""Networks and views side by side, as GoogLeNet's paper does in its table 3: how often each is wrong, how sure that is, what it costs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

HEADINGS = ("network", "views", "top-1 error", "95 % interval", "top-5 error", "passes", "ms/image", "chance")
LEAST_SPAN = 0.9  # powers of ten on the axis of cost
STEPS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)  # of the axis of error
COLOURS = 5
LETTER_WIDTH = 6.8  # pixels, of the labels
FEW_CLASSES = 5
"""With so many classes or fewer every picture is in the top five."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One network, or several averaged, in one kind of views."""

    network: str
    views: str
    top1: float
    """The fraction recognised."""
    top5: float
    interval: tuple[float, float]
    """Of `top1`, with 95 % confidence (Wilson)."""
    passes: float
    """Forward passes for a picture."""
    milliseconds: float
    """For a picture, on this machine, decoding included."""
    chance: float | None
    """How probable it is that it differs so from the first entry by chance (McNemar); None of the first."""
    is_average: bool = False


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Entries on the same pictures."""

    data_name: str
    num_images: int
    num_classes: int
    entries: tuple[Entry, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"data": self.data_name, "images": self.num_images, "classes": self.num_classes, "entries": list(map(asdict, self.entries))}

    @property
    def best(self) -> Entry:
        """The least often wrong; of equals the cheapest."""
        return min(self.entries, key=lambda entry: (-entry.top1, entry.milliseconds))

    def is_frontier(self, entry: Entry) -> bool:
        """Whether nothing that costs less is as good."""
        return not any(
            other.milliseconds <= entry.milliseconds and other.top1 >= entry.top1 and other != entry
            and (other.milliseconds, -other.top1) != (entry.milliseconds, -entry.top1)
            for other in self.entries
        )  # fmt: skip


def cells(entry: Entry, num_classes: int) -> tuple[str, ...]:
    """For a table, under HEADINGS."""
    low, high = 1 - entry.interval[1], 1 - entry.interval[0]
    return (
        entry.network,
        entry.views,
        f"{1 - entry.top1:.2%}",
        f"{low:.2%} to {high:.2%}",
        "–" if num_classes <= FEW_CLASSES else f"{1 - entry.top5:.2%}",
        f"{entry.passes:,.1f}",
        f"{entry.milliseconds:,.2f}" if entry.milliseconds < 10 else f"{entry.milliseconds:,.0f}",
        "" if entry.chance is None else f"{entry.chance:.3f}" if entry.chance >= 0.001 else "<0.001",
    )


def show_compared(compared: Compared) -> str:
    """A row for each entry, in the order in which they were asked for; then what follows."""
    rows = [HEADINGS, *(cells(entry, compared.num_classes) for entry in compared.entries)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = []
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths, strict=False)]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
        lines.append("  ".join([*left, *right]).rstrip())
    return "\n".join([*lines, "", *conclude(compared)])


def conclude(compared: Compared) -> list[str]:
    """What the table says, in a line or two."""
    best, first = compared.best, compared.entries[0]
    about = f"{compared.num_images:,} pictures of {compared.num_classes} classes"
    said = f"chance: how probable so large a difference from the first row is if both are equally good (McNemar), on {about}"
    if best == first:
        return [f"nothing is better than the first row on {about}"]
    names = f"{best.network}, {best.views}"
    if best.chance is not None and best.chance > 0.05:
        return [said, f"{names} is wrong least often, but these pictures do not tell it from the first row"]
    times = best.milliseconds / first.milliseconds
    return [said, f"{names} is wrong least often: {1 - best.top1:.2%} instead of {1 - first.top1:.2%}, at {times:.1f} times the time"]


@dataclass(frozen=True)
class Mark:
    """An entry in the picture, in pixels."""

    x: float
    y: float
    top: float
    bottom: float
    label: str
    label_x: float
    label_y: float
    anchor: str
    colour: int
    """A number for each network; -1 for averages."""
    is_frontier: bool
    title: str


@dataclass(frozen=True)
class Chart:
    """Error against cost; milliseconds are on a logarithmic scale."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    marks: tuple[Mark, ...]
    frontier: str
    """The points of the line through what nothing cheaper is as good as."""
    legend: tuple[tuple[int, str], ...]
    """Colour and network."""
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def draw_chart(compared: Compared, width: int = 760, height: int = 440) -> Chart:
    """Where everything is."""
    left, right, top, bottom = 64, width - 28, 20, height - 56
    entries = compared.entries
    logs = [math.log10(max(entry.milliseconds, 1e-4)) for entry in entries]
    least, most = min(logs) - 0.2, max(logs) + 0.2
    if most - least < LEAST_SPAN:
        middle = (least + most) / 2
        least, most = middle - LEAST_SPAN / 2, middle + LEAST_SPAN / 2
    errors = [1 - limit for entry in entries for limit in entry.interval]
    step = next((step for step in STEPS if (max(errors) - min(errors)) / step <= 7), STEPS[-1])
    low, high = math.floor(min(errors) / step) * step, math.ceil(max(errors) / step) * step
    high = max(high, low + step)

    def across(log: float) -> float:
        return round(left + (log - least) / (most - least) * (right - left), 1)

    def down(error: float) -> float:
        return round(bottom - (error - low) / (high - low) * (bottom - top), 1)

    colours = {name: number for number, name in enumerate(dict.fromkeys(entry.network for entry in entries if not entry.is_average))}
    legend = [*((number % COLOURS, name) for name, number in colours.items())]
    legend += [(-1, name) for name in dict.fromkeys(entry.network for entry in entries if entry.is_average)]
    places = [(across(log), down(1 - entry.top1)) for entry, log in zip(entries, logs, strict=True)]
    labels = place_labels([entry.views for entry in entries], places, left=left, right=right, top=top, bottom=bottom)
    marks = [
        Mark(
            x=x,
            y=y,
            top=down(1 - entry.interval[0]),
            bottom=down(1 - entry.interval[1]),
            label=entry.views,
            label_x=label.x,
            label_y=label.y,
            anchor=label.anchor,
            colour=-1 if entry.is_average else colours[entry.network] % COLOURS,
            is_frontier=compared.is_frontier(entry),
            title=f"{entry.network + ', ' if len(legend) > 1 else ''}{entry.views}: "
            f"wrong {1 - entry.top1:.2%}, {entry.milliseconds:.2f} ms an image",
        )
        for entry, (x, y), label in zip(entries, places, labels, strict=True)
    ]
    points = sorted((mark.x, mark.y) for mark in marks if mark.is_frontier)
    return Chart(
        width, height, left, right, top, bottom, tuple(marks), " ".join(f"{x},{y}" for x, y in points), tuple(legend),
        tuple((across(math.log10(value)), f"{value:g}") for value in _round_values(10**least, 10**most)),
        tuple((down(value), f"{value:.1%}" if step < 0.01 else f"{value:.0%}") for value in _round_errors(low, high, step)),
    )  # fmt: skip


class Label(NamedTuple):
    """Where a text is."""

    x: float
    y: float
    anchor: str


def place_labels(
    texts: Sequence[str], places: Sequence[tuple[float, float]], *, left: float, right: float, top: float, bottom: float
) -> list[Label]:
    """Beside each dot, where neither a dot nor a label is; of many in one place some overlap."""
    taken = [(x - 7, y - 7, x + 7, y + 7) for x, y in places]
    found = []
    for text, (x, y) in zip(texts, places, strict=True):
        width = LETTER_WIDTH * len(text)
        best, least_overlap = Label(x + 11, y + 4, "start"), math.inf
        for rise in (0, -14, 14, -28, 28, -42, 42):
            for label, begin in ((Label(x + 11, y + 4 + rise, "start"), x + 11), (Label(x - 11, y + 4 + rise, "end"), x - 11 - width)):
                box = (begin, label.y - 11, begin + width, label.y + 3)
                is_inside = left <= box[0] and box[2] <= right + 20 and top <= box[1] and box[3] <= bottom
                overlap = sum(_overlap(box, other) for other in taken) + abs(rise) / 100 + (0 if is_inside else 1e6)
                if overlap < least_overlap:
                    best, least_overlap = label, overlap
        begin = best.x if best.anchor == "start" else best.x - width
        taken.append((begin, best.y - 11, begin + width, best.y + 3))
        found.append(Label(round(best.x, 1), round(best.y, 1), best.anchor))
    return found


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """The area that two boxes (left, top, right, bottom) share."""
    width, height = min(one[2], other[2]) - max(one[0], other[0]), min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _round_values(least: float, most: float) -> list[float]:
    exponents = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    return [step * 10.0**exponent for exponent in exponents for step in (1, 2, 5) if least <= step * 10.0**exponent <= most]


def _round_errors(low: float, high: float, step: float) -> list[float]:
    return [low + number * step for number in range(round((high - low) / step) + 1)]
