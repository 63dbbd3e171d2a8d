"""Features on disk: written once, shared, killed, starved, cut and changed; what is read is what was written."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from provenet.errors import CacheError, SettingsError
from provenet.transfer import store as module
from provenet.transfer.store import ABOUT, INDEX, RECORD, ROWS, FeatureStore, StoreKey, read_about

KEY = StoreKey(network="resnet20_cifar", cut="pool", shape=(6,), weights="abc", preprocessing={"size": 28, "mean": [0.5]})


def row(content, shape=(6,)):
    """What a picture of that content gives: a function of it, so that every row tells whose it is."""
    return np.random.default_rng(int(content)).standard_normal(shape).astype(np.float32)


def contents(*numbers):
    return np.array(numbers, np.uint64)


def keep(store, numbers, view=0):
    store.append(contents(*numbers), np.stack([row(number, store.key.shape) for number in numbers]), view)


def right(store, numbers, view=0):
    return np.array_equal(store.rows(contents(*numbers), view), np.stack([row(number, store.key.shape) for number in numbers]))


def test_what_is_kept_is_there_the_next_time(tmp_path):
    with FeatureStore(tmp_path, KEY) as store:
        assert store.missing(contents(5, 6, 5, 7)).tolist() == [0, 1, 3]  # equal pictures once
        keep(store, [5, 6])
        assert store.missing(contents(5, 6, 5, 7)).tolist() == [3]
    with FeatureStore(tmp_path, KEY) as store:
        assert store.missing(contents(7, 6, 5)).tolist() == [0]
        assert right(store, [6, 5, 6])
        assert len(store) == 2
    assert sorted(path.name for path in (tmp_path / KEY.name).iterdir()) == [".in-use", ".lock", ABOUT, INDEX, ROWS]
    assert (tmp_path / KEY.name / ROWS).stat().st_size == 2 * 6 * 4


def test_a_hundred_more_pictures_compute_a_hundred(tmp_path):
    first, more = list(range(1, 501)), list(range(1, 601))
    with FeatureStore(tmp_path, KEY) as store:
        keep(store, first)
    with FeatureStore(tmp_path, KEY) as store:
        assert store.missing(np.array(more, np.uint64)).tolist() == list(range(500, 600))


@pytest.mark.parametrize("change", [
    {"weights": "abd"}, {"cut": "conv3_x"}, {"preprocessing": {"size": 32, "mean": [0.5]}}, {"preprocessing": {"size": 28, "mean": [0.25]}},
    {"distortion": {"mirror": True}}, {"engine": "openvino"},
    {"device": "cuda"}, {"precision": "bfloat16"}, {"type": "float16"}, {"network": "resnet32_cifar"},
    {"shape": (3, 2)},
])  # fmt: skip
def test_whatever_the_numbers_depend_on_has_a_store_of_its_own(change, tmp_path):
    with FeatureStore(tmp_path, KEY) as store:
        keep(store, [1])
    with FeatureStore(tmp_path, replace(KEY, **change)) as other:
        assert other.path != store.path
        assert other.missing(contents(1)).tolist() == [0]


def test_views_are_kept_apart(tmp_path):
    with FeatureStore(tmp_path, KEY) as store:
        store.append(contents(1), row(10)[None], 0)
        assert store.missing(contents(1), 1).tolist() == [0]
        store.append(contents(1), row(11)[None], 1)
        assert np.array_equal(store.rows(contents(1), 0)[0], row(10))
        assert np.array_equal(store.rows(contents(1), 1)[0], row(11))


def test_maps_are_kept_as_maps(tmp_path):
    key = replace(KEY, shape=(2, 3, 4))
    with FeatureStore(tmp_path, key) as store:
        keep(store, [1, 2])
        assert store.rows(contents(2, 1)).shape == (2, 2, 3, 4)
        assert right(store, [2, 1])
        with pytest.raises(CacheError, match=r"expected rows \[2, 3, 4\], found \[6\]; make another store"):
            store.append(contents(3), row(3)[None])


def test_two_that_are_open_see_what_the_other_keeps(tmp_path):
    with FeatureStore(tmp_path, KEY) as a, FeatureStore(tmp_path, KEY) as b:
        keep(a, [1, 2])
        assert b.missing(contents(1, 2, 3)).tolist() == [2]
        keep(b, [3])
        keep(a, [4])
        for store in (a, b):
            assert store.missing(contents(1, 2, 3, 4)).tolist() == []
            assert right(store, [4, 3, 2, 1])


WRITER = """
import sys
sys.path.insert(0, sys.argv[4])
import numpy as np
from pathlib import Path
from test_feature_store import KEY, keep
from provenet.transfer.store import FeatureStore
first, count = int(sys.argv[2]), int(sys.argv[3])
with FeatureStore(Path(sys.argv[1]), KEY) as store:
    print("open", flush=True)
    for start in range(first, first + count, 3):
        keep(store, list(range(start, start + 3)))
"""


def write(folder, first, count):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(first), str(count), str(Path(__file__).parent)], stdout=subprocess.PIPE, text=True
    )


def test_processes_that_write_at_once_lose_nothing(tmp_path):
    writers = [write(tmp_path, first, 600) for first in (1, 301, 10_001)]  # the first two share half of theirs
    assert [(writer.communicate(timeout=60), writer.returncode) for writer in writers] == [(("open\n", None), 0)] * 3
    with FeatureStore(tmp_path, KEY) as store:
        numbers = [*range(1, 901), *range(10_001, 10_601)]
        assert store.missing(np.array(numbers, np.uint64)).tolist() == []
        assert right(store, numbers)
        assert len(store) == 1_800


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=pytest.mark.slow)])
def test_a_killed_writer_leaves_only_whole_rows(kills, tmp_path):
    seen = 0
    for kill in range(kills):
        writer = write(tmp_path, 1 + 100_000 * kill, 90_000)
        assert writer.stdout.readline() == "open\n"
        time.sleep(0.02 + 0.003 * (kill * 7 % 11))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        with FeatureStore(tmp_path, KEY) as store:
            count = len(store)
            index = np.fromfile(store.path / INDEX, RECORD)[:count]
            assert store.missing(np.unique(index["content"])).tolist() == []
            assert right(store, index["content"][-500:].tolist())
            assert count > seen
            keep(store, [7_000_000_000 + kill])
            seen = len(store)
            assert seen == count + 1
            assert right(store, [7_000_000_000 + kill])


def damage(folder, name, how):
    path = folder / KEY.name / name
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[len(content) // 2] ^= 0x10
    elif how == "cut":
        del content[-5:]
    elif how == "half":
        del content[len(content) // 2 - 3 :]
    elif how == "longer":
        content += b"\xff" * 21
    elif how == "empty":
        content.clear()
    elif how == "zeros":
        content[:] = bytes(len(content))
    path.write_bytes(content)


@pytest.mark.parametrize("name", [ROWS, INDEX, ABOUT])
@pytest.mark.parametrize("how", ["flip", "cut", "half", "longer", "empty", "zeros", "gone"])
def test_a_damaged_store_gives_no_wrong_row(name, how, tmp_path):
    numbers = list(range(1, 41))
    with FeatureStore(tmp_path, KEY) as store:
        keep(store, numbers)
    if how == "gone":
        (tmp_path / KEY.name / name).unlink()
    else:
        damage(tmp_path, name, how)
    with FeatureStore(tmp_path, KEY) as store:
        missing = store.missing(np.array(numbers, np.uint64)).tolist()
        kept = [number for place, number in enumerate(numbers) if place not in missing]
        assert right(store, kept) if kept else True
        if how == "flip":
            assert len(missing) == {ROWS: 1, INDEX: 2, ABOUT: 40}[name]  # a record of 21 that says 5 is of neither
        if missing:
            keep(store, [numbers[place] for place in missing])
        assert store.missing(np.array(numbers, np.uint64)).tolist() == []
        assert right(store, numbers)
    with FeatureStore(tmp_path, KEY) as store:
        assert store.missing(np.array(numbers, np.uint64)).tolist() == []
        assert right(store, numbers)


@pytest.mark.parametrize("content", [b"[]", b"{", b"\xff\xfe", b'{"format_version": 99}', b"[" * 100_000])
def test_what_is_said_of_a_store_is_not_believed(content, tmp_path):
    with FeatureStore(tmp_path, KEY) as store:
        keep(store, [1])
    (tmp_path / KEY.name / ABOUT).write_bytes(content)
    with FeatureStore(tmp_path, KEY) as store:
        assert store.missing(contents(1)).tolist() == [0]
    assert read_about(tmp_path / KEY.name)["network"] == "resnet20_cifar"


FULL = """
import resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
import signal
from test_feature_store import KEY, contents, keep, right
from provenet.errors import CacheError, SettingsError
from provenet.transfer.store import FeatureStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with FeatureStore(Path(sys.argv[1]), KEY) as store:
    keep(store, list(range(1, 21)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, resource.RLIM_INFINITY))
    try:
        keep(store, list(range(21, 41)))
    except CacheError as error:
        print(error)
    assert right(store, list(range(1, 21)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert len(store) == 20
    keep(store, list(range(21, 41)))
    assert right(store, list(range(1, 41)))
"""


def test_a_disk_that_fills_in_the_middle_of_a_row(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path), str(Path(__file__).parent)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{tmp_path}")
    assert (
        "expected to keep features there, found: File too large; free some space (provenet cache prune), or set PROVENET_CACHE"
        in done.stdout
    )
    assert done.stdout.count("\n") == 1
    with FeatureStore(tmp_path, KEY) as store:
        assert right(store, list(range(1, 41)))


def mount(path, options):
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("no file system can be mounted here")


def test_a_full_file_system(tmp_path):
    disk = tmp_path / "disk"
    mount(disk, "size=64k")
    try:
        key = replace(KEY, shape=(500,))
        with FeatureStore(disk, key) as store:
            keep(store, [1, 2, 3])
            with pytest.raises(CacheError, match="found: No space left on device; free some space"):
                keep(store, list(range(10, 60)))
            assert right(store, [3, 1])
            keep(store, [4])
        with FeatureStore(disk, key) as store:
            assert right(store, [4, 1, 2, 3])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_system_that_is_only_read(tmp_path):
    disk = tmp_path / "disk"
    mount(disk, "size=1m")
    try:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(CacheError, match="expected to keep features there, found: Read-only file system; set PROVENET_CACHE"):
            FeatureStore(disk, KEY)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_what_was_kept_is_read_from_a_file_system_that_is_only_read(tmp_path):
    disk = tmp_path / "disk"
    mount(disk, "size=1m")
    try:
        with FeatureStore(disk, KEY) as store:
            keep(store, [1, 2])
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with FeatureStore(disk, KEY) as store:
            assert store.missing(contents(1, 3, 2)).tolist() == [1]
            assert right(store, [2, 1])
            with pytest.raises(CacheError, match="found: Read-only file system; set PROVENET_CACHE to another folder"):
                keep(store, [3])
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_look_makes_nothing_and_is_no_use(tmp_path):
    with pytest.raises(CacheError, match="No such file or directory"):
        FeatureStore(tmp_path, KEY, reads_only=True)
    assert not (tmp_path / KEY.name).exists()
    with FeatureStore(tmp_path, KEY) as store:
        keep(store, [1])
    about = tmp_path / KEY.name / ABOUT
    os.utime(about, (1, 1))
    with FeatureStore(tmp_path, KEY, reads_only=True) as store:
        assert right(store, [1])
    assert about.stat().st_mtime == 1


def test_a_file_where_the_folder_should_be(tmp_path):
    (tmp_path / "cache").write_text("")
    with pytest.raises(CacheError, match="expected to keep features there, found: "):
        FeatureStore(tmp_path / "cache", KEY)


def test_a_link_to_nothing_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(module.time, "sleep", None)  # not waited for
    for place in (tmp_path / "cache", tmp_path / "other" / KEY.name):
        place.parent.mkdir(exist_ok=True)
        place.symlink_to(tmp_path / "gone")
    for folder in (tmp_path / "cache", tmp_path / "other"):
        with pytest.raises(CacheError, match="found: File exists; set PROVENET_CACHE to another folder"):
            FeatureStore(folder, KEY)


def test_a_store_that_is_removed_meanwhile_is_not_written_into(tmp_path):
    with FeatureStore(tmp_path, KEY) as store:
        keep(store, [1])
        for path in (tmp_path / KEY.name).iterdir():
            path.unlink()
        with FeatureStore(tmp_path, KEY) as other:
            keep(other, [2])
            with pytest.raises(CacheError, match="expected the cache that was opened, found it removed; start again"):
                keep(store, [3])
            assert right(store, [1])
            assert right(other, [2])
            assert len(other) == 1


def test_a_writer_that_waits_too_long_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.1)
    with FeatureStore(tmp_path, KEY) as a, FeatureStore(tmp_path, KEY) as b:
        a._lock.acquire()
        with pytest.raises(CacheError, match=r"found: another process at it for 0.1 s; try again"):
            keep(b, [1])


def test_float16_is_half_as_large_and_its_error_is_told(tmp_path):
    features = np.abs(np.random.default_rng(0).standard_normal((100, 6))).astype(np.float32)
    key = replace(KEY, type="float16")
    with FeatureStore(tmp_path, key) as store:
        store.append(np.arange(1, 101, dtype=np.uint64), features)
        assert (store.path / ROWS).stat().st_size == 100 * 6 * 2
        found = store.rows(np.arange(1, 101, dtype=np.uint64))
        assert found.dtype == np.float16
        by_hand = np.linalg.norm(found.astype(np.float64) - features) / np.linalg.norm(features.astype(np.float64))
        assert 1e-5 < by_hand < 2.0**-11
        with pytest.raises(SettingsError, match="expected numbers that float16 can hold, found 7e\\+04; take --feature-type float32"):
            store.append(contents(200), np.full((1, 6), 7e4, np.float32))
        assert len(store) == 100
    with FeatureStore(tmp_path, KEY) as store, pytest.raises(SettingsError, match="found nan; the weights are damaged"):
        store.append(contents(1), np.full((1, 6), np.nan, np.float32))
