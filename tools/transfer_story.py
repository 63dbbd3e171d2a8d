"""The story of docs/transfer.md, from the first command to the last: networks that learn six classes of Fashion-MNIST, and what becomes of
four others and of handwritten digits.

    python tools/transfer_story.py FOLDER [--epochs 4] [--precision bfloat16]

Every run is a command as a reader would type it, in FOLDER; what is done is noted in FOLDER/results.json and not done again. Needs the full
Fashion-MNIST (Debian: dataset-fashion-mnist) and scikit-learn, for its digits. Prints the tables of the page.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from charts import Line, Pair, draw_lines, draw_pairs
from provenet.data.pictures import PixelArray
from provenet.data.sources import open_data
from provenet.outcomes import wilson_interval

NETWORKS = ("lenet5", "nin_cifar", "resnet20_cifar", "resnet56_cifar", "plain20_cifar")
SIX = ("T-shirt/top", "Trouser", "Dress", "Coat", "Sandal", "Sneaker")
COUNTS, DRAWS = (5, 20, 100), 3
MODES = ("scratch", "cached", "head", "from:conv4_x", "all", "auto")
DIGITS_PER_CLASS = 20


def main() -> None:
    """Everything that is not done yet, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", default="4", help="of the six classes")
    parser.add_argument("--precision", default="bfloat16", help="in which these are learnt")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    os.chdir(asked.folder)
    os.environ.setdefault("PROVENET_CACHE", str(Path("cache").absolute()))
    write_pictures()
    for network in NETWORKS:
        run(
            f"six/{network}",
            ["train", "six", "--model", network, "--epochs", asked.epochs, "--precision", asked.precision, "-o", f"six-{network}"],
        )
    weights = "six-resnet20_cifar"
    for data in (*(f"four{count}-{draw}" for count in COUNTS for draw in range(DRAWS)), "digits"):
        for mode in MODES:
            begin = ["--model", "resnet20_cifar"] if mode == "scratch" else ["--weights", weights, "--transfer", mode]
            run(f"{data}/{mode}", ["train", data, *begin, "-o", f"{data}-{mode.replace(':', '-')}"])
    run("survey", ["survey", "four100-0", "--weights", *(f"six-{network}" for network in NETWORKS), "-o", "survey", "--json"])
    for network in NETWORKS:
        begin = ["train", "four100-0", "--weights", f"six-{network}", "--transfer"]
        run(f"frozen/{network}", [*begin, "cached", "-o", f"frozen-{network}"])
        run(f"whole/{network}", [*begin, "all", "-o", f"whole-{network}"])
    again = ["train", "four100-0", "--weights", weights, "--transfer", "cached"]
    run("again/hidden", [*again, "--head", "mlp:64", "-o", "again-hidden"])
    run("again/views", [*again, "--views", "8", "--augment", "standard", "-o", "again-views"])
    print_tables(read())
    draw_pictures(read())


def write_pictures() -> None:
    """Class folders, as a reader has them."""
    splits = open_data("fashion-mnist").splits
    classes = splits["train"].classes
    four = [name for name in classes if name not in SIX]
    write("six", splits, SIX, per_class=None, draw=0)
    for count in COUNTS:
        for draw in range(DRAWS):
            write(f"four{count}-{draw}", splits, four, per_class=count, draw=draw)
    if not Path("digits").exists():
        from sklearn.datasets import load_digits

        digits = load_digits()
        numbers = np.random.default_rng(0).permutation(len(digits.target))
        seen: dict[int, int] = {}
        for number in numbers.tolist():
            label = int(digits.target[number])
            seen[label] = seen.get(label, 0) + 1
            split = "train" if seen[label] <= DIGITS_PER_CLASS else "test"
            path = Path("digits.part", split, str(label), f"{number:04}.png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[number] * 255 / 16).astype(np.uint8)).save(path)
        Path("digits.part").rename("digits")


def write(name: str, splits: Any, classes: Any, *, per_class: int | None, draw: int) -> None:
    """Some classes of Fashion-MNIST: `per_class` training pictures of each, drawn anew for each `draw`, and all test pictures."""
    if Path(name).exists():
        return
    shutil.rmtree(f"{name}.part", ignore_errors=True)
    random = np.random.default_rng(draw)
    for split, images in splits.items():
        assert isinstance(images.pictures, PixelArray)
        for label in classes:
            numbers = np.flatnonzero(images.labels == images.classes.index(label))
            if split == "train" and per_class is not None:
                numbers = np.sort(random.permutation(numbers)[:per_class])
            folder = Path(f"{name}.part", split, label.replace("/", "-"))
            folder.mkdir(parents=True)
            for number in numbers.tolist():
                images.pictures.picture(number).save(folder / f"{number:05}.png")
    Path(f"{name}.part").rename(name)


def run(what: str, words: list[str]) -> None:
    """One command, timed from its start to its end, unless it is done; what it printed as JSON is kept."""
    results = read()
    if what in results:
        return
    if "-o" in words:
        shutil.rmtree(words[words.index("-o") + 1], ignore_errors=True)
    json_flag = [] if "--json" in words else ["--json"]
    command = [str(Path(sys.executable).parent / "provenet"), *words, *json_flag]
    print("provenet", *words, flush=True)
    started_at = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started_at
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    results[what] = {"command": " ".join(["provenet", *words]), "seconds": seconds, "said": json.loads(done.stdout)}
    Path("results.part").write_text(json.dumps(results, indent=1))
    Path("results.part").rename("results.json")
    print(f"  {seconds:.1f} s", flush=True)


def read() -> dict[str, Any]:
    """What is done."""
    path = Path("results.json")
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def print_tables(results: dict[str, Any]) -> None:
    """As Markdown."""
    print("\n| network | test accuracy on the six | seconds |\n|---|---|---|")
    for network in NETWORKS:
        found = results[f"six/{network}"]
        print(f"| `{network}` | {found['said']['test']['top1']:.2%} | {found['seconds']:.0f} |")
    print(
        "\n| mode | " + " | ".join(f"{count} of each" for count in COUNTS) + " | digits, 20 of each |\n|---|" + "---|" * (len(COUNTS) + 1)
    )
    for mode in MODES:
        cells = [cell([results[f"four{count}-{draw}/{mode}"] for draw in range(DRAWS)]) for count in COUNTS]
        print(f"| `{mode}` | {' | '.join(cells)} | {cell([results[f'digits/{mode}']])} |")
    found = results["survey"]["said"]["backbones"]
    print("\n| network | survey | `cached`, test | `all`, test |\n|---|---|---|---|")
    for each in found:
        low, high = each["interval"]
        frozen, whole = (cell([results[f"{what}/{each['network']}"]]) for what in ("frozen", "whole"))
        print(f"| `{each['network']}` | {each['top1']:.1%} ({low:.1%} to {high:.1%}), {each['seconds']:.1f} s | {frozen} | {whole} |")


def draw_pictures(results: dict[str, Any]) -> None:
    """`transfer-modes.svg` and `transfer-survey.svg`."""
    lines = []
    for mode in MODES[:-1]:  # auto is one of the others
        tops = [[results[f"four{count}-{draw}/{mode}"]["said"]["test"]["top1"] for draw in range(DRAWS)] for count in COUNTS]
        lines.append(Line(mode, tuple((float(np.mean(some)), min(some), max(some)) for some in tops)))
    title = "Four other kinds of clothes: test accuracy by way of transfer"
    Path("transfer-modes.svg").write_text(draw_lines(title, [str(count) for count in COUNTS], "training pictures of each class", lines))
    pairs = [
        Pair(each["network"], each["top1"], tuple(each["interval"]), results[f"whole/{each['network']}"]["said"]["test"]["top1"])
        for each in results["survey"]["said"]["backbones"]
    ]
    names = ("survey: a head on frozen features, cross-validated", "the whole network trained, test pictures")
    Path("transfer-survey.svg").write_text(draw_pairs("What the survey says, and what full training gives", pairs, names))


def cell(runs: list[dict[str, Any]]) -> str:
    """Mean accuracy on test pictures, with the least and most of several draws, or the interval of one; and the mean seconds."""
    tops = [run["said"]["test"]["top1"] for run in runs]
    seconds = np.mean([run["seconds"] for run in runs])
    if len(tops) > 1:
        spread = f"{min(tops):.1%} to {max(tops):.1%}"
    else:
        images = runs[0]["said"]["test"]["images"]
        low, high = wilson_interval(round(tops[0] * images), images)
        spread = f"{low:.1%} to {high:.1%}"
    return f"{np.mean(tops):.1%} ({spread}), {seconds:.0f} s"


if __name__ == "__main__":
    main()
