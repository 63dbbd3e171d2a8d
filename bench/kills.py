"""Kill a run from outside at random moments, resume it, and compare its weights with those of the run that nobody killed.

    python bench/kills.py --rounds 50

Each round starts `provenet train` anew, kills it (SIGKILL) at a moment drawn uniformly from the time the run takes, and lets `provenet
resume` finish. Snapshots are taken one after the other, so that many kills hit one being written; a profiler in the writing thread notes
in a memory-mapped byte what it is doing, which outlives the process and tells where the kill hit. `--aimed` adds rounds in which the killer
watches that byte and strikes inside the write and inside the rename.
"""

import argparse
import mmap
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

PHASES = (
    "starting",
    "training",
    "snapshot: write",
    "snapshot: checksum",
    "snapshot: flush",
    "snapshot: rename",
    "snapshot: after the rename",
)
STARTING, TRAINING, WRITE, CHECKSUM, FLUSH, RENAME, AFTER = range(7)
RUN = ["train", "fashion-mini", "--model", "lenet5_softmax", "--epochs", "2", "--snapshot-seconds", "0", "--output", "run"]


def main() -> None:
    """Parse, run the rounds, print the table; status 1 if any run ended in other weights."""
    if sys.argv[1:2] == ["--child"]:
        run_marked(Path(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--aimed", type=int, default=5, help="further rounds for each of: inside the write, inside the rename")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        reference, seconds = finish_whole(Path(folder))
        print(f"a run takes {seconds:.1f} s from its first step; killing it", flush=True)
        rounds: list[tuple[str, Callable[[mmap.mmap], None]]] = []
        for _ in range(options.rounds):
            moment = moments.uniform(0, seconds)
            rounds.append((f"{moment:6.3f} s", lambda marks, moment=moment: sleep_from_first_step(marks, moment)))  # type: ignore[misc]
        for phase in (WRITE, RENAME):
            for _ in range(options.aimed):
                moment = moments.uniform(0, seconds * 0.8)
                rounds.append(("aimed", lambda marks, moment=moment, phase=phase: strike(marks, moment, phase)))  # type: ignore[misc]
        hits, lost, failures = Counter[str](), [], 0
        for number, (name, wait) in enumerate(rounds, start=1):
            hit, killed_at, resumed_at, is_equal = one_round(Path(folder) / str(number), wait, reference)
            hits[hit] += 1
            lost.append(killed_at - resumed_at)
            failures += not is_equal
            verdict = "equal" if is_equal else "OTHER WEIGHTS"
            print(f"{number:3} {name:8} hit {hit:27} after step {killed_at:4}, went on from {resumed_at:4}: {verdict}", flush=True)
    print(f"\n{len(rounds) - failures} of {len(rounds)} runs ended in the weights of the run that nobody killed")
    for hit in PHASES:
        print(f"  hit {hit:27} {hits[hit]:3}")
    print(f"  steps lost: median {statistics.median(lost):.0f}, most {max(lost)}")
    raise SystemExit(failures > 0)


def run_marked(marks_path: Path, words: list[str]) -> None:
    """The program itself, with a byte that says what the writing thread is doing and a counter of steps."""
    with marks_path.open("r+b") as file:
        marks = mmap.mmap(file.fileno(), 16)

    def profile(frame: FrameType, event: str, argument: Any) -> None:
        if threading.current_thread().name != "snapshot":
            return
        name = getattr(argument, "__name__", "") if event.startswith("c_") else frame.f_code.co_name
        if event == "call" and name == "save_file":
            marks[0] = WRITE
        elif event == "return" and name == "save_file":
            marks[0] = FLUSH
        elif event == "call" and name == "_checksum":
            marks[0] = CHECKSUM
        elif event == "c_call" and name in ("replace", "rename"):
            marks[0] = RENAME
        elif event == "c_return" and name in ("replace", "rename"):
            marks[0] = AFTER
        elif event == "return" and name == "write":
            marks[0] = TRAINING

    threading.setprofile(profile)
    from provenet.__main__ import run as run_command
    from provenet.console import Terminal

    tell = Terminal.step

    def step(self: Terminal, record: Any) -> None:
        if marks[0] == STARTING:
            marks[0] = TRAINING
        marks[8:12] = record.step.to_bytes(4, "little")
        tell(self, record)

    Terminal.step = step  # type: ignore[method-assign]
    run_command(words)


def sleep_from_first_step(marks: mmap.mmap, seconds: float) -> None:
    """Wait until the first step is done, then so long."""
    while marks[0] == STARTING:
        time.sleep(0.001)
    time.sleep(seconds)


def strike(marks: mmap.mmap, seconds: float, phase: int) -> None:
    """Wait as above, then until the writing thread is at that work."""
    sleep_from_first_step(marks, seconds)
    deadline = time.monotonic() + 5
    while marks[0] != phase and time.monotonic() < deadline:
        pass


def start(folder: Path, words: list[str]) -> tuple[subprocess.Popen[bytes], mmap.mmap]:
    """The program in `folder`, on one thread, with its marks."""
    marks_path = folder / "marks"
    marks_path.write_bytes(bytes(16))
    with marks_path.open("r+b") as file:
        marks = mmap.mmap(file.fileno(), 16)
    command = [sys.executable, __file__, "--child", str(marks_path), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command, cwd=folder, stdout=quiet, stderr=quiet, env=environment), marks


def finish_whole(folder: Path) -> tuple[bytes, float]:
    """The bundle of a run that nobody kills, and the seconds it takes from its first step."""
    whole = folder / "whole"
    whole.mkdir()
    process, marks = start(whole, RUN)
    sleep_from_first_step(marks, 0)
    started = time.monotonic()
    if process.wait():
        raise SystemExit("expected the uninterrupted run to end well, found that it did not")
    return (whole / "run/model.safetensors").read_bytes(), time.monotonic() - started


def one_round(folder: Path, wait: Callable[[mmap.mmap], None], reference: bytes) -> tuple[str, int, int, bool]:
    """Train, kill, resume: what the kill hit, the step then, the step the run went on from, and whether the bundle is the reference's."""
    folder.mkdir()
    process, marks = start(folder, RUN)
    wait(marks)
    process.kill()
    process.wait()
    phase, killed_at = PHASES[marks[0]], int.from_bytes(marks[8:12], "little")
    process, marks = start(folder, ["resume", "run"])
    first = 0
    while process.poll() is None:
        first = first or int.from_bytes(marks[8:12], "little")
        time.sleep(0.0005)
    bundle = folder / "run/model.safetensors"
    is_equal = process.returncode == 0 and bundle.exists() and bundle.read_bytes() == reference
    return phase, killed_at, max(first - 1, 0) if first else killed_at, is_equal


if __name__ == "__main__":
    main()
