"""Fetching from a real server on the loopback that cuts, stalls, lies and leads astray."""

import contextlib
import email.utils
import hashlib
import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from provenet.download import Check, _Redirects, _seconds_until, download
from provenet.errors import DownloadError

CONTENT = b"".join(number.to_bytes(4, "big") for number in range(75_000))
OTHER = CONTENT[::-1]
CUT = 100_000
SHA256 = Check("sha256", hashlib.sha256(CONTENT).hexdigest())


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get("Range")
        name = self.path.rpartition("/")[2]
        with self.server.guard:
            before = sum(path == self.path for path, *_ in self.server.asked)
            self.server.asked.append((self.path, asked, self.headers.get("If-Range")))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.answer(name, before, int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0)

    def answer(self, name, before, start):
        if name in ("cut", "whole"):
            self.send_file(CONTENT, '"one"', start, cut=name == "cut" and not before)
        elif name == "changed":
            content, tag = (OTHER, '"two"') if before else (CONTENT, '"one"')
            self.send_file(content, tag, start if self.headers.get("If-Range") in (None, tag) else 0, cut=not before)
        elif name == "restless":  # all again each time, cut a byte earlier and a byte later
            self.send_head(200, len(CONTENT))
            self.wfile.write(CONTENT[: CUT - before % 2])
        elif name == "endless":
            self.send_chunks()
        elif name == "lengthless":  # HTTP/1.0: over when the connection is
            self.send_response(200)
            self.end_headers()
            self.wfile.write(CONTENT[:CUT])
        elif name == "later":
            self.send_head(503, 0, {"Retry-After": email.utils.format_datetime(datetime.now(UTC) + timedelta(hours=2))})
        elif name == "forbidden":
            self.send_error(403)
        elif name == "truncated":
            self.send_head(200, len(CONTENT))
            self.wfile.write(CONTENT[:CUT])
        elif name == "rangeless":
            self.send_file(CONTENT, '"one"', 0, cut=not before)
        elif name == "elsewhere" and start:
            self.send_head(206, 10, {"Content-Range": f"bytes 7-16/{len(CONTENT)}"})
            self.wfile.write(CONTENT[7:17])
        elif name == "beyond" and start:
            self.send_head(416, 0, {"Content-Range": f"bytes */{len(CONTENT)}"})
        elif name in ("elsewhere", "beyond"):
            self.send_file(CONTENT, '"one"', 0, cut=not before)
        elif name == "broken" and before < 2:
            self.send_head(500, 0)
        elif name == "busy" and not before:
            self.send_head(429, 0, {"Retry-After": "0"})
        elif name in ("broken", "busy"):
            self.send_file(CONTENT, '"one"', start)
        elif name == "stalls":
            self.send_head(200, len(CONTENT))
            self.wfile.write(CONTENT[:1_000])
            self.server.over.wait(2)
        elif name == "slow" and not before:
            self.send_head(200, len(CONTENT), {"ETag": '"one"'})
            for place in range(0, len(CONTENT), 2_000):
                self.wfile.write(CONTENT[place : place + 2_000])
                self.server.over.wait(0.02)
        elif name == "slow":
            self.send_file(CONTENT, '"one"', start)
        elif name == "huge":
            self.send_head(200, 10**15)
        elif name in self.server.leads:
            self.send_head(302, 0, {"Location": self.server.leads[name]})
        else:
            self.send_error(404)

    def send_chunks(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            self.wfile.write(b"2710\r\n" + bytes(10_000) + b"\r\n")

    def send_head(self, status, length, more=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(length), **(more or {})}.items():
            self.send_header(key, value)
        self.end_headers()

    def send_file(self, content, tag, start, cut=False):
        span = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"} if start else {}
        self.send_head(206 if start else 200, len(content) - start, {"ETag": tag, **span})
        self.wfile.write(content[start : CUT if cut else None])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr("provenet.download.FIRST_WAIT_SECONDS", 0.01)
    for name in ("PROVENET_PROXY", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.guard, server.over, server.asked = threading.Lock(), threading.Event(), []
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.leads = {"led": "/whole", "loop": "/loop", "inside": "file:///etc/passwd", "ftp": "ftp://127.0.0.1/whole"}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()


def get(server, name, folder, check=SHA256, largest_bytes=400_000, **options):
    download(f"{server.address}/{name}", folder / "file", check=check, largest_bytes=largest_bytes, **options)
    return (folder / "file").read_bytes()


def refusal(server, name, folder, **options):
    with pytest.raises(DownloadError) as caught:
        get(server, name, folder, **options)
    assert "\n" not in str(caught.value)
    assert not (folder / "file").exists()
    return caught.value.kind, str(caught.value)


def left(folder):
    return {path.name for path in folder.iterdir()} - {".file.lock"}


def ranges(server):
    return [(asked, validator) for _, asked, validator in server.asked]


FROM_CUT = (f"bytes={CUT}-", '"one"')


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("whole", [(None, None)]),
        ("cut", [(None, None), FROM_CUT]),
        ("rangeless", [(None, None), FROM_CUT]),
        ("elsewhere", [(None, None), FROM_CUT, (None, None)]),
        ("beyond", [(None, None), FROM_CUT, (None, None)]),
        ("broken", [(None, None)] * 3),
        ("busy", [(None, None)] * 2),
        ("led", [(None, None)] * 2),
    ],
)
def test_the_file_arrives_and_nothing_else_is_left(server, tmp_path, name, asked):
    assert get(server, name, tmp_path) == CONTENT
    assert ranges(server) == asked
    assert {path.name for path in tmp_path.iterdir()} == {"file"}


def test_a_file_that_changed_in_between_is_fetched_anew(server, tmp_path):
    assert get(server, "changed", tmp_path, Check("sha256", hashlib.sha256(OTHER).hexdigest())) == OTHER
    assert ranges(server) == [(None, None), FROM_CUT]


def test_what_is_always_cut_is_kept_after_five_vain_tries(server, tmp_path):
    kind, message = refusal(server, "truncated", tmp_path)
    assert kind == "unreachable"
    assert "100,000 of 300,000 bytes came); what has come is kept" in message
    assert left(tmp_path) == {".file.part", ".file.part.json"}
    assert len(server.asked) == 6


def test_a_server_that_begins_anew_each_time_is_given_up(server, tmp_path):
    assert refusal(server, "restless", tmp_path)[0] == "unreachable"
    assert len(server.asked) == 6


def test_all_has_come_when_it_has_the_published_size(server, tmp_path):
    kind, message = refusal(server, "lengthless", tmp_path, check=None, size_bytes=len(CONTENT))
    assert (kind, len(server.asked)) == ("unreachable", 6)
    assert "100,000 of 300,000 bytes came" in message
    kind, message = refusal(server, "whole", tmp_path / "other", check=None, size_bytes=7)
    assert kind == "wrong size"
    assert "expected the published 7 bytes, found 300,000;" in message


def test_a_server_says_when_it_will_answer_again(server, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr("provenet.download.time.sleep", waited.append)
    assert "the server answers 503" in refusal(server, "later", tmp_path)[1]
    assert waited == [60.0] * 4
    assert _seconds_until("7") == 7
    assert _seconds_until("soon") is _seconds_until("") is None


def test_what_is_forbidden_is_refused(server, tmp_path):
    kind, message = refusal(server, "forbidden", tmp_path)
    assert (kind, len(server.asked)) == ("refused", 1)
    assert message.endswith("(the server answers 403: refused)")


def test_a_disk_that_is_full_keeps_what_has_come_and_says_so(server, tmp_path):
    """Full for this process: the largest file that it may write."""
    code = f"""
import resource, signal
from pathlib import Path
from provenet.download import Check, download
from provenet.errors import DownloadError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({CUT}, {CUT}))
try:
    download({f"{server.address}/whole"!r}, Path({str(tmp_path / "file")!r}), check=Check(*{tuple(SHA256)!r}), largest_bytes=400_000)
except DownloadError as error:
    print(error.kind, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("no room ")
    assert "expected to write file there, found: File too large; free some room, or choose another folder" in done.stdout
    assert get(server, "whole", tmp_path) == CONTENT
    assert ranges(server) == [(None, None), FROM_CUT]


def test_a_place_that_is_no_folder_is_no_matter_of_the_network(server, tmp_path):
    (tmp_path / "taken").write_text("a file")
    kind, message = refusal(server, "whole", tmp_path / "taken" / "folder")
    assert (kind, server.asked) == ("unwritable", [])
    assert "expected to write file there, found: Not a directory; mend that, or choose another folder" in message


def test_what_is_absent_is_asked_for_once(server, tmp_path):
    kind, message = refusal(server, "nowhere", tmp_path)
    assert (kind, len(server.asked), left(tmp_path)) == ("absent", 1, set())
    assert "404" in message


def test_an_endless_answer_ends(server, tmp_path):
    assert refusal(server, "endless", tmp_path)[0] == "too large"
    assert not left(tmp_path)


def test_a_server_that_stalls_is_given_up(server, tmp_path):
    kind, message = refusal(server, "stalls", tmp_path, timeout_seconds=0.1)
    assert kind == "unreachable"
    assert "timed out" in message


@pytest.mark.parametrize(("name", "where"), [("inside", "file:///etc/passwd"), ("ftp", "ftp://127.0.0.1/whole")])
def test_nothing_leads_out_of_http(server, tmp_path, name, where):
    kind, message = refusal(server, name, tmp_path)
    assert kind == "unreachable"
    assert message.endswith(f"to {where}, which is not followed")
    assert not left(tmp_path)


def test_a_loop_of_redirects_ends(server, tmp_path):
    kind, message = refusal(server, "loop", tmp_path)
    assert kind == "unreachable"
    assert message.endswith("/loop, which is not followed")
    assert len(server.asked) < 15


def test_a_secured_connection_never_leads_to_an_open_one():
    request = urllib.request.Request("https://127.0.0.1/file")
    follow = _Redirects().redirect_request
    with pytest.raises(DownloadError, match=r"leads from https:// to http://127\.0\.0\.1/file, which is not followed"):
        follow(request, None, 302, "Found", http.client.HTTPMessage(), "http://127.0.0.1/file")
    assert follow(request, None, 302, "Found", http.client.HTTPMessage(), "https://127.0.0.1/b").full_url == "https://127.0.0.1/b"


@pytest.mark.parametrize(("algorithm", "shown"), [("sha256", "SHA-256"), ("sha1", "SHA-1"), ("md5", "MD5")])
def test_the_wrong_content_is_not_kept(server, tmp_path, algorithm, shown):
    found, wrong = hashlib.new(algorithm, CONTENT).hexdigest(), hashlib.new(algorithm, OTHER).hexdigest()
    kind, message = refusal(server, "whole", tmp_path, check=Check(algorithm, wrong))
    assert kind == "wrong hash"
    assert f"expected the published {shown} {wrong}, found {found};" in message
    assert not left(tmp_path)
    assert get(server, "whole", tmp_path, Check(algorithm, found)) == CONTENT


def test_the_beginning_of_a_hash_is_enough_to_know(server, tmp_path):
    assert "published SHA-256 00000000…, found" in refusal(server, "whole", tmp_path, check=Check("sha256", "00000000"))[1]
    assert get(server, "whole", tmp_path, Check("sha256", SHA256.digest[:8])) == CONTENT


def test_a_wrong_hash_after_a_part_that_was_there_begins_anew_once(server, tmp_path):
    (tmp_path / ".file.part").write_bytes(OTHER[:CUT])
    (tmp_path / ".file.part.json").write_text(json.dumps({"address": f"{server.address}/whole", "validator": '"one"'}))
    assert get(server, "whole", tmp_path) == CONTENT
    assert ranges(server) == [FROM_CUT, (None, None)]


def test_too_little_room_is_told_before_anything_is_written(server, tmp_path):
    kind, message = refusal(server, "huge", tmp_path, largest_bytes=10**16)
    assert kind == "no room"
    assert "expected room for 1,000,000,000,000,000 bytes" in message
    assert not left(tmp_path)


def child(server, name, folder):
    code = f"""
from pathlib import Path
from provenet.download import Check, download
download({f"{server.address}/{name}"!r}, Path({str(folder / "file")!r}), check=Check(*{tuple(SHA256)!r}), largest_bytes=400_000)
"""
    return subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ))


def test_a_fetch_that_was_killed_goes_on_where_it_stopped(server, tmp_path):
    first = child(server, "slow", tmp_path)
    part = tmp_path / ".file.part"
    while first.poll() is None and not (part.is_file() and part.stat().st_size):
        time.sleep(0.005)
    first.kill()
    assert first.wait() == -9
    done = part.stat().st_size
    assert 0 < done < len(CONTENT)
    assert child(server, "slow", tmp_path).wait() == 0
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert ranges(server) == [(None, None), (f"bytes={done}-", '"one"')]


def test_two_processes_at_once_ask_once(server, tmp_path):
    both = [child(server, "slow", tmp_path) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert len(server.asked) == 1


@pytest.mark.parametrize("way", ["argument", "environment"])
def test_a_proxy_is_asked_in_place_of_the_server(server, tmp_path, monkeypatch, way):
    """The server of these tests answers absolute addresses as well, so it is the proxy of a host that does not exist."""
    if way == "environment":
        monkeypatch.setenv("PROVENET_PROXY", server.address)
    proxy = server.address if way == "argument" else None
    download("http://nowhere.invalid/whole", Path(tmp_path / "file"), check=SHA256, largest_bytes=400_000, proxy=proxy)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert [path for path, *_ in server.asked] == ["http://nowhere.invalid/whole"]
