"""The pictures of a report as its templates show them: mistakes in two orders, look-alikes side by side, examples of each class."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from provenet.outcomes import LookAlikes
from provenet.report.chosen import MOST_LOOK_ALIKES, SideBySide
from provenet.report.findings import Findings
from provenet.report.gallery import Gallery, Shown


class Ranked(NamedTuple):
    """A mistake, and its rank from 1 in each order that it belongs to."""

    mistake: Shown
    worst: int | None
    surest: int | None


class Mistakes(NamedTuple):
    """The mistakes of both orders, each once: the worst, then those that only belong to the surest."""

    shown: Sequence[Ranked]
    has_two_orders: bool
    surest: int
    """How many belong to the surest."""
    in_both: int


def show_mistakes(gallery: Gallery) -> Mistakes:
    """Ranks count what fitted into the page."""
    worst, surest = (
        {place: rank for rank, place in enumerate((place for place in places if place in gallery.pictures), start=1)}
        for places in (gallery.choice.worst, gallery.choice.surest)
    )
    shown = [Ranked(gallery.pictures[place], worst.get(place), surest.get(place)) for place in worst | surest]
    return Mistakes(shown, list(worst) != list(surest), len(surest), len(worst.keys() & surest.keys()))


def show_examples(gallery: Gallery) -> Mapping[int, Sequence[Shown]]:
    """By class, of those that have any: recognised ones, then mistakes."""
    examples: dict[int, list[Shown]] = {}
    for number, place in gallery.choice.examples:
        if place in gallery.pictures and gallery.pictures[place].picture:
            examples.setdefault(number, []).append(gallery.pictures[place])
    for shown in examples.values():
        shown.sort(key=lambda each: not each.is_right)
    return examples


def show_look_alikes(gallery: Gallery, findings: Findings) -> list[dict[str, Any]]:
    """The first pairs of classes, each with its four kinds of pictures."""
    beside = {found.pair: found for found in gallery.choice.side_by_side}
    return [_show_pair(gallery, findings, pair, beside.get(pair)) for pair in findings.look_alikes[:MOST_LOOK_ALIKES]]


def _show_pair(gallery: Gallery, findings: Findings, pair: LookAlikes, beside: SideBySide | None) -> dict[str, Any]:
    one, other = findings.classes[pair.one].name, findings.classes[pair.other].name

    def kind(true: str, predicted: str, images: int, places: Iterable[int]) -> dict[str, Any]:
        shown = [gallery.pictures[place] for place in places if place in gallery.pictures and gallery.pictures[place].picture]
        return {"true": true, "predicted": predicted, "is_right": true == predicted, "images": images, "shown": shown}

    kinds = [
        kind(one, one, 0, beside.one if beside else ()),
        kind(one, other, pair.one_as_other, beside.one_as_other if beside else ()),
        kind(other, one, pair.other_as_one, beside.other_as_one if beside else ()),
        kind(other, other, 0, beside.other if beside else ()),
    ]
    return {"pair": pair, "one": one, "other": other, "kinds": kinds}
