"""Larger pieces of a picture of a network: chains, forks, blocks folded and unfolded, what only training uses."""

from collections.abc import Sequence

from provenet.drawing.figures import SMALL, TEXT, Figure, arrow, beside, box, group, label_of, num, text_width, words
from provenet.drawing.structure import Block, Fork, Item, Stage, Unit
from provenet.inspection.tables import size_of
from provenet.papers.listing import show_count


def series(items: Sequence[Item | Block], *, unfold: bool) -> Figure:
    """Items with arrows between them, on which the shapes stand."""
    parts: list[Figure] = []
    for k, item in enumerate(items):
        if k:
            parts.append(arrow(size_of(items[k - 1].output).replace("x", "×")))
        parts.append(draw_item(item, unfold=unfold))
    return beside(parts)


def draw_item(item: Item | Block, *, unfold: bool) -> Figure:
    """A box, a block, or what forks and joins."""
    if isinstance(item, Block):
        return unfolded(item) if unfold else folded(item)
    return fork(item) if isinstance(item, Fork) else box(item)


def fork(item: Fork) -> Figure:
    """Branches above one another; around an addition the longest stays on the axis and the others are shortcuts over it."""
    if item.join and item.join.rows[0].kind == "add":
        return _residual(item)
    drawn = [series(branch, unfold=True) if branch else Figure("", 40, 4, 2) for branch in item.branches]
    inner, gap, lead = max(part.width for part in drawn), 14.0, 30.0
    height = sum(part.height for part in drawn) + gap * (len(drawn) - 1)
    axis, y, bodies = height / 2, 0.0, []
    shapes = [size_of(branch[-1].output).replace("x", "×") if branch else "" for branch in item.branches]
    end = lead + max(part.width + text_width(shape, SMALL) for part, shape in zip(drawn, shapes, strict=True)) + 14
    end = max(end, lead + inner + 14)
    axes = []
    for part, shape in zip(drawn, shapes, strict=True):
        on = y + part.axis
        axes.append(on)
        middle = num(lead / 2)
        bodies.append(f'<path class="flow" d="M0 {num(axis)}C{middle} {num(axis)} {middle} {num(on)} {num(lead - 6)} {num(on)}"/>')
        if part.body:
            bodies.append(f'<path class="head" d="M{num(lead - 7)} {num(on - 4)}l7 4l-7 4z"/>')
        bodies.append(f'<path class="flow" d="M{num(lead + (part.width if part.body else -6))} {num(on)}H{num(end)}"/>')
        bodies.append(part.at(lead, y))
        bodies.append(words(shape, end - 6, on - 6, size=SMALL, style="s", anchor="end"))
        y += part.height + gap
    if item.join is None:
        return Figure("".join(bodies), end, height, axis)
    top, bottom = min(axes) - 12, max(axes) + 12
    bar = f'<rect class="join" x="{num(end)}" y="{num(top)}" width="12" height="{num(bottom - top)}" rx="4"/>'
    shown = Figure(group(item.join.rows[:1], bar), end + 12, height, axis)
    return _with_rest(Figure("".join(bodies) + shown.body, end + 12, height, axis), item.join)


def _residual(item: Fork) -> Figure:
    """relu(branch + shortcut): shortcuts leave before the branch, go over it and come down on the plus."""
    assert item.join is not None
    *others, main = sorted(item.branches, key=len)
    shape = size_of(item.output).replace("x", "×")
    branch = beside([series(main, unfold=True), arrow(shape)]) if main else Figure("", 40, 4, 2)
    lead, radius = 30.0, 9.0
    drawn = [series(other, unfold=True) if other else Figure("", 0, 4, 2) for other in others]
    space = sum(max(part.height, 8) + 14 for part in drawn)
    axis = max(space + branch.axis, space + 10)
    plus = lead + max([branch.width + radius, *(part.width + 46 for part in drawn)])
    bodies = [f'<path class="flow" d="M0 {num(axis)}H{num(lead - 6)}"/><path class="head" d="M{num(lead - 7)} {num(axis - 4)}l7 4l-7 4z"/>']
    bodies.append(branch.at(lead, axis - branch.axis))
    bodies.append(f'<path class="flow" d="M{num(lead + branch.width)} {num(axis)}H{num(plus - radius)}"/>')
    y = 0.0
    for part in drawn:
        on = y + max(part.axis, 4)
        style = "shortcut" + (" padded" if part.body and "zero padding" in part.body else "")
        bodies.append(
            f'<path class="{style}" d="M10 {num(axis)}V{num(on + 10)}q0 -10 10 -10H{num(plus - 10)}q10 0 10 10V{num(axis - radius - 6)}"/>'
        )
        bodies.append(f'<path class="tip" d="M{num(plus - 4)} {num(axis - radius - 7)}h8l-4 7z"/>')
        bodies.append(part.at((plus - part.width) / 2, on - part.axis))
        y += max(part.height, 8) + 14
    bodies.append(group(item.join.rows[:1], plus_sign(plus, axis, radius)))
    height = max(axis + branch.height - branch.axis, axis + radius)
    return _with_rest(Figure("".join(bodies), plus + radius, height, axis), item.join)


def plus_sign(x: float, y: float, radius: float) -> str:
    """The sign of an addition."""
    arm = radius - 4
    cross = f"M{num(x - arm)} {num(y)}h{num(2 * arm)}M{num(x)} {num(y - arm)}v{num(2 * arm)}"
    return f'<circle class="join" cx="{num(x)}" cy="{num(y)}" r="{num(radius)}"/><path class="cross" d="{cross}"/>'


def _with_rest(figure: Figure, join: Unit) -> Figure:
    """A join, and what follows it without changing the volume."""
    return beside([figure, arrow(shortest=16), box(Unit(join.rows[1:]))]) if len(join.rows) > 1 else figure


def folded(block: Block) -> Figure:
    """A block as a card: a line for each box, a shortcut over it, how often it comes."""
    lines = card_lines(block.series)
    title = _title(block)
    times = f"×{block.repeats}" if block.repeats > 1 else ""
    width = (
        max([text_width(line, SMALL) for line in lines] + [text_width(title, TEXT, bold=True) + text_width(times, TEXT, bold=True) + 12])
        + 24
    )
    height = 26 + 14 * len(lines) + 6
    join = next((item.join for item in block.series if isinstance(item, Fork) and item.join), None)
    is_residual = join is not None and join.rows[0].kind == "add"
    lead, above = (14.0, 24.0) if is_residual else (0.0, 0.0)
    over = _shortcut_label(block) if is_residual else ""
    width = max(width, text_width(over, SMALL) + 24)
    behind = [(6, -6), (3, -3)] if block.repeats > 1 else []
    above += 6 if behind else 0
    cards = [
        f'<rect class="card" x="{num(lead + dx)}" y="{num(above + dy)}" width="{num(width)}" height="{num(height)}" rx="7"/>'
        for dx, dy in [*behind, (0, 0)]
    ]
    body = ["".join(cards), words(title, lead + 12, above + 18, style="b", anchor="start")]
    if times:
        body.append(words(times, lead + width - 10, above + 18, style="b", anchor="end"))
    body += [words(line, lead + 12, above + 34 + 14 * k, size=SMALL, style="s", anchor="start") for k, line in enumerate(lines)]
    whole, axis = lead + width, above + height / 2
    if behind:
        whole += 6
    if is_residual:
        plus = whole + 20
        body.append(f'<path class="flow" d="M0 {num(axis)}H{num(lead)}M{num(whole)} {num(axis)}H{num(plus - 9)}"/>')
        style = "shortcut" + (" padded" if over == "zero padding" else "")
        body.append(f'<path class="{style}" d="M6 {num(axis)}V24q0 -10 10 -10H{num(plus - 10)}q10 0 10 10V{num(axis - 14)}"/>')
        body.append(f'<path class="tip" d="M{num(plus - 4)} {num(axis - 15)}h8l-4 6z"/>')
        body.append(plus_sign(plus, axis, 8))
        if over:
            body.append(words(over, (plus + 6) / 2, 10, size=SMALL, style="c"))
        whole = plus + 8
    return Figure(group(block.rows, "".join(body)), whole, above + height, axis)


def _title(block: Block) -> str:
    """Its name below its stage; of a stage that is one block, what kind of block."""
    return block.name.rpartition(".")[2] if "." in block.name else block.type_name


def card_lines(items: Sequence[Item]) -> list[str]:
    """A line for each box of a branch, or for each of several columns."""
    lines: list[str] = []
    for item in items:
        if isinstance(item, Unit):
            lines.append(label_of(next((row for row in item.rows if row.kind != "flatten"), item.rows[0])))
        elif item.join and item.join.rows[0].kind == "add":
            lines += card_lines(max(item.branches, key=len))
        else:
            lines += [" → ".join(card_lines(branch)) or "the input itself" for branch in item.branches]
    return lines


def _shortcut_label(block: Block) -> str:
    shortcuts = [branch for item in block.series if isinstance(item, Fork) for branch in sorted(item.branches, key=len)[:-1]]
    return " + ".join(filter(None, (" → ".join(card_lines(branch)) for branch in shortcuts)))


def unfolded(block: Block) -> Figure:
    """A block with all its boxes, in a frame of its own."""
    inner = series(block.series, unfold=True)
    title = _title(block) + (f" ×{block.repeats}" if block.repeats > 1 else "")
    width = max(inner.width, text_width(title, TEXT, bold=True)) + 28
    frame = f'<rect class="card" x="0" y="0" width="{num(width)}" height="{num(inner.height + 44)}" rx="7"/>'
    lead = f'<path class="flow" d="M0 {num(inner.axis + 32)}H14M{num(14 + inner.width)} {num(inner.axis + 32)}H{num(width)}"/>'
    body = frame + words(title, 12, 19, style="b", anchor="start") + lead + inner.at(14, 32)
    return Figure(f'<g class="open">{body}</g>', width, inner.height + 44, inner.axis + 32)


def aside(part: Stage) -> Figure:
    """What only training uses, as a card."""
    title, subtitle = "auxiliary head" if part.name.startswith("auxiliary") else part.name, "only in training"
    lines = card_lines([item for item in part.items if not isinstance(item, Block)])
    width = max(text_width(line, SMALL) for line in [*lines, subtitle, title + "   "]) + 24
    height = 44 + 14 * len(lines)
    body = f'<rect class="aside" x="0" y="0" width="{num(width)}" height="{num(height)}" rx="7"/>'
    body += words(title, 12, 18, style="b", anchor="start") + words(subtitle, 12, 32, size=SMALL, style="c", anchor="start")
    body += "".join(words(line, 12, 48 + 14 * k, size=SMALL, style="s", anchor="start") for k, line in enumerate(lines))
    return Figure(group(part.rows, body), width, height, height / 2)


def costs_of(stage: Stage) -> str:
    """What a stage costs, in a line."""
    parameters, macs = (sum(getattr(row, what) for row in stage.rows) for what in ("parameters", "macs"))
    parts = [f"{show_count(parameters)} parameters"] if parameters else []
    return " · ".join([*parts, *([f"{show_count(macs)} MACs"] if macs else [])])
