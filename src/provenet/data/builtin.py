"""Data sets known by name: `fashion-mini`, which is inside the package, and published ones, found on disk or fetched.

Fashion-MNIST: Xiao, Rasul, Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning algorithms", 2017;
MIT licence. `fashion-mini` is the first 600 training and the first 100 test pictures of each class, in their original order.
MNIST: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998. CIFAR: see `data.cifar`.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from provenet.data.cifar import CIFAR10, CIFAR100, LARGEST_NAMES_BYTES, Layout, read_cifar
from provenet.data.fetch import NOT_FETCHED, PublishedFile, cache_folder, fetch, unpack
from provenet.data.idx import find_idx, read_idx_split
from provenet.data.index import DataSet
from provenet.errors import DataError, show_path
from provenet.progress import Progress

FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
EMBEDDED = Path(__file__).parent / "samples" / "fashion-mini"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
LARGEST_BATCH_BYTES = 200_000_000  # of CIFAR, unpacked; the largest has 153,700,000


class PublishedSet(NamedTuple):
    """A data set that can be fetched. `PROVENET_NAME` in the environment names another address (http:// or file://) of its files."""

    name: str
    address: str
    files: tuple[PublishedFile, ...]
    """With the checksums that the authors publish, or for MNIST, whose own page is gone, its mirrors."""

    def fetch(self, folder: Path, elsewhere: str, progress: Progress | None) -> None:
        """Every file into `folder`; `elsewhere` says how else people get them."""
        address = os.environ.get(f"PROVENET_{self.name.upper().replace('-', '_')}", self.address).rstrip("/")
        for file in self.files:
            try:
                fetch(f"{address}/{file.name}", folder / file.name, file, progress)
            except DataError as error:
                if error.kind != NOT_FETCHED:
                    raise
                raise DataError(f"{self.name}: {elsewhere}, found it in neither, and {error}; {self._advice(folder)}") from error

    def _advice(self, folder: Path) -> str:
        package = "install Debian's package dataset-fashion-mnist, or " if self is FASHION_MNIST else ""
        files = "the four files" if len(self.files) == 4 else self.files[0].name
        return f"{package}put {files} into {show_path(folder)}"


FASHION_FILES = (
    PublishedFile("train-images-idx3-ubyte.gz", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 40_000_000),
    PublishedFile("train-labels-idx1-ubyte.gz", "25c81989df183df01b3e8a0aad5dffbe", 100_000),
    PublishedFile("t10k-images-idx3-ubyte.gz", "bef4ecab320f06d8554ea6380940ec79", 10_000_000),
    PublishedFile("t10k-labels-idx1-ubyte.gz", "bb300cfdad3c16e7a12a480ee83cd310", 100_000),
)
FASHION_MNIST = PublishedSet("fashion-mnist", "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com", FASHION_FILES)
MNIST = PublishedSet(
    "mnist",
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    (
        PublishedFile("train-images-idx3-ubyte.gz", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 40_000_000),
        PublishedFile("train-labels-idx1-ubyte.gz", "d53e105ee54ea40749a09fcbcd1e9432", 100_000),
        PublishedFile("t10k-images-idx3-ubyte.gz", "9fb629c4189551a2d022fa330f9573f3", 10_000_000),
        PublishedFile("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c", 100_000),
    ),
)
CIFAR_ADDRESS = "https://www.cs.toronto.edu/~kriz"
CIFAR_SETS = {
    "cifar10": PublishedSet(
        "cifar10", CIFAR_ADDRESS, (PublishedFile("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", 200_000_000),)
    ),
    "cifar100": PublishedSet(
        "cifar100", CIFAR_ADDRESS, (PublishedFile("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", 200_000_000),)
    ),
}


def read_fashion_mini(progress: Progress | None = None) -> DataSet:
    """6,000 training and 1,000 test pictures, from inside the package."""
    del progress
    return read_idx_folder("fashion-mini", EMBEDDED, FASHION_CLASSES, can_mirror=True)


def read_fashion_mnist(progress: Progress | None = None) -> DataSet:
    """60,000 training and 10,000 test pictures: from Debian's package, the cache folder, or the authors' address."""
    return read_published_idx(FASHION_MNIST, (DEBIAN_FOLDER,), FASHION_CLASSES, can_mirror=True, progress=progress)


def read_mnist(progress: Progress | None = None) -> DataSet:
    """60,000 training and 10,000 test pictures of digits: from the cache folder, or fetched."""
    return read_published_idx(MNIST, (), None, can_mirror=False, progress=progress)


def read_cifar10(progress: Progress | None = None) -> DataSet:
    """50,000 training and 10,000 test pictures of 10 classes, as `read_cifar100`."""
    return read_published_cifar(CIFAR10, progress)


def read_cifar100(progress: Progress | None = None) -> DataSet:
    """50,000 training and 10,000 test pictures of 100 classes: from the cache folder, or the authors' archive."""
    return read_published_cifar(CIFAR100, progress)


BUILTIN: dict[str, Callable[[Progress | None], DataSet]] = {
    "fashion-mini": read_fashion_mini,
    "fashion-mnist": read_fashion_mnist,
    "mnist": read_mnist,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
}


def read_idx_folder(name: str, folder: Path, classes: tuple[str, ...] | None = None, *, can_mirror: bool = False) -> DataSet:
    """The splits of an MNIST-like folder. Digits and letters must not be mirrored; only sets known to be fit for it are."""
    splits = {split: read_idx_split(f"{name}/{split}", *paths, classes) for split, paths in find_idx(folder).items()}
    if "train" in splits and "test" in splits and classes is None:
        longest = max(splits.values(), key=lambda images: len(images.classes)).classes
        splits = {split: images.with_classes(longest) for split, images in splits.items()}
    return DataSet(name, splits, can_mirror=can_mirror)


def read_published_idx(
    published: PublishedSet, folders: tuple[Path, ...], classes: tuple[str, ...] | None, *, can_mirror: bool, progress: Progress | None
) -> DataSet:
    """A set of four IDX files: from one of `folders`, the cache folder, or fetched."""
    cached = cache_folder() / published.name
    for folder in (*folders, cached):
        if len(find_idx(folder)) == 2:
            return read_idx_folder(published.name, folder, classes, can_mirror=can_mirror)
    published.fetch(cached, f"expected it in {' or '.join(map(show_path, (*folders, cached)))}", progress)
    return read_idx_folder(published.name, cached, classes, can_mirror=can_mirror)


def read_published_cifar(layout: Layout, progress: Progress | None) -> DataSet:
    """One of the two: from the cache folder, or fetched and unpacked there; the archive is not kept."""
    folder, published = cache_folder() / layout.folder, CIFAR_SETS[layout.name]
    if not folder.is_dir():
        published.fetch(cache_folder(), f"expected it in {show_path(folder)} or in its archive beside that", progress)
        archive = cache_folder() / published.files[0].name
        members = dict.fromkeys(layout.files, LARGEST_BATCH_BYTES) | dict.fromkeys(layout.names_files, LARGEST_NAMES_BYTES)
        unpack(archive, folder, {f"{layout.folder}/{name}": size for name, size in members.items()})
        archive.unlink()
    return read_cifar(folder, layout, layout.name)
