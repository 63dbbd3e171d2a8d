"""How long `import provenet` and `provenet --help` take, beside Python itself, in turns in one run.

python bench/startup.py
"""

import statistics
import subprocess
import sys
import time

ROUNDS = 21
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "import provenet": ["-c", "import provenet"],
    "provenet --help": ["-m", "provenet", "--help"],
}


def main() -> None:
    """Print the median, least and most of each, in milliseconds, and what it takes beyond Python."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for round_number in range(ROUNDS + 1):
        for name, words in COMMANDS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
            if round_number:  # the first fills the page cache
                seconds[name].append(time.perf_counter() - started)
    python = seconds["python -c pass"]
    for name, found in seconds.items():
        beyond = statistics.median(mine - its for mine, its in zip(found, python, strict=True))
        ratio = statistics.median(mine / its for mine, its in zip(found, python, strict=True))
        median, least, most = (1e3 * value for value in (statistics.median(found), min(found), max(found)))
        spread = f"median {median:6.1f} ms ({least:.1f} to {most:.1f}, {ROUNDS} rounds)"
        print(f"{name:16} {spread}  beyond Python {1e3 * beyond:6.1f} ms  {ratio:.1f}x")


if __name__ == "__main__":
    main()
