"""What is to be said of a layer and its like in another network: the same, told otherwise, elsewhere, or only working on another size."""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from provenet.comparison.alignment import Match
from provenet.inspection.summary import Row, Summary

Verdict = Literal["same", "changed", "moved", "follows", "only in a", "only in b"]

Shapes = tuple[tuple[int, ...], ...]

COSTS = ("parameters", "macs", "elementwise", "activation_bytes", "training_bytes")
"""What adds up over rows."""

WITHOUT_EFFECT = {"inplace", "output_ratio", "track_running_stats"}
"""Settings that change no number."""


class Setting(NamedTuple):
    """One thing that two layers were told differently."""

    setting: str
    a: Any
    b: Any


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A layer or operation of one network and its like in the other, or one without its like."""

    a: Row | None
    b: Row | None
    verdict: Verdict
    """`changed`: it was told something else. `moved`: it stands elsewhere. `follows`: told the same, it works on another size."""
    what: tuple[Setting, ...]
    """What it was told differently, its place with it."""
    reads: tuple[Shapes, Shapes]
    """Shapes of what it is given, in each network."""
    stage: str
    """Its name; `C1 / conv1` where the networks call it differently."""
    part: str
    """Of a row without its like, the largest part around it that has none either; of one that moved, the part that did."""
    crosses: tuple[str, ...]
    """Paths of what that part is on another side of than in the other network."""
    only_in_training: bool = False

    @property
    def row(self) -> Row:
        """That of the first network, where it has one."""
        row = self.a or self.b
        assert row is not None
        return row

    def cost(self, what: str) -> tuple[int, int]:
        """One of COSTS, in each network. What only training uses has no other cost than what it keeps."""
        if self.only_in_training and what != "training_bytes":
            return 0, 0
        return tuple(getattr(row, what) if row else 0 for row in (self.a, self.b))  # type: ignore[return-value]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "verdict": self.verdict,
            "a": self.a and self.a.to_dict(),
            "b": self.b and self.b.to_dict(),
            "what": [setting._asdict() for setting in self.what],
            "reads": dict(zip("ab", self.reads, strict=True)),
            "only_in_training": self.only_in_training,
        }


def judge(matches: Sequence[Match], a: Summary, b: Summary) -> list[Pair]:
    """A verdict for each."""
    wiring = _Wiring(matches, a, b)
    trained_only = {id(row) for summary in (a, b) for row in summary.only_in_training}
    shapes_a, shapes_b = _shapes(a), _shapes(b)
    pairs = []
    for match in matches:
        reads = (
            tuple(shapes_a[name] for name in match.a.reads) if match.a else (),
            (tuple(shapes_b[name] for name in match.b.reads) if match.b else ()),
        )
        verdict, what = _verdict(match, reads, wiring)
        pair = Pair(
            a=match.a,
            b=match.b,
            verdict=verdict,
            what=what,
            reads=reads,
            stage=match.stage,
            part=match.part,
            crosses=match.crosses if match.a and match.a.name in wiring.moved else (),
            only_in_training=id(match.a or match.b) in trained_only,
        )
        pairs.append(pair)
    return pairs


def _verdict(match: Match, reads: tuple[Shapes, Shapes], wiring: "_Wiring") -> tuple[Verdict, tuple[Setting, ...]]:
    if match.b is None:
        return "only in a", ()
    if match.a is None:
        return "only in b", ()
    what = list(_compare(match.a, match.b, reads))
    sources = [" and ".join(_near(name, row) for name in row.reads) for row in (match.a, match.b)]
    if match.a.name in wiring.moved:
        verdict: Verdict = "changed" if what else "moved"
        return verdict, (*what, Setting("after", *sources))
    if not wiring.reads_alike(match.a, match.b):
        what.append(Setting("reads", *sources))
    if what:
        return "changed", tuple(what)
    sizes = [(size, getattr(match.a, size), getattr(match.b, size)) for size in ("output", "parameters", "macs", "elementwise")]
    differing = [Setting(*size) for size in sizes if size[1] != size[2]]
    if reads[0] != reads[1]:
        return "follows", ()
    return ("changed", tuple(differing[:1])) if differing else ("same", ())  # it was told something that nobody sees


def _near(name: str, row: Row) -> str:
    """The name of a row as seen from another in its block."""
    around, dot, _ = row.name.rpartition(".")
    return name.removeprefix(around + dot)


def _compare(a: Row, b: Row, reads: tuple[Shapes, Shapes]) -> Iterator[Setting]:
    """What they were told differently; of two kinds only what both can be told."""
    told_a, told_b = _told(a, reads[0]), _told(b, reads[1])
    kinds = a.kind.rstrip("_"), b.kind.rstrip("_")  # relu_ writes where it reads
    if kinds[0] != kinds[1]:
        yield Setting("kind", *kinds)
    for name in dict.fromkeys((*told_a, *told_b)):
        if told_a.get(name) != told_b.get(name) and (kinds[0] == kinds[1] or (name in told_a and name in told_b)):
            yield Setting(name, told_a.get(name), told_b.get(name))


def _told(row: Row, reads: Shapes) -> dict[str, Any]:
    """Settings by name. Of a layer's own words, what only repeats a size it is given says nothing."""
    told = {name: value for name, value in row.settings.items() if name != "settings"}
    sizes = {str(side) for shape in reads for side in shape} | {str(shape) for shape in reads}
    rest = []
    for word in re.split(r",\s*(?![^()]*\))", row.settings.get("settings", "")):
        name, equals, value = word.partition("=")
        if equals and name.isidentifier():
            told |= {name: _plain(value)} if name not in WITHOUT_EFFECT else {}
        elif word and word not in sizes:
            rest.append(word)
    return told | ({"settings": ", ".join(rest)} if rest else {})


def _plain(text: str) -> Any:
    """A number where it is one."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):
        return text
    return value if isinstance(value, int | float | tuple) else text


def _shapes(summary: Summary) -> dict[str, tuple[int, ...]]:
    """What each row writes, by its name."""
    rows = (*summary.rows, *summary.only_in_training)
    return {"input": summary.input[0] if summary.input else ()} | {row.name: row.output for row in rows}


class _Wiring:
    """Where the numbers come from that a layer reads, in each network."""

    def __init__(self, matches: Sequence[Match], a: Summary, b: Summary) -> None:
        both = [(match.a, match.b, match) for match in matches if match.a and match.b]
        self.rows = [(*summary.rows, *summary.only_in_training) for summary in (a, b)]
        self.partner = {one.name: other.name for one, other, _ in both} | {"input": "input"}
        self.passed: list[dict[str, str]] = [
            {match.a.name: "" for match in matches if match.a and not match.b},
            {match.b.name: "" for match in matches if match.b and not match.a},
        ]
        """Rows that stand between others in one network only, in each; and the part they moved with."""
        self.sources = self._look_through()
        self.moved = {one.name for one, other, match in both if match.crosses and not self.reads_alike(one, other)}
        """Those that stand elsewhere, by their name in the first network. What only runs earlier, beside others, does not."""
        parts = {match.part for one, _, match in both if one.name in self.moved}
        for one, other, match in both:
            if match.part in parts:
                self.passed[0][one.name] = self.passed[1][other.name] = match.part
        self.sources = self._look_through()

    def reads_alike(self, a: Row, b: Row) -> bool:
        """Whether they read what is one another's, whatever stands between in one network only."""
        from_a, from_b = {self.partner[name] for name in self.sources[0][a.name]}, self.sources[1][b.name]
        is_direct = not any(set(row.reads) & set(passed) for row, passed in zip((a, b), self.passed, strict=True))
        return from_a == from_b or (not is_direct and bool(from_a & from_b))

    def _look_through(self) -> list[dict[str, set[str]]]:
        """What each row reads; in place of a row that is passed, what that reads. What moved together is not passed by its own rows."""
        found = []
        for rows, passed in zip(self.rows, self.passed, strict=True):
            beyond: dict[str, set[str]] = {}
            sources: dict[str, set[str]] = {}
            for row in rows:
                own = passed.get(row.name)
                near = {name for name in row.reads if name not in passed or (own and passed[name] == own)}
                beyond[row.name] = {far for name in row.reads for far in (beyond[name] if name in passed else {name})}
                sources[row.name] = near | {far for name in row.reads if name not in near for far in beyond[name]}
            found.append(sources)
        return found
