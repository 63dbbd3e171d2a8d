"""How long `provenet summary` takes and how much memory, beyond `import torch`: both measured inside the process that does it.

python bench/summary.py
"""

import json
import statistics
import subprocess
import sys

ROUNDS = 11
NAMES = ("resnet152", "vgg19", "googlenet", "lenet5")
SCRIPT = """
import json, resource, sys, time
import torch

def peak_megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6

started, before = time.perf_counter(), peak_megabytes()
from provenet.__main__ import run
try:
    run(["summary", sys.argv[1]])
except SystemExit as ended:
    assert not ended.code
print(json.dumps([time.perf_counter() - started, peak_megabytes() - before]), file=sys.stderr)
"""


def main() -> None:
    """Print the median, least and most of each, the networks in turns."""
    found: dict[str, list[list[float]]] = {name: [] for name in NAMES}
    for round_number in range(ROUNDS + 1):
        for name in NAMES:
            done = subprocess.run([sys.executable, "-c", SCRIPT, name], capture_output=True, text=True, check=True)
            if round_number:  # the first fills the page cache
                found[name].append(json.loads(done.stderr))
    for name, rows in found.items():
        shown = [f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" for values in zip(*rows, strict=True)]
        print(f"provenet summary {name:10} beyond import torch: {shown[0]} s, {shown[1]} MB, {ROUNDS} rounds")


if __name__ == "__main__":
    main()
