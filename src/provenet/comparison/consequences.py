"""What follows from the causes, as lines to read: which layers work on more or larger maps, and what that costs."""

from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

from provenet.comparison.difference import Difference
from provenet.comparison.verdicts import Pair, Shapes
from provenet.comparison.wording import Place, cost_of, listing, places_of, shortened
from provenet.inspection.summary import Row


def consequences(found: Difference) -> list[str]:
    """What layers work on that were told the same, and what those write that were not."""
    places = places_of(found)
    facts = [fact for pair in found.of("changed", "moved", "follows") for fact in _sizes(pair, places[id(pair)])]
    several = {number for number, count in Counter(id(fact.pair) for fact in facts).items() if count > 1}
    groups: dict[tuple[str, str], list[_Fact]] = {}
    for fact in facts:
        groups.setdefault((fact.verb, fact.what), []).append(fact)
    return [text for group in groups.values() for text in _tell(group, several)]


class _Fact(NamedTuple):
    verb: str
    """Read or write."""
    what: str
    place: Place
    a: str
    b: str
    pair: Pair


UNITS = {"convolution": "maps", "sparse_convolution": "maps", "linear": "numbers", "rbf": "numbers"}
"""What layers with weights read."""


def _sizes(pair: Pair, place: Place) -> Iterator[_Fact]:
    """Of layers with weights what they read; of these, and of what was told otherwise, what they write where its sides differ."""
    a, b = pair.a, pair.b
    assert a
    assert b
    unit = UNITS.get(a.kind)
    if unit and unit == UNITS.get(b.kind) and all(shapes and shapes[0] for shapes in pair.reads):
        (many_a, text_a), (many_b, text_b) = _reading(a, pair.reads[0]), _reading(b, pair.reads[1])
        if text_a != text_b:
            yield _Fact("read", f"{'more' if many_b > many_a else 'fewer'} {unit}", place, text_a, text_b, pair)
    sides_a, sides_b = a.output[1:], b.output[1:]
    if len(sides_a) == len(sides_b) and sides_a != sides_b and (unit == "maps" or (pair.verdict != "follows" and len(sides_a) > 1)):
        what = f"{'larger' if prod(sides_b) > prod(sides_a) else 'smaller'} maps"
        yield _Fact("write", what, place, "x".join(map(str, sides_a)), "x".join(map(str, sides_b)), pair)
    elif a.kind == b.kind == "concatenate" and sides_a == sides_b and a.output != b.output:
        maps_a, maps_b = a.output[0], b.output[0]
        yield _Fact("write", f"{'more' if maps_b > maps_a else 'fewer'} maps", place, str(maps_a), str(maps_b), pair)


def _reading(row: Row, shapes: Shapes) -> tuple[int, str]:
    """How many maps each of its own maps reads, `48 of 96` where it works in groups; or how many numbers."""
    if UNITS[row.kind] == "numbers":
        numbers = prod(shapes[0]) if len(row.output) == 1 else shapes[0][-1]  # a view may lie between
        return numbers, str(numbers)
    maps, groups = shapes[0][0], row.settings.get("groups", 1)
    return maps // groups, f"{maps // groups} of {maps}" if groups > 1 else str(maps)


def _tell(facts: list[_Fact], several: set[int]) -> list[str]:
    """By the names of the layers, or by what they are called in their blocks, one line for all with the same sizes: what is shorter."""
    verb, what = facts[0][:2]
    by_name: dict[str, list[_Fact]] = {}
    for fact in facts:
        by_name.setdefault(fact.place.rest, []).append(fact)
    merged: dict[tuple[tuple[str, str, str], ...], list[str]] = {}
    for name, series in by_name.items():
        merged.setdefault(tuple((fact.place.owner, fact.a, fact.b) for fact in series), []).append(name)
    lines = []
    for names in merged.values():
        first = by_name[names[0]]
        told = _series(shortened([fact.place.owner for fact in first]), first)
        cost = _follow_cost([fact for name in names for fact in by_name[name]], several)
        lines.append(f"{listing(names)} {verb}{'s' if len(names) == 1 else ''} {what}: {told}{cost}")
    if len(facts) == 1:
        together = f"{facts[0].place.path} {verb}s {what}: {facts[0].a} → {facts[0].b}"
    else:
        done = {"read": "read", "write": "written"}[verb]
        together = f"{what} are {done}: {_series([fact.place.path for fact in facts], facts)}"
    together += _follow_cost(facts, several)
    return [together] if len(facts) == 1 or len(together) <= sum(map(len, lines)) else lines


def _series(names: list[str], facts: list[_Fact]) -> str:
    """`conv2 96 → 64, conv3, conv4 256 → 192`."""
    sizes: dict[str, list[str]] = {}
    for name, fact in zip(names, facts, strict=True):
        sizes.setdefault(f"{fact.a} → {fact.b}", []).append(name)
    return ", ".join(f"{listing(names)} {size}".strip() for size, names in sizes.items())


def _follow_cost(facts: list[_Fact], several: set[int]) -> str:
    """Of what was told the same; what is in several lines is in none of their sums."""
    pairs = [fact.pair for fact in facts if fact.pair.verdict == "follows"]
    return cost_of(pairs) if pairs and not any(id(pair) in several for pair in pairs) else ""
