"""Real photographs for the benchmarks: the samples that scikit-image and scikit-learn carry, cut and encoded again as JPEG.

Smooth made-up pictures decode far too fast. Both libraries are in the environment of `make peers`.
"""

import importlib.util
import sys
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


def _cut(sample: Image.Image, numbers: np.random.Generator) -> Image.Image:
    """A 4:3 part of it, 500x375 pixels, mostly about as sharp as it was."""
    side = min(sample.width / 4, sample.height / 3)
    scale = numbers.uniform(0.75, 1)
    width, height = int(4 * side * scale), int(3 * side * scale)
    left, top = numbers.integers(0, sample.width - width + 1), numbers.integers(0, sample.height - height + 1)
    return sample.resize((500, 375), Image.Resampling.LANCZOS, box=(int(left), int(top), int(left) + width, int(top) + height))
