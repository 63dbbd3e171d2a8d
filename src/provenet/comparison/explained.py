"""A difference as text to read, and as a page in a notebook."""

from html import escape
from textwrap import wrap

from provenet.comparison.causes import causes
from provenet.comparison.consequences import consequences
from provenet.comparison.difference import Difference, Stage
from provenet.comparison.verdicts import Verdict
from provenet.comparison.wording import change, listing, say
from provenet.inspection.tables import describe, show_bytes, size_of
from provenet.papers.listing import show_count

WIDTH = 118
HEADINGS = ("stage", "writes", "parameters", "MACs", "memory in training", "layers")
NOTE = "Memory: of activations, for one picture. Weights are not compared."


def as_text(found: Difference, *, all_layers: bool = False) -> str:
    """What it comes to, why, what follows, and where it costs; with `all_layers` every layer beside its like."""
    lines = opening(found)
    for title, reasons in sections(found):
        lines += ["", title]
        for reason in reasons:
            lines += wrap(reason, WIDTH, initial_indent="  - ", subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    if not found.is_same:
        lines += ["", *_columns([HEADINGS, *stage_rows(found)])]
    if all_layers:
        lines += ["", *_columns([("verdict", *found.names, "parameters", "MACs", "what"), *layer_rows(found)])]
    if not found.is_same:
        lines += ["", NOTE]
    return "\n".join(lines)


def as_html(found: Difference) -> str:
    """The same as a list and a table; what strangers named is escaped."""
    lines = [f"<p>{'<br>'.join(map(escape, opening(found)))}</p>"]
    for title, reasons in sections(found):
        lines.append(f"<p>{escape(title)}</p><ul>{''.join(f'<li>{escape(reason)}</li>' for reason in reasons)}</ul>")
    if not found.is_same:
        head = "".join(f"<th>{escape(heading)}</th>" for heading in HEADINGS)
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in stage_rows(found))
        lines.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
    return "".join(lines)


def opening(found: Difference) -> list[str]:
    """How large both are, and how much of them is the same."""
    totals = found.totals()
    if found.is_same:
        sums = f"{show_count(found.a.parameters)} parameters, {show_count(found.a.macs)} MACs"
        return [f"{found.names[0]} and {found.names[1]}: the same {_layers(len(found.pairs))}, {sums}. Weights are not compared."]
    inputs = [" and ".join(map(size_of, summary.input)) for summary in (found.a, found.b)]
    names = " → ".join(found.names) + (f", both on {inputs[0]}" if inputs[0] == inputs[1] else "")
    inference, training = (change(*totals[name], show_bytes) for name in ("inference_bytes", "training_bytes"))
    return [
        f"{names}: parameters {change(*totals['parameters'])}, MACs {change(*totals['macs'])};",
        f"memory for inference {inference}, for training {training}.",
        f"Of {_layers(len(found.pairs))} {_counts(Stage(name='', pairs=found.pairs), found.names, with_same=True)}.",
    ]


def sections(found: Difference) -> list[tuple[str, list[str]]]:
    """Causes before consequences; what stands under neither is the same."""
    same = [stage for stage in found.stages if stage.is_same]
    names = [stage.name for stage in same]
    if any(" / " in name for name in names):  # called differently in each
        whole = [f"{sum(len(stage.pairs) for stage in same)} layers outside of the stages below"]
    else:
        whole = [f"every layer of {listing(names)}"] if names and not found.is_same else []
    named = (("What differs", causes(found)), ("What follows", consequences(found)), ("What is the same", whole))
    return [(title, lines) for title, lines in named if lines]


def stage_rows(found: Difference) -> list[tuple[str, ...]]:
    """The stages in which something differs, and the whole."""
    rows = []
    for stage in found.stages:
        if not stage.is_same:
            outputs = [size_of(shape) if shape is not None else "" for shape in stage.outputs]
            writes = " → ".join(dict.fromkeys(filter(None, outputs)))
            rows.append((stage.name, writes, *_costs(stage), _counts(stage, found.names, with_same=False)))
    whole = Stage(name="all", pairs=found.pairs)
    return [*rows, ("all", "", *_costs(whole), "")]


def layer_rows(found: Difference) -> list[tuple[str, ...]]:
    """Every layer beside its like."""
    return [
        (
            pair.verdict if pair.verdict not in ("only in a", "only in b") else "only here",
            *(f"{row.name}: {describe(row)}, {size_of(row.output)}" if row else "" for row in (pair.a, pair.b)),
            *(change(*pair.cost(name)) if any(pair.cost(name)) else "" for name in ("parameters", "macs")),
            ", ".join(map(say, pair.what)),
        )
        for pair in found.pairs
    ]


def _costs(stage: Stage) -> tuple[str, ...]:
    shown = (("parameters", show_count), ("macs", show_count), ("training_bytes", show_bytes))
    return tuple(change(*stage.cost(name), show) if any(stage.cost(name)) else "" for name, show in shown)


def _counts(stage: Stage, names: tuple[str, str], *, with_same: bool) -> str:
    """`3 changed, 1 follows`."""
    told = " (same settings, other sizes)" if with_same else ""
    words: list[tuple[Verdict, str, str]] = [
        ("same", "is the same", "are the same"),
        ("changed", "changed", "changed"),
        ("moved", "moved", "moved"),
        ("follows", f"follows{told}", f"follow{told}"),
        ("only in a", f"only in {names[0]}", f"only in {names[0]}"),
        ("only in b", f"only in {names[1]}", f"only in {names[1]}"),
    ]
    counts = [(stage.count(verdict), *forms) for verdict, *forms in words[0 if with_same else 1 :]]
    return ", ".join(f"{count} {one if count == 1 else many}" for count, one, many in counts if count)


def _layers(count: int) -> str:
    return f"{count} layer{'' if count == 1 else 's'}"


def _columns(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
