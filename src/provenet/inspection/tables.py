"""A summary as text, and as a table in a notebook."""

from html import escape
from typing import Any

from provenet.errors import printable
from provenet.inspection.summary import Depth, Row, Summary
from provenet.papers.listing import show_count

HEADINGS = ("layer", "kind", "output", "parameters", "MACs", "other", "memory", "inference", "training", "field", "stride")
NOTE = """\
Sizes are height x width x channels, for one picture. MACs: multiply-adds of convolutions and matrix products; other: other arithmetic.
Memory of its output; inference: of all that is alive while it runs; training: of what it makes, what is kept for the backward pass.
Field: side of the square of the picture that one number depends on; stride: from there to its neighbour's; both in pixels."""


def as_text(summary: Summary, depth: Depth = "layer") -> str:
    """Columns, a subtotal after each stage of several layers, and what it comes to."""
    shown: list[tuple[Row, bool]] = []
    for total in summary.stages:
        inside = [row for row in summary.at(depth) if row.stage == total.name]
        shown += [(row, False) for row in inside] + ([(total, True)] if len(inside) > 1 else [])
    lines = [_cells(row, summary, is_total=is_total) for row, is_total in shown]
    extra = [_cells(row, summary, is_total=False) for row in summary.only_in_training] if depth == "layer" else []
    widths = [max(len(line[k]) for line in [HEADINGS, *lines, *extra]) for k in range(len(HEADINGS))]
    picture = " and ".join(size_of(shape) for shape in summary.input)
    text = [f"{summary.name} on {picture}", "", _line(HEADINGS, widths)]
    for cells, (_, is_total) in zip(lines, shown, strict=True):
        text += [_line(cells, widths), *([""] if is_total else [])]
    if text[-1]:
        text.append("")
    if extra:
        text += ["only in training:", *(_line(cells, widths) for cells in extra), ""]
    return "\n".join([*text, *totals(summary), "", NOTE])


def as_html(summary: Summary, depth: Depth = "layer") -> str:
    """A table; what strangers named is escaped."""
    head = "".join(f"<th style='text-align:{'left' if k < 2 else 'right'}'>{heading}</th>" for k, heading in enumerate(HEADINGS))
    rows = []
    for row in summary.at(depth):
        cells = _cells(row, summary, is_total=False)
        rows.append("".join(f"<td style='text-align:{'left' if k < 2 else 'right'}'>{escape(cell)}</td>" for k, cell in enumerate(cells)))
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    below = "<br>".join(escape(line) for line in totals(summary))
    title = f"{summary.name} on {' and '.join(size_of(shape) for shape in summary.input)}"
    return f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{below}</p>"


def totals(summary: Summary) -> list[str]:
    """What it comes to, in a few lines."""
    worst = max(summary.rows, key=lambda row: row.inference_bytes, default=None)
    lines = [
        f"parameters      {summary.parameters:>16,}   {show_bytes(4 * summary.parameters)} in float32",
        f"multiply-adds   {summary.macs:>16,}   and {show_count(summary.elementwise)} of other arithmetic",
        f"inference       {show_bytes(summary.inference_bytes):>16}   alive at most" + (f", in {printable(worst.name)}" if worst else ""),
        f"training        {show_bytes(summary.training_bytes):>16}   kept for the backward pass",
        f"all outputs     {show_bytes(summary.activation_bytes):>16}   if nothing were freed",
    ]
    if summary.only_in_training:
        more, macs = (sum(getattr(row, what) for row in summary.only_in_training) for what in ("parameters", "macs"))
        lines.append(f"only in training{more:>16,}   parameters and {show_count(macs)} MACs more, not counted above")
    return lines


def describe(row: Row) -> str:
    """What a layer does, in a few words: `convolution 3x3/2, 2 groups`."""
    settings = row.settings
    text = row.kind.replace("_", " ").strip()
    if "kernel" not in settings:
        return text
    text += f" {_window(settings['kernel'])}" + (f"/{_by(settings['stride'])}" if settings["stride"] != 1 else "")
    if settings.get("dilation", 1) != 1:
        text += f", dilation {_by(settings['dilation'])}"
    return text + (f", {settings['groups']} groups" if settings.get("groups", 1) != 1 else "")


def size_of(shape: tuple[int, ...]) -> str:
    """A shape as courses write it: height x width x channels.

    >>> size_of((64, 112, 112)), size_of((1000,))
    ('112x112x64', '1000')
    """
    return "x".join(map(str, (*shape[1:], shape[0]))) if shape else "one number"


def show_bytes(count: int) -> str:
    """Three figures and a unit; a megabyte has a million bytes.

    >>> show_bytes(60_348_320), show_bytes(480)
    ('60.3 MB', '480 B')
    """
    return f"{show_count(count).replace(' M', ' MB').replace(' G', ' GB').replace(' K', ' kB')}" + (" B" if count < 1000 else "")


def _cells(row: Row, summary: Summary, *, is_total: bool) -> tuple[str, ...]:
    return (
        printable(f"{row.stage} together" if is_total else row.name),
        "" if is_total else describe(row),
        size_of(row.output),
        f"{row.parameters:,}" if row.parameters else "",
        f"{row.macs:,}" if row.macs else "",
        f"{row.elementwise:,}" if row.elementwise else "",
        show_bytes(row.activation_bytes) if row.activation_bytes else "",
        show_bytes(row.inference_bytes) if row.inference_bytes else "",
        show_bytes(row.training_bytes) if row.training_bytes else "",
        _field(row, summary),
        "" if row.stride is None else _by(row.stride),
    )


def _field(row: Row, summary: Summary) -> str:
    """Pixels; `all` where it reaches over the whole picture."""
    if row.receptive_field is None:
        return ""
    sides = [row.receptive_field] if isinstance(row.receptive_field, int) else list(row.receptive_field)
    picture = summary.input[0][1:]
    is_whole = row.stride is None or all(side >= whole for side, whole in zip(sides * len(picture), picture, strict=False))
    return "all" if is_whole else _by(row.receptive_field)


def _window(kernel: int | tuple[int, ...]) -> str:
    return "x".join(map(str, (kernel, kernel) if isinstance(kernel, int) else kernel))


def _by(value: Any) -> str:
    """One number where the sides agree, else all: 2, and 2x1."""
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _line(cells: tuple[str, ...], widths: list[int]) -> str:
    return "  ".join(
        f"{cell:<{width}}" if k < 2 else f"{cell:>{width}}" for k, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ).rstrip()
