"""Broken pictures, and what else is wrong with data, inside each kind of source: the same error, and the same skipping, everywhere."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from PIL import Image
from test_decode import broken_files
from test_kinds_of_data import KINDS_OF_DATA, list_files
from test_shards import samples, write_tar

from conftest import photo
from provenet import pack
from provenet.data.distortion import Distortion
from provenet.data.holdout import divide
from provenet.data.loader import Loader, Share
from provenet.data.sources import open_data
from provenet.data.squares import open_squares
from provenet.errors import DataError, ImageError
from provenet.preprocessing import Preprocessing
from provenet.runs.pictures import open_sound_squares
from provenet.runs.watcher import Silent

COLOUR = Preprocessing(size=12, resize=16, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
CROPS = Distortion(crop="area", area=(0.3, 1.0), aspect=(3 / 4, 4 / 3), mirror=True)
FILE_SOURCES = ["folder", "csv", "tsv", "json_lines", "parquet"]
SOURCES = [*FILE_SOURCES, "shard", "server"]
NUM_BATCHES = 6  # of eight: over the end of the first pass
NO_TAR_HOLDS = ("gone.jpg", "pipe.jpg", "huge.tif")


class Heard(Silent):
    """A watcher that remembers its notes."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """Class folders with sound, unusual and broken pictures -> the folder, and name -> kind of the broken ones."""
    root = tmp_path_factory.mktemp("spoiled") / "flowers"
    for number, label in enumerate(("daisy", "tulip")):
        for k in range(10):
            photo(root / label / f"{k:02}.{'png' if k % 2 else 'jpg'}", 100 * number + k, (40, 32))
    expected = {name: kind for name, (kind, _) in broken_files(root / "daisy").items() if name not in NO_TAR_HOLDS}
    for name in NO_TAR_HOLDS:
        (root / "daisy" / name).unlink()
    Image.effect_noise((40, 32), 90).convert("CMYK").save(root / "tulip" / "ink.jpg")
    Image.fromarray(np.arange(1_280, dtype=np.uint16).reshape(32, 40) * 50).save(root / "tulip" / "deep.png")
    Image.effect_noise((40, 32), 90).convert("P").save(root / "tulip" / "palette.gif")
    Image.effect_noise((40, 32), 90).convert("RGBA").save(root / "tulip" / "clear.webp")
    Image.new("L", (1, 1), 9).save(root / "tulip" / "dot.png")
    assert len(expected) == 9
    return root, expected


@pytest.fixture
def make(tmp_path, served):
    """The pictures of class folders as one kind of source: make(kind, folder) -> DATA."""

    def make_one(kind, folder):
        if kind == "server":
            served_folder, address = served
            return f"{address}/{KINDS_OF_DATA['shard'](folder, served_folder).name}"
        (tmp_path / "data").mkdir()
        return KINDS_OF_DATA[kind](folder, tmp_path / "data")

    return make_one


def name_of(root, images, index):
    """The name that a picture has in the class folders it came from."""
    where = images.pictures.where(index)
    if found := re.fullmatch(r".*\.tar: (\d{4})\.\w+", where):
        return list_files(root)[int(found[1])][0].rpartition("/")[2]
    return where.rpartition("/")[2]


@pytest.mark.parametrize("kind", SOURCES)
def test_broken_pictures_inside_every_source(kind, make, spoiled):
    root, expected = spoiled
    images = open_data(make(kind, root)).splits["all"]
    assert len(images) == len(list_files(root)) == 36
    _, broken = open_squares(images.pictures, COLOUR, num_threads=2)
    assert {name_of(root, images, index): error.kind for index, error in broken.items()} == expected  # and no unusual one
    assert all(images.pictures.where(index) in str(error) and "\n" not in str(error) for index, error in broken.items())
    with pytest.raises(DataError, match=r"expected an image, found .* \(8 more are broken: .*; or go on without with --skip-broken"):
        open_sound_squares(images, COLOUR, skip_broken=False, training=None, watcher=Silent())
    heard = Heard()
    _, kept = open_sound_squares(images, COLOUR, skip_broken=True, training=None, watcher=heard)
    assert (len(kept), heard.notes[-1]) == (27, f"{images.name}: skipped 9 broken of 36 pictures")


@pytest.mark.parametrize("kind", SOURCES)
def test_packing_every_source_names_or_skips_what_is_broken(kind, make, spoiled, tmp_path):
    data = make(kind, spoiled[0])
    with pytest.raises(DataError, match=r"expected .*; or go on without such pictures: the same command with --skip-broken"):
        pack(data, tmp_path / "out")
    result = pack(data, tmp_path / "out", skip_broken=True)
    assert (result.pictures, result.skipped) == (27, 9)
    packed = open_data(tmp_path / "out").splits["all"]
    assert not open_squares(packed.pictures, COLOUR, num_threads=2)[1]


def read(images, num_threads=2, share=None):
    """The first batches of one process, and the broken pictures it met."""
    options = {"batch_size": 8, "skip_broken": True, "seed": 5, "distortion": CROPS}
    loader = Loader.of(images, COLOUR, num_threads=num_threads, share=share, **options)
    return list(islice(loader, NUM_BATCHES)), {index: error.kind for index, error in loader.squares.broken.items()}


@pytest.mark.parametrize("kind", SOURCES)
def test_skipping_is_the_same_on_every_process_and_counted(kind, make, spoiled):
    root, expected = spoiled
    images = open_data(make(kind, root)).splits["all"]
    one, broken = read(images)
    assert {name_of(root, images, index): found for index, found in broken.items()} == expected
    for num_threads, num_processes in ((0, 1), (5, 1), (1, 2), (2, 4)):
        shares = [read(images, num_threads, Share(rank, num_processes)) for rank in range(num_processes)]
        assert {index: found for _, met in shares for index, found in met.items()} == broken
        for number, batch in enumerate(one):
            parts = [batches[number] for batches, _ in shares]
            assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
            assert torch.equal(torch.cat([part.labels for part in parts]), batch.labels)


SCRIPT = """
import json, sys
sys.path[:0] = [sys.argv[1], sys.argv[1] + "/.."]
from test_bad_sources import Share, open_data, read
batches, broken = read(open_data(sys.argv[2]).splits["all"], share=Share(int(sys.argv[3]), 2))
print(json.dumps([[batch.images.flatten().tolist() for batch in batches], broken]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "shard", "server"])
def test_skipping_is_the_same_in_real_processes(kind, make, spoiled, pytestconfig):
    data = make(kind, spoiled[0])
    words = [sys.executable, "-c", SCRIPT, str(pytestconfig.rootpath / "tests/data"), str(data)]
    running = [subprocess.Popen([*words, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
    (first, met), (second, also_met) = (json.loads(process.communicate(timeout=120)[0]) for process in running)
    batches, broken = read(open_data(data).splits["all"])
    assert {int(index): found for index, found in (met | also_met).items()} == broken
    assert [one + other for one, other in zip(first, second, strict=True)] == [batch.images.flatten().tolist() for batch in batches]


@pytest.mark.parametrize("kind", FILE_SOURCES)
def test_a_file_that_disappears_between_index_and_read(kind, make, spoiled, tmp_path):
    root, _ = spoiled
    sound = tmp_path / "sound"
    for path, label in list_files(root):
        if label == "tulip":
            photo(sound / path, len(path))
            photo(sound / path.replace("tulip", "daisy"), 1)
    images = open_data(make(kind, sound)).splits["all"]
    for index in (3, 4, len(images) - 1):  # two in a row, and the last
        images.pictures.file(index).unlink()
    one, broken = read(images)
    assert broken == {3: "missing", 4: "missing", len(images) - 1: "missing"}
    assert all(torch.equal(batch.images, other.images) for batch, other in zip(one, read(images, 0)[0], strict=True))
    with pytest.raises(ImageError, match="expected an image, found nothing readable"):
        list(islice(Loader.of(images, COLOUR, batch_size=8, distortion=CROPS), NUM_BATCHES))


def test_a_shard_that_disappears_from_its_server_and_the_cache(make, spoiled, tmp_path, served):
    images = open_data(make("server", spoiled[0])).splits["all"]
    (served[0] / "all-000.tar").unlink()
    assert read(images)[0]  # it is still here
    for path in (tmp_path / "cache" / "shards").glob("*.tar"):
        path.unlink()
    images.pictures.table.files.close()
    with pytest.raises(ImageError, match=r"all-000\.tar: \d+\.\w+: expected an image, found") as caught:
        list(Loader.of(images, COLOUR, batch_size=8, distortion=CROPS))
    assert caught.value.kind == "missing"


def write_table(path, rows):
    """Rows as one kind of manifest."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        delimiter = "\t" if path.suffix == ".tsv" else ","
        path.write_text("".join(delimiter.join(row) + "\n" for row in [list(rows[0]), *(row.values() for row in rows)]))
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_manifests_of_missing_files_and_missing_columns(ending, tmp_path):
    names = [photo(tmp_path / f"{k}.png", k).name for k in range(4)]
    rows = [{"path": name, "label": "ab"[k % 2]} for k, name in enumerate(names)]
    path = write_table(tmp_path / f"list{ending}", [*rows, {"path": "gone.png", "label": "a"}, {"path": "no/where.png", "label": "b"}])
    with pytest.raises(DataError, match=r"expected 6 files, found 2 of them missing: gone\.png \(row \d\), no/where\.png \(row \d\); "):
        open_data(path)
    images = open_data(path, allow_missing=True).splits["all"]
    heard = Heard()
    _, kept = open_sound_squares(images, COLOUR, skip_broken=True, training=None, watcher=heard)
    assert (len(kept), heard.notes[-1]) == (4, f"{images.name}: skipped 2 broken of 6 pictures")
    for missing in ("path", "label"):
        table = write_table(path, [{name: value for name, value in row.items() if name != missing} | {"note": "x"} for row in rows])
        with pytest.raises(DataError, match=rf"list\{ending}.*: expected a column '{missing}'") as caught:
            open_data(table)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["folder", ".csv", ".tsv", ".jsonl", ".parquet", "shards", "server"])
def test_a_label_only_in_val(kind, tmp_path, served):
    """Joined by name; one that training never sees is an error that names it."""
    rows = [{"path": f"{split}/{label}/{k}.png", "label": label, "split": split}
            for split, labels in (("train", "ab"), ("val", "abc")) for label in labels for k in range(3)]  # fmt: skip
    data = tmp_path / "set"
    for number, row in enumerate(rows):
        photo(data / row["path"], number)
    if kind.startswith("."):
        data = write_table(data / f"list{kind}", rows)
    elif kind != "folder":
        place, address = served
        for split, classes in (("train", "ab"), ("val", "abc")):
            write_tar(place / f"{split}-0.tar", samples(6, classes=tuple(classes)))
        (tmp_path / "list.shards").write_text(f"train {address}/train-0.tar\nval {address}/val-0.tar\n")
        data = place if kind == "shards" else tmp_path / "list.shards"
    with pytest.raises(DataError, match="expected the 2 classes trained on, found 'c' too; ") as caught:
        divide(open_data(data), val_fraction=0.2, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["shard", "server"])
def test_a_shard_cut_off_in_the_middle_is_told_and_its_whole_pictures_can_be_used(kind, make, spoiled, tmp_path, served):
    data = make(kind, spoiled[0])
    path = (served[0] if kind == "server" else tmp_path / "data") / "all-000.tar"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"all-000\.tar: .*ends? before it; the last whole member is \d+\.\w+; ") as caught:
        open_data(data)
    assert caught.value.kind == "cut-off shard"
    problems = []
    images = open_data(data, on_problem=problems.append).splits["all"]
    assert [problem.kind for problem in problems] == ["cut-off shard"]
    assert 0 < len(images) < 36
    assert images.pictures.content(0) == (spoiled[0] / list_files(spoiled[0])[0][0]).read_bytes()


def test_an_offset_file_older_than_its_shard_of_the_same_size(tmp_path):
    path = write_tar(tmp_path / "a.tar", samples(4, classes=("cat", "dog")))
    assert open_data(path).splits["all"].counts() == {"cat": 2, "dog": 2}
    before = path.stat()
    shutil.copy(write_tar(tmp_path / "b" / "a.tar", samples(4, classes=("emu", "fox"))), path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 2 * 10**9))
    assert path.stat().st_size == before.st_size
    assert open_data(path).splits["all"].counts() == {"emu": 2, "fox": 2}
