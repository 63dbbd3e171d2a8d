"""Squares, windows and batches: every road to the same pixels gives the same bytes."""

import gc
import itertools
import threading
from itertools import islice

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import take
from provenet.data.distortion import Distortion
from provenet.data.loader import Loader
from provenet.data.order import permutation
from provenet.data.pictures import PixelArray
from provenet.data.sources import open_data
from provenet.data.squares import SquaresInMemory, SquaresOnDisk, open_squares
from provenet.data.threads import in_order
from provenet.errors import ImageError, SettingsError
from provenet.preprocessing import Preprocessing, window

GREY = Preprocessing(size=28, resize=28, channels=1, mean=(0.3,), std=(0.4,))
DISTORTION = Distortion(shift_pixels=2, mirror=True)


def numbered(num_pictures=40, side=28):
    """Pictures that tell their number in every pixel."""
    pixels = np.broadcast_to(np.arange(num_pictures, dtype=np.uint8)[:, None, None], (num_pictures, side, side))
    return PixelArray(pixels.copy(), "numbered"), np.arange(num_pictures) % 4


def test_windows_by_hand():
    square = torch.arange(16, dtype=torch.uint8).view(1, 4, 4, 1)
    assert window(square, 2)[0, ..., 0].tolist() == [[5, 6], [9, 10]]
    assert window(square, 6)[0, ..., 0].tolist() == [[0] * 6, *[[0, *row, 0] for row in square[0, ..., 0].tolist()], [0] * 6]
    one, no, yes = torch.tensor([1]), torch.tensor([False]), torch.tensor([True])
    assert window(square, 2, rows=one, columns=-one, mirrored=no)[0, ..., 0].tolist() == [[8, 9], [12, 13]]
    assert window(square, 2, rows=one, columns=-one, mirrored=yes)[0, ..., 0].tolist() == [[9, 8], [13, 12]]
    assert window(square, 4, rows=2 * one, columns=0 * one, mirrored=no)[0, ..., 0].tolist() == [
        [8, 9, 10, 11],
        [12, 13, 14, 15],
        [0] * 4,
        [0] * 4,
    ]


@pytest.mark.parametrize("size", [5, 6, 7, 8, 9, 12, 13])
@pytest.mark.parametrize("side", [8, 9])
def test_a_move_by_nothing_is_no_move(size, side):
    squares = torch.randint(0, 256, (5, side, side, 3), dtype=torch.uint8)
    still, nobody = torch.zeros(5, dtype=torch.int64), torch.zeros(5, dtype=torch.bool)
    assert torch.equal(window(squares, size, rows=still, columns=still, mirrored=nobody), window(squares, size))
    moved = torch.tensor([3, -3, 0, 1, -1])
    plain = window(squares, size, rows=moved, columns=moved, mirrored=nobody)
    assert torch.equal(window(squares, size, rows=moved, columns=moved, mirrored=~nobody), plain.flip(2))


def test_normalisation_by_hand():
    preprocessing = Preprocessing(size=1, resize=1, channels=3, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0), channel_order="RGB")
    pixel = torch.tensor([255, 0, 51], dtype=torch.uint8).view(1, 1, 1, 3)
    torch.testing.assert_close(preprocessing.normalise(pixel).flatten(), torch.tensor([1.0, -1.0, 0.2]))
    caffe = Preprocessing(size=1, resize=1, channels=3, mean=(104, 117, 123), std=(1, 1, 1), white=255, channel_order="BGR")
    torch.testing.assert_close(caffe.normalise(pixel).flatten(), torch.tensor([51.0 - 104, -117, 255 - 123]))


@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_in_memory_and_from_disk_are_the_same_bytes(class_folders, ending):
    images = open_data(class_folders(per_class=30, ending=ending)).splits["all"]
    preprocessing = Preprocessing(size=20, resize=24, channels=3, mean=(0.3,) * 3, std=(0.4,) * 3)
    squares = {}
    for limit in (0, 2**31):
        opened, broken = open_squares(images.pictures, preprocessing, num_threads=2, largest_in_memory_bytes=limit)
        assert not broken
        loader = Loader(opened, images.labels, preprocessing, batch_size=16, seed=5, distortion=DISTORTION)
        squares[limit] = [*loader.training_batches(0, 12), *loader.evaluation_batches()]
        assert isinstance(opened, SquaresOnDisk if limit == 0 else SquaresInMemory)
    assert len(squares[0]) == 12 + 6
    for one, other in zip(*squares.values(), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize("num_threads", [0, 1, 8])
def test_threads_do_not_change_what_is_seen(class_folders, num_threads):
    images = open_data(class_folders(per_class=20)).splits["all"]
    squares = SquaresOnDisk(images.pictures, GREY, np.zeros(len(images), np.uint64), num_threads=num_threads)
    loader = Loader(squares, images.labels, GREY, batch_size=7, seed=1, distortion=DISTORTION)
    reference = Loader(
        open_squares(images.pictures, GREY, num_threads=2)[0], images.labels, GREY, batch_size=7, seed=1, distortion=DISTORTION
    )
    pairs = zip(
        loader.training_batches(0, 20),
        reference.training_batches(0, 20),
        strict=True,
    )
    assert all(torch.equal(a.images, b.images) for a, b in pairs)


def test_starting_in_the_middle_is_the_same_as_coming_there():
    pictures, labels = numbered()
    loader = Loader(open_squares(pictures, GREY, num_threads=2)[0], labels, GREY, batch_size=16, seed=3, distortion=DISTORTION)
    whole = list(loader.training_batches(0, 9))
    rest = list(loader.training_batches(6, 9))
    for one, other in zip(whole[6:], rest, strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


def test_batches_follow_the_order_and_carry_their_labels():
    pictures, labels = numbered()
    plain = Preprocessing(size=28, resize=28, channels=1, mean=(0.0,), std=(1 / 255,))
    loader = Loader(open_squares(pictures, plain, num_threads=1)[0], labels, plain, batch_size=10, seed=4)
    seen = [batch.images[:, 0, 14, 14].round().long() for batch in loader.training_batches(0, 8)]
    assert torch.cat(seen).tolist() == [*permutation(40, 4, 0), *permutation(40, 4, 1)]
    batch = next(loader.training_batches(3, 4))
    assert (batch.images[:, 0, 0, 0].round().long() % 4).tolist() == batch.labels.tolist()


def test_evaluation_sees_every_picture_once_in_order():
    pictures, labels = numbered(num_pictures=37)
    loader = Loader(open_squares(pictures, GREY, num_threads=1)[0], labels, GREY, batch_size=16)
    batches = list(loader.evaluation_batches())
    assert [len(batch.labels) for batch in batches] == [16, 16, 5]
    assert torch.cat([batch.labels for batch in batches]).tolist() == labels.tolist()


def test_distortion_is_drawn_for_the_sample_and_the_epoch():
    epochs, positions = np.zeros(2_000, np.int64), np.arange(2_000)
    moves = DISTORTION.moves(7, epochs, positions)
    assert sorted(moves.rows.unique().tolist()) == sorted(moves.columns.unique().tolist()) == [-2, -1, 0, 1, 2]
    assert 0.45 < moves.mirrored.float().mean() < 0.55
    later = DISTORTION.moves(7, epochs + 1, positions)
    assert (moves.rows == later.rows).float().mean() < 0.3
    some = DISTORTION.moves(7, epochs[500:600], positions[500:600])
    assert torch.equal(some.columns, moves.columns[500:600])
    assert Distortion().moves(7, epochs, positions) is None
    with pytest.raises(SettingsError, match="0 to 512 pixels, found -1"):
        Distortion(shift_pixels=-1)


def test_every_broken_picture_is_found_at_the_start(class_folders):
    folder = class_folders(per_class=10)
    (folder / "Trouser" / "zz.jpg").touch()
    (folder / "Pullover" / "aa.png").write_text("no picture")
    images = open_data(folder).splits["all"]
    for limit in (0, 2**31):
        _, broken = open_squares(images.pictures, GREY, num_threads=2, largest_in_memory_bytes=limit)
        assert len(broken) == 2
        assert sorted(images.pictures.where(index).rsplit("/", 1)[1] for index in broken) == ["aa.png", "zz.jpg"]


def test_errors_that_are_kept_hold_no_pictures(class_folders):
    folder = class_folders(per_class=10)
    for path in folder.glob("Trouser/*.png"):
        path.write_bytes(path.read_bytes()[:-100])
    images = open_data(folder).splits["all"]
    before = sum(issubclass(type(each), Image.Image) for each in gc.get_objects())
    _, broken = open_squares(images.pictures, GREY, num_threads=2)
    loader = Loader.of(images, GREY, batch_size=5, skip_broken=True)
    list(islice(loader, 6))
    kept = [*broken.values(), *loader.squares.broken.values()]
    assert len(kept) == 20
    assert {(error.kind, error.__cause__, error.__context__) for error in kept} == {("damaged", None, None)}
    gc.collect()
    assert sum(issubclass(type(each), Image.Image) for each in gc.get_objects()) <= before


@pytest.mark.parametrize("num_threads", [1, 3])
def test_work_ahead_is_bounded_and_in_order(num_threads):
    begun, most = [], 0

    def work(job):
        begun.append(job)
        return -job

    with in_order(work, iter(range(50)), num_threads, most_ahead=7) as results:
        for taken, result in enumerate(results):
            assert result == -taken
            most = max(most, len(begun) - taken)
    assert 1 < most <= 8
    with in_order(work, itertools.count(), num_threads, most_ahead=7) as results:
        next(results)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]  # though it was endless


def test_colour_nets_see_grey_pictures_and_grey_nets_colour(mini):
    images = take(mini["train"], per_class=3, classes=2)
    colour = Preprocessing(size=28, resize=28, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    three = next(open_squares(images.pictures, colour, num_threads=1)[0].batches(iter([np.arange(6)]))).pixels
    one = next(open_squares(images.pictures, GREY, num_threads=1)[0].batches(iter([np.arange(6)]))).pixels
    assert torch.equal(three, one.expand(-1, -1, -1, 3))


def test_a_picture_that_goes_while_it_is_read_is_named(class_folders):
    folder = class_folders(per_class=10)
    images = open_data(folder).splits["all"]
    squares, broken = open_squares(images.pictures, GREY, num_threads=2, largest_in_memory_bytes=0)
    assert not broken
    (folder / "Trouser" / sorted(path.name for path in (folder / "Trouser").iterdir())[3]).unlink()
    batches = Loader(squares, images.labels, GREY, batch_size=5).training_batches(0, 12)
    with pytest.raises(ImageError, match=r"Trouser.*expected an image, found nothing readable \(No such file or directory\)"):
        list(batches)
