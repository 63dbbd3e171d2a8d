"""The sides of a comparison in turns, A B A B, and the Markdown table of what was found."""

import importlib.metadata
import os
import platform
import statistics
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from provenet.runtime import describe_machine
from provenet.version import __version__

LIBRARIES = ("torch", "numpy", "pillow", "simplejpeg")


def take_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each side measured, round by round; one more round comes first, which fills the page cache and starts what must be started."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for round_number in range(rounds + 1):
        for name, measure in sides.items():
            value = measure()
            if round_number:
                found[name].append(value)
    return found


def divide(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """The ratio of each round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def show_number(value: float) -> str:
    """Three digits, or all of a large one."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def show_spread(values: Sequence[float]) -> str:
    """Median, least and most."""
    return f"{show_number(statistics.median(values))} ({show_number(min(values))} to {show_number(max(values))})"


def ratio_row(name: str, above: Sequence[float], below: Sequence[float], goal: str) -> list[str]:
    """A row of the table of ratios: both sides, their ratio round by round, the rounds, the goal."""
    return [name, show_spread(above), show_spread(below), f"**{show_spread(divide(above, below))}**", str(len(above)), goal]


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """As Markdown."""
    for cells in (heads, ["---"] * len(heads), *rows):
        print(f"| {' | '.join(cells)} |")
    print()


def print_setting(title: str) -> None:
    """What is measured, where and with what."""
    machine = ", ".join(f"{name} {value}" for name, value in describe_machine().items())
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in LIBRARIES)
    print(f"{title}\n")
    print(f"Machine: {machine}; torch threads {torch.get_num_threads()}; load {os.getloadavg()[0]:.1f} at the start.")
    print(f"Python {platform.python_version()}, {versions}, provenet {__version__}{_commit()}.\n", flush=True)


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return f" at {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()}"
    except (OSError, subprocess.CalledProcessError):
        return ""
