"""A checkup as people read it in a terminal: a table, the findings, what is ignored, and whether one can train."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich.cells import cell_len

from provenet.checkup.alike import SMALLEST_SIDE_PIXELS
from provenet.checkup.checkup import Checkup
from provenet.checkup.facts import Facts
from provenet.data.ignored import Ignored, Reason
from provenet.errors import printable, show_path

MOST_CLASSES = 40
MOST_DETAILS = 5
MARGIN = " " * 9


def describe(checkup: Checkup) -> str:
    """Some lines, without control characters whatever the files are called."""
    return "\n".join(_lines(checkup))


def _lines(checkup: Checkup) -> Iterator[str]:
    facts = checkup.facts
    held_out = f"; val is held out of {facts.held_out_from}, as training will" if facts.held_out_from else ""
    yield f"{printable(facts.name)}: {len(facts.looks):,} pictures of {len(facts.classes):,} classes{held_out}"
    yield ""
    yield from _table(facts)
    yield from _sizes(facts)
    yield from _histograms(facts)
    yield from describe_pixels(facts)
    if checkup.findings:
        yield ""
    for finding in checkup.findings:
        yield f"{finding.level:8} {printable(finding.message)}"
        yield from _cut(finding.details)
    if facts.ignored:
        yield ""
    for reason, items in by_reason(facts.ignored):
        yield f"ignored  {sum(item.count for item in items):,} x {reason}"
        yield from _cut([item.path for item in items])
    yield ""
    yield f"A picture of each class: {printable(show_path(checkup.page))}"
    if checkup.quarantine:
        yield from map(printable, checkup.quarantine.lines())
    yield checkup.verdict
    if checkup.quarantine_command:
        yield f"To move the unreadable files out, so that each can be put back: {printable(checkup.quarantine_command)}"


def table_rows(facts: Facts) -> tuple[list[str], list[list[str]]]:
    """The head and a row for each class, with a last one for all: pictures by split, and those that cannot be read."""
    has_broken = bool(facts.unreadable)
    head = ["class", *facts.splits] + (["unreadable"] if has_broken else [])
    rows = []
    for label in facts.classes:
        broken = [_number(sum(facts.unreadable[label, split] for split in facts.splits))] if has_broken else []
        rows.append([label, *(_number(facts.pictures[label, split]) for split in facts.splits), *broken])
    rows.append(
        ["all", *(_number(facts.of_split(split)) for split in facts.splits), *([_number(len(facts.broken()))] if has_broken else [])]
    )
    return head, rows


def by_reason(ignored: Iterable[Ignored]) -> list[tuple[Reason, list[Ignored]]]:
    """What is ignored, by reason in the order of their table."""
    order = list(Reason)
    ordered = sorted(ignored, key=lambda item: order.index(item.reason))
    return [(reason, list(items)) for reason, items in groupby(ordered, key=lambda item: item.reason)]


def describe_sizes(facts: Facts) -> str:
    """Least, median and largest, in words."""
    sizes = facts.sizes()
    if sizes is None:
        return "no picture can be read"
    width, height = sizes["width"], sizes["height"]
    total = f", {_megabytes(sizes['bytes'])} in all" if sizes["bytes"] is not None else ""
    if width["min"] == width["max"] and height["min"] == height["max"]:
        return f"all {width['min']}x{height['min']} pixels{total}"
    return (
        f"width {width['min']:,} to {width['max']:,} pixels (median {width['median']:,g}), "
        f"height {height['min']:,} to {height['max']:,} (median {height['median']:,g}){total}"
    )


def describe_pixels(facts: Facts) -> Iterator[str]:
    """Lines on channels, on decoding, and on what was compared."""
    channels = facts.channels
    if channels.num_pictures:
        mean, std = (" ".join(f"{value:.4f}" for value in values) for values in (channels.mean, channels.std))
        which = "red, green, blue" if len(channels.mean) > 1 else "grey"
        yield f"centred squares of train, 0 to 1 ({which}): mean {mean}, deviation {std}"
    if facts.decode_seconds is not None and channels.num_pictures:
        threads = f"{facts.num_threads} thread{'s' * (facts.num_threads > 1)}"
        yield (
            f"one pass over the training pictures takes about {_seconds(facts.decode_seconds)} to decode with {threads} on this machine; "
            "the network's own time comes on top"
        )
    alike = facts.alike
    if alike.num_small or alike.num_plain:
        reasons = [
            f"{count:,} {why}"
            for count, why in (
                (alike.num_small, f"of less than {SMALLEST_SIDE_PIXELS} pixels a side"),
                (alike.num_plain, "too plain to tell apart"),
            )
            if count
        ]
        yield f"nearly the same: looked for among {alike.num_compared:,} pictures, not among {' and '.join(reasons)}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 60:,.0f} min"


def _table(facts: Facts) -> Iterator[str]:
    head, rows = table_rows(facts)
    *rows, total = rows
    shown = [head, *([printable(row[0]), *row[1:]] for row in rows[:MOST_CLASSES]), total]
    widths = [max(cell_len(row[column]) for row in shown) for column in range(len(head))]
    for row in shown[:-1]:
        yield _row(row, widths)
    if len(rows) > MOST_CLASSES:
        yield f"… and {len(rows) - MOST_CLASSES:,} more, --json names them all"
    yield _row(total, widths)


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    name = cells[0] + " " * (widths[0] - cell_len(cells[0]))
    return "  ".join([name, *(f"{cell:>{width}}" for cell, width in zip(cells[1:], widths[1:], strict=True))])


def _sizes(facts: Facts) -> Iterator[str]:
    if facts.looks:
        yield f"sizes: {describe_sizes(facts)}"


def _histograms(facts: Facts) -> Iterator[str]:
    for histogram in facts.histograms.values():
        if histogram.is_worth_telling:
            filled = [(name, count) for name, count in histogram.shown if count]
            yield f"{histogram.title}: " + ", ".join(f"{name} {count:,}" for name, count in filled)


def _cut(details: Sequence[str]) -> Iterator[str]:
    yield from (MARGIN + printable(detail) for detail in details[:MOST_DETAILS])
    if len(details) > MOST_DETAILS:
        yield f"{MARGIN}… and {len(details) - MOST_DETAILS:,} more, --json names them all"


def _number(count: int) -> str:
    return f"{count:,}" if count else "-"


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:,.1f} kB"
