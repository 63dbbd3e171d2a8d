"""Ensembles and ten crops on Fashion-MNIST, from a pool of trained networks: tables and charts of docs/results.md.

    python tools/ensemble_story.py FOLDER RUN… [--windows RUN…]

RUN are run folders of networks trained on Fashion-MNIST, of which FOLDER keeps what each says of the held-out and the test pictures, so
that nothing is computed twice. Every set of 1, 3, 5 and 7 networks of the pool is averaged: with equal weights, and with weights fitted
to the held-out pictures. The runs after --windows are shown one and ten crops too, and are no part of the pool.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from charts import Line, Pair, draw_lines, draw_pairs
from provenet.evaluation.combine import Joined, average, fit_weights, join, select
from provenet.evaluation.measures import mcnemar
from provenet.evaluation.predictions import Predictions, load_predictions
from provenet.outcomes import wilson_interval
from provenet.runs.evaluate import score_models
from provenet.runs.tabulate import kept
from provenet.runtime import prepare_process
from provenet.weights.bundle import load_bundle

DATA = "fashion-mnist"
SIZES = (1, 3, 5, 7)
VIEWS = ("center", "ten")
LEAST_SHARE = 0.005


class Drawn(NamedTuple):
    """One set of networks on the test pictures: fractions recognised."""

    equal: float
    fitted: float
    best_member: float
    """Of the set, the one that was best on the held-out pictures."""


def main() -> None:
    """Predict what is not kept yet, then print the tables and write the charts into FOLDER."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--windows", nargs="*", type=Path, default=[], help="runs trained on windows of larger pictures")
    asked = parser.parse_args()
    prepare_process()
    asked.folder.mkdir(parents=True, exist_ok=True)
    held_out = join([predict(asked.folder, run, "val", "center") for run in asked.runs])
    tested = join([predict(asked.folder, run, "test", "center") for run in asked.runs])
    show_pool([run.name for run in asked.runs], held_out, tested)
    draw_ensembles(asked.folder, held_out, tested)
    show_crops(asked.folder, asked.runs, asked.windows)


def predict(folder: Path, run: Path, split: str, views: str) -> Predictions:
    """What a network says, computed once."""
    path = folder / f"{run.name}-{split}-{views}.parquet"
    if not path.exists():
        kept(score_models([run], DATA, split=split, views=[views])[0]).save(path)
    return load_predictions(path)[0]


def is_right(log_probabilities: Tensor, labels: np.ndarray) -> np.ndarray:
    """Which pictures are recognised, [N]."""
    right: np.ndarray = log_probabilities.argmax(1).numpy() == labels
    return right


def part_of(joined: Joined, members: Sequence[int]) -> Joined:
    """Some of the networks."""
    return joined._replace(probabilities=joined.probabilities[list(members)])


def show_pool(names: Sequence[str], held_out: Joined, tested: Joined) -> None:
    """Each network alone, and all of them together."""
    print("| network | held out | test |\n|---|---|---|")
    for number, name in enumerate(names):
        found = [is_right(joined.probabilities[number], joined.labels).mean() for joined in (held_out, tested)]
        print(f"| {name} | {found[0]:.2%} | {found[1]:.2%} |")
    best = int(np.argmax([is_right(own, held_out.labels).mean() for own in held_out.probabilities]))
    alone = is_right(tested.probabilities[best], tested.labels)
    weights = {
        "all, equal weights": torch.ones(len(names)),
        "all, fitted weights": fit_weights(held_out),
        "greedy selection": select(held_out).weights(len(names)),
    }
    print(f"\n| all together | test | against {names[best]}, the best on held-out pictures | weights |\n|---|---|---|---|")
    for name, chosen in weights.items():
        right = is_right(average(tested.probabilities, chosen), tested.labels)
        low, high = wilson_interval(int(right.sum()), len(right))
        gain, chance = 100 * (right.mean() - alone.mean()), mcnemar(right, alone).p_value
        shares = (chosen / chosen.sum()).tolist()
        shown = ", ".join(f"{member} {share:.2f}" for member, share in zip(names, shares, strict=True) if share > LEAST_SHARE)
        equal = len(set(shares)) == 1
        print(
            f"| {name} | {right.mean():.2%} ({low:.2%} to {high:.2%}) | {gain:+.2f} points, chance {chance:.1e} "
            f"| {'all the same' if equal else shown} |"
        )


def draw_ensembles(folder: Path, held_out: Joined, tested: Joined) -> None:
    """Every set of each size: the table, and its chart."""
    right = np.stack([is_right(own, held_out.labels) for own in held_out.probabilities]).mean(1)
    alone = np.stack([is_right(own, tested.labels) for own in tested.probabilities]).mean(1)
    columns: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    print(
        "\n| networks | sets | equal weights | fitted weights | best member | equal beats it in | fitted beats it in |\n" + "|---" * 7 + "|"
    )
    for size in SIZES:
        drawn = []
        for members in combinations(range(len(right)), size):
            test = part_of(tested, members)
            weights = fit_weights(part_of(held_out, members))
            drawn.append(
                Drawn(
                    float(is_right(average(test.probabilities), tested.labels).mean()),
                    float(is_right(average(test.probabilities, weights), tested.labels).mean()),
                    float(alone[max(members, key=lambda member: right[member])]),
                )
            )
        found = np.array(drawn)
        for name, values in zip(Drawn._fields, found.T, strict=True):
            columns[name].append((float(values.mean()), *np.quantile(values, (0.025, 0.975)).tolist()))
        cells = [f"{mean:.2%} ({low:.2%} to {high:.2%})" for mean, low, high in (columns[name][-1] for name in Drawn._fields)]
        beats = [f"{(found[:, column] > found[:, 2]).mean():.0%}" for column in (0, 1)]
        print(f"| {size} | {len(drawn)} | {' | '.join(cells)} | {' | '.join(beats)} |")
    names = {"equal": "equal weights", "fitted": "fitted weights", "best_member": "best member"}
    lines = [Line(name, tuple(columns[field])) for field, name in names.items()]
    chart = draw_lines("Test accuracy of every set of networks of the pool", [str(size) for size in SIZES], "networks averaged", lines)
    (folder / "ensembles.svg").write_text(chart)


def show_crops(folder: Path, runs: Sequence[Path], windows: Sequence[Path]) -> None:
    """One crop against ten of the same networks: the table, and its chart by kind of network."""
    print("\n| network | one crop | ten crops | ten - one | chance |\n|---|---|---|---|---|")
    groups: dict[str, list[tuple[np.ndarray, np.ndarray]]] = defaultdict(list)
    for run in (*runs, *windows):
        one, ten = (is_right(said.logits, said.labels) for said in (predict(folder, run, "test", views) for views in VIEWS))
        gain, chance = 100 * (ten.mean() - one.mean()), mcnemar(ten, one).p_value
        print(f"| {run.name} | {one.mean():.2%} | {ten.mean():.2%} | {gain:+.2f} points | {chance:.1e} |")
        groups[load_bundle(run).network.name.removesuffix("_cifar") + ("*" if run in windows else "")].append((one, ten))
    pairs = []
    for name, members in groups.items():
        before, after = (float(np.mean([member[column].mean() for member in members])) for column in (0, 1))
        pictures = len(members[0][0])
        pairs.append(Pair(name, before, wilson_interval(round(before * pictures), pictures), after))
    title = "One crop and ten of the same networks (*: trained on windows of larger pictures)"
    (folder / "crops.svg").write_text(draw_pairs(title, pairs, ("one crop, with its interval", "ten crops")))


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    main()
