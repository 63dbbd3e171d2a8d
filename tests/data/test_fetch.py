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


@pytest.mark.parametrize(("path", "message"), [("/cut", "expected the published MD5"), ("/missing", "404")])
def test_what_does_not_arrive_leaves_nothing(address, tmp_path, path, message):
    with pytest.raises(DataError, match=message):
        fetch(f"{address}{path}", tmp_path / "file.gz", FILE)
    assert not list(tmp_path.iterdir())


def test_an_endless_answer_is_cut(address, tmp_path):
    with pytest.raises(DataError, match="expected at most 1,000 bytes"):
        fetch(f"{address}/whole", tmp_path / "file.gz", FILE._replace(largest_bytes=1_000))
    assert not list(tmp_path.iterdir())
