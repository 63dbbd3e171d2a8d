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


def measure(words: list[str]) -> tuple[float, float]:
    """Seconds and peak megabytes of one process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return time.perf_counter() - started, usage.ru_maxrss * 1024 / 1e6


def main() -> None:
    """Print the median, least and most of what each takes beyond torch."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for round_number in range(ROUNDS + 1):
        for name, words in COMMANDS.items():
            measured = measure(words)
            if round_number:  # the first fills the page cache
                found[name].append(measured)
    torch = found["import torch"]
    print(f"import torch: median {statistics.median(seconds for seconds, _ in torch):.2f} s, {ROUNDS} rounds")
    for name in list(COMMANDS)[1:]:
        seconds, megabytes = zip(*((mine[0] - its[0], mine[1] - its[1]) for mine, its in zip(found[name], torch, strict=True)), strict=True)
        time_text, memory_text = (
            f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f}) {unit}"
            for values, unit in ((seconds, "s"), (megabytes, "MB"))
        )
        print(f"{name:10} beyond torch: {time_text}, {memory_text}")


if __name__ == "__main__":
    main()
