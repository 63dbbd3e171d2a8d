"""Class folders, splits, and the IDX format: what is found, what is named, and what is refused."""

import gzip
import json
import os
import struct
import unicodedata

import numpy as np
import pytest
from PIL import Image

from conftest import take, write_class_folders
from provenet.data.builtin import FASHION_FILES, read_fashion_mnist
from provenet.data.fetch import fetch
from provenet.data.holdout import LARGEST_DEFAULT_HOLDOUT, Memory, choose_holdout, default_fraction, divide
from provenet.data.idx import read_idx, write_idx
from provenet.data.ignored import Reason
from provenet.data.index import DataSet
from provenet.data.paths import Paths
from provenet.data.sources import open_data
from provenet.errors import DataError


def test_the_embedded_pictures_are_balanced(mini):
    assert set(mini["train"].counts().values()) == {600}
    assert set(mini["test"].counts().values()) == {100}


def test_the_embedded_pictures_are_those_of_the_full_set(mini):
    try:
        full = open_data("fashion-mnist").splits
    except DataError as absent:
        pytest.skip(str(absent))
    assert {name: len(images) for name, images in full.items()} == {"train": 60_000, "test": 10_000}
    for split, images in mini.items():
        first = np.sort(np.concatenate([np.flatnonzero(full[split].labels == k)[: len(images) // 10] for k in range(10)]))
        assert np.array_equal(full[split].pictures.pixels[first], images.pictures.pixels)
        assert np.array_equal(full[split].labels[first], images.labels)


def test_class_folders_of_any_depth_case_and_script(tmp_path, mini):
    folder = tmp_path / "pictures"
    write_class_folders(folder, take(mini["train"], per_class=2, classes=2))
    (folder / "猫 cats' 🐈" / "deep" / "er").mkdir(parents=True)
    next(folder.glob("Trouser/*.png")).rename(folder / "猫 cats' 🐈" / "deep" / "er" / "A.PNG")
    (folder / "Trouser" / "notes.txt").write_text("passed over")
    (folder / ".hidden").mkdir()
    data = open_data(folder)
    images = data.splits["all"]
    assert images.counts() == {"T-shirt-top": 2, "Trouser": 1, "猫 cats' 🐈": 1}
    assert images.pictures.where(3).endswith("猫 cats' 🐈/deep/er/A.PNG")
    assert any("passed over what is no picture by its ending (1 .txt)" in note for note in data.notes)


def test_paths_are_the_same_by_whatever_way_they_were_put_together():
    folders = {
        "花": ["雏菊.jpg", "a.jpg"],
        "plain": ["one.jpg", "below/two.png"],
        "empty": [],
        "\udcff": ["\udcfe.jpg"],
        "mixed": ["é.jpg", "e.jpg"],
    }
    whole = [f"{folder}{os.sep}{name}" for folder, names in folders.items() for name in names]
    for paths in (Paths.below(folders), Paths.of(whole)):
        assert list(paths) == whole
        assert list(paths.select(np.array([4, 0]))) == [whole[4], whole[0]]
    assert list(Paths.below({"empty": []})) == list(Paths.below({})) == list(Paths.of([])) == []


def test_unusual_names_among_usual_ones(class_folders):
    root = class_folders(classes=2, per_class=5)
    folder = root / "Trouser"
    usual = sorted(path.name for path in folder.iterdir())
    for name in (".hidden.jpg", "noted.txt"):
        (folder / name).touch()
    for name in ("Abc.JpG", "雏菊.jpeg", "(1).png"):
        (folder / usual[0]).rename(folder / name)
        usual = [*usual[1:], name]
    (folder / "album.jpg").mkdir()
    (folder / usual[0]).rename(folder / "album.jpg" / usual[0])
    usual[0] = f"album.jpg{os.sep}{usual[0]}"
    images = open_data(root).splits["all"]
    found = [path for path in images.pictures.paths if path.startswith("Trouser")]
    assert sorted(found) == sorted(f"Trouser{os.sep}{name}" for name in usual)


def test_links_that_loop_end(class_folders):
    folder = class_folders(classes=2, per_class=3)
    (folder / "Trouser" / "again").symlink_to(folder / "Trouser", target_is_directory=True)
    data = open_data(folder)
    assert data.splits["all"].counts()["Trouser"] == 3
    assert any("already read" in note for note in data.notes)


def test_names_that_are_no_text_can_be_printed(class_folders):
    folder = class_folders(classes=2)
    picture = next((folder / "Trouser").iterdir())
    picture.rename(folder / "Trouser" / os.fsdecode(b"\xff\xfe.png"))
    where = [open_data(folder).splits["all"].pictures.where(k) for k in range(12)]
    assert any("\ufffd" in name for name in where)
    "".join(where).encode()


def test_one_name_in_two_unicode_forms_is_one_class(tmp_path, mini):
    folder, images = tmp_path / "pictures", take(mini["train"], per_class=2, classes=2)
    write_class_folders(folder / "train", images)
    write_class_folders(folder / "val", images)
    (folder / "train" / "Trouser").rename(folder / "train" / unicodedata.normalize("NFC", "café"))
    (folder / "val" / "Trouser").rename(folder / "val" / unicodedata.normalize("NFD", "café"))
    splits = divide(open_data(folder), val_fraction=0.2, seed=0)
    assert splits.val.classes == splits.train.classes == ("T-shirt-top", "café")


def test_split_folders_are_joined_by_name(tmp_path, mini):
    folder = tmp_path / "pictures"
    write_class_folders(folder / "Train", take(mini["train"], per_class=4, classes=4))
    images = take(mini["test"], per_class=2, classes=4)
    write_class_folders(folder / "valid", images.select(np.flatnonzero(images.labels > 1)))  # not the first two classes
    splits = divide(open_data(folder), val_fraction=0.2, seed=0)
    assert splits.held_out_from is None
    assert splits.val.classes == splits.train.classes
    assert [splits.val.classes[k] for k in np.unique(splits.val.labels)] == ["Pullover", "Trouser"][:0] + sorted({"Pullover", "Dress"})


def test_trains_beside_cars_are_a_class(class_folders):
    folder = class_folders(classes=2)
    (folder / "Trouser").rename(folder / "train")
    assert open_data(folder).splits["all"].classes == ("T-shirt-top", "train")


def test_the_holdout_is_by_class_reproducible_and_stable(mini):
    images = mini["train"]
    chosen = choose_holdout(images, val_fraction=0.2, seed=0)
    assert np.array_equal(chosen, choose_holdout(images, val_fraction=0.2, seed=0))
    assert set(np.bincount(images.labels[chosen]).tolist()) == {120}
    assert not np.array_equal(chosen, choose_holdout(images, val_fraction=0.2, seed=1))
    fewer = np.arange(0, 5_900)  # a hundred pictures less: hardly one of the others changes sides
    assert (choose_holdout(images.select(fewer), val_fraction=0.2, seed=0) != chosen[:5_900]).mean() < 0.01


def test_the_holdout_of_large_sets_is_capped_unless_asked(mini):
    many = DataSet("many", {"train": mini["train"].select(np.tile(np.arange(6_000), 10))})
    assert choose_holdout(many.splits["train"], val_fraction=default_fraction(many), seed=0).sum() == LARGEST_DEFAULT_HOLDOUT
    assert len(divide(many, val_fraction=0.5, seed=0).val) == 30_000
    assert default_fraction(DataSet("mini", mini)) == 0.2


def test_a_class_of_one_picture_trains(mini):
    images = take(mini["train"], per_class=5, classes=2)
    lonely = images.select(np.array([0, 5, 6, 7]))
    assert choose_holdout(lonely, val_fraction=0.5, seed=0).tolist()[0] is False


def test_the_fingerprint_changes_with_the_data(class_folders, mini):
    folder = class_folders()
    first = open_data(folder).splits["all"].fingerprint()
    assert first == open_data(folder).splits["all"].fingerprint()
    next((folder / "Trouser").iterdir()).unlink()
    assert first != open_data(folder).splits["all"].fingerprint()
    assert mini["train"].fingerprint() != mini["train"].select(np.arange(5_999)).fingerprint()


def test_folders_that_cannot_be_used(tmp_path, class_folders, mini):
    folder = class_folders(classes=2)
    cases = {}
    (folder / "Empty").mkdir()
    (folder / "Empty" / "readme.md").touch()
    cases[folder] = r"Empty: expected pictures of this class, found none .*1 \.md.*add some or remove the folder"
    cases[tmp_path / "nowhere"] = "found nothing there; known: fashion-mini, fashion-mnist"
    cases["fashion-mnits"] = "did you mean 'fashion-mnist'"
    (tmp_path / "file").touch()
    cases[tmp_path / "file"] = "expected a folder of class folders, of IDX files .* a manifest .*found a file; point at the folder"
    (tmp_path / "bare").mkdir()
    cases[tmp_path / "bare"] = "expected a folder for each class"
    twice = tmp_path / "twice"
    for name in ("train", "val", "valid"):
        write_class_folders(twice / name, take(mini["train"], per_class=1, classes=2))
    cases[twice] = "expected one folder for val, found 'val' too"
    for data, message in cases.items():
        with pytest.raises(DataError, match=message) as caught:
            open_data(data)
        assert "\n" not in str(caught.value)


def test_divisions_that_make_no_sense(tmp_path, class_folders, mini):
    alone = class_folders("alone", classes=1)
    with pytest.raises(DataError, match="at least two classes, found \\['T-shirt-top'\\]"):
        divide(open_data(alone), val_fraction=0.2, seed=0)
    stranger = tmp_path / "stranger"
    write_class_folders(stranger / "train", take(mini["train"], per_class=2, classes=2))
    write_class_folders(stranger / "val", take(mini["train"], per_class=2, classes=3))
    with pytest.raises(DataError, match="expected the 2 classes trained on, found 'Pullover' too"):
        divide(open_data(stranger), val_fraction=0.2, seed=0)
    single = class_folders("single", classes=3, per_class=1)
    with pytest.raises(DataError, match="at least two pictures in some class"):
        divide(open_data(single), val_fraction=0.2, seed=0)


def test_idx_files_are_read_as_they_were_written(tmp_path):
    pixels = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
    write_idx(tmp_path / "a.gz", pixels)
    (tmp_path / "a").write_bytes(gzip.decompress((tmp_path / "a.gz").read_bytes()))
    assert np.array_equal(read_idx(tmp_path / "a.gz", 3), pixels)
    assert np.array_equal(read_idx(tmp_path / "a", 3), pixels)


def test_a_folder_of_idx_files_is_a_data_set(tmp_path, mini):
    for prefix, images in (("train", mini["train"]), ("t10k", mini["test"])):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", images.pictures.pixels[..., 0])
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", images.labels.astype(np.uint8))
    data = open_data(tmp_path)
    assert data.splits["train"].classes == tuple("0123456789")
    assert not data.can_mirror
    assert np.array_equal(data.splits["test"].pictures.pixels, mini["test"].pictures.pixels)


def test_damaged_idx_files(tmp_path):
    header = struct.pack(">HBB3I", 0, 8, 3, 2, 3, 5)
    cases = {
        header + bytes(29): "expected 30 bytes as its header says .*found 29",
        header + bytes(31): "found more",
        header[:7]: "expected an IDX header of 16 bytes, found 7",
        b"\x00\x00\x0d\x03" + header[4:] + bytes(30): r"expected IDX bytes of 3 dimensions.*found 00 00 0d 03",
        struct.pack(">HBB3I", 0, 8, 3, 2**31, 999, 999): "found a header that promises",
        struct.pack(">HBB3I", 0, 8, 3, 20000, 200, 200) + bytes(10): "expected 800,000,000 bytes",
    }
    for content, message in cases.items():
        (tmp_path / "bad").write_bytes(content)
        (tmp_path / "bad.gz").write_bytes(gzip.compress(content))
        for name in ("bad", "bad.gz"):
            with pytest.raises(DataError, match=message):
                read_idx(tmp_path / name, 3)
    (tmp_path / "bad.gz").write_bytes(gzip.compress(header + bytes(30))[:-12])
    with pytest.raises(DataError, match="expected an IDX file"):
        read_idx(tmp_path / "bad.gz", 3)
    (tmp_path / "bad.gz").write_text("no gzip")
    with pytest.raises(DataError, match="expected an IDX file"):
        read_idx(tmp_path / "bad.gz", 3)


def test_idx_folders_that_do_not_fit_together(tmp_path):
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte.gz"
    images.write_bytes(struct.pack(">HBB3I", 0, 8, 3, 10, 28, 28) + bytes(7_840))
    with pytest.raises(DataError, match=r"expected train-labels-idx1-ubyte or train-labels-idx1-ubyte.gz beside its twin"):
        open_data(tmp_path)
    write_idx(labels, np.zeros(9, np.uint8))
    with pytest.raises(DataError, match="expected 9 images, one a label, found 10"):
        open_data(tmp_path)
    write_idx(labels, np.zeros(10, np.uint8))
    images.write_bytes(struct.pack(">HBB3I", 0, 8, 3, 10, 0, 28))
    with pytest.raises(DataError, match="expected images of 1 to 1024 pixels a side, found 0x28"):
        open_data(tmp_path)
    images.write_bytes(struct.pack(">HBB3I", 0, 8, 3, 10, 16_384, 16_384))
    with pytest.raises(DataError, match="found 16384x16384"):
        open_data(tmp_path)
    with pytest.raises(DataError, match="found an empty name"):
        open_data("")


def test_fetching_needs_the_published_checksum(tmp_path, monkeypatch):
    content = b"not what was published"
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / FASHION_FILES[0].name).write_bytes(content)
    with pytest.raises(DataError, match="expected the published MD5 8d4fb7e6c68d591d4c3dfef9ec88bf0d, found"):
        fetch((tmp_path / "served" / FASHION_FILES[0].name).as_uri(), tmp_path / "cache" / "file", FASHION_FILES[0])
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]  # nothing half-done is left


def test_absent_and_offline_is_one_line_that_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PROVENET_FASHION_MNIST", "http://127.0.0.1:9")  # nobody listens on the discard port
    monkeypatch.setattr("provenet.data.builtin.DEBIAN_FOLDER", tmp_path / "no-package")
    with pytest.raises(DataError) as caught:
        read_fashion_mnist()
    text = str(caught.value)
    assert "install Debian's package dataset-fashion-mnist, or put the four files into" in text
    assert str(tmp_path / "cache" / "fashion-mnist") in text
    assert "\n" not in text


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_folders_that_may_not_be_read(class_folders):
    folder = class_folders(classes=2)
    (folder / "Trouser").chmod(0)
    try:
        with pytest.raises(DataError, match="Trouser: expected a readable folder, found: Permission denied"):
            open_data(folder)
    finally:
        (folder / "Trouser").chmod(0o755)


def test_training_pictures_are_known_again_in_a_grown_folder(class_folders, tmp_path, mini):
    folder = class_folders(per_class=20)
    splits = divide(open_data(folder), val_fraction=0.2, seed=0)
    memory = Memory.from_dict(json.loads(json.dumps(splits.memory.to_dict())))
    assert memory == splits.memory
    everything = open_data(folder).splits["all"]
    train_keys = set(splits.train.pictures.keys())
    assert {key for key, known in zip(everything.pictures.keys(), memory.trained_on(everything), strict=True) if known} == train_keys
    for k in range(10):  # new photographs, and one of the old ones gone
        next((folder / "Trouser").iterdir()).rename(folder / "Trouser" / f"new {k}.png")
    grown = open_data(folder).splits["all"]
    known = {key for key, known in zip(grown.pictures.keys(), memory.trained_on(grown), strict=True) if known}
    assert train_keys & set(grown.pictures.keys()) <= known
    other = class_folders("another", per_class=5, split="test")
    assert not memory.trained_on(open_data(other).splits["all"]).any()
    for nonsense in (None, [], {}, {"seed": 0, "held_out_up_to": [1], "sketch": []}, {"seed": 0, "held_out_up_to": {}, "sketch": ["zz"]}):
        assert Memory.from_dict(nonsense) is None


def test_a_split_layout_with_a_flaw_is_still_a_split_layout(class_folders):
    folder = class_folders("contest/train", classes=2).parent
    (folder / "test").mkdir()
    next(folder.glob("train/*/*.png")).rename(folder / "test" / "1.png")  # as contests give them: without labels
    data = open_data(folder)
    assert set(data.splits) == {"train"}
    assert any("test has no class folders and is not read" in note for note in data.notes)
    class_folders("contest/val", classes=2)
    (folder / "samples").mkdir()
    next(folder.glob("train/*/*.png")).rename(folder / "samples" / "2.png")
    data = open_data(folder)
    assert set(data.splits) == {"train", "val"}
    assert any("samples is beside the split folders and is not read" in note for note in data.notes)


def test_links_to_themselves_and_upwards_are_passed_over(class_folders):
    folder = class_folders(classes=2, per_class=3)
    (folder / "Trouser" / "loop").symlink_to("loop")
    (folder / "Trouser" / "up").symlink_to("..", target_is_directory=True)
    data = open_data(folder)
    assert set(data.splits["all"].counts().values()) == {3}
    assert any("leads to a folder above" in note for note in data.notes)


@pytest.mark.parametrize("data", ["a" * 300, "~nosuchuser/pictures", "nul\0byte"])
def test_paths_that_cannot_be(data):
    with pytest.raises(DataError, match="found nothing there"):
        open_data(data)


def test_class_names_that_a_terminal_would_obey(class_folders):
    folder = class_folders(classes=2)
    (folder / "Trouser").rename(folder / "red\x1b[31m")
    with pytest.raises(DataError, match="expected a class name of plain text"):
        open_data(folder)
    (folder / "red\x1b[31m").rename(folder / os.fsdecode(b"\xff"))
    with pytest.raises(DataError, match="expected a class name of plain text"):
        open_data(folder)


def test_grey_and_colour_are_told_apart_by_the_whole_set(class_folders):
    folder = class_folders(per_class=40, classes=3)
    assert open_data(folder).splits["all"].pictures.native_channels() == 1
    for path in (folder / "Trouser").iterdir():
        Image.open(path).convert("RGB").save(path)
    assert open_data(folder).splits["all"].pictures.native_channels() == 3
    for path in folder.glob("*/*.png"):
        path.write_bytes(b"")
    assert open_data(folder).splits["all"].pictures.native_channels() == 3


def build_a_messy_folder(class_folders):
    """Two good classes and one of everything that is passed over -> the folder, and what must be said of each thing."""
    folder = class_folders("messy/train", classes=2, per_class=3).parent
    class_folders("messy/val", classes=2, per_class=2, split="test")
    (folder / "train" / "Trouser" / ".DS_Store").touch()
    (folder / "train" / ".git").mkdir()
    (folder / ".hidden.png").touch()
    (folder / "train" / "Trouser" / "labels.csv").touch()
    (folder / "train" / "Trouser" / "README").touch()
    (folder / "train" / "Trouser" / "up").symlink_to("..", target_is_directory=True)
    (folder / "train" / "Trouser" / "gone").symlink_to("nowhere")
    (folder / "train" / "Trouser" / "folder.png").mkdir()
    (folder / "train" / "stray.jpg").touch()
    (folder / "train" / "Coat").symlink_to("nowhere", target_is_directory=True)
    (folder / "val" / "Coat").mkdir()
    (folder / "readme.txt").touch()
    (folder / "samples").mkdir()
    (folder / "test").mkdir()
    (folder / "test" / "1.jpg").touch()
    return folder, {
        "train/Trouser/.DS_Store": Reason.HIDDEN,
        "train/.git": Reason.HIDDEN,
        ".hidden.png": Reason.HIDDEN,
        "train/Trouser/labels.csv": Reason.NO_PICTURE,
        "train/Trouser/README": Reason.NO_PICTURE,
        "train/Trouser/up": Reason.READ_BEFORE,
        "train/Trouser/gone": Reason.LEADS_NOWHERE,
        "train/Trouser/folder.png": Reason.NO_PICTURES_INSIDE,
        "train/stray.jpg": Reason.FILE_BESIDE_FOLDERS,
        "train/Coat": Reason.LEADS_NOWHERE,
        "val/Coat": Reason.EMPTY_CLASS,
        "readme.txt": Reason.FILE_BESIDE_FOLDERS,
        "samples": Reason.FOLDER_BESIDE_SPLITS,
        "test": Reason.NO_LABELS,
    }


def test_everything_that_is_passed_over_is_recorded_with_its_reason(class_folders):
    folder, expected = build_a_messy_folder(class_folders)
    data = open_data(folder)
    assert {item.path.removeprefix(f"{folder}/"): item.reason for item in data.ignored} == expected
    assert len(data.ignored) == len(expected)
    elsewhere = {Reason.BESIDE_IDX, Reason.BESIDE_CIFAR, Reason.BESIDE_SHARDS, Reason.NO_FILE_INSIDE, Reason.LONELY_LABEL}
    assert set(expected.values()) == set(Reason) - elsewhere
    told = "\n".join(data.notes)
    assert f"{folder}/train/Trouser: passed over what is no picture by its ending (1 .csv, 1 no ending)" in told
    assert f"{folder}/train: passed over 1 pictures beside the class folders, of no class" in told
    assert f"{folder}/val/Coat has no pictures" in told
    assert "hidden" not in told  # nobody expects those to be read
    assert "readme" not in told


def test_what_lies_beside_idx_files_is_recorded(tmp_path, mini):
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", take(mini["train"], per_class=1).pictures.pixels[..., 0])
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(10, dtype=np.uint8))
    (tmp_path / "readme.txt").touch()
    data = open_data(tmp_path)
    assert [(item.path, item.reason) for item in data.ignored] == [(f"{tmp_path}/readme.txt", Reason.BESIDE_IDX)]
    assert data.notes == []


def test_whoever_can_go_on_hears_of_every_problem_at_once(class_folders):
    folder = class_folders("many/train", classes=2, per_class=3).parent
    class_folders("many/valid", classes=2, per_class=2)
    (folder / "train" / "Empty").mkdir()
    (folder / "train" / "red\x1b[31m").mkdir()
    (folder / "val").mkdir()
    (folder / "test" / "Trouser").mkdir(parents=True)
    heard = []
    data = open_data(folder, on_problem=heard.append)
    assert [problem.kind for problem in heard] == ["split twice", "no pictures", "class name", "empty class", "empty class", "no classes"]
    assert data.splits["train"].counts() == {"Empty": 0, "T-shirt-top": 3, "Trouser": 3, "red\ufffd[31m": 0}
    assert data.splits["test"].counts() == {"Trouser": 0}
    assert set(data.splits) == {"train", "test"}
    with pytest.raises(DataError, match="expected one folder for val"):
        open_data(folder)
