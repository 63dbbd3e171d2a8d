"""Ten crops of a photograph against ten evaluations of its middle, and the memory of 144 crops against one: V1.

    python bench/views.py [--photographs FOLDER] [--count 24] [--rounds 5] [--engine eager]

alexnet_owt on photographs of 12 megapixels. Both sides are what `provenet evaluate` runs; each measurement is a process of its own, whose
start and loading are not counted, and whose peak memory is the system's figure for it.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from photographs import describe_photographs, photographs
from provenet.models.catalog import build_network
from provenet.runs.evaluate import score_models
from provenet.runtime import prepare_process
from provenet.weights.bundle import Bundle, load_bundle, save_bundle
from turns import divide, print_setting, print_table, show_spread, take_turns

COUNT, WIDTH, HEIGHT = 24, 4_000, 3_000
ROUNDS = 5
CLASSES = tuple(f"class{number}" for number in range(4))


def main() -> None:
    """Measure in turns and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, help=f"folder of class folders with JPEGs of {WIDTH}x{HEIGHT}")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--engine", default="eager")
    parser.add_argument("--one", nargs=3, metavar=("BUNDLE", "VIEWS", "TIMES"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        bundle, views, times = options.one
        measure_here(bundle, views, int(times), options.photographs, options.engine)
        return
    prepare_process()
    with (
        tempfile.TemporaryDirectory() as folder,
        photographs(options.photographs, count=options.count, width=WIDTH, height=HEIGHT) as paths,
    ):
        bundle = Path(folder) / "alexnet_owt.safetensors"
        torch.manual_seed(0)
        net = build_network("alexnet_owt", num_classes=len(CLASSES), init="trainable").eval()
        save_bundle(Bundle(net, CLASSES, net.input_spec.preprocessing), bundle)
        data = paths[0].parent.parent
        print_setting(f"Views: alexnet_owt, {describe_photographs(paths)}, engine {options.engine}")

        def run(views: str, times: int) -> dict[str, float]:
            command = [sys.executable, __file__, "--photographs", data, "--engine", options.engine, "--one", bundle, views, str(times)]
            ended = subprocess.run(command, capture_output=True, check=True, text=True)
            printed: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
            return printed

        memory: dict[str, list[float]] = {"center": [], "144": []}

        def seconds(views: str, times: int) -> float:
            found = run(views, times)
            if times == 1 and views in memory:
                memory[views].append(found["peak_megabytes"])
            return found["seconds"] / len(paths) * 1_000

        sides = {
            "ten crops": lambda: seconds("ten", 1),
            "ten runs of the middle": lambda: seconds("center", 10),
            "the middle once": lambda: seconds("center", 1),
            "144 crops": lambda: seconds("144", 1),
        }
        found = take_turns(sides, options.rounds)
    ratios = divide(found["ten runs of the middle"], found["ten crops"])
    rows = [[name, show_spread(values), ""] for name, values in found.items()]
    rows.append(["ten runs over ten crops", "", show_spread(ratios)])
    print_table(["", "milliseconds a photograph", "ratio"], rows)
    ratios = divide(memory["144"], memory["center"])
    rows = [[name, show_spread(values), ""] for name, values in memory.items()]
    print_table(["views", "peak memory, MB", "ratio"], [*rows, ["144 over center", "", show_spread(ratios)]])


def measure_here(bundle: str, views: str, times: int, data: Path, engine: str) -> None:
    """In a process of its own: print seconds and the peak as JSON."""
    prepare_process()
    loaded = load_bundle(bundle)
    started_at = time.perf_counter()
    for _ in range(times):
        score_models([loaded], data, views=[views], engine=engine, precision="float32")
    seconds = time.perf_counter() - started_at
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    print(json.dumps({"seconds": seconds, "peak_megabytes": peak}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
