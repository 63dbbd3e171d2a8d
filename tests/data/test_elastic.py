"""The sequence of global batches is the same for any number of threads and processes, and after any restart: to the bit."""

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from conftest import take as choose
from conftest import write_class_folders
from provenet.data.distortion import Distortion
from provenet.data.loader import Loader, Share
from provenet.data.sources import open_data
from provenet.data.squares import open_squares
from provenet.errors import SettingsError
from provenet.preprocessing import Preprocessing

COLOUR = Preprocessing(size=24, resize=28, channels=3, mean=(0.3, 0.4, 0.5), std=(0.2, 0.3, 0.4))
EVERYTHING = {
    "mirror": True,
    "rotation_degrees": 10.0,
    "shear_degrees": 5.0,
    "warp_pixels": 2.0,
    "brightness": 0.3,
    "contrast": 0.3,
    "saturation": 0.3,
    "hue_degrees": 20.0,
    "pca_colour": 0.1,
    "noise": 0.05,
    "erase": 0.5,
    "mixup": 0.2,
    "cutmix": 1.0,
}
DISTORTIONS = {
    "window": Distortion(shift_pixels=3, mirror=True),
    "area": Distortion(crop="area", area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), mirror=True),
    "scale": Distortion(crop="scale", short_sides=(24, 40), mirror=True, cutmix=1.0),
    "everything": Distortion(crop="area", area=(0.3, 1.0), **EVERYTHING),
}
STEPS = range(5, 12)  # over the end of the first pass
BATCH_SIZE = 8


@pytest.fixture(scope="module")
def images(tmp_path_factory, mini):
    folder = tmp_path_factory.mktemp("data") / "data"
    write_class_folders(folder, choose(mini["train"], 25, 3), ".jpg")
    return open_data(folder).splits["all"]


def make_loader(images, distortion, *, num_threads=2, share=None, seed=3):
    return Loader.of(
        images, COLOUR, batch_size=BATCH_SIZE, num_threads=num_threads, share=share, seed=seed, distortion=DISTORTIONS[distortion]
    )


def take(loader, count):
    batches = iter(loader)
    found = [next(batches) for _ in range(count)]
    batches.close()
    return found


@pytest.fixture(scope="module")
def uninterrupted(images):
    """Distortion -> the global batches of STEPS, by one process without threads."""
    return {name: take(make_loader(images, name, num_threads=0), STEPS.stop)[STEPS.start :] for name in DISTORTIONS}


@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("num_threads", [0, 1, 2, 8])
@pytest.mark.parametrize("is_resumed", [False, True])
@pytest.mark.parametrize("distortion", DISTORTIONS)
def test_the_same_batches(images, uninterrupted, distortion, is_resumed, num_threads, num_processes):
    parts = []
    for rank in range(num_processes):
        loader = make_loader(images, distortion, num_threads=num_threads, share=Share(rank, num_processes))
        if is_resumed:
            before = make_loader(images, distortion, num_threads=1, share=Share(1, 4))  # on another machine, of another size
            take(before, STEPS.start)
            loader.load_state_dict(json.loads(json.dumps(before.state_dict())))
            parts.append(take(loader, len(STEPS)))
        else:
            parts.append(take(loader, STEPS.stop)[STEPS.start :])
        assert loader.next_step == STEPS.stop
    for expected, *shares in zip(uninterrupted[distortion], *parts, strict=True):
        assert torch.equal(torch.cat([share.images for share in shares]), expected.images)
        assert torch.equal(torch.cat([share.labels for share in shares]), expected.labels)


def test_batches_differ_from_each_other_and_with_the_seed(images, uninterrupted):
    assert len({digest(batch) for batches in uninterrupted.values() for batch in batches}) == len(DISTORTIONS) * len(STEPS)
    other = take(make_loader(images, "area", seed=4), 6)[5]
    assert not torch.equal(other.images, uninterrupted["area"][0].images)


def test_more_processes_than_pictures_in_a_batch(images):
    shares = [take(make_loader(images, "everything", share=Share(rank, 11)), 1)[0] for rank in range(11)]
    assert sorted({len(share.labels) for share in shares}) == [0, 1]
    whole = take(make_loader(images, "everything"), 1)[0]
    assert torch.equal(torch.cat([share.images for share in shares]), whole.images)


def test_a_state_is_a_few_bytes_and_of_its_own_sequence(images):
    loader = make_loader(images, "area")
    state = loader.state_dict()
    assert len(json.dumps(state)) < 100
    for name, value, message in (
        ("seed", 4, "expected seed = 3, as this loader has, found 4"),
        ("num_samples", 7, "expected num_samples = 75"),
        ("batch_size", None, "expected batch_size = 8, as this loader has, found None"),
        ("next_step", -1, "expected a step of 0 or more in next_step, found -1"),
        ("next_step", "5", "expected a step of 0 or more in next_step, found '5'"),
    ):
        with pytest.raises(SettingsError, match=message):
            loader.load_state_dict(state | {name: value})
    with pytest.raises(SettingsError, match="expected a rank of 0 to 1, found 2"):
        Share(2, 2)


@pytest.mark.parametrize("num_processes", [1, 2, 3, 7])
def test_evaluation_sees_every_picture_once_on_any_number_of_processes(images, num_processes):
    """In the same batches, so that logits are the same to the bit too."""
    squares, _ = open_squares(images.pictures, COLOUR, num_threads=2)
    numbers = np.arange(len(images))
    whole = {digest(batch) for batch in Loader(squares, numbers, COLOUR, batch_size=8).evaluation_batches()}
    shares = [
        list(Loader(squares, numbers, COLOUR, batch_size=8, share=Share(rank, num_processes)).evaluation_batches())
        for rank in range(num_processes)
    ]
    seen = [int(label) for batches in shares for batch in batches for label in batch.labels]
    assert sorted(seen) == numbers.tolist()
    assert {digest(batch) for batches in shares for batch in batches} == whole


def test_a_broken_picture_has_the_same_replacement_everywhere(class_folders):
    folder = class_folders(per_class=25, ending=".jpg")
    names = sorted(folder.glob("*/*.jpg"))
    for number in (0, 1, 40, 74):  # two in a row, and the last
        names[number].write_bytes(names[number].read_bytes()[:200])
    broken = open_data(folder).splits["all"]
    seen = []
    for num_threads, num_processes in ((0, 1), (8, 1), (2, 3)):
        loaders = [
            Loader.of(
                broken,
                COLOUR,
                batch_size=8,
                num_threads=num_threads,
                share=Share(rank, num_processes),
                skip_broken=True,
                distortion=DISTORTIONS["everything"],
            )
            for rank in range(num_processes)
        ]
        batches = [take(loader, 11) for loader in loaders]
        seen.append([torch.cat([share.images for share in shares]) for shares in zip(*batches, strict=True)])
        assert {number for loader in loaders for number in loader.squares.broken} == {0, 1, 40, 74}
    for others in seen[1:]:
        assert all(torch.equal(one, other) for one, other in zip(seen[0], others, strict=True))
    with pytest.raises(Exception, match="expected an image, found a damaged one"):
        take(Loader.of(broken, COLOUR, batch_size=8, distortion=DISTORTIONS["area"]), 10)


def digest(batch):
    return hashlib.sha256(batch.images.contiguous().numpy().tobytes() + batch.labels.numpy().tobytes()).hexdigest()


SCRIPT = """
import json, sys
import torch
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
from provenet.data.loader import Share
from provenet.data.sources import open_data
from test_elastic import COLOUR, make_loader, take
folder, rank, num_processes, threads = sys.argv[2], *map(int, sys.argv[3:])
torch.set_num_threads(threads)
loader = make_loader(open_data(folder).splits["all"], "everything", num_threads=threads, share=Share(rank, num_processes))
loader.load_state_dict(loader.state_dict() | {"next_step": 5})
print(json.dumps([[batch.images.double().sum((1, 2, 3)).tolist(), batch.images.flatten(1)[:, ::97].tolist()] for batch in take(loader, 7)]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("num_processes", [2, 3])
def test_real_processes(images, uninterrupted, num_processes, pytestconfig):
    """Each by itself, with a number of threads of its own, for torch too."""
    folder = str(images.pictures.root)
    words = [[sys.executable, "-c", SCRIPT, str(pytestconfig.rootpath / "tests/data"), folder, str(rank), str(num_processes), str(rank + 1)]
             for rank in range(num_processes)]  # fmt: skip
    running = [subprocess.Popen(each, stdout=subprocess.PIPE, text=True) for each in words]
    told = [process.communicate(timeout=120)[0] for process in running]
    shares = [json.loads(printed) for printed in told]
    for number, expected in enumerate(uninterrupted["everything"]):
        images_ = [row for share in shares for row in share[number][1]]
        assert images_ == expected.images.flatten(1)[:, ::97].tolist()
