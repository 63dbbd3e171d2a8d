"""Whether memory stays flat over an epoch of 100,000 photographs: the peak within each tenth of it.

    python bench/memory.py [--photographs FOLDER] [--quick]

200 photographs of 500x375, each under 500 places of the index, are read by the training loader: random crops, two threads, batches of 64.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

from photographs import describe_photographs, photographs
from provenet.data.distortion import Distortion
from provenet.data.index import ImageSet
from provenet.data.loader import Loader
from provenet.data.pictures import PictureFiles
from provenet.preprocessing import IMAGENET_PREPROCESSING
from provenet.runtime import prepare_process
from turns import print_setting, print_table

COUNT, WIDTH, HEIGHT = 200, 500, 375
REPEATS, QUICK_REPEATS, BATCH_SIZE, NUM_THREADS = 500, 20, 64, 2
TENTHS = 10
LARGEST_GROWTH = 0.02  # of the peak of the second tenth; the first fills the allocator's blocks
DISTORTION = Distortion(crop="area", area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), mirror=True)


def main() -> None:
    """Read one epoch, print the curve, end with an error where it rises."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, help=f"folder of JPEGs of {WIDTH}x{HEIGHT}")
    parser.add_argument(
        "--quick", action="store_true", help="a shorter epoch, in which the allocator is still filling its blocks: nothing is asserted"
    )
    options = parser.parse_args()
    prepare_process()
    repeats = QUICK_REPEATS if options.quick else REPEATS
    with photographs(options.photographs, count=COUNT, width=WIDTH, height=HEIGHT) as paths:
        names = [os.fspath(path.resolve())[1:] for path in paths] * repeats
        print_setting(f"Memory: {describe_photographs(paths)}, an epoch of {len(names):,}, batches of {BATCH_SIZE}, {NUM_THREADS} threads")
        images = ImageSet("photographs", ("one",), np.zeros(len(names), np.int64), PictureFiles(Path("/"), names))
        loader = Loader.of(images, IMAGENET_PREPROCESSING, batch_size=BATCH_SIZE, num_threads=NUM_THREADS, distortion=DISTORTION)
        steps = len(names) // BATCH_SIZE
        rows: list[list[str]] = []
        peaks: list[float] = []
        seen, started = 0, time.perf_counter()
        forget_peak()
        for step, batch in enumerate(loader.training_batches(0, steps), start=1):
            seen += len(batch.images)
            if step * TENTHS // steps > len(peaks):
                now, peak = read_memory()
                forget_peak()
                peaks.append(peak)
                rows.append([f"{len(peaks) / TENTHS:.0%}", f"{seen:,}", f"{now:.1f}", f"{peak:.1f}"])
        took = time.perf_counter() - started
    print_table(["of the epoch", "images", "resident now, MB", "peak within the tenth, MB"], rows)
    growth = peaks[-1] / peaks[1] - 1
    print(f"{seen:,} images in {took:.0f} s; from the second tenth to the last the peak grew by {growth:.2%}.")
    assert options.quick or growth <= LARGEST_GROWTH, f"expected at most {LARGEST_GROWTH:.0%}, found {growth:.2%}"


def read_memory() -> tuple[float, float]:
    """Resident now, and at most since the peak was forgotten, in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    now, peak = (1024 * int(fields[name].split()[0]) / 1e6 for name in ("VmRSS", "VmHWM"))
    return now, peak


def forget_peak() -> None:
    """The peak counts from now on; see clear_refs in the kernel's proc documentation."""
    Path("/proc/self/clear_refs").write_text("5")


if __name__ == "__main__":
    main()
