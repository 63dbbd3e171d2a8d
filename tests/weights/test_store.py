"""Where files of published weights are looked for, and what is fetched where none is there."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from provenet.errors import DownloadError, WeightsError
from provenet.weights.sources import find_set
from provenet.weights.store import fetch_set, find_file

CONTENT = bytes(range(256)) * 100
REAL = find_set("resnet18.torchvision_v1")
SET = replace(REAL, sha256=hashlib.sha256(CONTENT).hexdigest(), sha256_prefix=None, bytes=len(CONTENT))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    for name in ("PROVENET_WEIGHTS", "PROVENET_MIRROR", "PROVENET_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def put(path, content=CONTENT):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("below", ["", SET.tag, SET.dialect])
def test_a_file_of_ones_own_is_found_by_its_name_below_its_tag_or_dialect(tmp_path, monkeypatch, below):
    monkeypatch.setenv("PROVENET_WEIGHTS", os.pathsep.join([str(tmp_path / "empty"), str(tmp_path / "own")]))
    assert find_file(SET) is None
    own = put(tmp_path / "own" / below / SET.file)
    assert find_file(SET) == fetch_set(SET) == own


def test_a_file_that_was_cut_short_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("PROVENET_WEIGHTS", str(tmp_path / "own"))
    put(tmp_path / "own" / SET.file, CONTENT[:-1])
    with pytest.raises(WeightsError, match=r"expected 25,600 bytes of resnet18.torchvision_v1, found 25,599; delete it"):
        fetch_set(SET)


def test_a_file_of_ones_own_with_other_content_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("PROVENET_WEIGHTS", str(tmp_path / "own"))
    put(tmp_path / "own" / SET.file, CONTENT[::-1])
    with pytest.raises(WeightsError, match=f"expected the published SHA-256 {SET.sha256} of {SET.tag}, found [0-9a-f]{{64}}; delete it"):
        fetch_set(SET)


def test_what_is_fetched_lies_in_the_cache_and_is_fetched_once(served, cache):
    folder, address = served
    file = put(folder / "elsewhere.pth")
    found = replace(SET, address=f"{address}/elsewhere.pth")
    assert fetch_set(found) == cache / SET.file
    file.unlink()
    assert fetch_set(found).read_bytes() == CONTENT


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_a_mirror_has_files_by_their_published_names(served, tmp_path, monkeypatch, way):
    folder, address = served
    put(folder / "mirror" / SET.file)
    (tmp_path / "own").mkdir()
    monkeypatch.setenv("PROVENET_WEIGHTS", str(tmp_path / "own"))
    if way == "environment":
        monkeypatch.setenv("PROVENET_MIRROR", f"{address}/mirror/")
    assert fetch_set(SET, mirror=f"{address}/mirror" if way == "argument" else None) == tmp_path / "own" / SET.file


def test_without_a_network_the_line_says_what_to_fetch_and_where_to_put_it(cache):
    address = "http://127.0.0.1:9/file.pth"
    with pytest.raises(WeightsError) as caught:
        fetch_set(replace(SET, address=address))
    assert caught.value.kind == "absent"
    assert str(caught.value).endswith(f"; fetch {address} by hand and put it at {cache / SET.file}")
    assert "\n" not in str(caught.value)


def test_a_set_without_an_address_says_where_to_put_it(cache):
    with pytest.raises(WeightsError, match="nobody states an address") as caught:
        fetch_set(replace(SET, address=None))
    assert str(caught.value).endswith(f"put it at {cache / SET.file}")


def test_a_set_in_an_archive_is_for_its_reader_to_unpack():
    with pytest.raises(
        WeightsError, match="it is published in an archive; fetch http://127.0.0.1/all.tar.gz, unpack it".replace(".", r"\.")
    ):
        fetch_set(replace(SET, address="http://127.0.0.1/all.tar.gz"))


def test_other_content_is_no_matter_of_the_network(served):
    folder, address = served
    put(folder / SET.file, CONTENT[::-1])
    with pytest.raises(DownloadError, match=f"published SHA-256 {SET.sha256}, found {hashlib.sha256(CONTENT[::-1]).hexdigest()}"):
        fetch_set(SET, mirror=address)


def test_the_command_line_names_both_hashes(served, tmp_path):
    folder, address = served
    put(folder / REAL.file)
    words = ["weights", "fetch", REAL.tag, "--mirror", address, "-o", str(tmp_path / "model.safetensors")]
    done = subprocess.run([sys.executable, "-m", "provenet", *words], capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("provenet: ")]
    assert (done.returncode, len(lines)) == (2, 1)
    assert f"expected the published SHA-256 f37072fd…, found {SET.sha256}" in lines[0]
    assert not (tmp_path / "model.safetensors").exists()
