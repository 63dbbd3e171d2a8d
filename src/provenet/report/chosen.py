"""Which pictures of an evaluation a report shows: mistakes in two orders, look-alike classes side by side, examples of each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest

import torch
from torch import Tensor

from provenet.outcomes import LookAlikes, Outcomes, surest_mistakes, worst_mistakes
from provenet.report.findings import Findings

NUM_MISTAKES = 24
"""In each of the two orders; many are in both."""
MOST_LOOK_ALIKES = 6
NUM_SIDE_BY_SIDE = 3
"""Pictures of each of four kinds: one class, taken for the other, the other way, the other class."""
NUM_TYPICAL, NUM_MISTAKEN = 2, 1
"""Examples of a class: recognised ones and the worst mistake."""
MOST_EXAMPLES = 300
"""Of all classes together; of many classes the hardest have some."""

MISTAKE_SIDE, SIDE_BY_SIDE_SIDE, EXAMPLE_SIDE = 192, 128, 64
"""The longer side in pixels; a smaller picture is shown as it is."""
QUANTILES = (1 / 2, 5 / 6, 1 / 6)
"""Where the typical pictures of a class lie among its recognised ones, from the least sure to the surest."""


@dataclass(frozen=True)
class SideBySide:
    """The pictures of two classes that look alike, as places among the evaluated ones."""

    pair: LookAlikes
    one: Sequence[int]
    """Recognised ones, typical of the class."""
    one_as_other: Sequence[int]
    """The surest mistakes first."""
    other_as_one: Sequence[int]
    other: Sequence[int]


@dataclass(frozen=True)
class Choice:
    """Places among the evaluated pictures."""

    worst: Sequence[int] = ()
    surest: Sequence[int] = ()
    side_by_side: Sequence[SideBySide] = ()
    examples: Sequence[tuple[int, int]] = ()
    """Class and place, one for each class before a second for any, the hardest classes first."""

    @property
    def sides(self) -> dict[int, int]:
        """Every place once, the most important first, and how large it is shown."""
        beside = chain.from_iterable((*found.one, *found.one_as_other, *found.other_as_one, *found.other) for found in self.side_by_side)
        mistakes = chain.from_iterable(zip_longest(self.worst, self.surest))
        sides: dict[int, int] = {}
        for side, places in ((MISTAKE_SIDE, mistakes), (SIDE_BY_SIDE_SIDE, beside), (EXAMPLE_SIDE, (place for _, place in self.examples))):
            for place in places:
                if place is not None:
                    sides.setdefault(place, side)
        return sides


def choose(findings: Findings, outcomes: Outcomes) -> Choice:
    """The pictures to show of an evaluation with these findings."""
    recognised = _by_class(outcomes, outcomes.is_right, outcomes.confidence, len(findings.classes))
    mistaken = _by_class(outcomes, ~outcomes.is_right, outcomes.own, len(findings.classes))
    of_each = (
        [(row.number, place) for place in _interleave(_typical(recognised[row.number]), mistaken[row.number][:NUM_MISTAKEN].tolist())]
        for row in islice(findings.weakest, MOST_EXAMPLES)
    )
    in_rounds = chain.from_iterable(zip_longest(*of_each))
    return Choice(
        worst=worst_mistakes(outcomes, NUM_MISTAKES),
        surest=surest_mistakes(outcomes, NUM_MISTAKES),
        side_by_side=[_put_side_by_side(outcomes, pair, recognised) for pair in findings.look_alikes[:MOST_LOOK_ALIKES]],
        examples=list(islice((example for example in in_rounds if example), MOST_EXAMPLES)),
    )


def _put_side_by_side(outcomes: Outcomes, pair: LookAlikes, recognised: Sequence[Tensor]) -> SideBySide:
    def taken(true: int, predicted: int) -> list[int]:
        places = ((outcomes.labels == true) & (outcomes.predicted == predicted)).nonzero()[:, 0]
        surest = outcomes.confidence[places].sort(stable=True, descending=True).indices[:NUM_SIDE_BY_SIDE]
        return places[surest].tolist()  # type: ignore[no-any-return]

    return SideBySide(
        pair,
        one=_typical(recognised[pair.one], NUM_SIDE_BY_SIDE),
        one_as_other=taken(pair.one, pair.other),
        other_as_one=taken(pair.other, pair.one),
        other=_typical(recognised[pair.other], NUM_SIDE_BY_SIDE),
    )


def _by_class(outcomes: Outcomes, chosen: Tensor, values: Tensor, num_classes: int) -> Sequence[Tensor]:
    """The places of the chosen pictures of each class, by value, the least first; ties by place."""
    places = chosen.nonzero()[:, 0]
    places = places[values[places].sort(stable=True).indices]
    places = places[outcomes.labels[places].sort(stable=True).indices]
    return torch.split(places, torch.bincount(outcomes.labels[places], minlength=num_classes).tolist())


def _typical(places: Tensor, count: int = NUM_TYPICAL) -> list[int]:
    """So many, spread over a class from the least sure to the surest: the one in the middle, then towards the ends.

    >>> _typical(torch.arange(30), 3), _typical(torch.arange(1), 3), _typical(torch.arange(0), 3)
    ([15, 25, 5], [0], [])
    """
    chosen = [int(quantile * len(places)) for quantile in QUANTILES[:count]] if len(places) else []
    return [int(places[number]) for number in dict.fromkeys(chosen)]


def _interleave(recognised: Sequence[int], mistaken: Sequence[int]) -> list[int]:
    """One recognised, one mistaken, and so on."""
    return [place for pair in zip_longest(recognised, mistaken) for place in pair if place is not None]
