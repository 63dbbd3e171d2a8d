"""A large folder is read once: what is kept of it is the same set, and is not believed when anything has changed."""

import os
import shutil
import time

import numpy as np
import pytest

from provenet.data import folder as folder_module
from provenet.data import remembered
from provenet.data.fetch import cache_folder
from provenet.data.folder import read_folder
from provenet.data.index import CLASS_FOLDERS
from provenet.errors import DataError

LONG_AGO_NS = 1_500_000_000 * 10**9


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "FEWEST_PICTURES", 20)
    monkeypatch.setattr(remembered, "RESTLESS_SECONDS", 0.05)
    return tmp_path / "cache" / "indexes"


@pytest.fixture
def data(tmp_path, cache):
    """Two splits, a name that is no text, an emoji, a folder in a class, hidden files, other files, a link."""
    root = tmp_path / "flowers"
    for split, count in (("train", 12), ("val", 4)):
        for label in ("daisy", "tulip ü"):
            (root / split / label / "more").mkdir(parents=True)
            for number in range(count):
                (root / split / label / f"{number:02}.JPG").touch()
    (root / "train/daisy/more/\N{TULIP}.png").touch()
    (root / "train/daisy/.hidden.jpg").touch()
    (root / "train/daisy/notes.txt").touch()
    (root / "train/daisy/again").symlink_to(root / "train/daisy")
    with open(os.fsencode(root / "train/daisy") + b"/\xff.jpg", "wb"):
        pass
    time.sleep(0.15)
    return root


def facts(data):
    return (
        data.name,
        data.ignored,
        {
            split: (images.name, images.classes, images.labels.tolist(), list(images.pictures.paths), images.pictures.root)
            for split, images in data.splits.items()
        },
    )


@pytest.fixture
def listed(monkeypatch):
    """How many folders were listed."""
    calls = []
    scan = os.scandir
    monkeypatch.setattr(folder_module.os, "scandir", lambda path: calls.append(path) or scan(path))
    return calls


def test_the_second_time_nothing_is_listed_and_all_is_the_same(data, cache, listed):
    first = read_folder(data)
    assert listed
    assert len(list(cache.iterdir())) == 1
    listed.clear()
    second = read_folder(data)
    assert not listed
    assert facts(second) == facts(first)
    assert second.wording == first.wording == CLASS_FOLDERS
    assert len(second.splits["train"]) == 26
    assert second.splits["train"].select(np.array([3, 1])).pictures.paths[1] == first.splits["train"].pictures.paths[1]


def put_another_in_place(root):
    shutil.copytree(root / "val", root / "new")
    shutil.rmtree(root / "val")
    (root / "new").rename(root / "val")


CHANGES = {
    "one more": lambda root: (root / "val/daisy/new.jpg").touch(),
    "one less": lambda root: (root / "train/tulip ü/03.JPG").unlink(),
    "another name": lambda root: (root / "train/tulip ü/03.JPG").rename(root / "train/tulip ü/99.JPG"),
    "deep inside": lambda root: (root / "train/daisy/more/new.png").touch(),
    "a class more": lambda root: shutil.copytree(root / "val/daisy", root / "train/rose"),
    "a class less": lambda root: shutil.rmtree(root / "val/daisy"),
    "a class of another name": lambda root: (root / "val/daisy").rename(root / "val/dandelion"),
    "a split less": lambda root: shutil.rmtree(root / "val"),
    "another folder in its place": put_another_in_place,
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_changed_is_read_again(data, cache, change, monkeypatch):
    read_folder(data)
    CHANGES[change](data)
    found = facts(read_folder(data))
    time.sleep(0.1)
    shutil.rmtree(cache)
    assert found == facts(read_folder(data))
    monkeypatch.setattr(remembered, "recall", lambda root: None)
    assert found == facts(read_folder(data))


def test_what_may_still_change_is_not_kept(data, cache):
    (data / "train/daisy/last.jpg").touch()
    read_folder(data)
    assert not cache.exists()


def test_a_time_set_back_is_noticed(data, cache):
    """Whoever copies a folder over another with its old times changes the status time all the same."""
    before = (data / "val/daisy").stat().st_mtime_ns
    read_folder(data)
    (data / "val/daisy/new.jpg").touch()
    os.utime(data / "val/daisy", ns=(before, before))
    assert any(path.endswith("new.jpg") for path in read_folder(data).splits["val"].pictures.paths)


def test_problems_are_told_each_time(data, cache):
    (data / "train" / "rose").mkdir()
    time.sleep(0.1)
    for _ in range(2):
        with pytest.raises(DataError, match="rose: expected pictures of this class, found none"):
            read_folder(data)
    assert not cache.exists()


@pytest.mark.parametrize("damage", ["cut", "header", "empty", "labels", "folder"])
def test_a_damaged_memory_is_made_again(data, cache, damage):
    expected = facts(read_folder(data))
    (place,) = cache.iterdir()
    content = bytearray(place.read_bytes())
    if damage == "header":
        content[30] ^= 1
    if damage == "labels":
        labels = np.array([0] * 14, "<i8").tobytes()
        assert labels in content
        content = content.replace(labels, np.array([7] * 14, "<i8").tobytes())
    place.unlink()
    if damage == "folder":
        place.mkdir()
    else:
        place.write_bytes({"cut": content[:-80], "empty": b""}.get(damage, content))
    assert facts(read_folder(data)) == expected


def test_without_a_cache_it_still_reads(data, cache, monkeypatch):
    (cache.parent).mkdir()
    cache.write_text("a file where the folder should be")
    assert facts(read_folder(data)) == facts(read_folder(data))


def test_two_ways_to_a_folder_are_two_memories(data, cache, monkeypatch):
    """Since messages name files as they were asked for."""
    whole = read_folder(data)
    monkeypatch.chdir(data.parent)
    near = read_folder(data.relative_to(data.parent))
    again = read_folder(data.relative_to(data.parent))
    assert near.splits["val"].pictures.where(0) == again.splits["val"].pictures.where(0) == "flowers/val/daisy/00.JPG"
    assert whole.splits["val"].pictures.where(0) == f"{data}/val/daisy/00.JPG"
    assert cache_folder() / "indexes" == cache
