"""A new head on a frozen ResNet-50: features computed once and kept, beside running the frozen part in every epoch as tutorials do (X1);
and a second head on the same photographs, beside the first (X2).

    python bench/transfer.py [--quick] [--photographs FOLDER] [--network resnet50_v1_5] [--count 600] [--rounds 7]
                             [--only-ours] [--unprobed]

The usual side is one epoch of a frozen network with a new last layer: decode, crop, normalise, forward, step; times the epochs. Ours sets
the allocator for both, which makes the usual side faster than it usually is.
Ours is the whole of `train(..., transfer="cached")` for as many epochs, from the folder to the bundle and its report, with an empty cache,
then again with other settings for the second head. Both see the same photographs. The engine was measured before, once for the machine,
which is said and not counted; with --unprobed nothing was, as when the command is used for the first time. The network has the weights it
begins with: time does not depend on them.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader

from photographs import photographs
from provenet.engines.shown import conclude
from provenet.models.catalog import build_network
from provenet.models.heads import adapt
from provenet.preprocessing import IMAGENET_PREPROCESSING
from provenet.runs.engines import probe
from provenet.runs.train import train
from provenet.runs.watcher import Silent
from provenet.runtime import prepare_process
from provenet.transfer.caches import prune
from provenet.weights.bundle import Bundle, save_bundle
from turns import print_setting, print_table, ratio_row, take_turns
from usual import UsualPhotographs

ROUNDS, EPOCHS, BATCH_SIZE, CLASSES = 7, 20, 32, 4
COUNT, QUICK_COUNT = 600, 64


class Said(Silent):
    """Keeps what is said of engines and features."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """One line."""
        if text.startswith(("engine", "features")):
            self.notes.append(text)


def main() -> None:
    """Measure both sides in turns, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds of few photographs")
    parser.add_argument("--photographs", type=Path, help="a folder for them, made if it is empty")
    parser.add_argument("--network", default="resnet50_v1_5")
    parser.add_argument("--count", type=int, default=COUNT, help="of photographs that are made")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only-ours", action="store_true", help="X2 alone: without the usual side, which takes most of the time")
    parser.add_argument("--unprobed", action="store_true", help="as on a machine where no engine was measured")
    asked = parser.parse_args()
    count, rounds = (QUICK_COUNT, 2) if asked.quick else (asked.count, asked.rounds)
    prepare_process()
    torch.manual_seed(0)
    net = build_network(asked.network, init="trainable")
    with tempfile.TemporaryDirectory() as temporary, photographs(asked.photographs, count=count, width=500, height=375) as paths:
        folder = Path(temporary)
        for path in paths:
            place = folder / "data" / path.parent.name
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        weights = folder / "weights.safetensors"
        save_bundle(Bundle(net, tuple(map(str, range(1000))), IMAGENET_PREPROCESSING, {}), weights)
        paths = sorted((folder / "data").rglob("*.jpg"))
        print_setting(f"Transfer: a head on frozen {asked.network}, {len(paths):,} photographs of 500x375, {EPOCHS} epochs of {BATCH_SIZE}")
        frozen = adapt(build_network(asked.network, init="trainable"), num_classes=CLASSES, head="linear")
        said = Said()
        runs = iter(range(10**6))

        def usual() -> float:
            return EPOCHS * _usual_epoch(frozen, paths)

        def first() -> float:
            prune((), everything=True)
            return ours(folder, weights, f"first{next(runs)}", said, learning_rate=0.01)

        def second() -> float:
            return ours(folder, weights, f"second{next(runs)}", said, learning_rate=0.02)

        def again() -> float:
            return ours(folder, weights, f"again{next(runs)}", said)

        if asked.unprobed:
            os.environ["PROVENET_CACHE"] = str(folder / "cache")
            print("No engine was measured before.\n", flush=True)
        else:
            print(f"Measured before, as by `provenet probe`: {conclude(probe(weights))}.\n", flush=True)
        ours(folder, weights, "warm", said, learning_rate=0.01)
        sides = {"first": first, "second": second, "at once": again}
        found = take_turns(sides if asked.only_ours else {"usual": usual, **sides}, rounds)
        print("Seconds; X1 floor, target, moonshot 15, 50, 80; X2 50, 200.\n")
        heads = ["what", "beside, s", "ours, s", "ratio", "rounds", "goal"]
        usually = (
            []
            if asked.only_ours
            else [ratio_row("X1: a head, every epoch through the network", found["usual"], found["first"], "15, 50, 80")]
        )
        print_table(
            heads,
            [
                *usually,
                ratio_row("X2: a second head in as many epochs, beside the first", found["first"], found["second"], "50, 200"),
                ratio_row("X2: a second head solved at once, as by default, beside the first", found["first"], found["at once"], "50, 200"),
            ],
        )
        print("\n".join(f"* {note}" for note in dict.fromkeys(said.notes)))


def _usual_epoch(net: nn.Module, paths: list[Path]) -> float:
    """Seconds."""
    *_, (_, head) = net.named_children()
    net.requires_grad_(False)
    head.requires_grad_(True)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9)
    net.train()
    classes = sorted({path.parent.name for path in paths})
    pictures = UsualPhotographs(paths, [classes.index(path.parent.name) for path in paths])
    started_at = time.perf_counter()
    for images, labels in DataLoader(pictures, batch_size=BATCH_SIZE, shuffle=True):
        optimizer.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(net(images), labels))
        optimizer.step()
    return time.perf_counter() - started_at


def ours(folder: Path, weights: Path, name: str, said: Said, *, learning_rate: float | None = None) -> float:
    """Seconds of a whole run: in epochs of steps, or, without a learning rate, solved at once."""
    steps: dict[str, Any] = {"epochs": EPOCHS, "batch_size": BATCH_SIZE, "learning_rate": learning_rate} if learning_rate else {}
    started_at = time.perf_counter()
    train(folder / "data", weights=str(weights), transfer="cached", output=folder / name, watcher=said, **steps)
    return time.perf_counter() - started_at


if __name__ == "__main__":
    main()
