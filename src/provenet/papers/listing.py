"""The list of all networks, from the papers' data alone: it needs no torch, and a test compares it with the networks as built."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any

from provenet.errors import ModelError, suggest
from provenet.papers.paper import Paper, PublishedNetwork, read_papers


@dataclass(frozen=True)
class Listed:
    """One network as a list shows it."""

    name: str
    year: int
    contest: str | None
    """The contest its paper's authors entered with it."""
    place: int | None
    top5_error_percent: float | None
    contest_networks: int | None
    """How many networks were averaged for that error."""
    parameters: int
    macs: int
    input: tuple[int, int, int]
    paper: str
    source: str
    about: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "input": list(self.input)}


def list_networks(patterns: str | Sequence[str] = "*") -> list[Listed]:
    """Networks whose names match one of the patterns, in the order of their papers. Raises ModelError where a pattern matches none."""
    everything = {name: _list(paper, network) for paper in read_papers().values() for name, network in paper.networks.items()}
    chosen: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        matching = {name for name in everything if fnmatchcase(name, pattern)}
        if not matching:
            raise ModelError(
                f"no network matches {pattern!r}; {suggest(pattern, everything)} (provenet models lists all {len(everything)})"
            )
        chosen |= matching
    return [row for name, row in everything.items() if name in chosen]


def show_networks(rows: Sequence[Listed], weights: Mapping[str, Sequence[str]]) -> str:
    """A table with a heading for each paper; `weights` are what is published for each network."""
    header = f"{'':22}{'year':>4}  {'contest, top-5 error':34}{'parameters':>12}{'MACs':>9}  {'input':11}  public weights"
    lines = [header]
    for paper, of_paper in groupby(rows, key=lambda row: row.paper):
        lines += ["", paper]
        for row in of_paper:
            contest = f"{row.contest} {row.year}: {_ordinal(row.place)}, {row.top5_error_percent:g} %" if row.place and row.contest else ""
            contest += f" ({row.contest_networks} nets)" if row.contest_networks else ""
            size = "x".join(map(str, row.input))
            known = weights.get(row.name, ())
            published = " ".join([*known[:2], *([f"+{len(known) - 2}"] if len(known) > 2 else [])])
            line = f"  {row.name:20}{row.year:>4}  {contest:34}{row.parameters:>12,}{show_count(row.macs):>9}  {size:11}  {published}"
            lines.append(line.rstrip())
    return "\n".join(lines)


def show_count(number: int) -> str:
    """Three figures and a unit.

    >>> show_count(724_406_816), show_count(3_857_973_248), show_count(325_680)
    ('724 M', '3.86 G', '326 K')
    """
    for unit, scale in (("G", 10**9), ("M", 10**6), ("K", 10**3)):
        if number >= scale:
            value = number / scale
            return f"{value:.{max(0, 2 - (len(str(int(value))) - 1))}f} {unit}"
    return str(number)


def _ordinal(place: int) -> str:
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(place, f"{place}th")


def _list(paper: Paper, network: PublishedNetwork) -> Listed:
    contest = paper.contest if paper.contest and network.name in paper.contest["entries"] else None
    return Listed(
        name=network.name,
        year=paper.year,
        contest=contest["name"] if contest else None,
        place=contest["place"] if contest else None,
        top5_error_percent=contest["top5_error_percent"] if contest else None,
        contest_networks=contest.get("networks") if contest else None,
        parameters=network.totals["parameters"],
        macs=network.totals["macs"],
        input=network.input,
        paper=paper.citation,
        source=network.source,
        about=network.about,
    )
