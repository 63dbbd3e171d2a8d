"""Time to the first batch, and memory, of two decoding threads beside two spawned workers of torch's DataLoader.

    python bench/first_batch.py [--photographs FOLDER] [--quick]

Each measurement is a process of its own. The clock runs from when the data set exists and torch is imported until the first batch of 16
normalised float32 [3, 224, 224] is there. Memory: what the process and all its children hold (proportional set size) after 20 batches,
beyond what `import torch` and Pillow had taken. Photographs of 500x375.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from photographs import describe_photographs, photographs
from turns import divide, print_setting, print_table, show_spread, take_turns

ROUNDS = 9
COUNT, WIDTH, HEIGHT = 600, 500, 375
PREPARE = """
import json, sys, time
import numpy as np, torch
from PIL import Image
from torch.utils.data import DataLoader
sys.path.insert(0, sys.argv[1])
from tree import proportional_bytes
paths = json.load(sys.stdin)
before = proportional_bytes()
"""
OURS = """
from pathlib import Path
from provenet.data.distortion import Distortion
from provenet.data.index import ImageSet
from provenet.data.loader import Loader
from provenet.data.pictures import PictureFiles
from provenet.preprocessing import IMAGENET_PREPROCESSING
images = ImageSet("photographs", ("a",), np.zeros(len(paths), np.int64), PictureFiles(Path("/"), [path[1:] for path in paths]))
distortion = Distortion(crop="area", area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), mirror=True)
started = time.perf_counter()
batches = iter(Loader.of(images, IMAGENET_PREPROCESSING, batch_size=16, num_threads=2, distortion=distortion))
"""
THEIRS = """
from usual import UsualPhotographs
data_set = UsualPhotographs(paths, [0] * len(paths))
started = time.perf_counter()
batches = iter(DataLoader(data_set, batch_size=16, shuffle=True, num_workers=2, multiprocessing_context="spawn"))
"""
MEASURE = """
first = next(batches)
seconds = time.perf_counter() - started
assert first[0].shape == (16, 3, 224, 224) and first[0].dtype == torch.float32
for _ in range(19):
    next(batches)
print(json.dumps([seconds, (proportional_bytes() - before) / 1e6]), flush=True)
"""


def main() -> None:
    """Take turns, print both ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, help=f"folder of JPEGs of {WIDTH}x{HEIGHT}")
    parser.add_argument("--quick", action="store_true", help="few rounds")
    options = parser.parse_args()
    rounds = 2 if options.quick else ROUNDS
    with photographs(options.photographs, count=COUNT, width=WIDTH, height=HEIGHT) as paths:
        print_setting(f"First batch: {describe_photographs(paths)}; two threads beside two spawned workers")
        names = json.dumps([os.fspath(path.resolve()) for path in paths])
        megabytes: dict[str, list[float]] = {"ours": [], "theirs": []}

        def measure(side: str) -> float:
            script = PREPARE + (OURS if side == "ours" else THEIRS) + MEASURE
            command = [sys.executable, "-c", script, str(Path(__file__).resolve().parent)]
            done = subprocess.run(command, input=names, capture_output=True, text=True, check=True)
            seconds, extra = json.loads(done.stdout)
            megabytes[side].append(extra)
            return float(seconds)

        seconds = take_turns({"ours": lambda: measure("ours"), "theirs": lambda: measure("theirs")}, rounds)
    memory = {side: values[1:] for side, values in megabytes.items()}
    faster, part = divide(seconds["theirs"], seconds["ours"]), divide(memory["ours"], memory["theirs"])
    cases = (
        ("first batch, s; times faster", seconds, faster, "3, 8, 20"),
        ("extra memory, MB; part of theirs", memory, part, "0.6, 0.35, 0.15"),
    )
    rows = [
        [f"D6: {name}", show_spread(both["ours"]), show_spread(both["theirs"]), f"**{show_spread(ratios)}**", str(rounds), goal]
        for name, both, ratios, goal in cases
    ]
    print_table(["", "ours", "two workers", "ratio", "rounds", "floor, target, moonshot"], rows)


if __name__ == "__main__":
    main()
