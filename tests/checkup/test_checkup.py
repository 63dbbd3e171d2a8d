"""A set of pictures looked at before training: real files of every kind, expectations counted by hand."""

import io
import json
import os
import shutil
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import provenet as pn
from conftest import build_flowers, fill, photo, take
from provenet.checkup import examine as examine_module
from provenet.checkup import findings as findings_module
from provenet.checkup.examine import examine, hash_pixels
from provenet.checkup.findings import KIND_WORDS
from provenet.data.decode import KINDS
from provenet.data.holdout import default_fraction, divide
from provenet.data.idx import write_idx
from provenet.data.pictures import PictureFiles
from provenet.data.sources import open_data
from provenet.errors import DataError
from provenet.runs.pictures import SPLIT_SEED


def by_kind(checkup):
    """Kind -> finding; each kind is found once."""
    assert len({finding.kind for finding in checkup.findings}) == len(checkup.findings)
    return {finding.kind: finding for finding in checkup.findings}


# Counts, sizes


def test_counts_by_class_and_split_and_nothing_wrong(tmp_path, check):
    root = build_flowers(tmp_path / "flowers")
    photo(root / "train" / "daisy" / "more.png", seed=5_000)
    checkup = check(root)
    told = checkup.to_dict()
    assert told["splits"] == {"train": 45, "val": 6, "test": 4}
    assert [row["pictures"] for row in told["classes"]] == [{"train": 23, "val": 3, "test": 2}, {"train": 22, "val": 3, "test": 2}]
    assert told["held_out_from"] is None
    assert checkup.findings == []
    text = str(checkup).splitlines()
    assert [line.split() for line in text[2:6]] == [
        ["class", "train", "val", "test"],
        ["daisy", "23", "3", "2"],
        ["tulip", "22", "3", "2"],
        ["all", "45", "6", "4"],
    ]
    assert text[-1] == f"Ready to train: provenet train {root}"


def test_sizes_of_each_file_and_of_all(tmp_path, check):
    root = tmp_path / "flowers"
    fill(root / "a", 2)
    photo(root / "b" / "wide.png", 10, size=(90, 33))
    photo(root / "b" / "tall.bmp", 11, size=(35, 64))
    told = check(root).to_dict()
    assert told["sizes"]["width"] == {"min": 35, "median": 40, "max": 90}
    assert told["sizes"]["height"] == {"min": 33, "median": 40, "max": 64}
    assert told["sizes"]["bytes"] == sum(path.stat().st_size for path in root.glob("*/*"))
    files = {Path(file["path"]).name: file for file in told["files"]}
    assert len(told["files"]) == 4
    assert (files["wide.png"]["width"], files["wide.png"]["height"]) == (90, 33)
    assert files["tall.bmp"]["bytes"] == (root / "b" / "tall.bmp").stat().st_size
    assert {file["class"] for file in told["files"]} == {"a", "b"}
    assert "width 35 to 90 pixels (median 40), height 33 to 64 (median 40)" in str(check(root))


# Unreadable files, and unusual ones that are readable


def write_broken(folder):
    """One file of each kind that can be made by whoever runs the tests -> file name: kind."""
    Image.effect_noise((64, 64), 90).convert("RGB").save(folder / "whole.jpg")
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:-900])
    (folder / "empty.jpg").touch()
    (folder / "text.jpg").write_text("this is no picture")
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    Image.new("F", (8, 8), 0.5).save(folder / "float.tif")
    os.mkfifo(folder / "pipe.png")
    (folder / "bomb.pgm").write_bytes(b"P5\n20000 10000\n255\n" + bytes(64))
    (folder / "closed.png").write_bytes((folder / "whole.jpg").read_bytes())
    with (folder / "huge.tif").open("wb") as file:
        file.truncate(2**30 + 1)  # nothing but a hole
    return {
        "cut.jpg": "damaged",
        "empty.jpg": "empty",
        "text.jpg": "unknown format",
        "gone.jpg": "missing",
        "float.tif": "floating point",
        "pipe.png": "no file",
        "bomb.pgm": "too many pixels",
        "closed.png": "not permitted",
        "huge.tif": "too large",
    }


def test_unreadable_files_by_kind_and_name(tmp_path, check, monkeypatch):
    root = tmp_path / "flowers"
    fill(root / "a", 30)
    fill(root / "b", 30, first_seed=100)
    expected = write_broken(root / "a")
    open_file = open

    def open_unless_closed(path, *arguments, **options):  # the superuser, as whom tests may run, may read everything
        if str(path).endswith("closed.png"):
            raise PermissionError(13, "Permission denied")
        return open_file(path, *arguments, **options)

    monkeypatch.setattr("builtins.open", open_unless_closed)
    checkup = check(root)
    told = checkup.to_dict()
    assert {Path(item["path"]).name: item["kind"] for item in told["unreadable"]} == expected
    assert {Path(file["path"]).name: file["problem"] for file in told["files"] if file["problem"]} == expected
    assert set(expected.values()) == set(KINDS) == set(KIND_WORDS)
    found = by_kind(checkup)
    for name, kind in expected.items():
        finding = found[f"unreadable: {kind}"]
        assert finding.level == "problem"
        assert finding.files == (str(root / "a" / name),)
        assert finding.message.startswith(f"1 unreadable file, {KIND_WORDS[kind]}")
        assert str(root / "a" / name) in str(checkup)
    assert sum(told["classes"][0]["unreadable"].values()) == 9
    assert not told["can_train"]
    assert told["can_train_with_skip_broken"]
    assert str(checkup).splitlines()[-2].endswith(f"provenet train {root} --skip-broken")
    assert str(checkup).splitlines()[-1].endswith(f"provenet check {root} --quarantine {root}-unreadable")


def test_unusual_pictures_that_can_be_read(tmp_path, check):
    root = tmp_path / "flowers"
    fill(root / "猫 🐈", 20)
    fill(root / "b", 20, first_seed=100)
    folder = root / "猫 🐈"
    Image.effect_noise((50, 40), 90).convert("CMYK").save(folder / "print.jpg")
    Image.fromarray(np.arange(2_000, dtype=np.uint16).reshape(40, 50) * 30).save(folder / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.effect_noise((50, 40), 80).convert("RGB").save(folder / "turned.jpg", exif=exif)
    Image.new("L", (1, 1), 9).save(folder / "dot.png")
    frames = [Image.effect_noise((50, 40), 70), Image.effect_noise((50, 40), 60)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    Image.effect_noise((50, 40), 50).convert("P").save(folder / "emoji 🐈\nnew line.PNG")
    told = check(root).to_dict()
    assert told["unreadable"] == []
    sizes = {Path(file["path"]).name: (file["width"], file["height"]) for file in told["files"]}
    assert sizes["turned.jpg"] == (40, 50)  # upright
    assert sizes["dot.png"] == (1, 1)
    for name in ("print.jpg", "deep.png", "moving.gif", "emoji 🐈\nnew line.PNG"):
        assert sizes[name] == (50, 40)
    assert sum(file["class"] == "猫 🐈" for file in told["files"]) == 26


def test_names_with_control_characters_break_neither_terminal_nor_page(tmp_path, check):
    root = tmp_path / "flowers"
    fill(root / "a", 2)
    fill(root / "b", 2, first_seed=10)
    (root / "a" / "red\x1b[31m\nline\r.png").touch()
    (root / "b" / "\x1b]0;title\x07.txt").touch()
    (root / "a" / os.fsdecode(b"\xff\xfe.jpg")).touch()
    checkup = check(root)
    named = {Path(item["path"]).name for item in checkup.to_dict()["unreadable"]}
    assert named == {"red\x1b[31m\nline\r.png", "\ufffd\ufffd.jpg"}  # JSON escapes them
    for text in (str(checkup), checkup.page.read_text(encoding="utf-8")):
        assert "red\ufffd[31m line .png" in text
        assert not {character for character in text if character < " "} - {"\n"}
        assert "\ufffd\ufffd.jpg" in text
    json.dumps(checkup.to_dict(), ensure_ascii=False).encode()


# Duplicates


def test_the_same_picture_under_another_name_and_in_another_container(tmp_path, check):
    root = build_flowers(tmp_path / "flowers")
    folder = root / "train" / "daisy"
    shutil.copy(folder / "000.png", folder / "copy of 000.png")
    Image.open(folder / "001.png").save(folder / "001.bmp")
    Image.open(folder / "002.png").convert("RGBA").save(folder / "opaque.webp", lossless=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "003.png").rotate(90, expand=True).save(folder / "turned back by EXIF.png", exif=exif)
    checkup = check(root)
    groups = {frozenset(Path(file["path"]).name for file in group["files"]): group for group in checkup.to_dict()["duplicates"]}
    assert set(groups) == {
        frozenset({"000.png", "copy of 000.png"}),
        frozenset({"001.png", "001.bmp"}),
        frozenset({"002.png", "opaque.webp"}),
        frozenset({"003.png", "turned back by EXIF.png"}),
    }
    assert [group["byte_identical"] for group in groups.values()] == [True, False, False, False]
    finding = by_kind(checkup)["repeated in train"]
    assert finding.level == "warning"
    assert finding.message.startswith("4 pictures")
    assert len(finding.files) == 8
    assert len(checkup.findings) == 1


def test_equal_files_are_told_from_files_of_equal_size(tmp_path, check):
    root = build_flowers(tmp_path / "flowers")
    folder = root / "train" / "daisy"
    pixels = (folder / "000.bmp", folder / "000b.bmp")
    Image.open(folder / "000.png").save(pixels[0])
    content = bytearray(pixels[0].read_bytes())
    content[6] ^= 1  # a reserved byte of the header that nobody reads
    pixels[1].write_bytes(content)
    (folder / "000.png").unlink()
    (group,) = check(root).to_dict()["duplicates"]
    assert group["byte_identical"] is False


def test_the_same_picture_across_splits_is_a_leak(tmp_path, check):
    root = build_flowers(tmp_path / "flowers")
    shutil.copy(root / "train" / "daisy" / "000.png", root / "val" / "daisy" / "other name.png")
    shutil.copy(root / "train" / "daisy" / "001.png", root / "test" / "daisy" / "x.png")
    shutil.copy(root / "train" / "daisy" / "002.png", root / "test" / "daisy" / "y.png")
    shutil.copy(root / "val" / "tulip" / "000.png", root / "test" / "tulip" / "z.png")
    checkup = check(root)
    found = by_kind(checkup)
    assert set(found) == {"leak: train and val", "leak: train and test", "leak: val and test"}
    assert {finding.level for finding in found.values()} == {"problem"}
    assert found["leak: train and val"].files == (str(root / "train/daisy/000.png"), str(root / "val/daisy/other name.png"))
    assert found["leak: train and test"].message.startswith("2 pictures of train found in test too")
    assert checkup.can_train
    assert "Training would run, but the 3 problems" in checkup.verdict


def test_the_same_picture_in_two_classes(tmp_path, check):
    root = build_flowers(tmp_path / "flowers")
    shutil.copy(root / "train" / "daisy" / "000.png", root / "train" / "tulip" / "is it.png")
    checkup = check(root)
    (finding,) = checkup.findings
    assert (finding.kind, finding.level) == ("picture in two classes", "problem")
    assert "[train, daisy]" in finding.details[0]
    assert "[train, tulip]" in finding.details[0]
    assert checkup.to_dict()["duplicates"][0]["classes"] == ["daisy", "tulip"]


def test_pixels_of_another_shape_are_another_picture():
    dark = [Image.new("RGB", size, "black") for size in ((4, 4), (2, 8), (8, 2))]
    assert len({hash_pixels(picture) for picture in dark}) == 3
    tall = Image.effect_noise((3, 2_000), 50).convert("RGB")  # more rows than are hashed at once
    other = tall.copy()
    other.putpixel((1, 1_999), (1, 2, 3))
    assert hash_pixels(tall) == hash_pixels(tall.copy()) != hash_pixels(other)


def test_what_training_would_hold_out_is_val_and_leaks_into_it_are_seen(class_folders, check):
    root = class_folders(per_class=30, classes=2)
    data = open_data(root)
    trained = divide(data, val_fraction=default_fraction(data), seed=SPLIT_SEED)
    val_paths = {trained.val.pictures.where(index) for index in range(len(trained.val))}
    checkup = check(root)
    told = checkup.to_dict()
    assert told["held_out_from"] == "all"
    assert {file["path"] for file in told["files"] if file["split"] == "val"} == val_paths
    assert len(val_paths) == 12
    one = next(file["path"] for file in told["files"] if file["split"] == "train")
    shutil.copy(sorted(val_paths)[0], one)
    finding = by_kind(check(root))["leak: train and val"]
    assert set(finding.files) == {one, sorted(val_paths)[0]}
    half = check(root, val_fraction=0.5)
    assert half.to_dict()["splits"] == {"train": 30, "val": 30}
    assert half.command == f"provenet train {root} --val-fraction 0.5"


def test_pictures_in_memory_are_compared_too(tmp_path, mini, check):
    train, test = (take(mini[split], per_class=30) for split in ("train", "test"))
    pixels = train.pictures.pixels.copy()
    pixels[7] = test.pictures.pixels[3]
    pixels[11] = pixels[12]
    for prefix, images, labels in (("train", pixels, train.labels), ("t10k", test.pictures.pixels, test.labels)):
        (tmp_path / "idx").mkdir(exist_ok=True)
        write_idx(tmp_path / "idx" / f"{prefix}-images-idx3-ubyte.gz", images[..., 0])
        write_idx(tmp_path / "idx" / f"{prefix}-labels-idx1-ubyte.gz", labels.astype(np.uint8))
    told = check(tmp_path / "idx").to_dict()
    named = [[file["path"] for file in group["files"]] for group in told["duplicates"]]
    assert sorted(map(sorted, named)) == [["idx/test[3]", "idx/train[7]"], ["idx/train[11]", "idx/train[12]"]]
    assert {group["byte_identical"] for group in told["duplicates"]} == {None}
    assert told["sizes"] == {"width": {"min": 28, "median": 28, "max": 28}, "height": {"min": 28, "median": 28, "max": 28}, "bytes": None}


def test_the_embedded_pictures_are_sound(check):
    checkup = check("fashion-mini")
    assert checkup.findings == []
    assert checkup.to_dict()["splits"] == {"train": 4_800, "val": 1_200, "test": 1_000}
    assert checkup.verdict == "Ready to train: provenet train fashion-mini"
    assert len(list(checkup.folder.glob("*.jpg"))) == 10


# Classes


def test_classes_that_only_one_split_has(tmp_path, check):
    root = build_flowers(tmp_path / "flowers")
    fill(root / "val" / "dasy", 2, first_seed=7_000)
    fill(root / "test" / "rose", 1, first_seed=7_100)
    fill(root / "train" / "lily", 21, first_seed=7_200)
    checkup = check(root)
    assert [(finding.level, finding.kind) for finding in checkup.findings] == [
        ("problem", "class that train lacks in val"),
        ("problem", "class that train lacks in test"),
        ("warning", "class that val lacks"),
        ("warning", "class that test lacks"),
    ]
    first = checkup.findings[0]
    assert "did you mean 'daisy'?" in first.message
    assert first.details == ("dasy: 2 pictures in val",)
    assert len(first.files) == 2
    assert by_kind(checkup)["class that val lacks"].details == ("lily: 21 pictures in train",)
    assert not checkup.can_train_without_broken
    assert checkup.to_dict()["classes"][3]["pictures"] == {"train": 0, "val": 2, "test": 0}


@pytest.mark.parametrize(
    ("count", "level", "kind"),
    [(1, "problem", "too few pictures"), (2, "warning", "few pictures"), (19, "warning", "few pictures"), (20, None, None)],
)
def test_a_class_with_too_few_pictures(tmp_path, check, count, level, kind):
    root = build_flowers(tmp_path / "flowers", train=30)
    fill(root / "train" / "rose", count, first_seed=8_000)
    for split in ("val", "test"):
        fill(root / split / "rose", 2, first_seed=8_100 + ord(split[0]))
    checkup = check(root)
    found = [(finding.level, finding.kind) for finding in checkup.findings if finding.level != "remark"]
    assert found == ([(level, kind)] if level else [])
    if level:
        assert checkup.findings[0].details == (f"rose: {count} picture{'s' * (count > 1)} in train",)


def test_broken_pictures_do_not_count_to_train_on(tmp_path, check):
    root = build_flowers(tmp_path / "flowers", train=20)
    (root / "train" / "tulip" / "000.png").write_bytes(b"")
    assert by_kind(check(root))["few pictures"].details == ("tulip: 20 pictures in train",)


@pytest.mark.parametrize(("most", "is_told"), [(20, False), (21, True)])
def test_imbalance_is_a_remark(tmp_path, check, most, is_told):
    root = build_flowers(tmp_path / "flowers", train=2)
    fill(root / "train" / "tulip", most, first_seed=9_000)
    remarks = [finding for finding in check(root).findings if finding.level == "remark"]
    assert [finding.kind for finding in remarks] == ["imbalance"] * is_told
    if is_told:
        assert "(21 and 2)" in remarks[0].message


def test_remarks_on_sizes(tmp_path, check, monkeypatch):
    monkeypatch.setattr(findings_module, "LARGE_PIXELS", 50_000)
    root = build_flowers(tmp_path / "flowers")
    folder = root / "train" / "daisy"
    sizes = {
        "small": (31, 40),
        "not small": (32, 40),
        "long": (40, 161),
        "not long": (160, 40),
        "large": (251, 200),
        "not large": (250, 200),
    }
    for seed, (name, size) in enumerate(sizes.items()):
        photo(folder / f"{name}.png", 6_000 + seed, size)
    found = by_kind(check(root))
    assert {kind: finding.files for kind, finding in found.items()} == {
        kind: (str(folder / f"{kind}.png"),) for kind in ("small", "large", "long")
    }
    assert {finding.level for finding in found.values()} == {"remark"}
    assert found["long"].details == (f"{folder / 'long.png'}: 40x161",)


# What is ignored


def test_what_is_ignored_is_named_with_its_reason(tmp_path, check):
    root = build_flowers(tmp_path / "flowers")
    (root / "train" / "daisy" / ".DS_Store").touch()
    (root / "train" / "daisy" / "labels.csv").touch()
    (root / "train" / "daisy" / "up").symlink_to("..", target_is_directory=True)
    photo(root / "train" / "stray.jpg", 1)
    (root / "notes").mkdir()
    (root / "val" / "rose").mkdir()
    checkup = check(root)
    ignored = {item["path"].removeprefix(f"{root}/"): item["reason"] for item in checkup.to_dict()["ignored"]}
    assert ignored == {
        "train/daisy/.DS_Store": "hidden: its name begins with a dot",
        "train/daisy/labels.csv": "no picture by its ending",
        "train/daisy/up": "a link to a folder above or already read",
        "train/stray.jpg": "beside the class folders or split folders, not in a class",
        "notes": "a folder beside the split folders",
        "val/rose": "a class folder without pictures",
    }
    assert all(path in str(checkup) and reason in str(checkup) for path, reason in ignored.items())
    (finding,) = checkup.findings
    assert (finding.level, finding.kind, finding.files) == ("warning", "pictures of no class", (str(root / "train" / "stray.jpg"),))


def test_long_lists_are_cut_in_the_text_and_whole_in_json(tmp_path, check):
    root = tmp_path / "flowers"
    fill(root / "a", 2)
    fill(root / "b", 2, first_seed=10)
    for number in range(9):
        (root / "a" / f"broken{number}.png").touch()
        (root / "b" / f"{number}.txt").touch()
    for number in range(45):
        fill(root / f"c{number}", 1, first_seed=100 + number)
    checkup = check(root)
    text = str(checkup)
    assert sum("broken" in line for line in text.splitlines() if line.startswith(" ")) == 5
    assert text.count("… and 4 more, --json names them all") == 2
    assert "… and 7 more, --json names them all" in text  # of 47 classes
    assert len(by_kind(checkup)["unreadable: empty"].files) == 9
    assert len(checkup.to_dict()["ignored"]) == 9


# What training refuses is a finding here


def test_everything_that_training_refuses_is_told_at_once(tmp_path, check):
    root = build_flowers(tmp_path / "flowers")
    (root / "train" / "Empty").mkdir()
    (root / "train" / "red\x1b[31m").mkdir()
    shutil.rmtree(root / "test")
    (root / "testing").mkdir()
    (root / "test" / "daisy").mkdir(parents=True)
    (root / "val" / "rose").mkdir()
    photo(root / "val" / "rose" / "1.png", seed=9_999)
    for path in (root / "train" / "tulip").iterdir():
        path.write_bytes(b"")
    checkup = check(root)
    stopping = [finding.kind for finding in checkup.findings if finding.stops == "always"]
    assert stopping == [
        "split twice", "no pictures", "class name", "empty class", "empty class", "class that train lacks in val", "class lost",
    ]  # fmt: skip
    assert "Training would stop at 7 of the 8 problems found" in checkup.verdict  # the other: empty files
    assert "\x1b" not in str(checkup)


@pytest.mark.parametrize(("make", "message"), [
    (lambda root: None, "found nothing there"),
    (lambda root: root.touch(), "found a file"),
    (lambda root: root.mkdir(), "expected a folder for each class"),
    (lambda root: photo(root / "1.png", 1), "expected a folder for each class"),
])  # fmt: skip
def test_what_cannot_be_gone_on_from_is_an_error(tmp_path, check, make, message):
    make(tmp_path / "flowers")
    with pytest.raises(DataError, match=message):
        check(tmp_path / "flowers")
    assert not (tmp_path / "out").exists()


# One look, bounded memory


def test_each_file_is_decoded_once_and_few_pictures_are_alive(tmp_path, monkeypatch):
    root = tmp_path / "flowers"
    fill(root / "a", 70)
    fill(root / "b", 70, first_seed=100)
    decode, seen, calls, most = PictureFiles.rgb, [], [], []

    def counted(self, index):
        picture = decode(self, index)
        calls.append(self.paths[index])
        seen.append(weakref.ref(picture))
        most.append(sum(reference() is not None for reference in seen))
        return picture

    monkeypatch.setattr(PictureFiles, "rgb", counted)
    monkeypatch.setattr(examine_module, "TASKS_AHEAD", 2)
    heard = []
    looks = examine(open_data(root).splits, num_threads=2, progress=lambda *said: heard.append(said)).looks
    assert sorted(calls) == sorted({f"{label}/{number:03}.png" for label in "ab" for number in range(70)})
    assert max(most) <= 2
    assert [look.path for look in looks] == sorted(look.path for look in looks)
    assert heard[-1] == ("looking at pictures", 140, 140)
    assert all(Image.open(io.BytesIO(look.thumbnail)).size == (40, 40) for look in looks if look.thumbnail)


def test_any_number_of_threads_sees_the_same(class_folders):
    splits = open_data(class_folders(per_class=20, classes=3)).splits
    one, five = (examine(splits, num_threads=threads) for threads in (1, 5))
    assert (one.looks, one.channels) == (five.looks, five.channels)


def test_the_python_call_is_public(class_folders, tmp_path):
    checkup = pn.check(class_folders(per_class=5, classes=2), output=tmp_path / "out")
    assert checkup.page.is_file()
    assert repr(checkup).count("\n") == 0
    assert len(repr(checkup)) < 10_000
