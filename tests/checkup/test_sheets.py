"""What a checkup leaves: contact sheets opened with Pillow, a page that strangers' names cannot break, and nothing else."""

import shutil
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
from PIL import Image, ImageFont

from conftest import build_flowers, fill
from provenet.checkup.examine import SHOWN_OF_A_CLASS
from provenet.checkup.sheets import LARGEST_NAME_BYTES, RED, caption_name, plain_name
from provenet.errors import SettingsError
from provenet.runs.check import check_data

SCRIPT = "<script>alert(1)<∕script> & 'x'"  # a slash cannot be in a name; this is U+2215


def test_a_sheet_of_each_class_with_its_pictures(tmp_path, check):
    root = tmp_path / "flowers"
    colours = {"a/b".replace("/", "∕"): (250, 20, 20), "猫 🐈": (20, 250, 20), "x" * 200 + "猫" * 18: (20, 20, 250)}
    for label, colour in colours.items():
        for number in range(3):
            (root / label).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (200, 100 + number), colour).save(root / label / f"{number}.png")
    checkup = check(root)
    assert [checkup.sheets[label] for label in sorted(colours)] == list(checkup.sheets.values())
    assert sorted(path.name for path in checkup.folder.iterdir()) == sorted([*checkup.sheets.values(), "check.html"])
    told = {row["name"]: row["sheet"] for row in checkup.to_dict()["classes"]}
    assert len(told) == 3
    for label, path in told.items():
        assert len(Path(path).name.encode()) <= LARGEST_NAME_BYTES + len("01-.jpg")
        with Image.open(path) as sheet:
            assert sheet.format == "JPEG"
            pixels = np.asarray(sheet).astype(int)
        is_colour = np.abs(pixels - colours[label]).max(-1) < 30
        columns, rows = np.flatnonzero(is_colour.any(0)), np.flatnonzero(is_colour.any(1))
        assert 3 * 110 <= is_colour.any(0).sum() <= 3 * 112  # three thumbnails of 112 pixels side by side
        assert columns[-1] - columns[0] > 3 * 112
        assert 55 <= len(rows) <= 59  # half as high as wide: nothing is cropped


def test_of_many_pictures_some_are_shown_evenly_spread(tmp_path, check):
    root = build_flowers(tmp_path / "flowers", train=70, val=20, test=10)
    looks = [look for look in check(root).facts.looks if look.label == "daisy"]
    places = [place for place, look in enumerate(looks) if look.is_shown]
    assert len(looks) == 100
    assert len(places) == SHOWN_OF_A_CLASS
    assert (places[0], places[-1]) == (0, 99)
    assert set(np.diff(places)) == {2, 3}
    assert all((look.thumbnail is not None) == look.is_shown for look in looks)


def red_pixels(path):
    return int((np.abs(np.asarray(Image.open(path)).astype(int) - RED).max(-1) < 40).sum())


def test_unreadable_pictures_are_crossed_out_and_duplicates_framed(tmp_path, check):
    root = build_flowers(tmp_path / "grey", train=3)
    for number, path in enumerate(sorted(root.glob("*/*/*.png"))):
        Image.new("L", (40, 40 + number), 128).save(path)
    sheets = {label: tmp_path / "out" / name for label, name in check(root).sheets.items()}
    assert [red_pixels(path) for path in sheets.values()] == [0, 0]
    plain = np.asarray(Image.open(sheets["daisy"]))
    (root / "train" / "daisy" / "000.png").write_bytes(b"")
    check(root)
    assert red_pixels(sheets["daisy"]) > 200  # two diagonals
    assert red_pixels(sheets["tulip"]) == 0
    shutil.copy(root / "train" / "daisy" / "001.png", root / "train" / "daisy" / "000.png")
    check(root)
    twice = np.asarray(Image.open(sheets["daisy"]))
    assert red_pixels(sheets["daisy"]) == 0
    assert (np.abs(twice[:250].astype(int) - plain[:250]).max(-1) > 60).sum() > 2 * 4 * 112  # two frames of another colour
    shutil.copy(root / "train" / "daisy" / "001.png", root / "train" / "tulip" / "000.png")
    check(root)
    assert red_pixels(sheets["tulip"]) > 4 * 112


def test_names_that_the_font_cannot_draw_become_number_and_ascii():
    font = ImageFont.load_default(24)
    assert caption_name("T-shirt/top", 1, font) == "T-shirt/top"
    assert caption_name("猫 cats' 🐈", 3, font) == "class 03 (cats')"
    assert caption_name("café", 12, font) == "class 12 (cafe)"
    assert caption_name("猫", 4, font) == "class 04"
    assert caption_name("\u202e\u0301", 5, font) == "class 05"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        ("T-shirt/top", "T-shirt-top"),
        ("../../etc", "etc"),
        ("🐈", "unnamed"),
        ("猫", "猫"),
        ("é" * 200, "é" * 40),
        ("a:b*c?\n\x1b", "a-b-c"),
    ],
)
def test_file_names_are_fit_for_any_file_system(label, expected):
    assert plain_name(label) == expected


def test_the_page_shows_everything_and_escapes_names(tmp_path, check):
    root = tmp_path / "flowers"
    fill(root / SCRIPT, 3)
    fill(root / "b", 3, first_seed=10)
    (root / SCRIPT / "<img src=x onerror=alert(2)>.png").touch()
    (root / "<b>ignored</b>.txt".replace("/", "∕")).touch()
    checkup = check(root)
    page = checkup.page.read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "<b>" not in page
    assert "&lt;script&gt;alert(1)&lt;∕script&gt; &amp; &#39;x&#39;" in page
    assert "&lt;img src=x onerror=alert(2)&gt;.png" in page
    assert "http" not in page  # nothing from a network
    assert "prefers-color-scheme: dark" in page
    assert 'lang="en"' in page
    shown = [part.split('"')[0] for part in page.split('<img src="')[1:]]
    assert len(shown) == 2
    for finding in checkup.findings:
        assert finding.level in page
    assert checkup.command in page
    assert [unquote(address) for address in shown] == list(checkup.sheets.values())


# Only there, and whole


def test_only_its_own_files_are_written(tmp_path, class_folders):
    root = class_folders(per_class=3, classes=2)
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    (out / "check.html").write_text("old")
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    checkup = check_data(root, output=out)
    assert sorted(path.name for path in out.iterdir()) == ["01-T-shirt-top.jpg", "02-Trouser.jpg", "check.html", "mine.txt"]
    assert (out / "mine.txt").read_text() == "keep"
    assert checkup.page.read_text() != "old"
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_disk_that_fills_leaves_what_was_there(tmp_path, class_folders, monkeypatch):
    root = class_folders(per_class=3, classes=2)
    first = check_data(root, output=tmp_path / "out")
    old = first.page.read_bytes()

    def is_full(self, content):
        with open(self, "wb") as file:
            file.write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", is_full)
    with pytest.raises(SettingsError, match="expected to write the sheets there, found: No space left on device"):
        check_data(root, output=tmp_path / "out")
    assert first.page.read_bytes() == old
    assert not list((tmp_path / "out").glob("*.part"))


def test_sheets_never_become_pictures_to_train_on(class_folders, tmp_path, monkeypatch):
    root = class_folders(per_class=3, classes=2)
    (tmp_path / "link").symlink_to(root, target_is_directory=True)
    for output in (root, root / "checks", tmp_path / "link" / "x"):
        with pytest.raises(SettingsError, match="expected a folder outside of the pictures"):
            check_data(root, output=output)
    monkeypatch.chdir(root)
    with pytest.raises(SettingsError, match="expected a folder outside of the pictures"):
        check_data(".")
    assert sorted(path.name for path in root.iterdir()) == ["T-shirt-top", "Trouser"]
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="expected to write the sheets there"):
        check_data(root, output=tmp_path / "file")
    with pytest.raises(SettingsError, match="--val-fraction"):
        check_data(root, output=tmp_path / "out", val_fraction=2)
