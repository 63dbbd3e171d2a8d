"""Manifests as people write them: by hand, by Excel, by pandas, and wrongly."""

import csv
import gc
import io
import json
import subprocess
import sys
import time
import tracemalloc
import unicodedata

import numpy as np
import pytest
from PIL import Image
from test_decode import broken_files

from conftest import build_flowers, photo, take
from provenet import evaluate, train
from provenet.data import tables
from provenet.data.holdout import divide
from provenet.data.manifest import read_manifest
from provenet.data.sources import open_data
from provenet.errors import DataError
from test_cli import main


def write(path, rows, header=("path", "label"), **style):
    """A manifest by the csv module; its pictures are there, if empty."""
    with path.open("w", newline="", encoding=style.pop("encoding", "utf-8")) as file:
        csv.writer(file, **style).writerows([header, *rows])
    for row in rows:
        (path.parent / row[0]).parent.mkdir(parents=True, exist_ok=True)
        (path.parent / row[0]).touch()
    return path


def paths_and_labels(images):
    return [(path, images.classes[label]) for path, label in zip(images.pictures.paths, images.labels, strict=True)]


ODD = [('with "quotes", commas.png', "cat"), ("猫/😀 ü.png", "猫"), (" two  spaces .png", "a; b"), ("new\nline.png", "cat")]


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("plain.csv", {}),
        ("unix.CSV", {"lineterminator": "\n"}),
        ("mac.csv", {"lineterminator": "\r", "quoting": csv.QUOTE_ALL}),
        ("excel.csv", {"delimiter": ";", "encoding": "utf-8-sig"}),
        ("quoted.csv", {"quoting": csv.QUOTE_ALL, "encoding": "utf-8-sig"}),
        ("tabs.tsv", {"delimiter": "\t"}),
        ("tabs.csv", {"delimiter": "\t"}),
    ],
)
def test_every_usual_style_of_csv_gives_the_same(tmp_path, name, style):
    images = open_data(write(tmp_path / name, ODD, ("Path", "LABEL"), **style)).splits["all"]
    assert paths_and_labels(images) == ODD
    assert images.classes == ("a; b", "cat", "猫")
    assert images.labels.dtype == np.int64
    assert images.pictures.file(1) == tmp_path / "猫/😀 ü.png"


def test_json_lines_and_parquet_give_the_same_as_csv(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    write(tmp_path / "a.csv", ODD)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"label": label, "path": path}) + "\n\n" for path, label in ODD))
    paths, labels = (list(column) for column in zip(*ODD, strict=True))
    pq.write_table(pa.table({"path": paths, "label": labels}), tmp_path / "a.parquet")
    pq.write_table(
        pa.table({"class": pa.array(labels).dictionary_encode(), "file": pa.array(paths, pa.large_string())}), tmp_path / "b.parquet"
    )
    for name in ("a.jsonl", "a.parquet", "b.parquet"):
        data = open_data(tmp_path / name)
        assert paths_and_labels(data.splits["all"]) == ODD
        assert data.splits["all"].fingerprint() == open_data(tmp_path / "a.csv").splits["all"].fingerprint()
        assert data.name == name[0]


def test_splits_in_any_words(tmp_path):
    rows = [("1.png", "b", "Training"), ("2.png", "a", "TRAIN "), ("3.png", "b", "valid"), ("4.png", "b", "testing")]
    data = open_data(write(tmp_path / "a.csv", rows, ("path", "label", "Split")))
    assert {split: list(images.pictures.paths) for split, images in data.splits.items()} == {
        "train": ["1.png", "2.png"], "val": ["3.png"], "test": ["4.png"],
    }  # fmt: skip
    splits = divide(data, val_fraction=0.2, seed=0)
    assert splits.val.classes == splits.train.classes == ("a", "b")
    assert splits.val.labels.tolist() == [1]
    assert data.splits["val"].name == f"{tmp_path / 'a.csv'} (val)"
    write(tmp_path / "none.csv", [("1.png", "b", ""), ("2.png", "a", " ")], ("path", "label", "split"))
    assert set(open_data(tmp_path / "none.csv").splits) == {"all"}
    write(tmp_path / "strange.csv", [*rows, ("5.png", "dog", "val")], ("path", "label", "split"))
    with pytest.raises(DataError, match=r"strange.csv \(val\): expected the 2 classes trained on, found 'dog' too"):
        divide(open_data(tmp_path / "strange.csv"), val_fraction=0.2, seed=0)


def test_numbers_are_classes_in_their_order(tmp_path):
    for name in "abcd":
        (tmp_path / name).touch()
    lines = [{"path": "a", "label": 10}, {"path": "b", "label": "2"}, {"path": "c", "label": 2}, {"path": "d", "label": 1.0}]
    (tmp_path / "n.jsonl").write_text("\n".join(map(json.dumps, lines)))
    images = open_data(tmp_path / "n.jsonl").splits["all"]
    assert images.classes == ("1", "2", "10")
    assert images.labels.tolist() == [2, 1, 1, 0]
    assert open_data(write(tmp_path / "n.csv", [("a", "10"), ("b", "2"), ("c", "x")])).splits["all"].classes == ("10", "2", "x")


def test_one_label_in_two_unicode_forms_is_one_class(tmp_path):
    rows = [(f"{form}.png", unicodedata.normalize(form, "café")) for form in ("NFC", "NFD")]
    assert open_data(write(tmp_path / "a.csv", rows)).splits["all"].classes == ("café",)


@pytest.mark.parametrize(("path", "label"), [("file", "class"), ("FileName", "target"), ("image", "label"), ("image_path", "Category")])
def test_other_names_of_columns(tmp_path, path, label):
    data = open_data(write(tmp_path / "a.csv", [("1.png", "cat", "x")], (path, label, "remark")))
    assert paths_and_labels(data.splits["all"]) == [("1.png", "cat")]


def test_the_usual_name_goes_before_the_others(tmp_path):
    data = open_data(write(tmp_path / "a.csv", [("1.png", "cat", "no", "no")], ("path", "label", "file", "class")))
    assert paths_and_labels(data.splits["all"]) == [("1.png", "cat")]


def test_paths_outside_of_the_folder_are_the_users_own(tmp_path):
    (tmp_path / "lists").mkdir()
    rows = [(str(tmp_path / "far.png"), "a"), ("../near.png", "b")]
    images = open_data(write(tmp_path / "lists" / "a.csv", rows)).splits["all"]
    assert [images.pictures.file(k).resolve() for k in range(2)] == [tmp_path / "far.png", tmp_path / "near.png"]


def test_bad_manifests_name_the_row(tmp_path, monkeypatch):
    head = b"path,label\na.png,cat\n"
    monkeypatch.setattr(tables, "LARGEST_ROW_CHARACTERS", 200_000)
    (tmp_path / "a.png").touch()
    cases = {
        "empty.csv": (b"", r"expected a header .* found an empty file"),
        "header.csv": (b"path,label\n", "expected rows with pictures, found none"),
        "blank.csv": (b"path,label\n\n,\n", "expected rows with pictures, found none"),
        "columns.csv": (
            b"picture,label\na.png,cat\n",
            r"row 1: expected a column 'path' \(or file, .*found 'picture', 'label'; name it so",
        ),
        "nolabel.csv": (b"path;name\na.png;cat\n", r"row 1: expected a column 'label' .*found 'path', 'name'"),
        "twice.csv": (
            b"file,image,label\na.png,b.png,cat\n",
            "row 1: expected one column 'path', found 'file' and 'image'; name the right",
        ),
        "short.csv": (head + b"\nb.png\n", "row 4: expected 2 cells as in the header, found 1; complete it"),
        "long.csv": (head + b"b,c.png,cat\n", "row 3: expected 2 cells as in the header, found 3; put what contains ',' into quotes"),
        "quote.csv": (head + b'"b.png,cat\nc.png,cat\n', "row 3: expected cells in proper quotes, found unexpected end of data"),
        "nul.csv": (head + b"b\0.png,cat\n", "row 3: expected text, found a NUL byte"),
        "utf16.csv": ("path,label\na.png,cat".encode("utf-16"), "row 1: expected text, found a NUL byte; save it as UTF-8"),
        "gbk.csv": (head + "b.png,狗\n".encode("gbk"), r"row 3: expected text in UTF-8, found other bytes; .*CSV UTF-8"),
        "wide.csv": (head + b"x" * 300_000, "row 3: expected at most 200,000 characters in a row, found more"),
        "cell.csv": (head + b"x" * 140_000 + b",cat\n", "row 3: expected cells in proper quotes, found field larger than"),
        "endless.csv": (head + b'"x\n' + b'","y\n' * 60_000, "row 3: expected at most 200,000 characters in a row"),
        "nopath.csv": (head + b",cat\n", "row 3: expected a path, found none; give one"),
        "unlabelled.csv": (head + b"b.png, \n", "row 3: expected text or a whole number as its label, found none"),
        "red.csv": (head + b"b.png,r\x1b[31md\n", r"row 3: expected a label of plain text.*found 'r.\[31md'"),
        "nosplit.csv": (b"path,label,split\na.png,cat,train\nb.png,cat,\nc.png,cat,\n", "row 3: expected train, val or test as its split"),
        "split.csv": (b"path,label,split\na.png,cat,trian\n", "row 2: expected train, val or test .*found 'trian'; did you mean 'train'"),
        "two.csv": (
            head + b"b.png,dog\n./a.png,dog\n",
            "expected one label for ./a.png, found 'cat' in row 2 and 'dog' in row 4; remove one",
        ),
        "empty.jsonl": (b"", "expected a JSON object on each line, found an empty file"),
        "broken.jsonl": (b'{"path": "a.png", "label": 1}\n{"path"\n', "row 2: expected a JSON object, found something else"),
        "list.jsonl": (b'["a.png", 1]\n', "row 1: expected a JSON object, found list; write"),
        "deep.jsonl": (b"[" * 100_000, "row 1: expected a JSON object, found something else"),
        "less.jsonl": (b'{"path": "a.png", "label": 1}\n{"path": "b.png"}\n', "row 2: expected a column 'label'"),
        "bool.jsonl": (b'{"path": "a.png", "label": true}\n', "row 1: expected text or a whole number as its label, found True"),
        "half.jsonl": (b'{"path": "a.png", "label": 1.5}\n', "row 1: expected text or a whole number as its label, found 1.5"),
        "number.jsonl": (b'{"path": 3, "label": 1}\n', "row 1: expected a path, found 3"),
        "digits.jsonl": (b'{"path": "a", "label": ' + b"9" * 9_000 + b"}\n", "row 1: expected a JSON object, found something else"),
        "surrogate.jsonl": (b'{"path": "\\udc80.png", "label": 1}\n', "row 1: expected a path of plain text"),
        "nan.jsonl": (b'{"path": "a.png", "label": NaN}\n', "row 1: expected text or a whole number as its label, found nan"),
        "text.parquet": (b"path,label\n", "expected a Parquet file, found: .*; write it again"),
        "picture.csv": (b"\x89PNG\r\n\x1a\n\0\0", "row 1: expected "),
        "labels.md": (head, r"expected a folder of class folders.* a manifest \(.csv, .tsv, .jsonl.*found a file; point at"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            open_data(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert str(tmp_path / name) in str(caught.value)
        assert len(str(caught.value)) < 700, name
    assert len(cases) == 35


def test_parquet_of_strange_content(tmp_path, monkeypatch):
    import pyarrow as pa
    import pyarrow.parquet as pq

    cases = {
        "null": ({"path": ["a", None], "label": [1, 2]}, "row 2: expected a path, found none"),
        "nolabel": ({"path": ["a", "b"], "label": ["x", None]}, "row 2: expected text or a whole number as its label, found none"),
        "nested": ({"path": ["a"], "label": [[1]]}, "expected text or whole numbers, found a column of list"),
        "none": ({"path": pa.array([], pa.string()), "label": pa.array([], pa.string())}, "expected rows, found none"),
        "bomb": ({"path": ["x" * 10_000_000] * 100, "label": [1] * 100}, "expected text of at most 32,768 bytes, found more after row 0"),
        "columns": ({"where": ["a"], "label": [1]}, "expected a column 'path' .*found 'where', 'label'"),
    }
    for name, (columns, message) in cases.items():
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet", compression="zstd")
        with pytest.raises(DataError, match=message) as caught:
            open_data(tmp_path / f"{name}.parquet")
        assert "\n" not in str(caught.value)
    whole = (tmp_path / "null.parquet").read_bytes()
    for cut in (len(whole) - 3, len(whole) // 2):
        (tmp_path / "cut.parquet").write_bytes(whole[:cut])
        with pytest.raises(DataError, match="expected a Parquet file, found"):
            open_data(tmp_path / "cut.parquet")


def test_parquet_without_a_pyarrow_that_works_is_one_line(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    (tmp_path / "broken" / "pyarrow").mkdir(parents=True)
    (tmp_path / "broken" / "pyarrow" / "__init__.py").write_text("raise RuntimeError('half installed')")
    code = "import sys; sys.path.insert(0, sys.argv[1]); from provenet.data.sources import open_data; open_data(sys.argv[2])"
    command = [sys.executable, "-c", code, tmp_path / "broken", tmp_path / "a.parquet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1].endswith("found none that works; pip install 'provenet[tables]'"), done.stderr


def test_missing_files_are_counted_and_the_first_are_named(tmp_path):
    manifest = write(tmp_path / "a.csv", [(f"{folder}/{k}.png", folder) for folder in ("cat", "dog") for k in range(6)])
    for name in ("cat/3.png", "dog/0.png", "dog/1.png", "dog/5.png"):
        (tmp_path / name).unlink()
    with pytest.raises(DataError) as caught:
        open_data(manifest)
    assert str(caught.value) == (
        f"{manifest}: expected 12 files, found 4 of them missing: cat/3.png (row 5), dog/0.png (row 8), dog/1.png (row 9) …; "
        f"paths count from the manifest's folder, {tmp_path}; correct them, or go on without with --skip-broken"
    )
    assert len(open_data(manifest, allow_missing=True).splits["all"]) == 12
    write(tmp_path / "b.csv", [("cat\\1.png", "cat")])
    (tmp_path / "cat\\1.png").unlink()
    with pytest.raises(DataError, match=r"write them with / instead of \\"):
        open_data(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("path,label\n" + "".join(f"nowhere/{k}.png,cat\n" for k in range(9)))
    with pytest.raises(DataError, match="expected 9 files, found 9 of them missing"):
        open_data(tmp_path / "c.csv")


def test_a_file_named_by_a_link_or_in_several_ways_is_there(tmp_path):
    rows = [(f"deep/{k}.png", "a") for k in range(5)]
    write(tmp_path / "a.csv", rows)
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    spellings = ["link/0.png", "./deep//1.png", "deep/../deep/2.png", "link/../deep/3.png", str(tmp_path / "deep" / "4.png")]
    (tmp_path / "b.csv").write_text("path,label\n" + "".join(f"{path},a\n" for path in spellings))
    assert len(open_data(tmp_path / "b.csv").splits["all"]) == 5


@pytest.fixture
def flowers(tmp_path):
    """A manifest of two classes in three splits."""
    root = build_flowers(tmp_path / "flowers")
    files = sorted(root.rglob("*.png"))
    rows = [(path.relative_to(root), path.parent.name, path.parent.parent.name) for path in files]
    return write(root / "flowers.csv", rows, ("path", "label", "split"))


def test_the_commands_take_a_manifest(tmp_path, flowers, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out, _ = main(capsys, "check", flowers, "--json")
    assert json.loads(out)["problems"] == 0 if "problems" in json.loads(out) else True
    assert (tmp_path / "checks" / "flowers").is_dir()
    out, _ = main(capsys, "train", flowers, "--model", "lenet5", "--epochs", "1", "--json")
    result = json.loads(out)
    assert result["folder"].endswith("flowers-lenet5")
    out, _ = main(capsys, "evaluate", result["bundle"], flowers, "--json")
    assert json.loads(out).items() >= result["test"].items()
    assert result["test"]["images"] == 4
    _, err = main(capsys, "train", flowers.with_name("nothing.csv"), status=2)
    assert err.count("\n") == 1
    assert "a manifest (.csv, .tsv, .jsonl" in err


def test_a_manifest_trains_as_the_folder_that_it_lists(tmp_path, mini):
    images = take(mini["train"], per_class=8, classes=2)
    for index in range(16):
        path = tmp_path / "set" / ("ab"[index // 8]) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        images.pictures.picture(index).save(path)
    files = sorted((tmp_path / "set").rglob("*.png"))
    rows = [(path.relative_to(tmp_path / "set"), path.parent.name) for path in files]
    manifest = write(tmp_path / "set" / "list.tsv", rows, delimiter="\t")
    runs = [train(data, "lenet5_softmax", output=tmp_path / f"run{k}", epochs=1) for k, data in enumerate((tmp_path / "set", manifest))]
    results = [evaluate(run.bundle_path, tmp_path / "set", split="all") for run in runs]
    assert results[0].loss == results[1].loss


def test_a_path_there_twice_is_found_by_check(tmp_path, flowers, check):
    flowers.write_text(flowers.read_text() + "train/daisy/000.png,daisy,train\ntrain/tulip/000.png,tulip,test\n")
    kinds = {finding.kind for finding in check(flowers).findings}
    assert {"repeated in train", "leak: train and test"} <= kinds


def test_broken_pictures_are_named_by_check_and_skipped_by_train(tmp_path, flowers, check):
    expected = broken_files(flowers.parent)
    Image.effect_noise((40, 40), 90).save(flowers.parent / "whole.png")
    broken = [*expected, "not-there.png", "nowhere/at-all.png"]
    flowers.write_text(flowers.read_text() + "".join(f"{name},daisy,train\n" for name in broken))
    found = {finding.kind: finding.files for finding in check(flowers).findings}
    kinds = {name: kind for name, (kind, _) in expected.items()} | dict.fromkeys(broken[-2:], "missing")
    for name, kind in kinds.items():
        assert str(flowers.parent / name) in found[f"unreadable: {kind}"]
    with pytest.raises(DataError, match="found 2 of them missing: not-there"):
        train(flowers, "lenet5", output=tmp_path / "run", epochs=1)
    run = train(flowers, "lenet5", output=tmp_path / "run", epochs=1, skip_broken=True)
    assert evaluate(run.bundle_path, flowers, split="train", skip_broken=True).images == 44


def test_the_folder_of_a_manifest_says_what_to_give(tmp_path):
    write(tmp_path / "labels.csv", [("a.png", "cat")])
    with pytest.raises(DataError, match=f"expected a folder for each class .*; or give the manifest in it: {tmp_path}/labels.csv"):
        open_data(tmp_path)


@pytest.mark.skipif(not hasattr(io, "open_code"), reason="POSIX")
def test_a_pipe_is_no_manifest(tmp_path):
    import os

    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(DataError, match="found what is neither file nor folder"):
        open_data(tmp_path / "pipe.csv")


def test_many_rows_take_little_memory_and_time(tmp_path):
    num_rows = 30_000
    for folder in range(30):
        (tmp_path / str(folder)).mkdir()
        for number in range(0, 1_000, 100):
            photo(tmp_path / str(folder) / f"{number}.png", number, (1, 1))
    with (tmp_path / "many.csv").open("w") as file:
        file.write("path,label\n")
        file.writelines(f"{row // 1_000}/{row % 1_000 // 100 * 100}.png,{row // 1_000}\n" for row in range(num_rows))
    started = time.perf_counter()
    tracemalloc.start()
    data = read_manifest(tmp_path / "many.csv")
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    text = len(data.splits["all"].pictures.paths.text)
    assert (kept - text) / num_rows < 50
    assert time.perf_counter() - started < 10
    assert len(data.splits["all"]) == num_rows
    assert data.splits["all"].classes[9:11] == ("9", "10")
