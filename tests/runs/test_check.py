"""Two roads that must agree: what a checkup says of training, and what training does. Twenty folders, each changed in one way."""

import shutil

import pytest

from conftest import build_flowers, photo
from provenet.errors import DataError
from provenet.runs.train import train


def spoil_nothing(root):
    pass


def spoil_one(root):
    (root / "train" / "tulip" / "000.png").write_bytes(b"")


def spoil_a_class(root):
    for path in (root / "train" / "tulip").iterdir():
        path.write_bytes(b"")


def spoil_a_class_of_val(root):
    for path in (root / "val" / "tulip").iterdir():
        path.write_bytes(b"")


def spoil_val(root):
    for path in (root / "val").glob("*/*"):
        path.write_bytes(b"")


def spoil_test(root):
    for path in (root / "test").glob("*/*"):
        path.write_bytes(b"")


def empty_a_class(root):
    shutil.rmtree(root / "train" / "tulip")
    (root / "train" / "tulip").mkdir()


def empty_a_class_of_val(root):
    shutil.rmtree(root / "val" / "tulip")
    (root / "val" / "tulip").mkdir()


def empty_val(root):
    shutil.rmtree(root / "val")
    (root / "val" / "tulip").mkdir(parents=True)


def leave_val_without_classes(root):
    shutil.rmtree(root / "val")
    (root / "val").mkdir()


def leave_test_without_classes(root):
    shutil.rmtree(root / "test")
    photo(root / "test" / "1.png", 1)


def leave_one_class(root):
    for split in ("train", "val", "test"):
        shutil.rmtree(root / split / "tulip")


def add_a_class_to_test(root):
    photo(root / "test" / "rose" / "1.png", 1)


def add_an_empty_class_to_test(root):
    (root / "test" / "rose").mkdir()


def rename_train(root):
    (root / "train").rename(root / "testing")
    shutil.rmtree(root / "test")


def name_val_twice(root):
    shutil.copytree(root / "val", root / "valid")


def keep_one_picture_of_each(root):
    for split in ("val", "test"):
        shutil.rmtree(root / split)
    for label in ("daisy", "tulip"):
        for path in sorted((root / "train" / label).iterdir())[1:]:
            path.unlink()


def keep_one_picture_of_one(root):
    shutil.rmtree(root / "val")
    for path in sorted((root / "train" / "tulip").iterdir())[1:]:
        path.unlink()


def name_a_class_badly(root):
    (root / "train" / "tulip").rename(root / "train" / "tu\x07lip")


def leak(root):
    shutil.copy(root / "train" / "daisy" / "000.png", root / "val" / "daisy" / "a.png")


CHANGES = [
    spoil_nothing, spoil_one, spoil_a_class, spoil_a_class_of_val, spoil_val, spoil_test, empty_a_class, empty_a_class_of_val, empty_val,
    leave_val_without_classes, leave_test_without_classes, leave_one_class, add_a_class_to_test, add_an_empty_class_to_test, rename_train,
    name_val_twice, keep_one_picture_of_each, keep_one_picture_of_one, name_a_class_badly, leak,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_the_verdict_is_what_training_does(tmp_path, check, change):
    root = build_flowers(tmp_path / "flowers", train=4)
    change(root)

    def trains(skip_broken):
        try:
            train(root, "lenet5_softmax", output=tmp_path / f"run-{skip_broken}", epochs=0.01, skip_broken=skip_broken, precision="float32")
        except DataError:
            return False
        return True

    checkup = check(root)
    assert checkup.can_train == trains(skip_broken=False)
    assert checkup.can_train_without_broken == (checkup.can_train or trains(skip_broken=True))
    if not checkup.can_train:
        assert checkup.problems
