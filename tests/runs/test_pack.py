"""What is packed is what was there: to the byte, the label and the class; whatever happens on the way."""

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

import provenet as pn
from conftest import build_flowers, photo, take
from provenet.__main__ import run as run_command
from provenet.data.index import DataSet
from provenet.data.order import permutation
from provenet.errors import DataError, ProvenetError, SettingsError
from provenet.runs import pack as packing


@pytest.fixture
def flowers(tmp_path):
    """Two classes in three splits, of several formats."""
    root = build_flowers(tmp_path / "flowers", train=9, val=2, test=1)
    photo(root / "train" / "daisy" / "large.jpg", 1, (90, 50))
    photo(root / "train" / "tulip" / "large.webp", 2, (64, 80))
    photo(root / "train" / "tulip" / "misnamed.jpg", 3).rename(root / "train" / "tulip" / "misnamed.png")
    photo(root / "train" / "tulip" / "large.tif", 4, (100, 20))
    return root


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".tar", ".txt")}


def test_what_comes_out_is_what_went_in(tmp_path, flowers):
    result = pn.pack(flowers, tmp_path / "out", shard_megabytes=0.02)
    before, after = pn.open_data(flowers), pn.open_data(tmp_path / "out")
    assert list(after.splits) == ["train", "val", "test"]
    assert (result.pictures, result.skipped) == (28, 0)
    assert result.shards == len(list((tmp_path / "out").glob("*.tar"))) > 4
    assert all(path.stat().st_size <= 20_000 for path in (tmp_path / "out").glob("*.tar"))
    for split, images in before.splits.items():
        order = permutation(len(images), seed=0, epoch=0)
        packed = after.splits[split]
        assert packed.classes == images.classes == ("daisy", "tulip")
        assert packed.labels.tolist() == images.labels[order].tolist()
        assert [packed.pictures.content(row) for row in range(len(packed))] == [images.pictures.content(int(row)) for row in order]
    names = [name.rpartition("/")[2] for name in after.splits["train"].pictures.keys()]  # noqa: SIM118
    assert names[0].startswith("00000000.")
    assert {name.rpartition(".")[2] for name in names} == {"png", "jpg", "webp", "tif"}
    assert not after.ignored
    assert (tmp_path / "out" / "classes.txt").read_text() == "daisy\ntulip\n"


def test_two_packings_are_equal_to_the_byte(tmp_path, flowers):
    for name in "ab":
        pn.pack(flowers, tmp_path / name, shard_megabytes=0.02)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    with tarfile.open(next((tmp_path / "a").glob("*.tar"))) as tar:
        assert {(member.mtime, member.uid, member.gid, member.uname, member.mode) for member in tar} == {(0, 0, 0, "", 0o644)}


def test_others_can_read_them(tmp_path, flowers):
    pn.pack(flowers, tmp_path / "out")
    listed = subprocess.run(["tar", "tf", tmp_path / "out" / "train-000000.tar"], capture_output=True, text=True, check=True).stdout.split()
    assert len(listed) == 2 * 22
    code = (
        f"import webdataset as wds\n"
        f"for s in wds.WebDataset({str(tmp_path / 'out' / 'train-000000.tar')!r}, shardshuffle=False).decode('rgb8'):\n"
        "    print(s['__key__'], s['cls'], *next(v.shape for v in s.values() if hasattr(v, 'shape')))"
    )
    seen = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    ours = pn.open_data(tmp_path / "out").splits["train"]
    sizes = [ours.pictures.rgb(row).size for row in range(len(ours))]
    assert [line.split()[:4] for line in seen] == [
        [f"{row:08}", str(ours.labels[row]), str(sizes[row][1]), str(sizes[row][0])] for row in range(len(ours))
    ]


def test_pictures_in_arrays_become_png(tmp_path, mini, monkeypatch):
    digits = DataSet("digits", {"all": take(mini["test"], per_class=4)}, can_mirror=False)
    monkeypatch.setattr(packing, "open_data", lambda *_, **__: digits)
    pn.pack("digits", tmp_path / "out")
    after = pn.open_data(tmp_path / "out")
    images, packed, order = digits.splits["all"], after.splits["all"], permutation(40, seed=0, epoch=0)
    assert after.can_mirror is False
    assert packed.pictures.native_channels() == 1
    assert packed.classes == images.classes
    for row in range(40):
        same = images.pictures.picture(int(order[row]))
        with Image.open(io.BytesIO(packed.pictures.content(row))) as opened:
            assert np.array_equal(np.asarray(opened), np.asarray(same))


def test_longer_pictures_are_reduced(tmp_path, flowers):
    pn.pack(flowers, tmp_path / "out", longest_side=45)
    before, after = pn.open_data(flowers).splits["train"], pn.open_data(tmp_path / "out").splits["train"]
    order = permutation(len(before), seed=0, epoch=0)
    reduced = {}
    for row in range(len(after)):
        name, content = before.pictures.keys()[order[row]], after.pictures.content(row)
        if content != before.pictures.content(int(order[row])):
            with Image.open(io.BytesIO(content)) as opened:
                reduced[name] = (opened.format, opened.size)
                wanted = before.pictures.rgb(int(order[row])).resize(opened.size, Image.Resampling.LANCZOS)
                tolerance = 0 if opened.format == "PNG" else 12
                assert np.abs(np.asarray(opened.convert("RGB")).astype(int) - np.asarray(wanted)).mean() <= tolerance
    assert reduced == {
        "daisy/large.jpg": ("JPEG", (45, 25)),
        "tulip/large.webp": ("JPEG", (36, 45)),
        "tulip/large.tif": ("PNG", (45, 9)),
    }


def test_a_broken_picture_is_named_or_left_out_and_counted(tmp_path, flowers):
    (flowers / "train" / "daisy" / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.jpg: .*--skip-broken"):
        pn.pack(flowers, tmp_path / "out", shard_megabytes=0.02)
    with pytest.raises(DataError, match="expected a pack that came to its end, found an unfinished one"):
        pn.open_data(tmp_path / "out")
    result = pn.pack(flowers, tmp_path / "out", shard_megabytes=0.02, skip_broken=True)
    assert (result.pictures, result.skipped) == (28, 1)
    assert len(pn.open_data(tmp_path / "out").splits["train"]) == 22


def test_few_files_are_in_memory_at_once(tmp_path, monkeypatch):
    """As many as there are threads, twice; broken ones too, whose errors must not hold their pixels."""
    monkeypatch.setattr(packing, "count_cores", lambda: 2)
    for number in range(40):
        path = photo(tmp_path / "large" / "ab"[number % 2] / f"{number:02}.bmp", number, (400, 400))
        if number % 4 == 0:
            path.write_bytes(path.read_bytes()[:-600])
    file_bytes = 3 * 400 * 400
    pn.pack(tmp_path / "large", tmp_path / "first", skip_broken=True)  # what is imported only now
    tracemalloc.start()
    result = pn.pack(tmp_path / "large", tmp_path / "out", skip_broken=True)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (result.pictures, result.skipped) == (30, 10)
    assert peak_bytes < 12 * file_bytes


@pytest.mark.slow
def test_a_pack_that_was_killed_goes_on(tmp_path, flowers):
    for number in range(150):
        photo(flowers / "train" / "daisy" / f"more-{number}.png", number, (150, 150))
    wanted = tmp_path / "wanted"
    pn.pack(flowers, wanted, shard_megabytes=0.3)
    out = tmp_path / "out"
    command = [sys.executable, "-m", "provenet", "pack", str(flowers), str(out), "--shard-megabytes", "0.3"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while len(list(out.glob("*.tar"))) < 3 and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (out / "classes.txt").exists()
    shard = out / "train-000000.tar"
    first = shard.stat()
    with pytest.raises(SettingsError, match="an unfinished pack of other data or settings"):
        pn.pack(flowers, out, shard_megabytes=0.2)
    pn.pack(flowers, out, shard_megabytes=0.3)
    assert shard.stat().st_ino == first.st_ino  # kept, not written again
    assert bytes_of(out) == bytes_of(wanted)
    assert not [name for name in os.listdir(out) if name.startswith(".")]


def test_only_a_new_folder_outside_of_the_pictures_will_do(tmp_path, flowers):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").write_text("mine")
    with pytest.raises(SettingsError, match="expected a new or empty folder, found one in use"):
        pn.pack(flowers, tmp_path / "used")
    assert os.listdir(tmp_path / "used") == ["mine.txt"]
    with pytest.raises(SettingsError, match="outside of the pictures"):
        pn.pack(flowers, flowers / "shards")
    pn.pack(flowers, tmp_path / "out")
    with pytest.raises(SettingsError, match="found a finished pack"):
        pn.pack(flowers, tmp_path / "out")
    (tmp_path / "file").touch()
    for output, options in ((tmp_path / "file", {}), (tmp_path / "new", {"shard_megabytes": 0}), (tmp_path / "new", {"longest_side": 0})):
        with pytest.raises(ProvenetError, match="expected"):
            pn.pack(flowers, output, **options)
    assert not (tmp_path / "new").exists()


def test_a_full_disk_is_one_line(flowers, small_disk):
    for number in range(12):
        photo(flowers / "train" / "daisy" / f"more-{number}.png", number, (150, 150))
    with pytest.raises(SettingsError, match="No space left on device; mend that and run the same command again") as caught:
        pn.pack(flowers, small_disk / "out", shard_megabytes=0.2)
    assert "\n" not in str(caught.value)
    assert [name for name in os.listdir(small_disk / "out") if name.endswith(".part")] == []


def test_a_shard_that_is_missing_from_a_pack_is_missed(tmp_path, flowers):
    pn.pack(flowers, tmp_path / "out", shard_megabytes=0.02)
    (tmp_path / "out" / "train-000001.tar").unlink()
    with pytest.raises(DataError, match=r"expected train-000001\.tar, as packed"):
        pn.open_data(tmp_path / "out")


def test_the_command(tmp_path, flowers, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        run_command(["pack", "flowers", "out", "--json"])
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"folder": "out", "shards": 3, "pictures": 28, "skipped": 0, "bytes": told["bytes"]}
    with pytest.raises(SystemExit) as ended:
        run_command(["pack", "flowers", "out"])
    assert (ended.value.code, capsys.readouterr().err.count("\n")) == (2, 1)
