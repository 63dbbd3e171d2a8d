"""What it costs to open tar shards: reading a tar for the first time, its offset file afterwards, and the memory of both.

python bench/shard_index.py [PICTURES]
"""

import io
import resource
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from provenet.data.offsets import open_index
from provenet.data.shards import ShardPictures
from provenet.data.sources import open_data

ROUNDS = 5


def main(num_pictures: int = 1_000_000) -> None:
    """Print the seconds of each, the bytes an image, and how fast pictures are read from the tar."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tar"
        write_shard(path, num_pictures)
        started = time.perf_counter()
        open_index(path, "a.tar")
        gigabytes, seconds_first = path.stat().st_size / 1e9, time.perf_counter() - started
        print(f"{num_pictures:,} pictures, {gigabytes:.2f} GB: read for the first time in {seconds_first:.1f} s")
        offsets_bytes = path.with_name("a.tar.offsets").stat().st_size
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        seconds = []
        for _ in range(ROUNDS):
            started = time.perf_counter()
            open_index(path, "a.tar")
            seconds.append(time.perf_counter() - started)
        print(f"again in {1e3 * statistics.median(seconds):.0f} ms ({1e3 * min(seconds):.0f} to {1e3 * max(seconds):.0f}, {ROUNDS} rounds)")
        images = open_data(path).splits["all"]
        grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
        print(f"{offsets_bytes / num_pictures:.0f} bytes a picture on disk, {max(0, grown) / num_pictures:.0f} more in memory at the peak")
        assert isinstance(images.pictures, ShardPictures)
        chosen = np.random.default_rng(0).integers(0, len(images), 20_000)
        started = time.perf_counter()
        for index in chosen:
            images.pictures.content(int(index))
        print(f"{len(chosen) / (time.perf_counter() - started):,.0f} pictures/s read at random from the page cache")


def write_shard(path: Path, num_pictures: int) -> None:
    """One small picture, again and again."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "PNG")
    content = out.getvalue()
    with path.open("wb") as file:
        for number in range(num_pictures):
            for ending, inside in (("png", content), ("cls", str(number % 1000).encode())):
                info = tarfile.TarInfo(f"{number:08d}.{ending}")
                info.size = len(inside)
                file.write(info.tobuf(tarfile.USTAR_FORMAT) + inside + bytes(-len(inside) % 512))
        file.write(bytes(1024))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
