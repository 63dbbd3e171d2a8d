"""Data sets known by name: `fashion-mini`, which is inside the package, and `fashion-mnist`, found on disk or fetched.

Fashion-MNIST: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms", 2017;
MIT licence. `fashion-mini` is the first 600 training and the first 100 test pictures of each class, in their original order.
"""

import hashlib
import http.client
import os
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from provenet.data.idx import find_idx, read_idx_split
from provenet.data.index import DataSet
from provenet.errors import DataError, show_path

FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
EMBEDDED = Path(__file__).parent / "samples" / "fashion-mini"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
ADDRESS = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com"


class PublishedFile(NamedTuple):
    """One file as its authors publish it."""

    name: str
    md5: str
    largest_bytes: int


# Names, addresses and checksums as the data set's own README prints them.
FASHION_FILES = (
    PublishedFile("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 40_000_000),
    PublishedFile("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", 100_000),
    PublishedFile("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", 10_000_000),
    PublishedFile("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", 100_000),
)

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much is done and how much there is."""


def cache_folder() -> Path:
    """Where fetched files are kept: `PROVENET_CACHE`, else the system's cache folder."""
    chosen = os.environ.get("PROVENET_CACHE")
    if chosen:
        return Path(os.path.expanduser(chosen))
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "provenet"


def read_fashion_mini(progress: Progress | None = None) -> DataSet:
    """6,000 training and 1,000 test pictures, from inside the package."""
    del progress
    return read_idx_folder("fashion-mini", EMBEDDED, FASHION_CLASSES)


def read_fashion_mnist(progress: Progress | None = None) -> DataSet:
    """60,000 training and 10,000 test pictures: from Debian's package, the cache folder, or the authors' address.

    `PROVENET_FASHION_MNIST` names another address (http:// or file://) that has the same files.
    """
    cached = cache_folder() / "fashion-mnist"
    for folder in (DEBIAN_FOLDER, cached):
        if len(find_idx(folder)) == 2:
            return read_idx_folder("fashion-mnist", folder, FASHION_CLASSES)
    address = os.environ.get("PROVENET_FASHION_MNIST", ADDRESS).rstrip("/")
    for file in FASHION_FILES:
        fetch(f"{address}/{file.name}", cached / file.name, file, progress)
    return read_idx_folder("fashion-mnist", cached, FASHION_CLASSES)


BUILTIN: dict[str, Callable[[Progress | None], DataSet]] = {"fashion-mini": read_fashion_mini, "fashion-mnist": read_fashion_mnist}


def read_idx_folder(name: str, folder: Path, classes: tuple[str, ...] | None = None) -> DataSet:
    """The splits of an MNIST-like folder. Digits and letters must not be mirrored; only sets known to be fit for it are."""
    splits = {split: read_idx_split(f"{name}/{split}", *paths, classes) for split, paths in find_idx(folder).items()}
    if "train" in splits and "test" in splits and classes is None:
        longest = max(splits.values(), key=lambda images: len(images.classes)).classes
        splits = {split: images.with_classes(longest) for split, images in splits.items()}
    return DataSet(name, splits, can_mirror=classes == FASHION_CLASSES)


def fetch(address: str, path: Path, file: PublishedFile, progress: Progress | None = None) -> None:
    """Fetch one file to `path`, which appears only when it is whole and its checksum is the published one."""
    if path.is_file():
        return
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    digest = hashlib.md5(usedforsecurity=False)  # what the authors publish
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(address, timeout=30) as response, part.open("wb") as out:
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while chunk := response.read(2**18):
                done += len(chunk)
                if done > file.largest_bytes:
                    raise DataError(f"{address}: expected at most {file.largest_bytes:,} bytes, found more; this is not {file.name}")
                digest.update(chunk)
                out.write(chunk)
                if progress:
                    progress(f"fetching {file.name}", done, total)
        if digest.hexdigest() != file.md5:
            raise DataError(
                f"{address}: expected the published MD5 {file.md5}, found {digest.hexdigest()}; try again or use another address"
            )
        part.replace(path)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DataError(
            f"fashion-mnist: expected it in {DEBIAN_FOLDER} or {show_path(path.parent)}, found it in neither, "
            f"and {address} could not be fetched ({error}); install Debian's package dataset-fashion-mnist, "
            f"or put the four files into {show_path(path.parent)}"
        ) from error
    finally:
        part.unlink(missing_ok=True)
