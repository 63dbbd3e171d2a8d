"""CIFAR-10 and CIFAR-100 in their authors' binary version -> index.

Format (https://www.cs.toronto.edu/~kriz/cifar.html): records of one byte of label, of CIFAR-100 one of the coarse and one of the fine
label, then 1,024 bytes each of red, green and blue, row by row. Krizhevsky, "Learning multiple layers of features from tiny images", 2009.
The version for Python is a pickle, which runs what is in it, and is never opened.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from provenet.data.index import DataSet, ImageSet
from provenet.data.pictures import PixelArray
from provenet.errors import DataError, is_plain_text, show_path

SIDE_PIXELS = 32
PIXEL_BYTES = 3 * SIDE_PIXELS * SIDE_PIXELS
LARGEST_BYTES = 2**30
LARGEST_NAMES_BYTES = 2**16
ADDRESS = "https://www.cs.toronto.edu/~kriz/cifar.html"


class Layout(NamedTuple):
    """What one of the two consists of."""

    name: str
    folder: str
    """As its archive calls it."""
    splits: dict[str, tuple[str, ...]]
    labels: tuple[int, ...]
    """How many classes each label byte of a record counts; the last one is the class."""
    names_files: tuple[str, ...]
    """With the class names, one a line; the first is read."""
    classes: tuple[str, ...]
    python_folder: str
    python_files: tuple[str, ...]

    @property
    def record_bytes(self) -> int:
        """Of one picture with its labels."""
        return len(self.labels) + PIXEL_BYTES

    @property
    def files(self) -> tuple[str, ...]:
        """Those with pictures."""
        return tuple(name for names in self.splits.values() for name in names)


CIFAR10 = Layout(
    name="cifar10",
    folder="cifar-10-batches-bin",
    splits={"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)},
    labels=(10,),
    names_files=("batches.meta.txt",),
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    python_folder="cifar-10-batches-py",
    python_files=("batches.meta", "data_batch_1", "test_batch"),
)
FINE_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar cattle
chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house
kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange
orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal
shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100 = Layout(
    name="cifar100",
    folder="cifar-100-binary",
    splits={"train": ("train.bin",), "test": ("test.bin",)},
    labels=(20, 100),
    names_files=("fine_label_names.txt", "coarse_label_names.txt"),
    classes=tuple(FINE_CLASSES.split()),
    python_folder="cifar-100-python",
    python_files=("meta", "train", "test"),
)
LAYOUTS = (CIFAR10, CIFAR100)


def find_cifar(folder: Path) -> tuple[Path, Layout] | None:
    """Where the files are, in `folder` or in one below it that is called as in the archive. Raises DataError for the pickles."""
    for layout in LAYOUTS:
        if _is_there(folder, layout):
            return folder, layout
    below = [(folder / layout.folder, layout) for layout in LAYOUTS if _is_there(folder / layout.folder, layout)]
    if len(below) > 1:
        both = " and ".join(place.name for place, _ in below)
        raise DataError(f"{show_path(folder)}: expected CIFAR-10 or CIFAR-100, found {both}; point at one of them")
    if below:
        return below[0]
    for layout in LAYOUTS:
        for place in (folder, folder / layout.python_folder):
            if all((place / name).is_file() for name in layout.python_files):
                raise DataError(
                    f"{show_path(place)}: expected the binary version of CIFAR, found the one for Python (pickles, which run code); "
                    f"fetch the binary version: {ADDRESS}"
                )
    return None


def read_cifar(folder: Path, layout: Layout, name: str) -> DataSet:
    """The splits `train` and `test`: pixels uint8 [N, 32, 32, 3], of CIFAR-100 the fine labels."""
    missing = [file for file in layout.files if not (folder / file).is_file()]
    if missing:
        raise DataError(f"{show_path(folder)}: expected {', '.join(missing)} beside the other files, found none; unpack the archive again")
    classes = _read_names(folder / layout.names_files[0], layout)
    return DataSet(name, {split: _read_split(folder, files, layout, f"{name}/{split}", classes) for split, files in layout.splits.items()})


def _is_there(folder: Path, layout: Layout) -> bool:
    """Whether some of its files are; of the plain names of CIFAR-100, which others use too, two."""
    there = sum((folder / name).is_file() for name in (*layout.files, *layout.names_files))
    return there >= 2 or (there == 1 and layout is CIFAR10)


def _read_split(folder: Path, files: tuple[str, ...], layout: Layout, name: str, classes: tuple[str, ...]) -> ImageSet:
    paths = [folder / file for file in files]
    counts = [_count_records(path, layout) for path in paths]
    pixels = np.empty((sum(counts), SIDE_PIXELS, SIDE_PIXELS, 3), dtype=np.uint8)
    labels = np.empty(sum(counts), dtype=np.int64)
    start = 0
    for path, records in _read_records(paths, counts, layout):
        for place, limit in enumerate(layout.labels):
            wrong = np.flatnonzero(records[:, place] >= limit)
            if len(wrong):
                found = f"found {records[wrong[0], place]} in picture {wrong[0]:,}"
                raise DataError(f"{show_path(path)}: expected labels below {limit}, {found}; unpack the archive again")
        end = start + len(records)
        labels[start:end] = records[:, len(layout.labels) - 1]
        planes = records[:, len(layout.labels) :].reshape(-1, 3, SIDE_PIXELS, SIDE_PIXELS)
        pixels[start:end] = planes.transpose(0, 2, 3, 1)
        start = end
    return ImageSet(name, classes, labels, PixelArray(pixels, name))


def _count_records(path: Path, layout: Layout) -> int:
    """From the file's size alone, before anything takes memory."""
    size = path.stat().st_size
    if not size or size % layout.record_bytes or size > LARGEST_BYTES:
        expected = f"records of {layout.record_bytes:,} bytes, {LARGEST_BYTES:,} bytes at most"
        raise DataError(f"{show_path(path)}: expected {expected}, found {size:,} bytes; it is cut off or another: unpack the archive again")
    return size // layout.record_bytes


def _read_records(paths: list[Path], counts: list[int], layout: Layout) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    """Each file with its records, uint8 [N, bytes]; one file at a time is in memory."""
    for path, count in zip(paths, counts, strict=True):
        try:
            content = np.fromfile(path, dtype=np.uint8, count=count * layout.record_bytes)
        except OSError as error:
            raise DataError(f"{show_path(path)}: expected a readable file, found: {error}; check its permissions") from error
        if len(content) != count * layout.record_bytes:
            raise DataError(f"{show_path(path)}: expected {count:,} pictures, found the file shorter than before; unpack the archive again")
        yield path, content.reshape(count, layout.record_bytes)


def _read_names(path: Path, layout: Layout) -> tuple[str, ...]:
    """The class names beside the data, else the known ones."""
    if not path.is_file():
        return layout.classes
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST_NAMES_BYTES)
    except (OSError, ValueError) as error:
        raise DataError(f"{show_path(path)}: expected class names, found: {error}; remove it, the names are known") from error
    names = tuple(name for line in text.splitlines() if (name := line.strip()))
    num_classes = layout.labels[-1]
    if len(names) != num_classes or len(set(names)) != num_classes or not all(map(is_plain_text, names)):
        found = f"found {len(names)}, {len(set(names))} of them different"
        raise DataError(f"{show_path(path)}: expected {num_classes} class names, one a line, {found}; remove it, the names are known")
    return names
