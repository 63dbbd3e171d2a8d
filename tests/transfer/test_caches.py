"""What is listed, what may go, and that stores do not fill the disk."""

import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_feature_store import KEY, contents, keep, right

from provenet.__main__ import run
from provenet.errors import CacheError, SettingsError
from provenet.transfer.caches import LIMIT_SETTING, list_caches, make_room, prune
from provenet.transfer.store import FeatureStore, unused


def make(folder, name, days_old, rows=10):
    key = replace(KEY, weights=name)
    with FeatureStore(folder, key) as store:
        keep(store, list(range(1, rows + 1)))
    then = time.time() - days_old * 86_400
    os.utime(store.path / "about.json", (then, then))
    return store.path


@pytest.fixture
def three(tmp_path):
    return [make(tmp_path, name, days) for name, days in (("old", 30), ("older", 60), ("new", 1))]


def test_all_are_listed_the_latest_first(three, tmp_path):
    (tmp_path / "not-a-store").mkdir()
    (tmp_path / "a file").write_text("x")
    (tmp_path / "link-to-a-store").symlink_to(three[0])
    found = list_caches(tmp_path)
    assert [cache.path for cache in found] == [three[2], three[0], three[1]]
    one = found[0].to_dict()
    assert (one["network"], one["cut"], one["rows"], one["type"], one["shape"]) == ("resnet20_cifar", "pool", 10, "float32", [6])
    assert one["bytes"] == sum(path.stat().st_size for path in three[2].iterdir())
    assert list_caches(tmp_path / "nothing") == []


def test_what_is_chosen_goes_and_nothing_else(three, tmp_path):
    with pytest.raises(SettingsError, match="expected keys of `provenet cache list`, --older-than DAYS or --all, found none; name some"):
        prune(folder=tmp_path)
    with pytest.raises(SettingsError, match=r"expected a key of `provenet cache list`, found '\.\./x'"):
        prune(["../x"], folder=tmp_path)
    with pytest.raises(SettingsError, match="--older-than: expected a number of days"):
        prune(older_than_days=-1, folder=tmp_path)
    key = three[0].name.rpartition("-")[2]
    assert [cache.path for cache in prune([key], folder=tmp_path).gone] == [three[0]]
    pruned = prune(older_than_days=45, folder=tmp_path)
    assert [cache.path for cache in pruned.gone] == [three[1]]
    assert pruned.freed_bytes > 10 * 24
    assert [cache.path for cache in list_caches(tmp_path)] == [three[2]]
    prune(everything=True, folder=tmp_path)
    assert list_caches(tmp_path) == []


def test_what_a_link_points_to_stays(three, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "photo.jpg").write_text("mine")
    (three[0] / "link").symlink_to(elsewhere)
    prune(everything=True, folder=tmp_path)
    assert (elsewhere / "photo.jpg").exists()
    assert not three[0].exists()


USER = """
import sys
sys.path.insert(0, sys.argv[2])
from dataclasses import replace
from pathlib import Path
from test_feature_store import KEY
from provenet.transfer.store import FeatureStore
store = FeatureStore(Path(sys.argv[1]), replace(KEY, weights="old"))
print("open", flush=True)
sys.stdin.read()
"""


def test_one_in_use_stays(three, tmp_path):
    command = [sys.executable, "-c", USER, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        pruned = prune(everything=True, folder=tmp_path)
        assert [cache.path for cache in pruned.in_use] == [three[0]]
        assert {cache.path for cache in pruned.gone} == set(three[1:])
        other.kill()
    assert [cache.path for cache in prune(everything=True, folder=tmp_path).gone] == [three[0]]  # a killed process uses nothing


def test_the_least_used_make_room(three, tmp_path, monkeypatch):
    sizes = {cache.path: cache.size_bytes for cache in list_caches(tmp_path)}
    monkeypatch.setenv(LIMIT_SETTING, str((sum(sizes.values()) + 100) / 1e9))
    assert list(make_room(90, three[2], tmp_path)) == []
    assert [cache.path for cache in make_room(110, three[2], tmp_path)] == [three[1]]
    assert [cache.path for cache in make_room(110 + sizes[three[1]], three[2], tmp_path)] == [three[0]]
    with pytest.raises(CacheError, match=rf"expected room for 1 MB of features, found a limit of .* GB \({LIMIT_SETTING}\)"):
        list(make_room(1_000_000, three[2], tmp_path))
    assert three[2].exists()
    with FeatureStore(tmp_path, replace(KEY, weights="new")) as store:
        assert right(store, [1, 10])
        assert store.missing(contents(1, 10)).tolist() == []


def test_nothing_goes_for_what_has_no_room_even_so(three, tmp_path, monkeypatch):
    sizes = {cache.path: cache.size_bytes for cache in list_caches(tmp_path)}
    monkeypatch.setenv(LIMIT_SETTING, str(sum(sizes.values()) / 1e9))
    with pytest.raises(CacheError, match="expected room"):
        list(make_room(sizes[three[0]] + sizes[three[1]] + 1, three[2], tmp_path))
    assert all(path.exists() for path in three)
    gone = list(make_room(sizes[three[0]] + sizes[three[1]], three[2], tmp_path))
    assert {cache.path for cache in gone} == set(three[:2])


def test_a_store_that_cannot_be_removed_stays_where_it_is(three, tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr("provenet.transfer.caches.shutil.rmtree", refuse)
        pruned = prune(everything=True, folder=tmp_path)
    assert (pruned.gone, len(pruned.in_use)) == ([], 3)
    assert all(path.is_dir() for path in three)
    assert len(list(tmp_path.iterdir())) == 3


def test_somebody_elses_store_is_not_removed(three, tmp_path, monkeypatch):
    opens = Path.open

    def denied(path, *arguments, **options):
        if path.name == ".in-use":
            raise PermissionError(13, "Permission denied", str(path))
        return opens(path, *arguments, **options)

    for path in three:
        os.utime(path, (1, 1))  # long ago
    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", denied)
        assert prune(everything=True, folder=tmp_path).gone == []
    assert all(path.is_dir() for path in three)


def test_a_store_that_was_replaced_before_it_was_locked_is_in_use(three, monkeypatch):
    lock = fcntl.flock

    def late(file, how):
        three[0].rename(three[0].with_name("moved"))
        three[0].mkdir()
        (three[0] / ".in-use").touch()
        lock(file, how)

    with monkeypatch.context() as patched:
        patched.setattr("fcntl.flock", late)
        with unused(three[0]) as is_unused:
            assert not is_unused


OPENER = """
import sys, time
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_feature_store import KEY, contents, keep, right
from provenet.errors import CacheError
from provenet.transfer.store import FeatureStore
ends_at, opened, refused = time.monotonic() + 4, 0, 0
while time.monotonic() < ends_at:
    with FeatureStore(Path(sys.argv[1]), KEY) as store:
        keep(store, [1, 2])
        assert right(store, [2, 1])
        opened += 1
print(opened)
"""


def test_stores_are_opened_while_another_process_removes_them(tmp_path):
    command = [sys.executable, "-c", OPENER, str(tmp_path), str(Path(__file__).parent)]
    num_gone = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as other:
        while other.poll() is None:
            num_gone += len(prune(everything=True, folder=tmp_path).gone)
        said, errors = other.communicate()
    assert other.returncode == 0, errors
    assert int(said) > 20
    assert num_gone > 20


@pytest.mark.parametrize("limit", ["much", "-1", "nan", "inf", "1e12"])
def test_a_limit_that_is_no_number(limit, tmp_path, monkeypatch):
    monkeypatch.setenv(LIMIT_SETTING, limit)
    with pytest.raises(SettingsError, match=f"{LIMIT_SETTING}: expected a number of gigabytes"):
        list(make_room(1, tmp_path, tmp_path))


def test_stores_that_were_changed_are_listed_too(three, tmp_path):
    (three[0] / "about.json").write_text("[")
    (three[1] / "index.bin").unlink()
    found = {cache.path: cache for cache in list_caches(tmp_path)}
    assert found[three[0]].about is None
    assert found[three[1]].rows == 0
    assert json.dumps([cache.to_dict() for cache in found.values()])
    assert np.isfinite(found[three[0]].used)


def ended(words):
    with pytest.raises(SystemExit) as error:
        run(words)
    return error.value.code


def test_the_commands(three, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))
    assert ended(["cache", "list"]) == 0
    assert capsys.readouterr().out == f"0 of 0.0 MB together, limit 20 GB ({LIMIT_SETTING}), in {tmp_path / 'cache/features'}\n"
    path = make(tmp_path / "cache/features", "new", 2, rows=1_234)
    assert ended(["cache", "list"]) == 0
    header, row, _, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["key", "network", "cut", "shape", "type", "engine", "rows", "MB", "last", "used"]
    assert row.split()[:9] == [path.name[-12:], "resnet20_cifar", "pool", "6", "float32", "eager", "float32", "1,234", "0.0"]
    assert last.startswith("1 of 0.0 MB together")
    assert ended(["cache", "list", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["caches"][0]["rows"] == 1_234
    assert ended(["cache", "prune"]) == 2
    assert capsys.readouterr().err.startswith("provenet: cache prune: expected keys of `provenet cache list`, --older-than DAYS or --all")
    assert ended(["cache", "prune", "--older-than", "3"]) == 0
    assert capsys.readouterr().out == "0 removed, 0.0 MB freed\n"
    assert ended(["cache", "prune", path.name[-12:], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["gone"] == [path.name[-12:]]
    assert not path.exists()
