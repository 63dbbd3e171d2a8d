"""How well `provenet check` finds pictures that are nearly the same, and how often it takes different ones for such.

    python bench/near_duplicates.py PHOTOGRAPHS [--side 160] [--count 200]

Every photograph in the folder is cut into square tiles that do not overlap; `count` of them, evenly spread, are the originals. Each is
changed (JPEG of quality 60, resized to 90 %, mirrored, and all together), and the originals with one changed copy of each go through
`find_alike`. Found: the pair of an original and its own copy. Wrong: any other pair. Then the originals alone, and Fashion-MNIST, whose
pictures are below the smallest size that is compared, with that limit lifted; and the time of 100,000 pictures.
"""

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from provenet.checkup import alike
from provenet.checkup.alike import Alike, find_alike
from provenet.checkup.examine import Look, hash_pixels
from provenet.checkup.sketch import SKETCH_BYTES, sketch
from provenet.data.pictures import PixelArray
from provenet.data.sources import open_data


def cut(folder: Path, side: int, count: int) -> list[Image.Image]:
    """Square tiles of all photographs, in the order of their names, rows and columns."""
    tiles = []
    for path in sorted(folder.iterdir()):
        with Image.open(path) as opened:
            photograph = opened.convert("RGB")
        for top in range(0, photograph.height - side + 1, side):
            tiles += [photograph.crop((left, top, left + side, top + side)) for left in range(0, photograph.width - side + 1, side)]
    return [tiles[place] for place in np.unique(np.linspace(0, len(tiles) - 1, min(count, len(tiles))).astype(int))]


def compress(picture: Image.Image) -> Image.Image:
    """Through JPEG of quality 60."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


def reduce(picture: Image.Image) -> Image.Image:
    """To 90 % of each side."""
    return picture.resize((round(picture.width * 0.9), round(picture.height * 0.9)), Image.Resampling.BICUBIC)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG, quality 60": compress,
    "resized to 90 %": reduce,
    "mirrored": ImageOps.mirror,
    "all three": lambda picture: compress(reduce(ImageOps.mirror(picture))),
}


def look_at(picture: Image.Image, path: str, split: str) -> Look:
    """What a checkup keeps of a picture to compare it."""
    return Look(path, split, "a", None, picture.width, picture.height, digest=hash_pixels(picture), sketch=sketch(picture))


def tell(name: str, found: Alike, expected: int) -> None:
    """One line: pairs found and wrong, of all and among those called almost sure."""
    right = [pair for pair in found.pairs if pair.one.path == pair.other.path]
    wrong = [pair for pair in found.pairs if pair.one.path != pair.other.path]
    precision = f"{len(right) / max(1, len(found.pairs)):.1%}" if expected else "-"
    recall = f"{len(right) / expected:.1%}" if expected else "-"
    sure = sum(pair.is_sure for pair in right), sum(pair.is_sure for pair in wrong)
    print(f"{name:22} found {len(right):5}  wrong {len(wrong):4}  recall {recall:>6}  precision {precision:>6}  "
          f"almost surely: {sure[0]} right, {sure[1]} wrong  (compared {found.num_compared:,}, plain {found.num_plain})")  # fmt: skip


def main() -> None:
    """Print the whole of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--side", type=int, default=160)
    parser.add_argument("--count", type=int, default=200)
    options = parser.parse_args()
    tiles = cut(options.photographs, options.side, options.count)
    print(f"{len(tiles)} tiles of {options.side}x{options.side} pixels")
    originals = [look_at(tile, str(number), "train") for number, tile in enumerate(tiles)]
    tell("originals alone", find_alike(originals), 0)
    for name, change in CHANGES.items():
        copies = [look_at(change(tile), str(number), "test") for number, tile in enumerate(tiles)]
        tell(name, find_alike(originals + copies), len(tiles))

    fashion = open_data("fashion-mnist").splits["train"].pictures
    assert isinstance(fashion, PixelArray)
    looks = [look_at(fashion.rgb(index), str(index), "train") for index in range(10_000)]
    alike.SMALLEST_SIDE_PIXELS = 1
    found = find_alike(looks)
    pictures = {look.path for pair in found.pairs for look in (pair.one, pair.other)}
    print(f"Fashion-MNIST, 10,000 pictures, the limit lifted: {len(found.pairs):,} pairs of {len(pictures):,} pictures, "
          f"{sum(pair.is_sure for pair in found.pairs):,} almost surely")  # fmt: skip

    for number in (10_000, 100_000):
        random = np.random.default_rng(0)
        waves = np.cumsum(random.normal(0, 1, (number, SKETCH_BYTES)), axis=1)
        levels = np.clip(128 + 12 * (waves - waves.mean(1, keepdims=True)), 0, 255).astype(np.uint8)
        many = [
            Look(str(row), "train", "a", None, 200, 200, digest=row.to_bytes(4, "big"), sketch=levels[row].tobytes())
            for row in range(number)
        ]
        start = time.perf_counter()
        pairs = find_alike(many).pairs
        print(f"{number:,} made-up sketches: {time.perf_counter() - start:.1f} s, {len(pairs):,} pairs")


if __name__ == "__main__":
    main()
