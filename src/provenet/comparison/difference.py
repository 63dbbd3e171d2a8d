"""Two networks, layer by layer: what is the same, what was set otherwise, what only follows from that, and what it costs.

Weights are not compared, nor how they begin: only what runs.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor, nn

from provenet.comparison.alignment import match_rows
from provenet.comparison.verdicts import COSTS, Pair, Verdict, judge
from provenet.inspection.summary import Summary, summarize


@dataclass(frozen=True, kw_only=True)
class Stage:
    """The layers of a stage, or of all."""

    name: str
    """`C1 / conv1` where the networks call it differently."""
    pairs: tuple[Pair, ...]

    @property
    def outputs(self) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
        """What it hands on, in each network; None where it is not there."""
        last_a, last_b = ([row for row in rows if row] for rows in zip(*((pair.a, pair.b) for pair in self.pairs), strict=True))
        return last_a[-1].output if last_a else None, last_b[-1].output if last_b else None

    @property
    def is_same(self) -> bool:
        """Whether nothing in it differs."""
        return all(pair.verdict == "same" for pair in self.pairs)

    def cost(self, what: str) -> tuple[int, int]:
        """One of COSTS, in each network."""
        a, b = zip(*(pair.cost(what) for pair in self.pairs), strict=True)
        return sum(a), sum(b)

    def count(self, verdict: Verdict) -> int:
        """How many layers are told so."""
        return sum(pair.verdict == verdict for pair in self.pairs)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """What two networks share and what they do not."""

    a: Summary
    b: Summary
    names: tuple[str, str]
    """What to call them; two of one name are told apart by a number."""
    pairs: tuple[Pair, ...]
    """Every layer and operation of both, once: in the order of the first, with what only the second has where it runs."""

    @property
    def is_same(self) -> bool:
        """Whether the same runs in both, on the same size."""
        return self.a.input == self.b.input and all(pair.verdict == "same" for pair in self.pairs)

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """The same by stage."""
        groups: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            groups.setdefault(pair.stage, []).append(pair)
        return tuple(Stage(name=name, pairs=tuple(pairs)) for name, pairs in groups.items())

    def of(self, *verdicts: Verdict) -> list[Pair]:
        """The pairs that are told so."""
        return [pair for pair in self.pairs if pair.verdict in verdicts]

    def block_of(self, pair: Pair) -> str:
        """Path of the block it is in, or of the stage where there are none; nothing for what only training uses."""
        return (self.a if pair.a else self.b).blocks.get(pair.row.name, "")

    def totals(self) -> dict[str, tuple[int, int]]:
        """What each network costs altogether."""
        names = ("parameters", "macs", "elementwise", "activation_bytes", "inference_bytes", "training_bytes")
        return {name: (getattr(self.a, name), getattr(self.b, name)) for name in names}

    def to_dict(self, *, all_layers: bool = False) -> dict[str, Any]:
        """Plain values. Layers with the same verdict for the same reason are one change; all changes add up to the whole."""
        changes: dict[tuple[Any, ...], list[Pair]] = {}
        for pair in self.pairs:
            if pair.verdict != "same":
                changes.setdefault((pair.verdict, str(pair.what), pair.only_in_training), []).append(pair)
        return {
            "a": {"name": self.names[0], "input": [list(shape) for shape in self.a.input]},
            "b": {"name": self.names[1], "input": [list(shape) for shape in self.b.input]},
            "same": len(self.of("same")),
            "changes": [
                {
                    "verdict": verdict,
                    "names": [pair.row.name for pair in pairs],
                    "names_in_b": [pair.b.name if pair.b else None for pair in pairs],
                    "what": [setting._asdict() for setting in pairs[0].what],
                    "only_in_training": only_in_training,
                    **_costs(Stage(name="", pairs=tuple(pairs))),
                }
                for (verdict, _, only_in_training), pairs in changes.items()
            ],
            "stages": [
                {"name": stage.name, "output": dict(zip("ab", stage.outputs, strict=True)), **_costs(stage)} for stage in self.stages
            ],
            "totals": {name: _difference(*values) for name, values in self.totals().items()},
            **({"layers": [pair.to_dict() for pair in self.pairs]} if all_layers else {}),
        }

    def __str__(self) -> str:
        from provenet.comparison.explained import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from provenet.comparison.explained import as_html

        return as_html(self)


def difference(
    a: nn.Module | str | Summary,
    b: nn.Module | str | Summary,
    *input: tuple[int, ...] | Tensor,
    names: tuple[str, str] | None = None,
) -> Difference:
    """Layer by layer, what is the same in two networks, what differs, and what it costs. Nothing is computed.

    Args:
        a: A network, any torch module, a name of the catalog, or its summary.
        b: The same of another.
        input: Shape of each input without the batch, for both; by default each network's own size.
        names: What to call them.

    Raises ModelError where one does not run on such an input.

    >>> found = difference("alexnet", "alexnet_one_tower")
    >>> [(pair.row.name, pair.what) for pair in found.of("changed")]
    [('conv2.conv', (Setting(setting='groups', a=2, b=1),)), ...
    """
    one, other = (net if isinstance(net, Summary) else summarize(net, *input) for net in (a, b))
    matches = match_rows(one.rows, other.rows) + match_rows(one.only_in_training, other.only_in_training)
    return Difference(a=one, b=other, names=names or _told_apart(one, other), pairs=tuple(judge(matches, one, other)))


def _told_apart(a: Summary, b: Summary) -> tuple[str, str]:
    return (a.name, b.name) if a.name != b.name else (f"{a.name} (1)", f"{b.name} (2)")


def _costs(stage: Stage) -> dict[str, dict[str, int]]:
    return {name: _difference(*stage.cost(name)) for name in COSTS}


def _difference(a: int, b: int) -> dict[str, int]:
    return {"a": a, "b": b, "difference": b - a}
