"""The log of a run -> curves that fit into a page: few points, and every peak still there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from provenet.report.guarded import number, whole

LARGEST_POINTS = 2_000
MOST_RESUMED = 100

STEP_COLUMNS = ("epoch", "loss", "learning_rate")
EPOCH_COLUMNS = ("epoch", "seconds", "train_loss", "val_loss", "train_top1", "val_top1", "val_top5")

Columns = dict[str, list[float | None]]


@dataclass(frozen=True)
class Curves:
    """What is drawn against epochs."""

    steps: Columns
    epochs: Columns
    best: float | None
    """The epoch whose network was kept."""
    resumed: list[float] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Nothing to draw yet."""
        return len(self.steps["epoch"]) + len(self.epochs["epoch"]) == 0


def draw_curves(events: Iterable[Mapping[str, Any]]) -> Curves:
    """The curves of a run as it went: what was undone by going back to a snapshot is not shown, and where it went on is marked."""
    rows: dict[str, list[dict[str, Any]]] = {"step": [], "epoch": []}
    resumed: list[int] = []
    for event in events:
        kind, step = event.get("event"), whole(event.get("step"))
        if kind == "start":
            rows, resumed = {"step": [], "epoch": []}, []
        elif kind == "resume" and step is not None:
            rows = {name: [row for row in kept if row["step"] <= step] for name, kept in rows.items()}
            resumed.append(step)
        elif kind in rows and step is not None and (epoch := number(event.get("epoch"))) is not None:
            kept = rows[kind]
            if not kept or (step > kept[-1]["step"] and epoch >= kept[-1]["epoch"]):
                kept.append({**event, "step": step, "epoch": epoch})
    best = [row for row in rows["epoch"] if row.get("is_best") is True]
    last = next((kept[-1] for kept in (rows["step"], rows["epoch"]) if kept), None)
    epochs_a_step = last["epoch"] / last["step"] if last and last["step"] else 0.0
    return Curves(
        steps=_columns(rows["step"], STEP_COLUMNS),
        epochs=_columns(rows["epoch"], EPOCH_COLUMNS),
        best=best[-1]["epoch"] if best else None,
        resumed=sorted({step * epochs_a_step for step in resumed})[-MOST_RESUMED:] if epochs_a_step else [],
    )


def _columns(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Columns:
    columns = {name: [number(row.get(name)) for row in rows] for name in names}
    kept = thin([columns[name] for name in names if name not in ("epoch", "seconds")], len(rows))
    return {name: [column[place] for place in kept] for name, column in columns.items()}


def thin(columns: Sequence[Sequence[float | None]], num_rows: int, largest: int = LARGEST_POINTS) -> list[int]:
    """The rows to keep of a long table, at most `largest`: first and last, and in each stretch every column's least and greatest.

    >>> thin([[0.0, 9.0, 1.0, 1.0, -9.0, 1.0, 1.0, 2.0]], 8, largest=6)
    [0, 1, 4, 7]
    """
    if num_rows <= largest:
        return list(range(num_rows))
    num_stretches = max(1, (largest - 2) // (2 * len(columns)))
    kept = {0, num_rows - 1}
    for stretch in range(num_stretches):
        places = range(stretch * num_rows // num_stretches, (stretch + 1) * num_rows // num_stretches)
        for column in columns:
            there = [place for place in places if column[place] is not None]
            if there:
                kept |= {min(there, key=column.__getitem__), max(there, key=column.__getitem__)}  # type: ignore[arg-type]
    return sorted(kept)
