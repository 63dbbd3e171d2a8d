"""Tar shards: what the tar holds is what is read, and whatever is wrong with one is named."""

import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import numpy as np
import pytest
from PIL import Image
from test_decode import broken_files

from provenet.data import offsets
from provenet.data.holdout import divide
from provenet.data.offsets import encode_offsets, open_index, read_offsets
from provenet.data.shard_addresses import expand_braces, find_shards
from provenet.data.shard_files import LARGEST_NUM_OPEN
from provenet.data.shard_index import index_shard
from provenet.data.sources import open_data
from provenet.data.squares import open_squares
from provenet.errors import DataError, ImageError
from provenet.preprocessing import Preprocessing

SMALL = Preprocessing(size=8, resize=8, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)


def png(seed, side=8):
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


def write_tar(path, members, **options):
    """Members as {name: content}, or (TarInfo, content) for odd ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as tar:
        for name, content in members.items() if isinstance(members, dict) else members:
            info = tarfile.TarInfo(name) if isinstance(name, str) else name
            info.size = len(content) if info.isfile() else info.size
            tar.addfile(info, io.BytesIO(content))
    return path


def samples(count, classes=("cat", "dog"), first=0):
    return {
        f"{number:04}.{ending}": content
        for number in range(first, first + count)
        for ending, content in (("png", png(number)), ("cls", classes[number % len(classes)].encode()))
    }


def open_collecting(data):
    problems = []
    return open_data(data, on_problem=problems.append), problems


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))


def test_what_lies_in_a_tar_is_what_is_read(tmp_path):
    members = samples(5)
    write_tar(tmp_path / "set" / "a.tar", members)
    images = open_data(tmp_path / "set").splits["all"]
    assert images.classes == ("cat", "dog")
    assert images.labels.tolist() == [0, 1, 0, 1, 0]
    assert [images.pictures.content(index) for index in range(5)] == [members[f"{number:04}.png"] for number in range(5)]
    assert images.pictures.size_bytes(3) == len(members["0003.png"])
    assert images.pictures.where(3) == f"{tmp_path / 'set' / 'a.tar'}: 0003.png"
    assert images.pictures.keys()[3] == "a/0003.png"
    assert images.pictures.file(3) is None
    chosen = images.select(np.array([4, 1]))
    assert chosen.pictures.content(0) == members["0004.png"]
    assert chosen.labels.tolist() == [0, 1]
    again = open_data(tmp_path / "set").splits["all"]
    assert (again.fingerprint(), again.pictures.keys()) == (images.fingerprint(), images.pictures.keys())


@pytest.mark.parametrize("kind", ["gnu", "pax", "ustar"])
def test_every_dialect_of_tar_with_long_names(tmp_path, kind):
    folder = "/".join(["a folder with a long name"] * (5 if kind == "ustar" else 12))
    names = {
        f"{folder}/{'x' * 90}{'' if kind == 'ustar' else '猫'}.png": png(1),
        f"{folder}/{'x' * 90}{'' if kind == 'ustar' else '猫'}.cls": b"3",
    }
    options = {"format": {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}[kind]}
    write_tar(tmp_path / "a.tar", names | samples(2), **options)
    images = open_data(tmp_path / "a.tar").splits["all"]
    assert images.pictures.content(0) == png(1)
    assert images.pictures.keys()[0] == f"a/{next(iter(names))}"
    assert images.classes == ("3", "cat", "dog")


def test_gnu_tar_makes_shards_too(tmp_path):
    for name, content in samples(3).items():
        (tmp_path / name).write_bytes(content)
    subprocess.run(["tar", "cf", "made.tar", "--sort=name", *sorted(samples(3))], cwd=tmp_path, check=True)
    assert open_data(tmp_path / "made.tar").splits["all"].counts() == {"cat": 2, "dog": 1}


def test_labels_in_all_their_forms(tmp_path):
    members = {
        "a.JPG": png(1), "a.cls": b"10\n",
        "b.png": png(2), "b.json": json.dumps({"caption": "x", "label": 9, "class_name": "no"}).encode(), "b.txt": b"a caption",
        "c.png": png(3), "c.txt": b"  cat\n",
        "d.png": png(4), "d.json": b'{"class_name": "ape"}', "d.seg.png": png(5), "d.wav": b"x",
    }  # fmt: skip
    write_tar(tmp_path / "s" / "a.tar", members)
    data = open_data(tmp_path / "s")
    images = data.splits["all"]
    assert images.classes == ("9", "10", "ape", "cat")
    assert [images.classes[label] for label in images.labels] == ["10", "9", "cat", "ape"]
    assert sorted(item.path.rpartition(": ")[2] for item in data.ignored) == ["d.seg.png", "d.wav"]


def test_classes_beside_the_shards(tmp_path):
    write_tar(tmp_path / "s" / "a.tar", {"1.png": png(1), "1.cls": b"2", "2.png": png(2), "2.cls": b"bee"})
    (tmp_path / "s" / "classes.txt").write_text("ape\nbee\ncat\n")
    images = open_data(tmp_path / "s").splits["all"]
    assert (images.classes, images.labels.tolist()) == (("ape", "bee", "cat"), [2, 1])
    (tmp_path / "s" / "classes.txt").unlink()
    (tmp_path / "s" / "classes.json").write_text('{"0": "ape", "1": "bee", "2": "cat"}')
    assert open_data(tmp_path / "s").splits["all"].labels.tolist() == [2, 1]
    (tmp_path / "s" / "classes.json").write_text('["ape", "bee"]')
    with pytest.raises(DataError, match="expected each label to be of the classes beside the shards, found '2'"):
        open_data(tmp_path / "s")
    (tmp_path / "s" / "classes.json").write_text('["ape", "ape"]')
    with pytest.raises(DataError, match="expected different names"):
        open_data(tmp_path / "s")


def test_splits_by_folder_by_name_and_in_a_list(tmp_path):
    for split, first in (("train", 0), ("val", 10)):
        write_tar(tmp_path / "folders" / split / "0.tar", samples(4, first=first))
        write_tar(tmp_path / "names" / f"pets-{split}-000.tar", samples(4, first=first))
    (tmp_path / "pets.shards").write_text("# pets\ntrain names/pets-train-{000..000}.tar\nval names/pets-val-000.tar\n")
    for data in ("folders", "names", "pets.shards", "names/pets-{train,val}-000.tar"):
        splits = open_data(tmp_path / data).splits
        assert {split: len(images) for split, images in splits.items()} == {"train": 4, "val": 4}, data
    assert list(open_data(tmp_path / "names" / "pets-train-000.tar").splits) == ["all"]
    assert expand_braces("{8..11}") == ["8", "9", "10", "11"]
    write_tar(tmp_path / "names" / "extra.tar", samples(2))
    with pytest.raises(DataError, match=r"expected the split in the name of each shard or of none, found .*extra.tar"):
        open_data(tmp_path / "names")
    with pytest.raises(DataError, match="at most 100,000 shards"):
        find_shards("x-{000000..999}-{000..999}.tar")


def test_class_folders_stay_class_folders(tmp_path, class_folders):
    folder = class_folders(per_class=2, classes=2)
    write_tar(folder / "all.tar", samples(2))
    assert len(open_data(folder).splits["all"]) == 4


def test_a_label_only_in_val_is_an_error(tmp_path):
    write_tar(tmp_path / "s" / "train-0.tar", samples(4))
    write_tar(tmp_path / "s" / "val-0.tar", samples(2, classes=("cat", "emu")))
    with pytest.raises(DataError, match="found 'emu' too"):
        divide(open_data(tmp_path / "s"), val_fraction=0.2, seed=0)


def test_the_tar_is_read_once(tmp_path, monkeypatch):
    path = write_tar(tmp_path / "a.tar", samples(3))
    first = open_data(path).splits["all"]
    monkeypatch.setattr(offsets, "index_shard", None)  # any use would raise
    assert open_data(path).splits["all"].fingerprint() == first.fingerprint()


def test_an_offset_file_older_than_its_shard_or_damaged_is_made_again(tmp_path):
    path = write_tar(tmp_path / "a.tar", samples(3))
    open_data(path)
    beside = tmp_path / "a.tar.offsets"
    good = beside.read_bytes()
    for place in (3, 17, 30, len(good) // 2, len(good) - 1):
        beside.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert open_data(path).splits["all"].counts() == {"cat": 2, "dog": 1}
        assert beside.read_bytes() == good
    for content in (b"", good[:40], good[:-1], good + b"x"):
        beside.write_bytes(content)
        open_data(path)
        assert beside.read_bytes() == good
    write_tar(path, samples(4))
    os.utime(path, ns=(1, 1))
    assert len(open_data(path).splits["all"]) == 4
    assert beside.read_bytes() != good


def test_an_offset_file_of_strangers_points_nowhere_else(tmp_path):
    path = write_tar(tmp_path / "a.tar", samples(3))
    index = index_shard(path, "a.tar")
    status = path.stat()
    for change in (
        {"offsets": index.offsets + status.st_size},
        {"offsets": index.offsets - 10**6},
        {"sizes": index.sizes + status.st_size},
        {"sizes": -index.sizes},
        {"labels": index.labels + 2},
        {"labels": index.labels - 1},
        {"ends": index.ends[::-1]},
        {"ends": index.ends + 1},
        {"label_names": ("red\x1b[31m", "x")},
        {"tar_bytes": status.st_size + 1},
    ):
        forged = encode_offsets(type(index)(**(vars(index) | change)))
        (tmp_path / "forged").write_bytes(forged)
        assert read_offsets(tmp_path / "forged", status.st_size, status.st_mtime_ns) is None, change
    (tmp_path / "forged").write_bytes(encode_offsets(index))
    assert read_offsets(tmp_path / "forged", status.st_size, status.st_mtime_ns) is not None


def test_a_folder_that_takes_no_files(tmp_path, make_disk):
    disk = make_disk("64k")
    path = write_tar(disk / "a.tar", samples(3))
    with pytest.raises(OSError, match="No space"):
        (disk / "filler").write_bytes(bytes(100_000))
    before = sorted(os.listdir(disk))
    assert len(open_data(path).splits["all"]) == 3
    assert sorted(os.listdir(disk)) == before
    assert len(list((tmp_path / "cache" / "offsets").glob("*.offsets"))) == 1


@pytest.mark.slow
def test_two_processes_at_once(tmp_path):
    path = write_tar(tmp_path / "a.tar", samples(300))
    code = f"import provenet as pn; print(pn.open_data({str(path)!r}).splits['all'].fingerprint())"
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert len({process.communicate()[0] for process in running}) == 1
    assert sorted(os.listdir(tmp_path)) == ["a.tar", "a.tar.offsets"]


@pytest.mark.parametrize("where", ["content", "header", "boundary"])
def test_a_shard_cut_off_in_the_middle(tmp_path, where):
    path = write_tar(tmp_path / "a.tar", samples(6))
    with tarfile.open(path) as tar:
        fourth = tar.getmember("0003.png")
    end = {"content": fourth.offset_data + 10, "header": fourth.offset + 100, "boundary": fourth.offset}[where]
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(DataError, match=r"a\.tar: .*ends? before it; the last whole member is 0002.cls; fetch the shard again") as caught:
        open_data(path)
    assert "\n" not in str(caught.value)
    data, problems = open_collecting(path)
    assert [problem.kind for problem in problems] == ["cut-off shard"]
    assert len(data.splits["all"]) == 3
    assert str(open_collecting(path)[1][0]) == str(problems[0])  # told again, from the offset file


@pytest.mark.slow
def test_training_goes_on_with_the_whole_pictures_of_a_cut_off_shard(tmp_path):
    from provenet.runs.train import train

    path = write_tar(tmp_path / "a.tar", samples(12))
    path.write_bytes(path.read_bytes()[:-12_000])
    with pytest.raises(DataError, match="--skip-broken"):
        train(path, "lenet5_softmax", output=tmp_path / "run", epochs=1)
    run = train(path, "lenet5_softmax", output=tmp_path / "run", epochs=1, skip_broken=True)
    assert run.bundle_path.is_file()


def test_damage_in_the_middle_of_a_tar(tmp_path):
    path = write_tar(tmp_path / "a.tar", samples(4))
    with tarfile.open(path) as tar:
        place = tar.getmember("0002.png").offset
    content = bytearray(path.read_bytes())
    content[place : place + 20] = b"\xff" * 20
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"expected a tar header at byte {place:,}"):
        open_data(path)
    assert len(open_collecting(path)[0].splits["all"]) == 2


def test_what_is_no_plain_tar_is_refused(tmp_path):
    plain = write_tar(tmp_path / "plain.tar", samples(2)).read_bytes()
    for kind in ("gz", "bz2", "xz"):
        with tarfile.open(tmp_path / f"{kind}.tar", f"w:{kind}") as tar:
            tar.add(tmp_path / "plain.tar", "x.png")
    with zipfile.ZipFile(tmp_path / "zip.tar", "w") as archive:
        archive.writestr("a.png", plain)
    (tmp_path / "zero.tar").touch()
    (tmp_path / "text.tar").write_text("no tar " * 200)
    (tmp_path / "short.tar").write_bytes(plain[:300])
    with (tmp_path / "hole").open("wb") as file:
        file.truncate(2**20)
        file.seek(2**20)
        file.write(b"x")
    subprocess.run(["tar", "cSf", "sparse.tar", "hole"], cwd=tmp_path, check=True)
    subprocess.run(["tar", "cSf", "sparse-pax.tar", "--format=pax", "hole"], cwd=tmp_path, check=True)
    for name, found in (
        ("gz", "a gzip-compressed file"), ("bz2", "a bzip2-compressed file"), ("xz", "an xz-compressed file"), ("zip", "a zip"),
        ("zero", "an empty file"), ("text", "no tar header"), ("short", "no tar header"),
        ("sparse", "a sparse or split one"), ("sparse-pax", "a sparse or split one"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=found) as caught:
            open_data(tmp_path / f"{name}.tar")
        assert str(caught.value).startswith(str(tmp_path / f"{name}.tar"))
        assert "\n" not in str(caught.value)
    write_tar(tmp_path / "nothing.tar", {})
    with pytest.raises(DataError, match=r"expected pictures .* found none"):
        open_data(tmp_path / "nothing.tar")


def test_a_name_that_would_eat_the_memory(tmp_path):
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**40
    (tmp_path / "a.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(2_000))
    with pytest.raises(DataError, match="names of at most 65,536 bytes, found one of 1,099,511,627,776 bytes"):
        open_data(tmp_path / "a.tar")


def test_evil_names_links_and_devices_are_only_read(tmp_path):
    link, device = tarfile.TarInfo("l.png"), tarfile.TarInfo("d.png")
    link.type, link.linkname, device.type = tarfile.SYMTYPE, "/etc/passwd", tarfile.CHRTYPE
    members = [
        ("../../evil.png", png(1)),
        ("../../evil.cls", b"a"),
        ("/evil2.png", png(2)),
        ("/evil2.cls", b"b"),
        (link, b""),
        (device, b""),
    ]
    write_tar(tmp_path / "deep" / "s" / "a.tar", members)
    data = open_data(tmp_path / "deep" / "s")
    assert data.splits["all"].pictures.content(0) == png(1)
    assert [(item.reason.name, item.count) for item in data.ignored] == [("NO_FILE_INSIDE", 2)]
    assert sorted(os.listdir(tmp_path)) == ["deep"]
    assert sorted(os.listdir(tmp_path / "deep" / "s")) == ["a.tar", "a.tar.offsets"]


def test_keys_without_label_labels_without_picture_and_keys_twice(tmp_path):
    members = [
        *samples(2).items(),
        ("alone.png", png(9)),
        ("lonely.cls", b"cat"),
        ("two.png", png(7)), ("two.jpg", png(8)), ("two.cls", b"dog"),
        ("bad.png", png(7)), ("bad.cls", b"\xff\xfe"),
        ("none.png", png(7)), ("none.cls", b"-1"),
        ("0000.png", png(7)), ("0000.cls", b"cat"),
        ("._0000.png", b"x"),
    ]  # fmt: skip
    write_tar(tmp_path / "s" / "a.tar", members)
    data, problems = open_collecting(tmp_path / "s")
    assert {problem.kind for problem in problems} == {"no label", "bad label", "two pictures", "key again"}
    said = " ".join(map(str, problems))
    assert all(
        words in said for words in ("none beside alone.png", "another one, two.jpg", "neither in bad.cls and 1 others", "of 0000.png again")
    )
    assert {item.reason.name: item.path.rpartition(": ")[2] for item in data.ignored} == {
        "LONELY_LABEL": "lonely.cls",
        "HIDDEN": "._0000.png",
    }
    assert len(data.splits["all"]) == 4
    with pytest.raises(DataError, match=r"a\.tar: expected"):
        open_data(tmp_path / "s")


def test_broken_pictures_inside_a_shard(tmp_path):
    expected = broken_files(tmp_path)
    names = [name for name in expected if name not in ("gone.jpg", "pipe.jpg", "huge.tif")]  # which no tar can hold as they are
    assert len(names) == 9
    members = [(f"{number}.{name.rpartition('.')[2]}", name) for number, name in enumerate(names)]
    path = tmp_path / "broken.tar"
    with tarfile.open(path, "w") as tar:
        for inside, name in members:
            tar.add(tmp_path / name, inside)
            info = tarfile.TarInfo(inside.rpartition(".")[0] + ".cls")
            info.size = 1
            tar.addfile(info, io.BytesIO(b"1"))
    images = open_data(path).splits["all"]
    _, broken = open_squares(images.pictures, SMALL, num_threads=2)
    assert len(broken) == 9
    for number, (inside, name) in enumerate(members):
        assert broken[number].kind == expected[name][0]
        assert expected[name][1] in str(broken[number])
        assert f"{path}: {inside}" in str(broken[number])


def test_a_picture_too_large_to_read(tmp_path):
    info = tarfile.TarInfo("huge.tif")
    info.size = 2**30 + 1
    with (tmp_path / "a.tar").open("wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        file.seek(512 + 2**30 + 512)
        label = tarfile.TarInfo("huge.cls")
        label.size = 1
        file.write(label.tobuf(tarfile.GNU_FORMAT) + b"1" + bytes(511 + 1024))
    images = open_data(tmp_path / "a.tar").splits["all"]
    with pytest.raises(ImageError, match="1,073,741,825 bytes") as caught:
        images.pictures.content(0)
    assert caught.value.kind == "too large"


def test_a_shard_that_disappears_or_changes_between_index_and_read(tmp_path):
    path = write_tar(tmp_path / "a.tar", samples(3))
    pictures = open_data(path).splits["all"].pictures
    path.rename(tmp_path / "moved.tar")
    with pytest.raises(ImageError, match=r"a\.tar: 0001.png: expected an image, found a shard that cannot be read") as caught:
        pictures.content(1)
    assert caught.value.kind == "missing"
    write_tar(path, samples(3, classes=("b", "c")))
    os.utime(path, ns=(5, 5))
    with pytest.raises(ImageError, match="found it changed") as caught:
        pictures.content(1)
    assert caught.value.kind == "damaged"
    with pytest.raises(DataError, match=r"gone\.tar: expected a shard, found: No such file"):
        open_data(str(tmp_path / "{gone,moved}.tar"))


def test_many_threads_and_more_shards_than_may_be_open(tmp_path):
    for number in range(LARGEST_NUM_OPEN + 30):
        write_tar(tmp_path / "s" / f"{number:03}.tar", samples(2, first=2 * number))
    images = open_data(tmp_path / "s").splits["all"]
    assert images.pictures.blocks() == (2,) * (LARGEST_NUM_OPEN + 30)
    assert images.pictures.select(np.array([0, 1, 4, 2, 3])).blocks() == (2, 1, 2)
    right = []

    def read(seed):
        for index in np.random.default_rng(seed).permutation(len(images)):
            right.append(images.pictures.content(int(index)) == png(int(index)))

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + LARGEST_NUM_OPEN + 12, hard))
    try:
        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(right) == 4 * len(images)
    assert all(right)
    assert len(images.pictures.table.files._open) <= LARGEST_NUM_OPEN


def test_lists_that_cannot_be_used(tmp_path):
    for text, message in (
        ("", "found no address in it"),
        ("train a.tar\nb.tar\n", "found .*b.tar without"),
        ("a.tar\na.tar\n", "twice"),
        ("hello\n", "line 1: expected the address of a .tar"),
    ):
        (tmp_path / "x.shards").write_text(text)
        with pytest.raises(DataError, match=message):
            open_data(tmp_path / "x.shards")


def test_a_check_looks_into_shards(tmp_path, check):
    write_tar(tmp_path / "s" / "a.tar", {**samples(8), "x.wav": b"x", "y.wav": b"y"})
    checkup = check(tmp_path / "s")
    assert "ignored  2 x no picture by its ending" in str(checkup)
    assert "s: 8 pictures of 2 classes" in str(checkup)
    assert [look.size_bytes for look in checkup.facts.looks if look.path.endswith("0003.png")] == [len(png(3))]


def test_thousands_of_pictures_take_little_memory_and_time(tmp_path):
    path = write_tar(
        tmp_path / "a.tar",
        [(name, content) for n in range(4_000) for name, content in ((f"{n:08}.jpg", b"x" * 40), (f"{n:08}.cls", b"1"))],
    )
    index = open_index(path, "a.tar")
    arrays = (index.offsets, index.sizes, index.ends, index.labels, index.text)
    assert sum(array.nbytes for array in arrays) / 4_000 < 50
    started = time.perf_counter()
    open_index(path, "a.tar")
    again = time.perf_counter() - started
    started = time.perf_counter()
    index_shard(path, "a.tar")
    assert again < (time.perf_counter() - started) / 3
