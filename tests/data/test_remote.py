"""Shards from a real server on the loopback that behaves as servers do, and from an object store."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from test_shards import samples, write_tar

from provenet.data import remote, shards
from provenet.data.asking import ASKED_AT_ONCE, ask_several
from provenet.data.remote import Patience, open_remote
from provenet.data.sources import open_data
from provenet.errors import DataError, ImageError

HASTY = Patience(timeout_seconds=0.5, wait_seconds=0.01, num_tries=3)
PICTURES = samples(300)


class Server(ThreadingHTTPServer):
    """`behaviour` of each path; `asked` is every request for content, as (path, first byte)."""

    daemon_threads = True

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.etag, self.asked, self.heads, self.failures = content, '"one"', [], [], {}
        self.heads_now, self.most_heads_at_once = [], 0
        self.stop = threading.Event()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.server.heads.append(self.path)
        self.server.heads_now.append(self.path)
        self.server.most_heads_at_once = max(self.server.most_heads_at_once, len(self.server.heads_now))
        if "slow" in self.path:
            self.server.stop.wait(0.15)
        self.server.heads_now.remove(self.path)
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        content, path = self.server.content, self.path.split("?")[0]
        found = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(found[1]) if found and path != "/no-ranges.tar" else 0
        if with_body:
            self.server.asked.append((path, start))
        if path.endswith("missing.tar"):
            return self.send_error(404)
        if path.endswith("closed.tar"):
            return self.send_error(403)
        failures = self.server.failures.setdefault((path, with_body), 0)
        self.server.failures[path, with_body] += 1
        if path == "/twice-500.tar" and failures < 2:
            return self.send_error(500)
        if path == "/always-500.tar":
            return self.send_error(500)
        length = len(content) - start + (5_000 if path == "/lies.tar" else 0)
        self.send_response(206 if start else 200)
        if path != "/sizeless.tar":
            self.send_header("Content-Length", str(length))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if path != "/unmarked.tar":
            self.send_header("ETag", self.server.etag)
        self.send_header("Connection", "close")
        self.end_headers()
        if not with_body:
            return None
        if path in ("/cut.tar", "/no-ranges.tar") and len(self.server.asked) < (4 if path == "/cut.tar" else 3):
            self.wfile.write(content[start : start + 100_000])
            self.wfile.flush()
            self.server.stop.wait(0.05)  # what arrives together with the end of a connection is lost with it
            self.connection.shutdown(2)
        elif path == "/stalls.tar" and len(self.server.asked) < 3:
            self.wfile.write(content[start : start + 100_000])
            self.wfile.flush()
            self.server.stop.wait(20)
        elif path == "/dead.tar":
            self.server.stop.wait(20)
        else:
            self.wfile.write(content[start:])
            self.server.stop.wait(0.1 if path == "/lies.tar" else 0)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "shards"


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    return write_tar(tmp_path_factory.mktemp("tar") / "a.tar", PICTURES).read_bytes()


@pytest.fixture
def server(content):
    server = Server(content)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.stop.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_shard_comes_whole_and_once(server, cache):
    heard = []
    data = open_data(f"{server.address}/whole.tar", progress=lambda *facts: heard.append(facts))
    images = data.splits["all"]
    assert len(images) == 300
    assert images.pictures.content(7) == PICTURES["0007.png"]
    assert images.pictures.where(7) == f"{server.address}/whole.tar: 0007.png"
    assert ("fetching whole.tar", len(server.content), len(server.content)) in heard
    assert next(cache.glob("*.tar")).read_bytes() == server.content
    assert not list(cache.glob("*.part"))
    again = open_data(f"{server.address}/whole.tar").splits["all"]
    assert again.fingerprint() == images.fingerprint()
    assert server.asked == [("/whole.tar", 0)]


@pytest.mark.parametrize("path", ["twice-500", "cut", "stalls", "no-ranges", "unmarked"])
def test_what_a_network_does_on_the_way(server, cache, path):
    file, index = open_remote(f"{server.address}/{path}.tar", patience=HASTY)
    assert file.path.read_bytes() == server.content
    assert len(index) == 300
    starts = [start for _, start in server.asked]
    if path in ("cut", "stalls"):
        assert starts == sorted(starts)
        assert starts[:3] == [0, 100_000, 200_000]  # it went on where it stopped


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing", "nothing of that name|404"),
        ("closed", "the server answers 403"),
        ("always-500", "the server answers 500"),
        ("dead", "the server does not answer in time after nothing"),
        ("lies", "the connection broke off .* after 624,640 of 629,640 bytes"),
        ("sizeless", "tells the size"),
    ],
)
def test_what_does_not_come_is_one_line(server, cache, path, message):
    with pytest.raises(DataError, match=message) as caught:
        open_remote(f"{server.address}/{path}.tar?key=secret", patience=HASTY)
    assert str(caught.value).startswith(f"{server.address}/{path}.tar: ")
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert not list(cache.glob("*.tar"))


@pytest.mark.slow
def test_a_killed_download_is_gone_on_with(server, cache):
    code = f"from provenet.data.remote import *; open_remote('{server.address}/stalls.tar')"
    process = subprocess.Popen([sys.executable, "-c", code])
    until = time.monotonic() + 30
    while not any(path.stat().st_size == 100_000 for path in cache.glob("*.part")) and time.monotonic() < until:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not list(cache.glob("*.tar"))
    server.asked += [("", 0)] * 2  # it stalls no more
    file, _ = open_remote(f"{server.address}/stalls.tar", patience=HASTY)
    assert file.path.read_bytes() == server.content
    assert server.asked[-1] == ("/stalls.tar", 100_000)


def test_two_at_once_fetch_once(server):
    found = []
    threads = [threading.Thread(target=lambda: found.append(open_remote(f"{server.address}/whole.tar", patience=HASTY))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({file.path for file, _ in found}) == 1
    assert server.asked == [("/whole.tar", 0)]


def list_shards(server, folder, names):
    path = folder / "many.shards"
    path.write_text("".join(f"{server.address}/{name}.tar\n" for name in names))
    return path


def test_servers_are_asked_about_several_shards_at_a_time(server, tmp_path):
    names = [f"{number:02}-slow" if number % 3 else f"{number:02}" for number in range(12)]
    images = open_data(list_shards(server, tmp_path, names)).splits["all"]
    assert [shard.name for shard in images.pictures.table.files.shards] == [f"{server.address}/{name}.tar" for name in names]
    assert server.heads[0] == "/00.tar"
    assert 2 < server.most_heads_at_once <= ASKED_AT_ONCE
    assert [path for path, _ in server.asked] == [f"/{name}.tar" for name in names]  # brought one after the other


def test_the_first_shard_that_is_missing_is_the_one_that_is_named(server, tmp_path):
    """Whichever answer comes first; and what is far behind it is not asked about."""
    names = ["00", "01", "02-slow-missing", "03-closed", *(f"{number:02}" for number in range(4, 40))]
    data = list_shards(server, tmp_path, names)
    for _ in range(2):
        with pytest.raises(DataError, match=r"02-slow-missing\.tar: expected a shard there, found") as caught:
            open_data(data)
        assert "\n" not in str(caught.value)
    assert not any("/20" in path for path in server.heads)
    problems = []
    images = open_data(data, on_problem=problems.append).splits["all"]
    assert [str(problem).partition(": ")[0].rpartition("/")[2] for problem in problems] == ["02-slow-missing.tar", "03-closed.tar"]
    assert len(images) == 38 * 300


def test_a_changed_shard_is_fetched_again(server, tmp_path):
    open_remote(f"{server.address}/whole.tar", patience=HASTY)
    server.content = write_tar(tmp_path / "b.tar", samples(200)).read_bytes()
    server.etag = '"two"'
    assert len(open_remote(f"{server.address}/whole.tar", patience=HASTY)[1]) == 200


def test_what_is_evicted_comes_back(server, cache, monkeypatch):
    monkeypatch.setenv("PROVENET_SHARD_CACHE_GB", f"{1.5 * len(server.content) / 1e9}")
    (cache.parent / "x").mkdir(parents=True)
    (cache.parent / "two.shards").write_text(f"{server.address}/whole.tar\n{server.address}/other.tar\n")
    images = open_data(cache.parent / "two.shards").splits["all"]
    assert len(list(cache.glob("*.tar"))) == 1  # the first made room for the second
    images.pictures.table.files.close()
    assert images.pictures.content(7) == PICTURES["0007.png"]
    images.pictures.table.files.close()
    assert images.pictures.content(307) == PICTURES["0007.png"]
    assert len(server.asked) == 4
    assert len(list(cache.glob("*.tar"))) == 1
    monkeypatch.setenv("PROVENET_SHARD_CACHE_GB", "lots")
    with pytest.raises(Exception, match="expected a number of gigabytes, found 'lots'"):
        open_data(cache.parent / "two.shards")


def test_without_the_server_what_is_here_will_do(server, monkeypatch):
    monkeypatch.setattr(remote, "PATIENCE", HASTY)
    monkeypatch.setattr(shards, "ask_several", lambda addresses, progress: ask_several(addresses, progress, HASTY))
    address = f"{server.address}/whole.tar"
    fingerprint = open_data(address).splits["all"].fingerprint()
    server.etag = '"two"'
    server.shutdown()
    server.server_close()
    images = open_data(address).splits["all"]
    assert images.fingerprint() == fingerprint
    assert images.pictures.content(0) == PICTURES["0000.png"]
    next(remote.cache_folder().glob("shards/*.tar")).unlink()
    images.pictures.table.files.close()
    with pytest.raises(ImageError, match="found its shard gone from the cache") as caught:
        images.pictures.content(0)
    assert caught.value.kind == "missing"


def test_an_object_store(content, cache):
    import fsspec

    with fsspec.open("memory://bucket/train-000.tar", "wb") as file:
        file.write(content)
    images = open_data("memory://bucket/train-{000..000}.tar").splits["all"]
    assert images.pictures.content(5) == PICTURES["0005.png"]
    for address, message in (("nonsense://x/a.tar", "that fsspec can open"), ("memory://bucket/none.tar", "nothing of that name")):
        with pytest.raises(DataError, match=message):
            open_data(address)


def test_a_full_disk_is_said_and_gone_on_from(server, make_disk, monkeypatch):
    disk = make_disk("200k")
    monkeypatch.setenv("PROVENET_CACHE", str(disk))
    with pytest.raises(DataError, match="found: the disk is full; make room there"):
        open_remote(f"{server.address}/whole.tar", patience=HASTY)


def test_without_the_extra_it_is_one_line(server, tmp_path):
    (tmp_path / "broken" / "fsspec").mkdir(parents=True)
    (tmp_path / "broken" / "fsspec" / "__init__.py").write_text("raise RuntimeError('half installed')")
    code = f"import provenet as pn\ntry: pn.open_data('{server.address}/a.tar')\nexcept pn.ProvenetError as error: print(error)"
    environment = os.environ | {"PYTHONPATH": f"{tmp_path / 'broken'}:{os.environ.get('PYTHONPATH', '')}"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True).stdout
    assert "half installed; pip install 'provenet[remote]', or copy the shards" in out
    assert json.dumps(out).count("\\n") == 1
