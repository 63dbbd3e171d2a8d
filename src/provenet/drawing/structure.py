"""What a picture of a network shows: stages of boxes one after the other, and what forks and joins inside residual and Inception blocks."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from provenet.inspection.summary import Row, Summary

JOINS = ("add", "concatenate")

POOLS = ("max_pool", "average_pool", "adaptive_average_pool", "mean", "subsampling", "zero_padding", "padding")


@dataclass(frozen=True)
class Unit:
    """One box: a layer, and after it what leaves its output's shape alone (batch norm, ReLU, dropout)."""

    rows: tuple[Row, ...]

    @property
    def output(self) -> tuple[int, ...]:
        """Shape of what it hands on."""
        return self.rows[-1].output


@dataclass(frozen=True)
class Fork:
    """Branches that begin at one place and meet in a unit, an addition or a concatenation. A branch without items is a shortcut."""

    branches: tuple["Series", ...]
    join: Unit | None

    @property
    def output(self) -> tuple[int, ...]:
        """Shape of what it hands on."""
        return self.join.output if self.join else self.branches[-1][-1].output


Item = Unit | Fork
Series = tuple[Item, ...]


@dataclass(frozen=True)
class Block:
    """A residual block or an Inception module, and how many like it follow one another."""

    name: str
    type_name: str
    rows: tuple[Row, ...]
    series: Series
    repeats: int = 1

    @property
    def output(self) -> tuple[int, ...]:
        """Shape of what it hands on."""
        return self.series[-1].output


@dataclass
class Stage:
    """A stage, or a part beside the network that only training uses."""

    name: str
    rows: tuple[Row, ...]
    items: list[Item | Block]
    beside: list["Stage"] = field(default_factory=list)
    """What reads its output only in training."""

    @property
    def output(self) -> tuple[int, ...]:
        """Shape of what it hands on."""
        return self.rows[-1].output


def arrange(summary: Summary) -> list[Stage]:
    """The stages in order, each with its boxes and blocks."""
    stages: dict[str, Stage] = {}
    for stage_row in summary.stages:
        rows = tuple(row for row in summary.rows if row.stage == stage_row.name)
        items: list[Item | Block] = []
        plain: list[Row] = []
        for name, group in _groups(rows, summary.blocks).items():
            series = arrange_rows(group)
            is_block = "." in name and len(series) > 1 and not summary.types.get(name, "Sequential").endswith("Sequential")
            if is_block or any(isinstance(item, Fork) for item in series):
                items += [*arrange_rows(plain), Block(name, summary.types.get(name, ""), group, series)]
                plain = []
            else:
                plain += group
        items += arrange_rows(plain)
        stages[stage_row.name] = Stage(stage_row.name, rows, _merge_repeats(items))
    for name, group in _groups(summary.only_in_training, {row.name: _head_of(row) for row in summary.only_in_training}).items():
        reads = group[0].reads[0] if group[0].reads else ""
        host = next((stage for stage in stages.values() if any(row.name == reads for row in stage.rows)), None)
        if host:
            host.beside.append(Stage(name, group, list(arrange_rows(group))))
    return list(stages.values())


def arrange_rows(rows: Sequence[Row]) -> Series:
    """Rows as boxes, forks and joins; where they are no nest of these, one after the other in the order in which they run."""
    units = _merge(rows)
    if not units:
        return ()
    numbers = {row.name: number for number, unit in enumerate(units) for row in unit.rows}
    passed = {row.name: row.reads for row in rows if row.kind == "identity"}
    last = len(units)
    before = [sorted({numbers.get(_source(name, passed), -1) for name in unit.rows[0].reads} or {-1}) for unit in units]
    after: dict[int, list[int]] = {number: [] for number in range(-1, last)}
    for number, sources in enumerate(before):
        for source in sources:
            after[source].append(number)
    after = {number: consumers or [last] for number, consumers in after.items()}
    meets = _meeting_points(after, last)
    seen: list[int] = []

    def follow(number: int, stop: int) -> Series:
        items: list[Item] = []
        while number != stop:
            meeting, consumers = meets[number], after[number]
            if len(consumers) > 1:
                branches = tuple((() if first == meeting else (*take(first), *follow(first, meeting))) for first in consumers)
                items.append(Fork(branches, units[meeting] if meeting < last else None))
                seen.extend([meeting] if meeting < last else [])
            elif meeting != stop:
                items += take(meeting)
            number = meeting
            if number == last:
                break
        return tuple(items)

    def take(number: int) -> Series:
        seen.append(number)
        return (units[number],)

    series = follow(-1, last)
    return series if sorted(seen) == list(range(last)) else tuple(units)


def _meeting_points(after: dict[int, list[int]], last: int) -> dict[int, int]:
    """For each unit the first that every way from it comes through."""
    reach: dict[int, set[int]] = {last: {last}}
    meets = {}
    for number in range(last - 1, -2, -1):
        common = set.intersection(*(reach[consumer] for consumer in after[number]))
        meets[number] = min(common)
        reach[number] = common | {number}
    return meets


def _merge(rows: Sequence[Row]) -> list[Unit]:
    """Rows into boxes; what only hands on its input is left out."""
    passed = {row.name: row.reads for row in rows if row.kind == "identity"}
    shown = [row for row in rows if row.kind != "identity"]
    readers: dict[str, int] = {}
    for row in shown:
        for name in row.reads:
            source = _source(name, passed)
            readers[source] = readers.get(source, 0) + 1
    units: list[list[Row]] = []
    of: dict[str, list[Row]] = {}
    for row in shown:
        sources = {_source(name, passed) for name in row.reads}
        unit = of.get(next(iter(sources))) if len(sources) == 1 else None
        keeps = unit is not None and unit[-1].name in sources and readers[unit[-1].name] == 1 and _is_afterthought(row, unit[-1])
        if unit is not None and keeps:
            unit.append(row)
        else:
            unit = [row]
            units.append(unit)
        of[row.name] = unit
    return [Unit(tuple(unit)) for unit in units]


def _is_afterthought(row: Row, before: Row) -> bool:
    """Whether it belongs into the box of what it reads."""
    if before.kind == "flatten":
        return True
    return row.output == before.output and not row.macs and row.kind not in (*JOINS, *POOLS, "flatten")


def _source(name: str, passed: dict[str, tuple[str, ...]]) -> str:
    while passed.get(name):
        name = passed[name][0]
    return name


def _groups(rows: Iterable[Row], keys: dict[str, str]) -> dict[str, tuple[Row, ...]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(keys[row.name], []).append(row)
    return {name: tuple(group) for name, group in groups.items()}


def _head_of(row: Row) -> str:
    return ".".join(row.path.split(".")[:2])


def _merge_repeats(items: list[Item | Block]) -> list[Item | Block]:
    """Blocks that are the same, one after the other, as one."""
    merged: list[Item | Block] = []
    for item in items:
        last = merged[-1] if merged else None
        if isinstance(item, Block) and isinstance(last, Block) and _signature(item) == _signature(last):
            merged[-1] = Block(last.name, last.type_name, last.rows, last.series, last.repeats + 1)
        else:
            merged.append(item)
    return merged


def _signature(block: Block) -> list[tuple[object, ...]]:
    """What makes two blocks the same: all but the names, and what they read from before them."""
    numbers = {row.name: number for number, row in enumerate(block.rows)}
    return [
        (row.kind, str(row.settings), row.output, row.parameters, row.macs, *(numbers.get(name, -1) for name in row.reads))
        for row in block.rows
    ]
