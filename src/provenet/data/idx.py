"""The IDX format of MNIST and its successors: a magic number, the dimensions, then the bytes; plain or gzipped.

Format: two zero bytes, the type (8 = unsigned byte), the number of dimensions, each dimension as a big-endian 32-bit number, the data.
"""

import gzip
import struct
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from provenet.data.index import ImageSet
from provenet.data.pictures import PixelArray
from provenet.errors import DataError, show_path

LARGEST_BYTES = 2**30
LARGEST_SIDE_PIXELS = 1_024
UNSIGNED_BYTE = 8
NAMES = {"train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"), "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")}
"""Images and labels of each split, as every set of this family calls them; `.gz` may follow."""


def read_idx(path: Path, num_dimensions: int, num_items: int | None = None) -> NDArray[np.uint8]:
    """The array in an IDX file of unsigned bytes, of `num_items` items where that is known.

    Raises DataError where the file is not exactly what its header says, before it takes memory.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            return _read(cast("BinaryIO", file), show_path(path), num_dimensions, num_items)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{show_path(path)}: expected an IDX file, found: {error}; delete it and fetch it again") from error


def find_idx(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Split -> image and label files of that split in `folder`; only splits with both."""
    found = {}
    for split, names in NAMES.items():
        paths = [next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None) for name in names]
        if paths[0] and paths[1]:
            found[split] = (paths[0], paths[1])
    return found


def find_lonely(folder: Path) -> str | None:
    """The name of a file that is missing beside its twin in an MNIST-like folder, if one is."""
    for names in NAMES.values():
        there = [any((folder / f"{name}{ending}").is_file() for ending in ("", ".gz")) for name in names]
        if any(there) and not all(there):
            return names[there.index(False)]
    return None


def read_idx_split(name: str, image_path: Path, label_path: Path, classes: tuple[str, ...] | None) -> ImageSet:
    """One split; without `classes` they are called by their numbers."""
    labels = read_idx(label_path, 1)
    if not len(labels):
        raise DataError(f"{show_path(label_path)}: expected labels, found none; delete it and fetch it again")
    pixels = read_idx(image_path, 3, num_items=len(labels))
    classes = classes or tuple(str(number) for number in range(int(labels.max()) + 1))
    if labels.max() >= len(classes):
        raise DataError(
            f"{show_path(label_path)}: expected labels below {len(classes)}, found {labels.max()}; delete it and fetch it again"
        )
    return ImageSet(name, classes, labels.astype(np.int64), PixelArray(pixels, name))


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """The inverse of `read_idx`, gzipped, the same bytes each time."""
    header = struct.pack(f">HBB{array.ndim}I", 0, UNSIGNED_BYTE, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))


def _read(file: BinaryIO, name: str, num_dimensions: int, num_items: int | None) -> NDArray[np.uint8]:
    header = file.read(4 + 4 * num_dimensions)
    if len(header) < 4 + 4 * num_dimensions:
        raise DataError(
            f"{name}: expected an IDX header of {4 + 4 * num_dimensions} bytes, found {len(header)}; delete it and fetch it again"
        )
    zeros, kind, found_dimensions, *shape = struct.unpack(f">HBB{num_dimensions}I", header)
    if (zeros, kind, found_dimensions) != (0, UNSIGNED_BYTE, num_dimensions):
        raise DataError(
            f"{name}: expected IDX bytes of {num_dimensions} dimensions (00 00 08 {num_dimensions:02x}), found {header[:4].hex(' ')}"
        )
    if num_items is not None and shape[0] != num_items:
        raise DataError(f"{name}: expected {num_items:,} images, one a label, found {shape[0]:,}; delete both files and fetch them again")
    if not all(1 <= side <= LARGEST_SIDE_PIXELS for side in shape[1:]):
        raise DataError(f"{name}: expected images of 1 to {LARGEST_SIDE_PIXELS} pixels a side, found {shape[1]}x{shape[2]}; fetch others")
    size = int(np.prod(shape, dtype=object))
    if size > LARGEST_BYTES:
        raise DataError(f"{name}: expected at most {LARGEST_BYTES:,} bytes, found a header that promises {size:,}")
    data = bytearray()
    while len(data) <= size and (chunk := file.read(min(2**24, size + 1 - len(data)))):  # a false header never allocates
        data += chunk
    if len(data) != size:
        found = "more" if len(data) > size else f"{len(data):,}"
        raise DataError(
            f"{name}: expected {size:,} bytes as its header says {shape}, found {found}; "
            "it is cut off or damaged: delete it and fetch it again"
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
