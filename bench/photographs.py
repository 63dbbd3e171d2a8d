"""Real photographs for the benchmarks: the samples that scikit-image and scikit-learn carry, cut and encoded again as JPEG.

Smooth made-up pictures decode far too fast. Both libraries are in the environment of `make peers`; a folder that already has them needs
neither. To write one: python bench/photographs.py FOLDER --count 600 --width 500 --height 375
"""

import argparse
import contextlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = {
    "skimage": ("data/astronaut.png", "data/coffee.png", "data/chelsea.png", "data/rocket.jpg", "data/motorcycle_left.png", "data/ihc.png"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
}
QUALITY = 90


def find_samples() -> list[Path]:
    """The photographs' files. Ends the program where the libraries are not installed."""
    found = []
    for package, names in SAMPLES.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.origin:
            sys.exit(f"{package}: expected it installed for its photographs, found none; use the environment of `make peers`")
        found += [Path(spec.origin).parent / name for name in names]
    return found


def write_photographs(folder: Path, *, count: int, width: int, height: int, classes: int = 4, seed: int = 0) -> list[Path]:
    """`count` JPEGs (quality 90, 4:2:0) of that size in class folders: random cuts of the samples, large ones pieced together."""
    numbers = np.random.default_rng(seed)
    samples = [Image.open(path).convert("RGB") for path in find_samples()]
    paths = []
    for number in range(count):
        picture = Image.new("RGB", (width, height))
        for top in range(0, height, 375):
            for left in range(0, width, 500):
                picture.paste(_cut(samples[numbers.integers(len(samples))], numbers), (left, top))
        path = folder / f"class{number % classes}" / f"photo{number:06}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path, quality=QUALITY, subsampling="4:2:0")
        paths.append(path)
    return paths


@contextlib.contextmanager
def photographs(folder: Path | None, *, count: int, width: int, height: int) -> Iterator[list[Path]]:
    """The JPEGs below `folder`, sorted, at most `count`; written first where there are none. Without a folder, into one that is deleted."""
    with tempfile.TemporaryDirectory() as temporary:
        place = folder or Path(temporary)
        found = sorted(place.rglob("*.jpg")) or sorted(write_photographs(place, count=count, width=width, height=height))
        yield found[:count]


def describe_photographs(paths: list[Path]) -> str:
    """How many, how large, how densely encoded."""
    with Image.open(paths[0]) as opened:
        width, height = opened.size
    mean_bytes = sum(path.stat().st_size for path in paths) / len(paths)
    return f"{len(paths)} photographs of {width}x{height}, {mean_bytes / 1e3:,.0f} KB, {mean_bytes / width / height:.2f} bytes a pixel"


def _cut(sample: Image.Image, numbers: np.random.Generator) -> Image.Image:
    """A 4:3 part of it, 500x375 pixels, mostly about as sharp as it was."""
    side = min(sample.width / 4, sample.height / 3)
    scale = numbers.uniform(0.75, 1)
    width, height = int(4 * side * scale), int(3 * side * scale)
    left, top = numbers.integers(0, sample.width - width + 1), numbers.integers(0, sample.height - height + 1)
    return sample.resize((500, 375), Image.Resampling.LANCZOS, box=(int(left), int(top), int(left) + width, int(top) + height))


def main() -> None:
    """Write some into a folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=600)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--height", type=int, default=375)
    options = parser.parse_args()
    print(describe_photographs(write_photographs(options.folder, count=options.count, width=options.width, height=options.height)))


if __name__ == "__main__":
    main()
