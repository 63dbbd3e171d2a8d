"""What a survey found of each network, and what follows from it."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

HEADINGS = ("network", "up to", "weights", "right", "95 % interval", "ms/image", "MB", "spent")


@dataclass(frozen=True)
class Backbone:
    """One network up to one stage, with a head that cross-validation judged on features of the pictures."""

    weights: str
    """As `--weights` takes it."""
    network: str
    cut: str
    """The stage whose output the head reads."""
    ends_after: str
    """The same as `--ends-after` takes it; empty where nothing is cut off."""
    num_features: int
    top1: float
    """Part of the pictures that were recognised while they were held out."""
    interval: tuple[float, float]
    """Of 95 % confidence."""
    milliseconds: float
    """For one image by the network alone, in float32, in batches of eight, on this machine."""
    megabytes: float
    """Of its parameters, with the head."""
    seconds: float
    """Spent on it: features that were not kept, and heads."""
    num_computed: int
    """Pictures whose features were not kept from before."""


@dataclass(frozen=True)
class Survey:
    """All of it; `backbones` are sorted, the likeliest to be best first."""

    data: str
    data_name: str
    num_images: int
    num_classes: int
    folds: int
    backbones: tuple[Backbone, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    """Weights that were not tried, and why."""
    seconds: float = 0.0
    skip_broken: bool = False
    """Whether pictures that cannot be decoded were passed over, as they have to be in training then."""

    @property
    def best(self) -> Backbone | None:
        """The first, if anything was tried."""
        return self.backbones[0] if self.backbones else None

    def is_as_good(self, backbone: Backbone) -> bool:
        """Whether these pictures are too few to tell it from the best: its interval reaches the best's share."""
        return self.best is not None and backbone.interval[1] >= self.best.top1

    @property
    def suggested(self) -> Backbone | None:
        """The quickest of those that cannot be told from the best."""
        return min(filter(self.is_as_good, self.backbones), key=lambda each: each.milliseconds, default=None)

    def command(self, backbone: Backbone) -> str:
        """What trains it."""
        cut = ["--ends-after", backbone.ends_after] if backbone.ends_after else []
        broken = ["--skip-broken"] if self.skip_broken else []
        return shlex.join(["provenet", "train", self.data, "--weights", backbone.weights, *cut, *broken])

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        suggested = self.suggested
        return {
            "data": self.data,
            "images": self.num_images,
            "classes": self.num_classes,
            "folds": self.folds,
            "backbones": [asdict(each) | {"as_good_as_the_best": self.is_as_good(each)} for each in self.backbones],
            "left_out": [{"weights": weights, "why": why} for weights, why in self.left_out],
            "seconds": self.seconds,
            "command": self.command(self.backbones[0]) if self.backbones else None,
            "suggested": self.command(suggested) if suggested else None,
        }


def show_survey(survey: Survey) -> str:
    """A row for each network, the best first; what was left out; and the command to train the best."""
    lines = []
    if survey.backbones:
        rows = [HEADINGS, *(cells(each) for each in survey.backbones)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
        for number, row in enumerate(rows):
            mark = " " if number == 0 or not survey.is_as_good(survey.backbones[number - 1]) else "*"
            left = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=False)]
            right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True)]
            lines.append(f"{mark} {'  '.join([*left, *right])}".rstrip())
    lines += [f"{weights}: left out: {why}" for weights, why in survey.left_out]
    lines += ["", *conclude(survey)]
    return "\n".join(lines)


def conclude(survey: Survey, marked: str = "marked *") -> list[str]:
    """What follows, in a line or two, the command last; `marked` is how those that are as good as the best are shown."""
    best, suggested = survey.best, survey.suggested
    if best is None or suggested is None:
        return ["nothing was tried"]
    others = sum(map(survey.is_as_good, survey.backbones)) - 1
    about = f"{survey.num_images:,} pictures of {survey.num_classes} classes"
    lines = [f"{about} do not tell the {others + 1} {marked} apart" if others else f"{best.network} is the best on {about}"]
    if suggested != best:
        faster = best.milliseconds / suggested.milliseconds
        lines.append(f"{suggested.network} up to {suggested.cut} is {faster:.1f} times as fast as the first: {survey.command(suggested)}")
    return [*lines, survey.command(best)]


def cells(backbone: Backbone) -> tuple[str, ...]:
    """For a table, under HEADINGS."""
    low, high = backbone.interval
    return (
        backbone.network,
        backbone.cut,
        backbone.weights,
        f"{backbone.top1:.1%}",
        f"{low:.1%} to {high:.1%}",
        f"{backbone.milliseconds:,.2f}" if backbone.milliseconds < 10 else f"{backbone.milliseconds:,.0f}",
        f"{backbone.megabytes:,.1f}",
        f"{backbone.seconds:,.1f} s",
    )


@dataclass(frozen=True)
class Mark:
    """A network in the picture, in pixels."""

    x: float
    y: float
    top: float
    bottom: float
    radius: float
    label: str
    label_y: float
    anchor: str
    is_best: bool
    is_as_good: bool
    title: str


@dataclass(frozen=True)
class Chart:
    """Accuracy against milliseconds an image, which are on a logarithmic scale."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    marks: tuple[Mark, ...]
    x_ticks: tuple[tuple[float, str], ...]
    y_ticks: tuple[tuple[float, str], ...]


def draw_chart(survey: Survey, width: int = 760, height: int = 420) -> Chart:
    """Where everything is."""
    left, right, top, bottom = 64, width - 24, 20, height - 52
    times = [each.milliseconds for each in survey.backbones]
    least, most = math.log10(min(times)) - 0.15, math.log10(max(times)) + 0.15
    if most - least < 0.9:
        middle = (least + most) / 2
        least, most = middle - 0.45, middle + 0.45
    low = max(0.0, math.floor(min(each.interval[0] for each in survey.backbones) * 20 - 0.2) / 20)
    high = min(1.0, math.ceil(max(each.interval[1] for each in survey.backbones) * 20 + 0.2) / 20)

    def across(milliseconds: float) -> float:
        return round(left + (math.log10(milliseconds) - least) / (most - least) * (right - left), 1)

    def up(share: float) -> float:
        return round(bottom - (share - low) / (high - low) * (bottom - top), 1)

    largest = max(each.megabytes for each in survey.backbones)
    marks: list[Mark] = []
    for number, each in enumerate(survey.backbones):
        x, y = across(each.milliseconds), up(each.top1)
        anchor = "end" if x > (left + right) / 2 else "start"
        marks.append(
            Mark(
                x=x,
                y=y,
                top=up(each.interval[1]),
                bottom=up(each.interval[0]),
                radius=round(4 + 6 * math.sqrt(each.megabytes / largest), 1),
                label=each.network + (f" up to {each.cut}" if each.ends_after else ""),
                label_y=_free_height(y + 4, x, marks),
                anchor=anchor,
                is_best=number == 0,
                is_as_good=survey.is_as_good(each),
                title=f"{each.network} up to {each.cut}: {each.top1:.1%} right, {each.milliseconds:.2f} ms an image",
            )
        )
    return Chart(
        width, height, left, right, top, bottom, tuple(marks),
        tuple((across(value), f"{value:g}") for value in _round_values(10**least, 10**most)),
        tuple((up(value), f"{value:.0%}") for value in _round_shares(low, high)),
    )  # fmt: skip


def _free_height(wanted: float, x: float, marks: Sequence[Mark]) -> float:
    """A height for a label that no label near has."""
    taken = sorted(mark.label_y for mark in marks if abs(mark.x - x) < 260)
    height = wanted
    while any(abs(height - other) < 15 for other in taken):
        height += 15
    return round(height, 1)


def _round_values(least: float, most: float) -> list[float]:
    exponents = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    return [step * 10.0**exponent for exponent in exponents for step in (1, 2, 5) if least <= step * 10.0**exponent <= most]


def _round_shares(low: float, high: float) -> list[float]:
    step = next(step for step in (0.05, 0.1, 0.2) if (high - low) / step <= 8)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 2) for number in range(first, math.floor(high / step + 1e-9) + 1)]
