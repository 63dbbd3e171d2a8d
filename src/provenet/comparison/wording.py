"""How layers, their settings and their costs are called in a sentence."""

import re
from collections.abc import Iterable, Sequence
from os.path import commonprefix
from typing import Any, NamedTuple

from provenet.comparison.difference import Difference
from provenet.comparison.verdicts import Pair, Setting
from provenet.inspection.summary import Row
from provenet.inspection.tables import describe, show_bytes, size_of
from provenet.papers.listing import show_count

SHORT = 50
"""Names that take no more room are written out."""


SAID = {("bias", True): "with bias", ("bias", False): "without", ("rounds up", True): "rounds up", ("rounds up", False): "rounds down"}
"""Settings that are a yes or a no."""


class Place(NamedTuple):
    """Where a layer is: its block, or its stage where there are no blocks, and the rest of its path."""

    owner: str
    rest: str

    @property
    def path(self) -> str:
        """All of it."""
        return f"{self.owner}.{self.rest}" if self.owner else self.rest


def place_of(path: str, block: str) -> Place:
    """A layer, or a part of a network, that is in this block or is it.

    >>> place_of("conv3_x.block1.conv1", "conv3_x.block1")
    Place(owner='conv3_x.block1', rest='conv1')
    >>> place_of("fc8", "fc8")
    Place(owner='', rest='fc8')
    """
    if path.startswith(f"{block}."):
        return Place(block, path.removeprefix(f"{block}."))
    owner, _, rest = path.rpartition(".")
    return Place(owner, rest)


def places_of(found: Difference) -> dict[int, Place]:
    """Where each pair is, by its identity."""
    return {id(pair): place_of(pair.row.name or pair.row.kind, found.block_of(pair)) for pair in found.pairs}


def where(places: Iterable[Place]) -> str:
    """Layers by name; what several blocks have is said once.

    >>> where([Place("conv1", "norm"), Place("conv2", "norm")])
    'conv1.norm, conv2.norm'
    >>> where(Place(f"conv{k}_x.block1", name) for k in (3, 4, 5) for name in ("conv1", "bn1"))
    'conv1, bn1 of conv3_x.block1, conv4_x.block1, conv5_x.block1'
    """
    by_owner: dict[str, list[str]] = {}
    for owner, rest in places:
        by_owner.setdefault(owner, []).append(rest)
    groups: dict[tuple[str, ...], list[str]] = {}
    for owner, rests in by_owner.items():
        groups.setdefault(tuple(rests), []).append(owner)
    texts = []
    for names, owners in groups.items():
        paths = ", ".join(Place(owner, rest).path for owner in owners for rest in names)
        texts.append(paths if len(paths) <= SHORT or owners == [""] else f"{listing(names)} of {listing(owners)}")
    return "; ".join(texts)


def listing(names: Sequence[str]) -> str:
    """Names in a row: numbers that follow one another shortly, a long beginning that all have only once.

    >>> listing(["block7", "block8", "block9", "block11"])
    'block7, block8, block9, block11'
    >>> listing(["inception_3a", "inception_3b", "inception_4a"])
    'inception_3a, 3b, 4a'
    """
    if (short := shortened(names)) != list(names):
        return ", ".join(short)
    runs = [[name] for name in names[:1]]
    for name in names[1:]:
        if _comes_after(name, runs[-1][-1]):
            runs[-1].append(name)
        else:
            runs.append([name])
    return ", ".join(text for run in runs for text in ([f"{run[0]} … {_last(run)}"] if _is_long(run) else run))


def _is_long(run: list[str]) -> bool:
    return len(run) > 3 or (len(run) == 3 and len(", ".join(run)) > 30)


def _last(run: list[str]) -> str:
    """Without the stage, where all are in one."""
    return run[-1].rpartition(".")[2] if len({name.rpartition(".")[0] for name in run}) == 1 else run[-1]


def shortened(names: Sequence[str]) -> list[str]:
    """Without the beginning that all share, but for the first.

    >>> shortened(["inception_3a", "inception_3b", "inception_4a"])
    ['inception_3a', '3b', '4a']
    """
    shared = commonprefix(list(names)).rpartition("_")[0] if len(names) > 2 else ""  # noqa: RUF071, of names, not of files
    if not shared or any(character.isdigit() for character in shared):
        return list(names)
    return [names[0], *(name.removeprefix(f"{shared}_") for name in names[1:])]


def _comes_after(name: str, before: str) -> bool:
    parts, parts_before = (re.fullmatch(r"(.*?)(\d{1,9})(\D*)", text) for text in (name, before))
    if not parts or not parts_before or parts[1] != parts_before[1] or parts[3] != parts_before[3]:
        return False
    return int(parts[2]) == int(parts_before[2]) + 1


def say(setting: Setting) -> str:
    """A setting and what became of it.

    >>> say(Setting("kernel", 3, 1)), say(Setting("bias", True, False)), say(Setting("maps", 96, 64))
    ('kernel 3x3 → 1x1', 'with bias → without', '96 → 64 maps')
    """
    name, a, b = setting
    if name == "kind":
        return f"{a} → {b}".replace("_", " ")
    if isinstance(a, bool) and isinstance(b, bool) and (name, a) in SAID:
        return f"{SAID[name, a]} → {SAID[name, b]}"
    if name == "output":
        return f"writes {size_of(a)} → {size_of(b)}"
    values = f"{_value(name, a)} → {_value(name, b)}"
    return f"{values} {name}" if name in ("maps", "features") else f"{name} {values}"


def _value(name: str, value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "kernel" and isinstance(value, int):
        return f"{value}x{value}"
    if isinstance(value, tuple):
        return ("x" if all(isinstance(side, int) for side in value) else ", ").join(map(str, value))
    return str(value)


def describe_all(rows: Sequence[Row]) -> str:
    """What they are, or how many."""
    return ", ".join(map(describe, rows)) if len(rows) <= 3 else f"{len(rows)} layers"


def plural(kind: str) -> str:
    """Several of a kind.

    >>> plural("batch_norm"), plural("linear"), plural("relu")
    ('batch norms', 'linear layers', 'relus')
    """
    text = kind.replace("_", " ")
    return f"{text} layers" if kind in ("linear", "dropout", "flatten", "identity", "squash", "mean") else f"{text}s"


def cost_of(pairs: Sequence[Pair]) -> str:
    """What they cost more or less in the second network: ` [parameters +1.2 M, MACs -3.0 M]`; nothing where it is nothing."""
    shown = [("parameters", "parameters", show_count), ("macs", "MACs", show_count)]
    parts: list[str] = []
    for name, label, show in [*shown, ("training_bytes", "memory in training", show_bytes)]:
        a, b = (sum(costs) for costs in zip(*(pair.cost(name) for pair in pairs), strict=True))
        if a != b and (name != "training_bytes" or (not parts and not any(pair.a and pair.b for pair in pairs))):
            parts.append(f"{label} {'+' if b > a else '-'}{show(abs(b - a))}")
    return f" [{', '.join(parts)}]" if parts else ""


def change(a: int, b: int, show: Any = show_count) -> str:
    """From one to the other, and by how much.

    >>> change(200, 150), change(100, 450), change(307_456, 307_392), change(7, 7)
    ('200 → 150 (-25 %)', '100 → 450 (4.5 times)', '307 K (-64)', '7')
    """
    if a == b:
        return str(show(a))
    if show(a) == show(b):
        return f"{show(a)} ({'+' if b > a else '-'}{show(abs(b - a))})"
    return f"{show(a)} → {show(b)}" + (f" ({by_how_much(a, b)})" if a and b else "")


def by_how_much(a: int, b: int) -> str:
    """In percent, or in times from the double on.

    >>> by_how_much(200, 150), by_how_much(100, 1390), by_how_much(50, 53), by_how_much(1000, 1001), by_how_much(10, 10)
    ('-25 %', '13.9 times', '+6.0 %', '+0.1 %', '')
    """
    if a == b or not a:
        return ""
    if b >= 1.95 * a:
        return f"{b / a:.3g} times" if b < 100 * a else f"{b / a:,.0f} times"
    percent = 100 * (b - a) / a
    return f"{percent:+.0f} %" if abs(percent) >= 9.95 else f"{percent:+.1f} %" if abs(percent) >= 1 else f"{percent:+.2g} %"
