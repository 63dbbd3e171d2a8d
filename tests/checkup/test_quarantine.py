"""Unreadable files moved out of the data: only those, only when asked, never over anything, and back again."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import build_flowers
from provenet.checkup import quarantine as quarantine_module
from provenet.checkup.quarantine import put_back
from provenet.errors import SettingsError


def spoil(root):
    """Four unreadable files, one of them with a name that is no text, one a link -> their relative paths."""
    (root / "train" / "daisy" / "000.png").write_bytes(b"")
    (root / "val" / "tulip" / "000.png").write_text("no picture")
    (root / "train" / "tulip" / os.fsdecode(b"\xff.png")).write_text("nor this")
    (root / "train" / "tulip" / "link.png").symlink_to("../nowhere.png")
    return {"train/daisy/000.png", "val/tulip/000.png", os.fsdecode(b"train/tulip/\xff.png"), "train/tulip/link.png"}


def files_below(root):
    return {str(path.relative_to(root)): path.read_bytes() if path.exists() else None for path in root.rglob("*") if not path.is_dir()}


def test_only_the_unreadable_are_moved_and_can_be_put_back(tmp_path, check):
    root = build_flowers(tmp_path / "flowers")
    broken = spoil(root)
    before = files_below(root)
    aside = tmp_path / "aside"
    text = str(check(root))
    assert files_below(root) == before
    assert text.splitlines()[-1].endswith(f"provenet check {root} --quarantine {root}-unreadable")
    checkup = check(root, quarantine=aside)
    assert files_below(root) == {path: content for path, content in before.items() if path not in broken}
    moved = {path: content for path, content in files_below(aside).items() if path not in (".lock", "moved.jsonl")}
    assert moved == {path: content for path, content in before.items() if path in broken}
    assert checkup.verdict == f"Unreadable files were moved; look again at what is left: provenet check {root}"
    assert len(checkup.to_dict()["quarantine"]["moved"]) == 4
    assert "Moved 4 unreadable files" in checkup.page.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in (aside / "moved.jsonl").read_text().splitlines()]
    assert {os.path.relpath(line["from"], root) for line in lines} == {os.path.relpath(line["to"], aside) for line in lines} == broken
    assert all(line["reason"] for line in lines)
    assert check(root, quarantine=aside).quarantine.moved == ()
    assert len(put_back(aside)) == 4
    assert files_below(root) == before
    assert put_back(str(aside)) == []


def test_nothing_is_written_over(tmp_path, check):
    root = build_flowers(tmp_path / "flowers")
    path = root / "train" / "daisy" / "000.png"
    for content in (b"one", b"two", b"three"):
        path.write_bytes(content)
        check(root, quarantine=tmp_path / "aside")
    folder = tmp_path / "aside" / "train" / "daisy"
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"000.png": b"one", "000.2.png": b"two", "000.3.png": b"three"}
    path.write_bytes(b"new")
    assert put_back(tmp_path / "aside") == []  # something stands there by now
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(("place", "message"), [
    ("flowers/aside", "outside of the pictures"), ("flowers", "outside of the pictures"), ("full", "expected a new or empty folder"),
])  # fmt: skip
def test_folders_that_will_not_do(tmp_path, check, place, message):
    root = build_flowers(tmp_path / "flowers", train=2)
    spoil(root)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "other").touch()
    before = files_below(tmp_path)
    with pytest.raises(SettingsError, match=message) as error:
        check(root, quarantine=tmp_path / place)
    assert "choose another --quarantine" in str(error.value)
    assert files_below(tmp_path) == before


def test_pictures_without_files_of_their_own_are_refused(tmp_path, check):
    with pytest.raises(SettingsError, match="a file for each picture, found fashion-mini"):
        check("fashion-mini", quarantine=tmp_path / "aside")
    assert not (tmp_path / "aside").exists()


def test_what_cannot_be_moved_is_said_and_the_rest_goes_on(tmp_path, check, monkeypatch):
    root = build_flowers(tmp_path / "flowers")
    spoil(root)
    elsewhere = tmp_path / "elsewhere"
    shutil.move(root / "val" / "tulip", elsewhere)
    (root / "val" / "tulip").symlink_to(elsewhere)
    rename = Path.rename

    def refuse(self, target):  # the superuser, as whom tests may run, may write everywhere
        if self.parent.name == "daisy":
            raise PermissionError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    result = check(root, quarantine=tmp_path / "aside").quarantine
    assert len(result.moved) == 2
    assert dict(result.left) == {
        str(root / "train/daisy/000.png"): "Permission denied",
        str(root / "val/tulip/000.png"): "it is reached through a link and lies outside of the data",
    }
    assert (root / "train/daisy/000.png").exists()
    assert (elsewhere / "000.png").exists()
    assert [line["to"] for line in map(json.loads, (tmp_path / "aside" / "moved.jsonl").read_text().splitlines())].count(None) == 1


def test_to_another_file_system_by_a_whole_copy(tmp_path, check):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("one file system only")
    root = build_flowers(tmp_path / "flowers")
    broken = spoil(root)
    before = files_below(root)
    aside = other / f"provenet-{os.getpid()}"
    try:
        assert len(check(root, quarantine=aside).quarantine.moved) == 4
        assert set(files_below(aside)) - {".lock", "moved.jsonl"} == broken
        assert len(put_back(aside)) == 4
        assert files_below(root) == before
    finally:
        shutil.rmtree(aside, ignore_errors=True)


KILLED = """
import os, signal, sys
from pathlib import Path
from provenet.checkup import quarantine
from provenet.runs.check import check_data
place, count = sys.argv[1], 0
def dying(function):
    def called(*arguments, **options):
        global count
        count += 1
        if count == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return called
quarantine._note = dying(quarantine._note)
quarantine.flush_folder = dying(quarantine.flush_folder)
Path.rename = dying(Path.rename)
check_data(place + "/flowers", output=place + "/out", quarantine=place + "/aside")
"""


@pytest.mark.parametrize("moment", [1, 2, 3, 5, 8])
def test_a_kill_loses_nothing(tmp_path, moment):
    root = build_flowers(tmp_path / "flowers", train=2)
    spoil(root)
    before = files_below(root)
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path), str(moment)], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    if (tmp_path / "aside" / quarantine_module.LOG_NAME).exists():
        put_back(tmp_path / "aside")
    assert files_below(root) == before
