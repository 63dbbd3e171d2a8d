"""A probe for people: a table, and the choice in a line."""

from provenet.engines.findings import Probe, Trial
from provenet.engines.ways import REFERENCE

HEADINGS = ("way", "images/s", "least to most", "times eager", "error", "start", "")


def show_probe(probe: Probe) -> str:
    """A row for every way, the fastest that is right first, and what is not to be used last, with the reason; and the conclusion."""
    ranking = probe.ranking()
    rest = [trial for trial in probe.trials if trial not in ranking]
    rows = [HEADINGS, *(_row(probe, trial) for trial in [*ranking, *rest])]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS) - 1)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:-1], widths[1:]), row[-1]]).rstrip() for row in rows]
    return "\n".join([*lines, "", conclude(probe)])


def conclude(probe: Probe) -> str:
    """What is chosen where nothing is asked for, and what it gains; and int8, where that is right and faster, which is to be asked for."""
    best = probe.chosen
    batch = f"batches of {probe.shape[0]} images of {'x'.join(map(str, probe.shape[1:]))}"
    tried = {trial.way.precision for trial in probe.trials if trial.seconds and trial.way != REFERENCE}
    lines = []
    if best.way != REFERENCE:
        gain = f"{probe.gain(best.way):.1f} times as fast as {REFERENCE} in {batch}"
        lines.append(f"engine {best.way}: {gain}; its answers differ by {best.error or 0:.1e} of their length")
    elif tried != {"int8"}:
        lines.append(f"engine {REFERENCE}: nothing else is faster and right, in {batch}")
    int8 = next((trial for trial in probe.ranking() if trial.way.precision == "int8"), None)
    if int8 and int8.usual_seconds < best.usual_seconds:
        gain = f"{probe.gain(int8.way):.1f} times as fast as {REFERENCE} in {batch}"
        lines.append(f"with --precision int8, engine {int8.way}: {gain}; {int8.agreement_in_words}")
    elif not lines:
        lines.append(f"engine {REFERENCE}: int8 is not faster and right, in {batch}")
    return "\n".join(lines)


def _row(probe: Probe, trial: Trial) -> tuple[str, ...]:
    speeds = sorted(probe.shape[0] / seconds for seconds in trial.seconds)
    measured = bool(speeds)
    return (
        str(trial.way),
        f"{probe.shape[0] / trial.usual_seconds:,.1f}" if measured else "",
        f"{speeds[0]:,.1f} to {speeds[-1]:,.1f}" if measured else "",
        f"{probe.gain(trial.way):.2f}" if measured else "",
        f"{trial.error:.1e}" if trial.error is not None else "",
        f"{trial.start_seconds:.1f} s" if trial.error is not None else "",
        f"not to be used: {trial.why_not}" if trial.why_not else trial.agreement_in_words,
    )
