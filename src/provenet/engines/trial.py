"""Ways tried in a process of their own, which may crash: `python -m provenet.engines.trial FOLDER`, started by probe.py.

FOLDER holds `work.pt` and gets `answers.jsonl`, a line for each thing that begins or is found, so that whoever waits knows how far it got.
"""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch

from provenet.engines.engine import Engine, build, reference, relative_error
from provenet.engines.ways import REFERENCE, Way
from provenet.runtime import keep_large_blocks, place

WORK, ANSWERS = "work.pt", "answers.jsonl"
ENOUGH_SECONDS, MOST_ROUNDS, LEAST_ROUNDS = 12.0, 21, 2
HOPELESS = 4.0
"""A way that takes so many times the reference's time is timed once."""


def main(folder: Path) -> None:
    """Start every way, compare its answers with the reference's, and time all in turns."""
    work: dict[str, Any] = torch.load(folder / WORK, weights_only=False)  # written by the process that started this one
    torch.set_num_threads(work["threads"])
    keep_large_blocks()
    parent = os.getppid()
    with (folder / ANSWERS).open("a") as answers:

        def say(way: Way, **facts: Any) -> None:
            if os.getppid() != parent:
                raise SystemExit("nobody waits for the answers any more")
            answers.write(json.dumps({"way": list(way), **facts}) + "\n")
            answers.flush()

        _try_all(work, folder, say)


def _try_all(work: dict[str, Any], folder: Path, say: Any) -> None:
    net, images, device = work["net"].eval(), work["images"], torch.device(work["device"])
    place(net, device)
    images = images.to(device)
    expects = reference(net)
    say(REFERENCE, begins="start")
    started_at = time.perf_counter()
    expected = expects(images)
    say(REFERENCE, start_seconds=time.perf_counter() - started_at, error=0.0)
    engines = {REFERENCE: expects}
    reference_seconds = _seconds(expects, images, device)
    for way in (Way(*each) for each in work["ways"]):
        say(way, begins="start")
        started_at = time.perf_counter()
        try:
            engine = build(way, net, images, folder, work["calibration"])
            found = engine(images)
        except Exception as error:  # whatever their libraries raise
            say(way, failed=" ".join(f"{type(error).__name__}: {error}".split())[:300])
            continue
        start_seconds = time.perf_counter() - started_at
        facts: dict[str, Any] = {"start_seconds": start_seconds, "error": relative_error(found, expected)}
        if way.precision == "int8":
            facts |= _agreement(work, engine, expects, device)
        say(way, **facts)
        seconds = _seconds(engine, images, device)
        if seconds < HOPELESS * reference_seconds:
            engines[way] = engine
        else:
            say(way, seconds=seconds)
    spent, rounds = 0.0, 0
    while rounds < LEAST_ROUNDS or (rounds < MOST_ROUNDS and spent < ENOUGH_SECONDS):
        for way, engine in engines.items():
            say(way, begins="turn")
            seconds = _seconds(engine, images, device)
            say(way, seconds=seconds)
            spent += seconds
        rounds += 1


def _seconds(engine: Engine, images: torch.Tensor, device: torch.device) -> float:
    started_at = time.perf_counter()
    engine(images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started_at


def _agreement(work: dict[str, Any], engine: Engine, expects: Engine, device: torch.device) -> dict[str, Any]:
    """On pictures that int8 was not fitted to, of how many the label is the reference's."""
    agree, count = 0, 0
    for images in torch.split(work["others"], len(work["images"])):
        found, expected = (each(images.to(device)).argmax(1) for each in (engine, expects))
        agree, count = agree + int((found == expected).sum()), count + len(images)
    return {"agreement": agree / count, "agreement_of": count}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
