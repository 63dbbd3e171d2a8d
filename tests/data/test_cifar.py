"""CIFAR's binary layout, written here from clothes coloured by hand: no copy of CIFAR itself is in the repository."""

import hashlib
import io
import json
import pickle
import tarfile

import numpy as np
import pytest

from provenet.data import builtin
from provenet.data.builtin import BUILTIN, CIFAR_SETS, MNIST, PublishedFile
from provenet.data.cifar import CIFAR10, CIFAR100
from provenet.data.fetch import unpack
from provenet.data.idx import write_idx
from provenet.data.ignored import Reason
from provenet.data.sources import open_data
from provenet.errors import DataError
from test_cli import main

TINTS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 100, 50], [10, 20, 30]])


def colour(images, count, first=0):
    """Clothes in the middle of 32x32 pixels, each of another tint: uint8 [N, 32, 32, 3]."""
    chosen = np.linspace(first, len(images) - 1, count).astype(np.int64)
    grey = np.zeros((count, 32, 32, 1), np.int64)
    grey[:, 2:30, 2:30] = images.pictures.pixels[chosen]
    return (grey * TINTS[np.arange(count) % len(TINTS)][:, None, None] // 255).astype(np.uint8)


def record(labels, pixels):
    """As published: the labels, then every red, every green and every blue, row by row."""
    red, green, blue = (bytes(int(pixels[row, column, channel]) for row in range(32) for column in range(32)) for channel in range(3))
    return bytes(labels) + red + green + blue


def build(folder, layout, images, per_file=20):
    """A folder of the layout's files -> split -> pixels and labels."""
    folder.mkdir(parents=True)
    written = {}
    for number, (split, files) in enumerate(layout.splits.items()):
        pixels = colour(images, per_file * len(files), first=number)
        labels = np.arange(len(pixels)) * 7 % len(layout.classes)
        parts = [record([label // 5] * (len(layout.labels) - 1) + [label], picture) for label, picture in zip(labels, pixels, strict=True)]
        for k, name in enumerate(files):
            (folder / name).write_bytes(b"".join(parts[k * per_file : (k + 1) * per_file]))
        written[split] = pixels, labels
    (folder / layout.names_files[0]).write_text("\n".join(layout.classes) + "\n\n")
    return written


@pytest.mark.parametrize("layout", [CIFAR10, CIFAR100], ids=lambda layout: layout.name)
@pytest.mark.parametrize("is_above", [False, True])
def test_every_pixel_comes_back_at_its_place_and_channel(tmp_path, mini, layout, is_above):
    folder = tmp_path / layout.folder
    written = build(folder, layout, mini["train"])
    (folder / "readme.html").touch()
    data = open_data(tmp_path if is_above else folder)
    assert set(data.splits) == {"train", "test"}
    for split, (pixels, labels) in written.items():
        images = data.splits[split]
        assert np.array_equal(images.pictures.pixels, pixels)
        assert np.array_equal(images.labels, labels)
        assert images.classes == layout.classes
    red = data.splits["train"].pictures.picture(0).getpixel((12, 20))
    assert red == tuple(written["train"][0][0, 20, 12])
    assert data.can_mirror
    assert [item.reason for item in data.ignored] == [Reason.BESIDE_CIFAR]


def test_the_classes_are_known_and_may_be_named_otherwise(tmp_path, mini):
    assert len(set(CIFAR100.classes)) == 100
    assert list(CIFAR100.classes) == sorted(CIFAR100.classes)
    assert len(set(CIFAR10.classes)) == 10
    folder = tmp_path / "set"
    build(folder, CIFAR10, mini["train"], per_file=2)
    names = folder / "batches.meta.txt"
    names.write_text("\n".join("abcdefghij"))
    assert open_data(folder).splits["test"].classes == tuple("abcdefghij")
    for text in ("a\nb\n", "\n".join("abcdefghii"), "\n".join("abcdefgh\x1bj")):
        names.write_text(text)
        with pytest.raises(DataError, match="expected 10 class names, one a line"):
            open_data(folder)
    names.unlink()
    assert open_data(folder).splits["test"].classes[:2] == ("airplane", "automobile")


def test_damaged_files_are_one_line(tmp_path, mini):
    ten, hundred = tmp_path / "ten", tmp_path / "hundred"
    build(ten, CIFAR10, mini["train"], per_file=2)
    build(hundred, CIFAR100, mini["train"], per_file=2)
    whole = (ten / "data_batch_3.bin").read_bytes()

    def refused(folder, message):
        with pytest.raises(DataError, match=message) as caught:
            open_data(folder)
        assert "\n" not in str(caught.value)
        assert str(folder) in str(caught.value)

    (ten / "data_batch_3.bin").write_bytes(whole[:-1])
    refused(ten, "data_batch_3.bin: expected records of 3,073 bytes, .*found 6,145 bytes")
    (ten / "data_batch_3.bin").write_bytes(b"")
    refused(ten, "found 0 bytes")
    (ten / "data_batch_3.bin").write_bytes(whole[:3073] + b"\x0a" + whole[3074:])
    refused(ten, "data_batch_3.bin: expected labels below 10, found 10 in picture 1")
    (ten / "data_batch_3.bin").unlink()
    (ten / "test_batch.bin").unlink()
    refused(ten, "expected data_batch_3.bin, test_batch.bin beside the other files, found none")
    content = (hundred / "test.bin").read_bytes()
    (hundred / "test.bin").write_bytes(content[:1] + b"\x64" + content[2:])
    refused(hundred, "test.bin: expected labels below 100, found 100 in picture 0")
    (hundred / "test.bin").write_bytes(content[:3073])
    refused(hundred, "expected records of 3,074 bytes")


class Alarm:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was opened",))


@pytest.mark.parametrize("layout", [CIFAR10, CIFAR100], ids=lambda layout: layout.name)
def test_the_pickles_are_refused_and_not_opened(tmp_path, layout):
    folder = tmp_path / layout.python_folder
    folder.mkdir()
    for name in layout.python_files:
        (folder / name).write_bytes(pickle.dumps(Alarm()))
    for data in (folder, tmp_path):
        with pytest.raises(DataError, match=r"fetch the binary version: https://www.cs.toronto.edu/~kriz/cifar.html"):
            open_data(data)


def test_both_beside_one_another_need_a_choice(tmp_path, mini):
    for layout in (CIFAR10, CIFAR100):
        build(tmp_path / layout.folder, layout, mini["train"], per_file=1)
    with pytest.raises(DataError, match="found cifar-10-batches-bin and cifar-100-binary; point at one of them"):
        open_data(tmp_path)


def published(path):
    return PublishedFile(path.name, hashlib.md5(path.read_bytes()).hexdigest(), 10_000_000)


def test_cifar_is_fetched_unpacked_and_found_again(tmp_path, mini, served, monkeypatch):
    folder, address = served
    cache = tmp_path / "cache"
    monkeypatch.setenv("PROVENET_CACHE", str(cache))
    monkeypatch.setenv("PROVENET_CIFAR10", address)
    monkeypatch.setenv("PROVENET_CIFAR100", address)
    written = build(tmp_path / CIFAR10.folder, CIFAR10, mini["train"], per_file=3)
    archive = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / CIFAR10.folder, CIFAR10.folder)
    with pytest.raises(DataError, match="expected the published MD5 c32a1d4ab5d03f1284b67883e8d87530"):
        BUILTIN["cifar10"](None)
    monkeypatch.setitem(CIFAR_SETS, "cifar10", CIFAR_SETS["cifar10"]._replace(files=(published(archive),)))
    heard = []
    data = open_data("cifar10", lambda *facts: heard.append(facts))
    assert np.array_equal(data.splits["test"].pictures.pixels, written["test"][0])
    assert heard[0][0] == "fetching cifar-10-binary.tar.gz"
    assert [path.name for path in cache.iterdir()] == ["cifar-10-batches-bin"]
    archive.unlink()
    assert open_data("cifar10").splits["train"].fingerprint() == data.splits["train"].fingerprint()
    with pytest.raises(DataError, match=r"^cifar100: expected it in .*could not be fetched .*put cifar-100-binary.tar.gz into") as caught:
        open_data("cifar100")
    assert "\n" not in str(caught.value)


def test_mnist_is_fetched_and_not_mirrored(tmp_path, mini, served, monkeypatch):
    folder, address = served
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PROVENET_MNIST", address)
    for prefix, images in (("train", mini["train"]), ("t10k", mini["test"])):
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images.pictures.pixels[..., 0])
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", images.labels.astype(np.uint8))
    with pytest.raises(DataError, match="expected the published MD5 f68b3c2dcbeaaa9fbdd348bbdeb94873"):
        open_data("mnist")
    monkeypatch.setattr(builtin, "MNIST", MNIST._replace(files=tuple(published(folder / file.name) for file in MNIST.files)))
    data = open_data("mnist")
    assert not data.can_mirror
    assert data.splits["train"].classes == tuple("0123456789")
    assert len(data.splits["test"]) == 1_000


def test_archives_write_nothing_but_what_is_expected(tmp_path):
    def pack(*members):
        with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
            for name, content, kind in members:
                info = tarfile.TarInfo(name)
                info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
                tar.addfile(info, io.BytesIO(content))
        return tmp_path / "a.tar.gz"

    wanted = {"set/a.bin": 100}
    good = ("set/a.bin", b"x" * 100, tarfile.REGTYPE)
    unpack(pack(("../evil", b"!", tarfile.REGTYPE), (str(tmp_path / "evil"), b"!", tarfile.REGTYPE), good), tmp_path / "out", wanted)
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz", "out"}
    assert (tmp_path / "out" / "a.bin").read_bytes() == b"x" * 100
    cases = {
        "no file of at most 100 bytes": pack(("set/a.bin", b"x" * 101, tarfile.REGTYPE)).read_bytes(),
        "no file of at most": pack(("set/a.bin", b"", tarfile.SYMTYPE)).read_bytes(),
        "no set/a.bin in it": pack(("set/b.bin", b"x", tarfile.REGTYPE)).read_bytes(),
        "more bytes than it may have": pack(("zeros", bytes(30_000_000), tarfile.REGTYPE), good).read_bytes(),
        "expected the published archive": pack(good).read_bytes()[:60],
    }
    for message, content in cases.items():
        (tmp_path / "a.tar.gz").write_bytes(content)
        with pytest.raises(DataError, match=message):
            unpack(tmp_path / "a.tar.gz", tmp_path / "bad", wanted)
        assert {path.name for path in tmp_path.iterdir()} == {"a.tar.gz", "out"}


def test_the_commands_take_cifar(tmp_path, mini, capsys, monkeypatch):
    build(tmp_path / "colours", CIFAR10, mini["train"], per_file=20)
    monkeypatch.chdir(tmp_path)
    out, _ = main(capsys, "check", "colours", "--json", status=1)  # twenty pictures of ten classes repeat each other
    assert "findings" in json.loads(out)
    out, _ = main(capsys, "train", "colours", "--model", "lenet5", "--epochs", "1", "--json")
    result = json.loads(out)
    out, _ = main(capsys, "evaluate", result["bundle"], "colours", "--json")
    assert json.loads(out).items() >= result["test"].items()
