"""Finding the pictures of a folder of 200 class folders and 200,000 files, beside a plain walk as ImageFolder does it.

    python bench/index.py [--quick]

First start: nothing is known of the folder; second start: what the first one kept may be used (in PROVENET_CACHE, a new folder each
round). The baseline walks and sorts each time. All files and folders are in the page cache. Then the memory that an index takes, in fresh
processes.
"""

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from provenet.data.index import DataSet
from provenet.data.paths import Paths
from provenet.data.sources import open_data
from turns import divide, print_setting, print_table, show_number, show_spread, take_turns

ROUNDS = 9
FILES, QUICK_FILES, CLASSES = 200_000, 20_000, 200
MOST_LINKS = 30_000  # to one file; file systems allow 32,000 and more
SECONDS_OF_REST = 3  # a folder changed just now is not trusted by what was kept
MANY_FILES = 1_000_000
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
MEMORY_SCRIPT = """
import gc, json, sys
sys.path.insert(0, sys.argv[2])
import index  # everything is imported before
before = index.private_bytes()
found = index.walk(sys.argv[3]) if sys.argv[1] == "walk" else index.open_data(sys.argv[3])
gc.collect()
print(json.dumps(index.private_bytes() - before))
"""


def main() -> None:
    """Write the folder, check that both find the same, take turns, print times and memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few rounds of fewer files")
    quick = parser.parse_args().quick
    files, rounds = (QUICK_FILES, 2) if quick else (FILES, ROUNDS)
    with tempfile.TemporaryDirectory() as temporary:
        root, caches = Path(temporary) / "pictures", Path(temporary) / "caches"
        _write_folder(root, files)
        time.sleep(SECONDS_OF_REST)
        print_setting(f"Index: {files:,} files in {CLASSES} class folders")
        _check(open_data(root), walk(root), root)

        def theirs() -> float:
            return _seconds(lambda: walk(root))

        def first() -> float:
            os.environ["PROVENET_CACHE"] = tempfile.mkdtemp(dir=caches)
            return _seconds(lambda: open_data(root))

        def second() -> float:
            return _seconds(lambda: open_data(root))

        caches.mkdir()
        found = take_turns({"walk": theirs, "first": first, "second": second}, rounds)
        seconds_of_walk = found["walk"]
        rows = [
            [f"D5: {name} start", show_spread(found[name]), show_spread(seconds_of_walk), f"**{show_spread(ratios)}**", str(rounds), goal]
            for name, goal in (("first", "1.5, 2.5"), ("second", "20, 100"))
            for ratios in [divide(seconds_of_walk, found[name])]
        ]
        print_table(["", "ours, s", "walk and sort, s", "times faster", "rounds", "floor, target"], rows)
        _check(open_data(root), walk(root), root)  # what was kept is right too
        _print_memory(root, files)


def walk(root: str | Path) -> list[tuple[str, int]]:
    """Path and class number of each file with a picture's ending: folders and names sorted, as ImageFolder reads them."""
    items = []
    for number, class_name in enumerate(sorted(entry.name for entry in os.scandir(root) if entry.is_dir())):
        for folder, _, names in sorted(os.walk(os.path.join(root, class_name), followlinks=True)):
            for name in sorted(names):
                path = os.path.join(folder, name)
                if path.lower().endswith(EXTENSIONS):
                    items.append((path, number))
    return items


def private_bytes() -> int:
    """Memory that is this process's alone."""
    with open("/proc/self/smaps_rollup") as lines:
        return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("Private_Clean", "Private_Dirty")))


def _write_folder(root: Path, files: int) -> None:
    """Small JPEGs; many names share a file, so that they are written fast."""
    root.mkdir()
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8))
    origin = root.parent / "picture.jpg"
    for number in range(files):
        if number % MOST_LINKS == 0:
            origin = root.parent / f"picture{number}.jpg"
            picture.save(origin)
        folder = root / f"class{number % CLASSES:03}"
        if number < CLASSES:
            folder.mkdir()
        os.link(origin, folder / f"picture{number:07}.jpg")


def _check(data: DataSet, items: list[tuple[str, int]], root: Path) -> None:
    images = data.splits["all"]
    found = [os.fspath(images.pictures.file(index) or "") for index in range(len(images))]
    assert found == [path for path, _ in items]
    assert images.labels.tolist() == [number for _, number in items]
    print(
        f"Checked: the same {len(items):,} files in the same order, of the same classes, below {len(os.listdir(root))} folders.\n",
        flush=True,
    )


def _seconds(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    found = work()
    took = time.perf_counter() - started
    del found  # freed after the clock has stopped
    return took


def _print_memory(root: Path, files: int) -> None:
    def bytes_a_file(side: str) -> float:
        command = [sys.executable, "-c", MEMORY_SCRIPT, side, str(Path(__file__).resolve().parent), os.fspath(root)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(json.loads(done.stdout)) / files

    ours, theirs = bytes_a_file("open_data"), bytes_a_file("walk")
    names = [f"class{number % 1000:04}/picture{number:07}.jpg" for number in range(MANY_FILES)]
    paths = Paths.of(names)
    arrays = paths.text.nbytes + paths.ends.nbytes + (0 if paths.rows is None else paths.rows.nbytes) + 8 * MANY_FILES  # 8 for a label
    objects = sum(map(sys.getsizeof, names)) + (8 + sys.getsizeof((None, None)) + 8) * MANY_FILES  # list, pair and its place of the path
    rows = [
        [f"a process, after {files:,} files", show_number(ours), show_number(theirs)],
        [f"the index of {MANY_FILES:,} files, counted", show_number(arrays / MANY_FILES), show_number(objects / MANY_FILES)],
    ]
    print_table(["memory, bytes a file", "ours", "list of pairs"], rows)


if __name__ == "__main__":
    main()
