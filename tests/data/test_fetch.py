"""Fetching from a real server on the loopback: whole, cut off, missing, too long."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from provenet.data.fetch import PublishedFile, fetch
from provenet.errors import DataError

CONTENT = bytes(range(256)) * 4_000
FILE = PublishedFile("file.gz", hashlib.md5(CONTENT).hexdigest(), 2_000_000)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.path == "/whole" else CONTENT[:100_000])

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_whole_file_arrives(address, tmp_path):
    heard = []
    fetch(f"{address}/whole", tmp_path / "cache" / "file.gz", FILE, lambda *facts: heard.append(facts))
    assert (tmp_path / "cache" / "file.gz").read_bytes() == CONTENT
    assert heard[-1] == ("fetching file.gz", len(CONTENT), len(CONTENT))


def left(folder):
    """What is in a folder, but for the lock of a fetch that failed."""
    return {path.name for path in folder.iterdir() if path.suffix != ".lock"}


def test_what_is_missing_leaves_nothing(address, tmp_path):
    with pytest.raises(DataError, match="404"):
        fetch(f"{address}/missing", tmp_path / "file.gz", FILE)
    assert not left(tmp_path)


def test_what_is_cut_is_kept_to_go_on_with(address, tmp_path, monkeypatch):
    monkeypatch.setattr("provenet.download.FIRST_WAIT_SECONDS", 0.001)
    with pytest.raises(DataError, match=r"100,000 of 1,024,000 bytes came\); what has come is kept"):
        fetch(f"{address}/cut", tmp_path / "file.gz", FILE)
    assert left(tmp_path) == {".file.gz.part", ".file.gz.part.json"}


def test_an_endless_answer_is_cut(address, tmp_path):
    with pytest.raises(DataError, match="expected at most 1,000 bytes"):
        fetch(f"{address}/whole", tmp_path / "file.gz", FILE._replace(largest_bytes=1_000))
    assert not left(tmp_path)
