"""Every kind of DATA, made of the same pictures, and every command that takes DATA."""

import csv
import io
import json
import re
import shutil
import tarfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from test_cifar import record

from conftest import photo
from provenet import pack
from provenet.data.builtin import BUILTIN
from provenet.data.cifar import CIFAR10
from provenet.data.holdout import divide
from provenet.data.idx import write_idx
from provenet.data.shard_addresses import LIST_ENDINGS
from provenet.data.sources import open_data
from provenet.data.tables import KINDS
from provenet.errors import DataError
from test_cli import main

SIDE_PIXELS = 32
CLASSES = ("daisy", "tulip")
PER_CLASS = 12


@pytest.fixture(scope="module")
def flowers(tmp_path_factory):
    """The pictures in class folders."""
    root = tmp_path_factory.mktemp("flowers") / "flowers"
    for number, label in enumerate(CLASSES):
        for k in range(PER_CLASS):
            photo(root / label / f"{k:02}.png", 100 * number + k, (SIDE_PIXELS, SIDE_PIXELS))
    return root


def list_files(flowers):
    return [(path.relative_to(flowers).as_posix(), path.parent.name) for path in sorted(flowers.glob("*/*"))]


def pixels_of(flowers):
    return np.stack([np.asarray(Image.open(flowers / path)) for path, _ in list_files(flowers)])


def as_folder(flowers, place):
    return shutil.copytree(flowers, place / "flowers")


def as_split_folders(flowers, place):
    for split, chosen in (("train", slice(0, 8)), ("val", slice(8, None))):
        for label in CLASSES:
            (place / "flowers" / split / label).mkdir(parents=True)
            for path in sorted((flowers / label).iterdir())[chosen]:
                shutil.copy(path, place / "flowers" / split / label)
    return place / "flowers"


def as_csv(flowers, place, ending=".csv", delimiter=","):
    as_folder(flowers, place)
    path = place / "flowers" / f"list{ending}"
    with path.open("w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows([("path", "label"), *list_files(flowers)])
    return path


def as_tsv(flowers, place):
    return as_csv(flowers, place, ".tsv", "\t")


def as_json_lines(flowers, place):
    path = as_folder(flowers, place) / "list.jsonl"
    path.write_text("".join(json.dumps({"path": file, "label": label}) + "\n" for file, label in list_files(flowers)))
    return path


def as_parquet(flowers, place):
    path = as_folder(flowers, place) / "list.parquet"
    files, labels = zip(*list_files(flowers), strict=True)
    pyarrow.parquet.write_table(pa.table({"path": files, "label": labels}), path)
    return path


def as_idx(flowers, place):
    """Grey, as IDX pictures are."""
    labels = np.repeat(np.arange(2, dtype=np.uint8), PER_CLASS)
    write_idx(place / "train-images-idx3-ubyte.gz", pixels_of(flowers)[..., 0])
    write_idx(place / "train-labels-idx1-ubyte.gz", labels)
    return place


def as_cifar(flowers, place):
    records = [record([k // PER_CLASS], pixels) for k, pixels in enumerate(pixels_of(flowers))]
    for name in CIFAR10.files:
        (place / name).write_bytes(b"".join(records))
    (place / CIFAR10.names_files[0]).write_text("\n".join(CIFAR10.classes) + "\n")
    return place


def as_shard(flowers, place):
    path = place / "all-000.tar"
    with tarfile.open(path, "w") as tar:
        for number, (file, label) in enumerate(list_files(flowers)):
            for ending, content in ((Path(file).suffix, (flowers / file).read_bytes()), (".cls", label.encode())):
                info = tarfile.TarInfo(f"{number:04}{ending}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def as_folder_of_shards(flowers, place):
    return as_shard(flowers, place).parent


def as_numbered_shards(flowers, place):
    as_shard(flowers, place)
    return place / "all-{000..000}.tar"


def as_list_of_shards(flowers, place):
    as_shard(flowers, place)
    (place / "list.shards").write_text("all-000.tar\n")
    return place / "list.shards"


def as_address(flowers, place):
    """An object store's: what a web server does is in test_remote.py."""
    with fsspec.open("memory://bucket/all-000.tar", "wb") as file:
        file.write(as_shard(flowers, place).read_bytes())
    return "memory://bucket/all-000.tar"


KINDS_OF_DATA = {
    make.__name__.removeprefix("as_"): make
    for make in (
        as_folder, as_split_folders, as_csv, as_tsv, as_json_lines, as_parquet, as_idx, as_cifar, as_shard, as_folder_of_shards,
        as_numbered_shards, as_list_of_shards, as_address,
    )
}  # fmt: skip


QUICK = {"folder", "csv", "idx", "shard", "address"}


@pytest.fixture(params=[pytest.param(kind, marks=[] if kind in QUICK else pytest.mark.slow) for kind in KINDS_OF_DATA])
def data(request, flowers, tmp_path, monkeypatch):
    """The pictures as one kind of DATA."""
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    return KINDS_OF_DATA[request.param](flowers, tmp_path / "data")


def test_every_command_takes_every_kind(data, tmp_path, capsys):
    small = "--model", "lenet5_softmax", "--precision", "float32"
    images = next(iter(open_data(data).splits.values()))
    is_grey = images.pictures.native_channels() == 1
    main(capsys, "preview", data, "-o", "sheet.png", "--pictures", "2", *small)
    assert "expected pictures in colour" in main(capsys, "colours", data, status=2)[1] if is_grey else main(capsys, "colours", data)[0]
    packed = json.loads(main(capsys, "pack", data, "packed", "--json")[0])
    is_repeated = len(open_data(data).splits) > 1 and packed["pictures"] > len(CLASSES) * PER_CLASS  # CIFAR has six files
    checked = json.loads(main(capsys, "check", data, "-o", "checked", "--json", status=int(is_repeated))[0])
    assert len(checked["files"]) == packed["pictures"] >= len(CLASSES) * PER_CLASS
    trained = json.loads(main(capsys, "train", data, "-o", "run", "--epochs", "1", *small, "--json")[0])
    assert json.loads(main(capsys, "evaluate", "run", data, "--json")[0])["images"] > 0
    (tmp_path / "killed").mkdir()  # before its first snapshot
    shutil.copy("run/settings.toml", "killed")
    gone_on = json.loads(main(capsys, "resume", "killed", "--data", data, "--json")[0])
    assert gone_on["val"] == trained["val"]


WITHOUT_TRAIN = {
    "folder": ("a folder 'train' or class folders", "add a folder for each class"),
    "csv": ("rows with the split 'train', or no column of splits", "add rows with another label"),
    "shards": (r"shards of the split 'train' \(train-000000.tar\), or of no split", "add pictures with another label"),
}


@pytest.mark.parametrize("kind", WITHOUT_TRAIN)
def test_what_is_missing_to_train_is_said_in_the_words_of_the_kind(kind, flowers, tmp_path, check):
    root = tmp_path / "flowers"
    shutil.copytree(flowers, root / "test")
    whole, lonely = root, tmp_path / "lonely"
    shutil.copytree(flowers / "daisy", lonely / "train" / "daisy")
    if kind == "csv":
        whole, lonely = tmp_path / "whole.csv", tmp_path / "lonely.csv"
        rows = [f"flowers/test/{path},{label},test\n" for path, label in list_files(flowers)]
        whole.write_text("path,label,split\n" + "".join(rows))
        lonely.write_text("path,label\n" + "".join(f"flowers/test/{path},daisy\n" for path, _ in list_files(flowers)[:PER_CLASS]))
    elif kind == "shards":
        for data, place in ((whole, "whole"), (lonely, "lonely")):
            pack(data, tmp_path / f"packed-{place}")
        whole, lonely = tmp_path / "packed-whole", tmp_path / "packed-lonely"
    train_words, class_words = WITHOUT_TRAIN[kind]
    with pytest.raises(DataError, match=f"expected {train_words}, found only test; add what is missing"):
        divide(open_data(whole), val_fraction=0.2, seed=0)
    with pytest.raises(DataError, match=rf"expected at least two classes, found \['daisy'\]; {class_words}"):
        divide(open_data(lonely), val_fraction=0.2, seed=0)
    assert any(re.match(f"expected {train_words}, found only test", finding.message) for finding in check(whole).findings)
    assert any(finding.message.endswith(class_words) for finding in check(lonely).findings)


def test_every_help_says_the_same_of_data(capsys):
    said = {}
    for command in ("check", "colours", "preview", "pack", "train", "evaluate", "calibrate", "ensemble", "resume"):
        words = re.sub(r"[│\s]+", " ", main(capsys, command, "--help")[0])
        said[command] = re.search(r"folder of class folders.*?or cifar100\b", words)[0]
    assert len(set(said.values())) == 1, said
    kinds = {"csv": "CSV", "tsv": "TSV", "jsonl": "JSON lines", "parquet": "Parquet"}
    for word in (*BUILTIN, *LIST_ENDINGS, *(kinds[kind] for kind in KINDS.values()), "IDX", "CIFAR", "://", "{000..009}", "train, val"):
        assert word in said["train"], word
