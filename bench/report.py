"""How long the report of a 10,000-image evaluation takes to make, and how many bytes it has.

python bench/report.py [FOLDER_OF_FASHION_MNIST]

With the folder: its 10,000 test pictures. Without: the 1,000 embedded ones, ten times over. The network is trained for it for two
passes over the embedded pictures. Made are the pictures that are shown, the findings and the file.
"""

import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from provenet.data.index import ImageSet
from provenet.data.loader import Loader
from provenet.data.sources import open_data
from provenet.data.squares import open_squares
from provenet.evaluation.evaluate import BATCH_SIZE, evaluate
from provenet.report.facts import EvaluatedPart, RunFacts
from provenet.report.gallery import gather_pictures
from provenet.report.page import write_report
from provenet.runs.train import train
from provenet.runtime import count_cores, describe_machine, prepare_process
from provenet.training.recorder import read_log
from provenet.weights.bundle import load_bundle

ROUNDS = 11


def main() -> None:
    """Print the seconds of each round's report, and its bytes."""
    prepare_process()
    images = choose_pictures()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train("fashion-mini", "lenet5_softmax", output=folder / "run", epochs=2)
        bundle = load_bundle(folder / "run")
        images = replace(images, classes=bundle.classes)
        squares, _ = open_squares(images.pictures, bundle.preprocessing, num_threads=count_cores())
        loader = Loader(squares, images.labels, bundle.preprocessing, batch_size=BATCH_SIZE)
        evaluation = evaluate(bundle.network, loader.evaluation_batches(), bundle.classes)
        facts = RunFacts(
            title="bench",
            model=bundle.network.name,
            num_parameters=bundle.network.num_parameters,
            classes=bundle.classes,
            state="ended",
            events=read_log(folder / "run" / "log.jsonl"),
            settings=bundle.provenance["settings"],
            data={"images": {"test": len(images)}, "classes": {"test": images.counts()}},
            machine=describe_machine(),
        )
        seconds = []
        for _ in range(ROUNDS + 1):
            started = time.perf_counter()
            part = EvaluatedPart("test", evaluation, gather_pictures(evaluation, images))
            write_report(folder / "report.html", replace(facts, parts=[part]))
            seconds.append(time.perf_counter() - started)
        size_bytes = (folder / "report.html").stat().st_size
    first, rounds = seconds[0], seconds[1:]
    print(f"{images.name}: {evaluation.images:,} pictures, top-1 {evaluation.top1:.2%}, {len(part.gallery.pictures)} pictures shown")
    print(
        f"first {first:.3f} s, then median {statistics.median(rounds):.3f} s ({min(rounds):.3f} to {max(rounds):.3f}, {ROUNDS} rounds); "
        f"{size_bytes:,} bytes"
    )
    print(json.dumps(describe_machine()))


def choose_pictures() -> ImageSet:
    """10,000 labelled pictures."""
    if len(sys.argv) > 1:
        return open_data(sys.argv[1]).splits["test"]
    test = open_data("fashion-mini").splits["test"]
    return replace(test.select(np.tile(np.arange(len(test)), 10)), name="fashion-mini/test ten times over")


if __name__ == "__main__":
    main()
