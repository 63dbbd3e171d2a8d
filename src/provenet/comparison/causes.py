"""Why two networks differ, as lines to read: each thing that was set otherwise is said once, with all its layers.

No line is written for a pair of networks; rules make them from the layers.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from provenet.comparison.difference import Difference
from provenet.comparison.verdicts import Pair, Setting
from provenet.comparison.wording import Place, cost_of, describe_all, listing, place_of, places_of, plural, say, where
from provenet.inspection.tables import size_of


class Line(NamedTuple):
    """One thing to say, and the layers that it is about."""

    text: str
    pairs: Sequence[Pair]


def causes(found: Difference) -> list[str]:
    """What was set otherwise, in the order of the network. A cost stands where it has no other cause."""
    places = places_of(found)
    moves, used = _setting_moves(found, places)
    lines = [*_swaps(found), *moves, *_settings(found, places, used), *_only(found)]
    order = {id(pair): k for k, pair in enumerate(found.pairs)}
    told = Counter(id(pair) for line in lines for pair in line.pairs)
    texts = [
        line.text + (cost_of(line.pairs) if all(told[id(pair)] == 1 and _has_own_cost(pair) for pair in line.pairs) else "")
        for line in sorted(lines, key=lambda line: min(order[id(pair)] for pair in line.pairs))
    ]
    sizes = [" and ".join(map(size_of, summary.input)) for summary in (found.a, found.b)]
    return texts if sizes[0] == sizes[1] else [f"input {sizes[0]} → {sizes[1]}", *texts]


def _has_own_cost(pair: Pair) -> bool:
    """Whether what it costs more or less comes from nothing before it."""
    return (
        pair.reads[0] == pair.reads[1] or not (pair.a and pair.b) or all(len(set(pair.cost(name))) == 1 for name in ("parameters", "macs"))
    )


def _where(pairs: Iterable[Pair], places: dict[int, Place]) -> str:
    return where(places[id(pair)] for pair in pairs)


def _swaps(found: Difference) -> Iterator[Line]:
    """What stands in another order; in several blocks the same is one line."""
    moved: dict[str, list[Pair]] = {}
    for pair in found.pairs:
        if pair.crosses:
            moved.setdefault(pair.part, []).append(pair)
    groups: dict[tuple[str, bool], list[tuple[str, list[Pair]]]] = {}
    for part, pairs in moved.items():
        others = pairs[0].crosses
        counterpart = moved.get(others[0], []) if len(others) == 1 else []
        is_swap = bool(counterpart) and part in counterpart[0].crosses
        is_first = _number(found, part) < _number(found, others[0])
        if is_swap and not is_first:
            continue  # told with the other
        owner, name = _split(part)
        rest = listing([_split(other)[1] for other in others])
        comes = f"{name} comes after {rest}, not before" if is_first else f"{name} comes before {rest}, not after"
        text = f"{name} and {rest} change places" if is_swap else comes
        groups.setdefault((text, bool(owner)), []).append((owner, [*pairs, *counterpart] if is_swap else pairs))
    for (text, has_owner), members in groups.items():
        owners = f" in {listing([owner for owner, _ in members])}" if has_owner else ""
        yield Line(text + owners, [pair for _, pairs in members for pair in pairs])


def _split(path: str) -> tuple[str, str]:
    """What a part is in, and its own name."""
    owner, _, name = path.rpartition(".")
    return owner, name


def _number(found: Difference, path: str) -> int:
    """Where a part begins in the first network."""
    return next(k for k, pair in enumerate(found.pairs) if pair.a and f"{pair.a.name}.".startswith(f"{path}."))


def _setting_moves(found: Difference, places: dict[int, Place]) -> tuple[list[Line], set[tuple[int, str]]]:
    """What one layer of a block is told no more, and another now is, such as a stride; and which settings that tells."""
    by_owner: dict[tuple[str, str], list[tuple[Setting, Pair]]] = {}
    for pair in found.of("changed"):
        for setting in pair.what:
            by_owner.setdefault((places[id(pair)].owner, setting.setting), []).append((setting, pair))
    groups: dict[str, list[tuple[str, Pair, Pair]]] = {}
    used = set()
    for (owner, name), changes in by_owner.items():
        if len(changes) != 2 or not isinstance(changes[0][0].a, int) or changes[0][0][1:] != changes[1][0][:0:-1]:
            continue
        (first, giver), (_, taker) = sorted(changes, key=lambda pair: -pair[0].a)
        texts = [places[id(pair)].rest + _kernel(pair) for pair in (giver, taker)]
        groups.setdefault(f"{name} {first.a} moves from {texts[0]} to {texts[1]}", []).append((owner, giver, taker))
        used |= {(id(giver), name), (id(taker), name)}
    lines = []
    for text, members in groups.items():
        owners = listing([owner for owner, _, _ in members])
        lines.append(Line(f"{text} in {owners}" if owners else text, [pair for _, *pairs in members for pair in pairs]))
    return lines, used


def _kernel(pair: Pair) -> str:
    kernel = pair.row.settings.get("kernel")
    return f" ({kernel}x{kernel})" if isinstance(kernel, int) else ""


def _settings(found: Difference, places: dict[int, Place], used: set[tuple[int, str]]) -> Iterator[Line]:
    """What layers were told otherwise: by setting and value, so that what many were told is one line."""
    facts: dict[tuple[str, str], list[tuple[Setting, Pair]]] = {}
    for pair in found.pairs:
        for setting in pair.what:
            if setting.setting != "after" and (id(pair), setting.setting) not in used:
                facts.setdefault((setting.setting, say(setting)), []).append((setting, pair))
    for size in ("maps", "features"):
        series = [changes for (name, _), changes in facts.items() if name == size]
        if len(series) > 1:
            texts = [f"{_where([pair for _, pair in changes], places)} {changes[0][0].a} → {changes[0][0].b}" for changes in series]
            yield Line(f"{size}: {', '.join(texts)}", [pair for changes in series for _, pair in changes])
            facts = {key: changes for key, changes in facts.items() if key[0] != size}
    by_layers: dict[tuple[int, ...], list[str]] = {}
    members: dict[tuple[int, ...], list[Pair]] = {}
    for (_, text), changes in facts.items():
        key = tuple(id(pair) for _, pair in changes)
        by_layers.setdefault(key, []).append(text)
        members[key] = [pair for _, pair in changes]
    for key, texts in by_layers.items():
        yield Line(f"{', '.join(texts)}: {_all_or_where(found, members[key], places)}{_without_effect(members[key])}", members[key])


def _without_effect(pairs: list[Pair]) -> str:
    """Of pools that round otherwise, whether that makes a difference at this size."""
    for pair in pairs:
        sizes = [[shape[1:] for shape in (*reads, row.output)] for row, reads in zip((pair.a, pair.b), pair.reads, strict=True) if row]
        if [setting.setting for setting in pair.what] != ["rounds up"] or sizes[0] != sizes[1]:
            return ""
    return ", which changes no size here"


def _all_or_where(found: Difference, pairs: list[Pair], places: dict[int, Place]) -> str:
    kinds = {pair.row.kind for pair in pairs}
    if len(pairs) > 3 and len(kinds) == 1 and len(pairs) == sum(pair.row.kind in kinds for pair in found.pairs):
        return f"all {len(pairs)} {plural(pairs[0].row.kind)}"
    return _where(pairs, places)


def _only(found: Difference) -> Iterator[Line]:
    """What is in one network only, or has another's place; blocks that have or lack the same are one line."""
    parts: dict[tuple[str, bool], tuple[list[Pair], list[Pair]]] = {}
    for pair in found.of("only in a", "only in b"):
        parts.setdefault((pair.part, pair.only_in_training), ([], []))[0 if pair.a else 1].append(pair)
    lacks: dict[tuple[str, str], list[_Lack]] = {}
    for (path, only_in_training), sides in parts.items():
        texts = [describe_all([pair.row for pair in side]) for side in sides]
        place = place_of(path or sides[0 if sides[0] else 1][0].row.kind, found.block_of((sides[0] or sides[1])[0]))
        label = f"only in {found.names[0 if sides[0] else 1]}" + (" while training" if only_in_training else "")
        lack = _Lack(place.rest, texts[0] or texts[1], [*sides[0], *sides[1]])
        if all(sides):  # in one another's place
            label, lack = " → ".join(texts), lack._replace(what="")
        lacks.setdefault((label, place.owner), []).append(lack)
    blocks: dict[tuple[str, str], list[tuple[str, list[_Lack]]]] = {}  # those with the same inside
    for (label, owner), inside in lacks.items():
        whats = {lack.what for lack in inside}
        same = next(iter(whats)) if len(whats) == 1 else str([lack[:2] for lack in inside])
        blocks.setdefault((label, same), []).append((owner, inside))
    for (label, _), members in blocks.items():
        pairs = [pair for _, inside in members for lack in inside for pair in lack.pairs]
        yield Line(f"{label}: {_lacking(members)}", pairs)


class _Lack(NamedTuple):
    rest: str
    what: str
    pairs: list[Pair]


def _lacking(members: list[tuple[str, list[_Lack]]]) -> str:
    """`shortcut (identity), add of conv2_x.block1, block2`; of many of one kind, that once."""
    whats = dict.fromkeys(lack.what for _, inside in members for lack in inside)
    names = [Place(owner, lack.rest) for owner, inside in members for lack in inside]
    if len(whats) == 1:
        what = next(iter(whats))
        each = "each " if len(names) > 1 else ""
        return where(names) + (f" ({each}{what})" if what and not names[0].rest.startswith(what) else "")
    told = []
    for what in whats:
        rests = [lack.rest for lack in members[0][1] if lack.what == what]
        each = "each " if len(rests) > 1 else ""
        told.append(listing(rests) + ("" if rests[0].startswith(what) else f" ({each}{what})"))
    owners = listing([owner for owner, _ in members])
    return f"{', '.join(told)} of {owners}" if owners else ", ".join(told)
