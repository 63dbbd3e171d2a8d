"""What several tests need: real pictures as files, small sets, and a trained network."""

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from provenet.checkup.checkup import Checkup
from provenet.data.index import ImageSet
from provenet.data.pictures import PixelArray
from provenet.data.sources import open_data
from provenet.runs.check import check_data
from provenet.runs.session import Run
from provenet.runs.train import train

collect_ignore = ["peers"]  # they import other implementations, which only `make peers` installs


@pytest.fixture(scope="session", autouse=True)
def two_threads() -> None:
    """Numbers are compared to the bit within a run; the same threads throughout."""
    torch.set_num_threads(2)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is kept from run to run is the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROVENET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def mini() -> dict[str, ImageSet]:
    """The embedded pictures: train (6,000) and test (1,000)."""
    return open_data("fashion-mini").splits


def take(images: ImageSet, per_class: int, classes: int = 10) -> ImageSet:
    """The first few pictures of the first few classes."""
    chosen = [np.flatnonzero(images.labels == k)[:per_class] for k in range(classes)]
    selected = images.select(np.concatenate(chosen))
    return ImageSet(selected.name, selected.classes[:classes], selected.labels, selected.pictures)


def write_class_folders(root: Path, images: ImageSet, ending: str = ".png") -> None:
    """One folder a class, one file a picture."""
    assert isinstance(images.pictures, PixelArray)
    for index, label in enumerate(images.labels):
        folder = root / images.classes[label].replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        images.pictures.picture(index).save(folder / f"{index:05}{ending}")


def photo(path: Path, seed: int, size: tuple[int, int] = (40, 40)) -> Path:
    """A picture like no other, in whatever format the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def fill(folder: Path, count: int, first_seed: int = 0) -> list[Path]:
    """`count` different pictures in a class folder."""
    return [photo(folder / f"{number:03}.png", first_seed + number) for number in range(count)]


def build_flowers(root: Path, train: int = 22, val: int = 3, test: int = 2) -> Path:
    """Two classes in three splits, nothing wrong with them."""
    for number, label in enumerate(("daisy", "tulip")):
        for offset, (split, count) in enumerate({"train": train, "val": val, "test": test}.items()):
            fill(root / split / label, count, first_seed=1_000 * number + 100 * offset)
    return root


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., Checkup]:
    """Look at pictures before training; sheets and page go to tmp_path / "out"."""
    return lambda data, **options: check_data(data, output=tmp_path / "out", **options)


@pytest.fixture
def class_folders(tmp_path: Path, mini: dict[str, ImageSet]) -> Callable[..., Path]:
    """Make a folder of real pictures: class_folders(per_class=.., classes=.., split='train')."""

    def make(name: str = "pictures", per_class: int = 6, classes: int = 3, split: str = "train", ending: str = ".png") -> Path:
        write_class_folders(tmp_path / name, take(mini[split], per_class, classes), ending)
        return tmp_path / name

    return make


@pytest.fixture
def make_disk() -> Iterator[Callable[[str], Path]]:
    """Mount a real file system of so many bytes: make_disk("400k").

    It lives outside of pytest's own folder: a test that is killed leaves the mount, and pytest cannot clean up what is mounted.
    """
    disk = Path(tempfile.mkdtemp(prefix="provenet-disk-"))

    def make(size: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", disk]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small file system is not allowed here")
        return disk

    yield make
    if disk.is_mount():
        subprocess.run(["umount", disk], check=True)
    disk.rmdir()


@pytest.fixture
def small_disk(make_disk: Callable[[str], Path]) -> Path:
    """A real file system of 400 kB."""
    return make_disk("400k")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The remake of LeNet-5, two epochs on the embedded pictures."""
    return train("fashion-mini", "lenet5_softmax", output=tmp_path_factory.mktemp("runs") / "trained", epochs=2, precision="float32")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A real web server of a folder -> the folder and its address."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()
