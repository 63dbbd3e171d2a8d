"""What a snapshot costs a run: the same steps with and without one being taken and written meanwhile, in turns in one process.

    python bench/snapshots.py --model resnet18 --rounds 9

The extra seconds of a block with a snapshot, over the seconds between two snapshots of a default run, are the part of a run that snapshots
take. A second number is what the keeper itself counts: the copy between two steps and the processor time of the writing thread.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from provenet.data.loader import Loader
from provenet.data.sources import open_data
from provenet.data.squares import open_squares
from provenet.metrics import Evaluation
from provenet.models.catalog import build_network
from provenet.runs.session import SNAPSHOT_SECONDS
from provenet.runtime import count_cores, place, prepare_process, seeded
from provenet.training.loop import accumulate_gradients
from provenet.training.losses import make_loss
from provenet.training.settings import TrainingSettings
from provenet.training.snapshot import STEPS_OF_COST, SnapshotFolder, SnapshotKeeper
from provenet.training.state import Best, TrainingState, copy_weights


def main() -> None:
    """Take turns, print both numbers with their spread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet18")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--block-seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    prepare_process()

    images = open_data("fashion-mini").splits["train"]
    with seeded(0):
        net = build_network(options.model, num_classes=10, in_channels=1)
    spec = net.input_spec.preprocessing.with_channels(1)
    preprocessing = spec if net.has_sized_layers else type(spec)(**{**spec.to_dict(), "size": options.size, "resize": options.size})
    place(net, torch.device("cpu"))
    squares, _ = open_squares(images.pictures, preprocessing, num_threads=count_cores())
    loader = Loader(squares, images.labels, preprocessing, batch_size=options.batch_size)
    settings = TrainingSettings(epochs=1000, batch_size=options.batch_size, peak_learning_rate=0.01)
    state = TrainingState(net, settings, num_images=len(images))
    state.best = Best(Evaluation(1, 0.0, 0.0, 0.0, []), copy_weights(net))
    batches = loader.training_batches(0, state.num_steps)
    loss_function = make_loss(settings)

    def steps(number: int) -> float:
        started = time.perf_counter()
        for _ in range(number):
            part, labels = next(batches)
            accumulate_gradients(net, part, labels, loss_function, settings)
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
            state.step += 1
        return time.perf_counter() - started

    net.train()
    steps(3)
    number = max(1, round(options.block_seconds / (steps(5) / 5)))
    with tempfile.TemporaryDirectory() as folder:
        keeper = SnapshotKeeper(SnapshotFolder(Path(folder) / "snapshot"), seconds_between=0, on_trouble=print)
        extra, counted, written = [], [], []
        for _ in range(options.rounds):
            without = steps(number)
            before, started = keeper.seconds_of_work, time.perf_counter()
            keeper.take(state.capture)
            steps(number)
            took = time.perf_counter() - started
            keeper.wait()
            written.append(time.perf_counter() - started)
            extra.append(took - without)
            counted.append(keeper.seconds_of_work - before)
        size = keeper.folder.list()[-1].stat().st_size
    interval = max(SNAPSHOT_SECONDS, STEPS_OF_COST * statistics.median(counted))
    block = f"{number} steps a block of {statistics.median(written):.1f} s"
    print(f"{options.model}: {size / 1e6:.0f} MB a snapshot, {block}, {options.rounds} rounds")
    for name, seconds in (("measured: a block with less one without", extra), ("counted: copy and writing thread", counted)):
        median = statistics.median(seconds)
        spread = f"{min(seconds):.3f} to {max(seconds):.3f}"
        print(f"  {name:42} median {median:6.3f} s ({spread}): {median / interval:.2%} of a run with one every {interval:.0f} s")


if __name__ == "__main__":
    main()
