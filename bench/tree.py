"""The memory of a process and all its children, as Linux counts it."""

import contextlib
import os
from pathlib import Path


def proportional_bytes() -> int:
    """Proportional set size of this process and all below it: a page that several share counts once among all that do."""
    total = 0
    for process in (os.getpid(), *_below(os.getpid())):
        with contextlib.suppress(OSError):  # it has ended
            for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += 1024 * int(line.split()[1])
    return total


def _below(process: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{process}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_below(child)]
    return found
