"""The Hub's own client in a process of its own, against a server on the loopback."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

FILES = {"one": {"net.bin": b"weights", "README.md": b"card"}, "two": {"a.bin": b"a", "b.bin": b"b"}}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        parts = self.path.strip("/").split("/")
        name = parts[3 if parts[:2] == ["api", "models"] else 1]
        if name not in FILES:
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif "tree" in parts:
            tree = [{"type": "file", "path": file, "size": len(content), "oid": "0" * 40} for file, content in FILES[name].items()]
            self.reply(200, json.dumps(tree).encode())
        elif parts[0] == "api":
            siblings = [{"rfilename": file} for file in FILES[name]]
            self.reply(200, json.dumps({"id": f"me/{name}", "sha": "0" * 40, "siblings": siblings}).encode())
        else:
            self.reply(200, FILES[name][parts[-1]], {"ETag": '"tag"', "X-Repo-Commit": "0" * 40})

    def do_HEAD(self):
        self.do_GET()

    def reply(self, status, content, more=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(more or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(endpoint, folder, name, before=""):
    """Standard output of a process that fetches, and the one line of what it complains of."""
    code = f"""
import sys
{before}
from provenet.errors import ProvenetError
from provenet.weights.hub import fetch_from_hub
try:
    print(fetch_from_hub({name!r}).read_text())
except ProvenetError as error:
    print(type(error).__name__, error)
"""
    hub = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": "x", "HF_HOME": str(folder), "HF_HUB_DISABLE_TELEMETRY": "1"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **hub}, capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    return line


@pytest.mark.parametrize("name", ["hf:me/one", "hf:me/one/net.bin", "hf:me/one@main/net.bin"])
def test_a_file_comes_from_the_hub(address, tmp_path, name):
    assert fetch(address, tmp_path, name) == "weights"


def test_of_two_files_one_must_be_named(address, tmp_path):
    line = fetch(address, tmp_path, "hf:me/two")
    assert line == "SettingsError hf:me/two: expected one file of weights, found a.bin, b.bin; add /FILE"


def test_no_such_repository_is_one_line(address, tmp_path):
    assert fetch(address, tmp_path, "hf:me/none").startswith("DownloadError hf:me/none: expected it on the Hub, found: 404")


def test_without_its_client_the_line_names_what_to_install(address, tmp_path):
    assert fetch(address, tmp_path, "hf:me/one", "sys.modules['huggingface_hub'] = None").endswith("install provenet[hub]")
