"""How long `provenet summary` takes and how much memory, beyond `import torch`, in turns in one run.

python bench/summary.py
"""

import os
import statistics
import subprocess
import sys
import time

ROUNDS = 11
COMMANDS = {
    "import torch": ["-c", "import torch"],
    "resnet152": ["-m", "provenet", "summary", "resnet152"],
    "vgg19": ["-m", "provenet", "summary", "vgg19"],
    "googlenet": ["-m", "provenet", "summary", "googlenet"],
}


def measure(words: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of a processor, and peak megabytes of one process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    """Print the median, least and most of what each takes beyond torch."""
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in COMMANDS}
    for round_number in range(ROUNDS + 1):
        for name, words in COMMANDS.items():
            measured = measure(words)
            if round_number:  # the first fills the page cache
                found[name].append(measured)
    torch = found["import torch"]
    print(f"import torch: median {statistics.median(row[0] for row in torch):.2f} s, {ROUNDS} rounds")
    for name in list(COMMANDS)[1:]:
        beyond = [[mine[k] - its[k] for mine, its in zip(found[name], torch, strict=True)] for k in range(3)]
        shown = [f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})" for values in beyond]
        print(f"{name:10} beyond torch: {shown[0]} s, of a processor {shown[1]} s, {shown[2]} MB")


if __name__ == "__main__":
    main()
