"""Which row of one network is which of another: by the name of the stage, then of the block, then of the layer.

What has a name of its own is looked for by it. What is only numbered (`features.3`) or has none (the relu of a block) is told by what it is
and by the order. What has the same name and stands elsewhere is a pair, too: it moved.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from provenet.inspection.summary import Row

FAMILIES = (
    {"convolution", "sparse_convolution"},
    {"linear", "matrix_product", "rbf"},
    {"max_pool", "average_pool", "adaptive_average_pool", "adaptive_max_pool", "subsampling", "mean", "amax"},
    {"relu", "relu_", "leaky_relu", "gelu", "silu", "hardtanh", "sigmoid", "tanh", "squash"},
    {"batch_norm", "response_norm", "layer_norm", "group_norm"},
)
"""Kinds that stand for one another."""


class Match(NamedTuple):
    """Two rows that are one another's, or one without its like."""

    a: Row | None
    b: Row | None
    stage: str
    """Its name; `C1 / conv1` where they have two."""
    part: str
    """Of a row without its like, the largest part around it that has none either: a stage, a block, or the row itself. Of one that stands
    elsewhere than in the other network, the part that does."""
    crosses: tuple[str, ...] = ()
    """What that part is on another side of than in the other network."""


@dataclass(eq=False)
class Part:
    """A row, or the rows of a module; inside are its own parts, in the order in which they run."""

    name: str
    path: str
    row: Row | None = None
    inside: "list[Part]" = field(default_factory=list)

    @property
    def is_named(self) -> bool:
        """Whether somebody gave it a name, not a number, nor only a kind."""
        return not self.name.isdecimal() and not (self.row is not None and is_functional(self.row))

    @cached_property
    def rows(self) -> list[Row]:
        """All in it."""
        return [self.row] if self.row is not None else [row for part in self.inside for row in part.rows]

    @cached_property
    def kinds(self) -> Counter[str]:
        """How many of each kind are in it."""
        return Counter(row.kind for row in self.rows)


def is_functional(row: Row) -> bool:
    """Whether it is an operation that no layer stands for."""
    return row.path != row.name.partition(" (")[0]


def match_rows(a: Sequence[Row], b: Sequence[Row]) -> list[Match]:
    """Every row of both, once; in the order of `a`, with what only `b` has where it runs."""
    matches = _match_inside(_as_tree(a, ""), _as_tree(b, ""), "")
    return [match if match.stage else match._replace(stage=(match.a or match.b or a[0]).kind) for match in matches]


def _as_tree(rows: Sequence[Row], path: str) -> Part:
    root, parts = Part("", path), dict[str, Part]()
    for row in rows:
        *modules, name = row.name.split(".")
        around, so_far = root, ""
        for module in modules:
            so_far = f"{so_far}.{module}" if so_far else module
            if so_far not in parts:
                parts[so_far] = Part(module, so_far)
                around.inside.append(parts[so_far])
            around = parts[so_far]
        around.inside.append(Part(name, row.name, row))
    return root


def _match_inside(a: Part, b: Part, stage: str) -> Iterator[Match]:
    """The parts of two that are one another's."""
    pairs = dict(_pairs(a.inside, b.inside))
    lone_b = set(b.inside) - set(pairs.values())
    elsewhere = {y.name: y for y in lone_b if y.is_named}
    moved = {x: elsewhere[x.name] for x in a.inside if x not in pairs and x.is_named and x.name in elsewhere}
    lone_b -= set(moved.values())
    partner = pairs | moved
    crosses = {x: _crossed(x, a.inside, b.inside, partner) for x in moved}
    for x, others in list(crosses.items()):
        if len(others) == 1:  # both change places
            crosses.setdefault(others[0], [x])
    rest = iter(b.inside)
    for x in a.inside:
        if x not in partner:
            yield from _alone(x, None, stage or x.name)
            continue
        y = partner[x]
        if x not in moved:
            for other in rest:
                if other is y:
                    break
                if other in lone_b:
                    yield from _alone(None, other, stage or other.name)
        label = stage or (x.name if x.name == y.name else f"{x.name} / {y.name}")
        yield from _match_parts(x, y, label, tuple(other.path for other in crosses.get(x, ())))
    for other in rest:
        if other in lone_b:
            yield from _alone(None, other, stage or other.name)


def _match_parts(x: Part, y: Part, stage: str, crosses: tuple[str, ...]) -> Iterator[Match]:
    if x.row is not None and y.row is not None:
        yield Match(x.row, y.row, stage, x.path if crosses else "", crosses)
    elif x.row is None and y.row is None:
        for match in _match_inside(x, y, stage):
            yield match._replace(part=x.path, crosses=crosses) if crosses and not match.part else match
    else:  # a layer against a module: with its like in there, or else one stands for the other
        flat_x, flat_y = (Part("", part.path, inside=[Part(row.name, row.name, row) for row in part.rows]) for part in (x, y))
        matches = list(_match_inside(flat_x, flat_y, stage))
        has_like = any(match.a and match.b for match in matches)
        for match in matches:
            if match.a and match.b:
                yield match._replace(part=x.path if crosses else "", crosses=crosses)
            else:
                yield match if has_like else match._replace(part=x.path)


def _alone(x: Part | None, y: Part | None, stage: str) -> Iterator[Match]:
    for part, is_a in ((x, True), (y, False)):
        if part is not None:
            yield from (Match(row if is_a else None, None if is_a else row, stage, part.path) for row in part.rows)


def _crossed(moved: Part, a: list[Part], b: list[Part], partner: dict[Part, Part]) -> list[Part]:
    """The parts that run before it in one network, and after it in the other, in the order of the first."""
    place_a, place_b = {x: k for k, x in enumerate(a)}, {y: k for k, y in enumerate(b)}
    here, there = place_a[moved], place_b[partner[moved]]
    return [x for x in a if x in partner and x is not moved and (place_a[x] < here) != (place_b[partner[x]] < there)]


def _pairs(a: list[Part], b: list[Part]) -> list[tuple[Part, Part]]:
    """The most alike that can be paired without crossing; the other way round, the same pairs."""
    same = 0
    while same < min(len(a), len(b)) and _are_alike(a[same], b[same]):
        same += 1
    first, a, b = list(zip(a[:same], b[:same], strict=True)), a[same:], b[same:]
    if [_key(part) for part in b] < [_key(part) for part in a]:
        return first + [(x, y) for y, x in _best(b, a)]
    return first + _best(a, b)


def _key(part: Part) -> tuple[str, list[str]]:
    return part.name, [f"{row.kind} {row.settings}" for row in part.rows]


def _are_alike(x: Part, y: Part) -> bool:
    is_alike = x.name == y.name and x.kinds == y.kinds and (x.row is None) == (y.row is None)
    return is_alike and (x.is_named or _key(x) == _key(y))


def _best(a: list[Part], b: list[Part]) -> list[tuple[Part, Part]]:
    """Pairs of the greatest likeness altogether, in order."""
    names_a, names_b = ({part.name for part in parts if part.is_named} for parts in (a, b))
    taken = names_a & names_b
    likeness = [[_likeness(x, y, taken) for y in b] for x in a]
    best = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]  # of what is left from here on
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            together = likeness[i][j] + best[i + 1][j + 1] if likeness[i][j] else 0.0
            best[i][j] = max(together, best[i + 1][j], best[i][j + 1])
    pairs, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        if likeness[i][j] and best[i][j] == likeness[i][j] + best[i + 1][j + 1]:
            pairs.append((a[i], b[j]))
            i, j = i + 1, j + 1
        elif best[i][j] == best[i + 1][j]:
            i += 1
        else:
            j += 1
    return pairs


def _likeness(x: Part, y: Part, taken: set[str]) -> float:
    """0 where they cannot be one another's; a name that both networks have counts most."""
    if x.is_named and y.is_named and x.name == y.name:
        return 10 + _share(x, y)
    if any(part.is_named and part.name in taken for part in (x, y)):
        return 0
    name = 0.5 if x.name == y.name else 0
    if x.row is not None and y.row is not None:
        if x.row.kind == y.row.kind:
            return 2 + (x.row.settings == y.row.settings) + name
        return 1 + name if any({x.row.kind, y.row.kind} <= family for family in FAMILIES) else 0
    share = _share(x, y)
    return 1 + share + name if share >= 0.5 else 0


def _share(x: Part, y: Part) -> float:
    """How much of their layers is of the same kinds."""
    return 2 * (x.kinds & y.kinds).total() / (x.kinds.total() + y.kinds.total())
