"""Decoding in a process of its own: the same batches, and nothing left behind when either of the two dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from conftest import take as choose
from conftest import write_class_folders
from provenet.data.distortion import Distortion
from provenet.data.loader import Loader
from provenet.data.sources import open_data
from provenet.errors import DataError, ImageError
from provenet.preprocessing import Preprocessing

COLOUR = Preprocessing(size=24, resize=28, channels=3, mean=(0.3,) * 3, std=(0.2,) * 3)
AREA = Distortion(crop="area", area=(0.1, 1.0), mirror=True, cutmix=1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, mini):
    folder = tmp_path_factory.mktemp("data") / "data"
    write_class_folders(folder, choose(mini["train"], 12, 3), ".jpg")
    return folder


def batches(folder, distortion, count, *, is_beside, **options):
    loader = Loader.of(open_data(folder).splits["all"], COLOUR, batch_size=8, seed=1, num_threads=2, distortion=distortion, **options)
    loader.is_beside = is_beside
    stream = loader.training_batches(0, count)
    return loader, stream


@pytest.mark.parametrize("distortion", [AREA, Distortion(shift_pixels=2)])
def test_the_same_batches(folder, distortion):
    _, here = batches(folder, distortion, 9, is_beside=False)
    _, beside = batches(folder, distortion, 9, is_beside=True)
    pairs = list(zip(here, beside, strict=True))
    assert len(pairs) == 9
    assert all(torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels) for one, other in pairs)


def test_a_broken_picture(tmp_path, folder):
    path = sorted(folder.glob("*/*.jpg"))[5]
    content = path.read_bytes()
    path.write_bytes(content[:100])
    try:
        _, stream = batches(folder, AREA, 5, is_beside=True)
        with pytest.raises(ImageError, match=rf"{path.name}: expected an image, found a damaged one") as caught:
            list(stream)
        assert caught.value.kind == "damaged"
        loader, stream = batches(folder, AREA, 5, is_beside=True, skip_broken=True)
        assert len(list(stream)) == 5
        assert list(loader.squares.broken) == [5]
    finally:
        path.write_bytes(content)


def decoders(parent=None):
    """Process numbers of our children that decode."""
    parent = parent or os.getpid()
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [int(child) for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


def test_when_the_decoding_process_dies(folder):
    _, stream = batches(folder, AREA, 100, is_beside=True)
    next(stream)
    (child,) = decoders()
    os.kill(child, signal.SIGKILL)
    with pytest.raises(DataError, match="found it gone"):
        list(stream)
    assert not decoders()


def test_when_enough_is_read(folder):
    _, stream = batches(folder, AREA, 100, is_beside=True)
    next(stream)
    assert decoders()
    stream.close()
    assert not decoders()


SCRIPT = """
import sys, time
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from test_beside import AREA, batches
if __name__ == "__main__":
    _, stream = batches(Path(sys.argv[3]), AREA, 10_000, is_beside=True)
    next(stream)
    print("ready", flush=True)
    time.sleep(60)
"""


def test_when_the_trainer_dies(folder, tmp_path, pytestconfig):
    script = tmp_path / "trainer.py"
    script.write_text(SCRIPT)
    tests = pytestconfig.rootpath / "tests"
    with subprocess.Popen([sys.executable, script, tests, tests / "data", folder], stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout.readline() == "ready\n"
        (child,) = decoders(trainer.pid)
        trainer.kill()
    deadline = time.monotonic() + 20
    while is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(child)


def is_alive(process):
    """Whether it runs; one that ended and that nobody asked about does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
