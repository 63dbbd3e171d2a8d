"""The Hub's own client, in processes of its own, against a server on the loopback that answers as the Hub does."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from provenet.errors import SettingsError
from provenet.models.catalog import build_network
from provenet.weights.bundle import Bundle, save_bundle
from provenet.weights.hub import publish_bundle

COMMIT = "0" * 40
TOKEN = "hf_of_these_tests"
FILES = {
    "me/one": {"net.bin": b"weights", "training_args.bin": b"no weights", "README.md": b"card"},
    "me/two": {"a.bin": b"a", "b.bin": b"b"},
    "me/usual": {"more.safetensors": b"more", "model.safetensors": b"usual", "pytorch_model.bin": b"old"},
    "me/words": {"README.md": b"card"},
}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = self.path.partition("?")[0].strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        repository = "/".join(parts[2:4] if is_api else parts[:2])
        files = self.server.files.get(repository)
        if repository == "me/secret" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.reply(401, b"", {"X-Error-Code": "GatedRepo"})
        elif files is None:
            self.reply(404, b"", {"X-Error-Code": "RepoNotFound"})
        elif "tree" in parts:
            tree = [{"type": "file", "path": file, "size": len(content), "oid": COMMIT} for file, content in files.items()]
            self.reply(200, json.dumps(tree).encode())
        elif is_api:
            siblings = [{"rfilename": file} for file in files]
            self.reply(200, json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode())
        elif parts[-1] not in files:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            content = files[parts[-1]]
            self.reply(200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT})

    def do_HEAD(self):
        self.do_GET()

    def do_POST(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/validate-yaml":
            self.reply(200, b'{"errors": [], "warnings": []}')
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.reply(401, b'{"error": "Invalid username or password."}')
        elif self.path == "/api/repos/create":
            asked = json.loads(content)
            repository = f"{asked['organization']}/{asked['name']}"
            self.server.private[repository] = bool(asked.get("private")) or asked.get("visibility") == "private"
            if repository in self.server.files:
                self.reply(409, json.dumps({"error": "You already created this model repo", "url": self.address(repository)}).encode())
            else:
                self.server.files[repository] = {}
                self.reply(200, json.dumps({"url": self.address(repository)}).encode())
        elif self.path.endswith("/preupload/main"):
            modes = [
                {"path": file["path"], "uploadMode": "regular" if file["path"].endswith(".md") else "lfs", "shouldIgnore": False}
                for file in json.loads(content)["files"]
            ]
            self.reply(200, json.dumps({"files": modes}).encode())
        elif self.path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(content)["objects"]
            objects = [{**item, "actions": {"upload": {"href": self.address(f"lfs/{item['oid']}")}}} for item in wanted]
            self.reply(200, json.dumps({"objects": objects}).encode())
        elif self.path.endswith("/commit/main"):
            repository = "/".join(self.path.split("/")[3:5])
            for line in map(json.loads, content.splitlines()):
                value = line["value"]
                if line["key"] == "file":
                    self.server.files[repository][value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    self.server.files[repository][value["path"]] = self.server.large[value["oid"]]
            self.reply(200, json.dumps({"commitUrl": self.address(f"{repository}/commit/{COMMIT}"), "commitOid": COMMIT}).encode())
        else:
            self.reply(404, b"")

    def do_PUT(self):
        content = self.rfile.read(int(self.headers["Content-Length"]))
        assert hashlib.sha256(content).hexdigest() == self.path.rpartition("/")[2]
        self.server.large[self.path.rpartition("/")[2]] = content
        self.reply(200, b"")

    def address(self, path):
        return f"http://127.0.0.1:{self.server.server_port}/{path}"

    def reply(self, status, content, more=None):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(content)), **(more or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files = {repository: dict(files) for repository, files in FILES.items()}
    server.large, server.private = {}, {}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def environment(server, folder, **more):
    endpoint = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(folder), "HF_TOKEN": TOKEN}
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return {**os.environ, **endpoint, **quiet, **more}


def fetch(server, folder, names, before="", **more):
    """Of each name what was fetched, or kind and line of what is complained of: from one process for all."""
    code = f"""
import json
import sys
{before}
from provenet.errors import DownloadError, ProvenetError
from provenet.weights.hub import fetch_from_hub
for name in {list(names)!r}:
    try:
        print(json.dumps(fetch_from_hub(name).read_text()))
    except DownloadError as error:
        print(json.dumps([error.kind, str(error)]))
    except ProvenetError as error:
        print(json.dumps([type(error).__name__, str(error)]))
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment(server, folder, **more), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_files_come_from_the_hub_and_are_found_again_without_it(server, tmp_path):
    names = {
        "hf:me/one": "weights",
        "hf:me/one/net.bin": "weights",
        "hf:me/one@main/net.bin": "weights",
        "hf:me/usual": "usual",
        "hf:me/usual/pytorch_model.bin": "old",
    }
    assert fetch(server, tmp_path, names) == list(names.values())
    server.files.clear()
    without = fetch(server, tmp_path, ["hf:me/one", "hf:me/usual", "hf:me/two"], HF_HUB_OFFLINE="1")
    assert without[:2] == ["weights", "usual"]
    assert without[2][0] == "unreachable"
    assert "offline mode" in without[2][1]
    assert "\n" not in without[2][1]


def test_what_cannot_be_had_is_one_line(server, tmp_path):
    server.files["me/secret"] = {"model.safetensors": b"secret"}
    names = ["hf:me/two", "hf:me/words", "hf:me/none", "hf:me/one/none.bin", "hf:me/secret", "hf:me", "hf:me/one/../../net.bin"]
    two, words, none, entry, secret, short, outside = fetch(server, tmp_path, names, HF_TOKEN="another")
    assert two == ["SettingsError", "hf:me/two: expected one file of weights, found a.bin, b.bin; add /FILE"]
    assert words[1].startswith("hf:me/words: expected a file of weights (.safetensors, .bin")
    assert (none[0], entry[0], secret[0]) == ("absent", "absent", "refused")
    assert none[1].startswith("hf:me/none: expected it on the Hub, found: 404")
    assert secret[1].startswith("hf:me/secret: expected it on the Hub, found: 401")
    assert short[0] == outside[0] == "SettingsError"
    assert not any("\n" in line for _, line in (two, words, none, entry, secret, short, outside))


def test_without_its_client_the_line_names_what_to_install(server, tmp_path):
    ((kind, line),) = fetch(server, tmp_path, ["hf:me/one"], "sys.modules['huggingface_hub'] = None")
    assert kind == "SettingsError"
    assert line.endswith("install provenet[hub]")


@pytest.fixture
def bundle(tmp_path):
    net = build_network("lenet5_softmax", num_classes=3, init="trainable").eval()
    found = Bundle(net, ("coat", "bag", "shirt"), net.input_spec.preprocessing)
    (tmp_path / "run").mkdir()
    save_bundle(found, tmp_path / "run" / "model.safetensors")
    return tmp_path / "run" / "model.safetensors"


def publish(server, folder, *words, **more):
    command = [sys.executable, "-m", "provenet", "weights", "publish", *map(str, words)]
    return subprocess.run(command, env=environment(server, folder, **more), capture_output=True, text=True, check=False)


def test_a_bundle_is_published_with_its_card_and_comes_back_the_same(server, tmp_path, bundle):
    done = publish(server, tmp_path / "hub", bundle, "--to", "me/clothes", "--licence", "mit", "--private")
    assert (done.returncode, done.stdout) == (0, f"http://127.0.0.1:{server.server_port}/me/clothes\n"), done.stderr
    assert server.private == {"me/clothes": True}
    published = server.files["me/clothes"]
    assert set(published) == {"README.md", "model.safetensors"}
    assert published["model.safetensors"] == bundle.read_bytes()
    card = published["README.md"].decode()
    assert card.startswith("---\nlicense: mit\nlibrary_name: provenet\n")
    assert "3 classes: coat, bag, shirt" in card
    assert "it sees the middle 32x32" in card

    (bundle.parent / "README.md").write_text("# Mine\n")
    assert publish(server, tmp_path / "hub", bundle.parent, "--to", "me/clothes").returncode == 0  # again, with the run's card
    assert server.files["me/clothes"]["README.md"].decode().endswith("---\n\n# Mine\n")

    words = ["weights", "fetch", "hf:me/clothes", "-o", str(tmp_path / "again.safetensors")]
    subprocess.run([sys.executable, "-m", "provenet", *words], env=environment(server, tmp_path / "hub"), check=True, capture_output=True)
    assert (tmp_path / "again.safetensors").read_bytes() == bundle.read_bytes()


def test_whoever_may_not_publish_is_told_in_one_line(server, tmp_path, bundle):
    done = publish(server, tmp_path / "hub", bundle, "--to", "me/clothes", HF_TOKEN="another")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("provenet: me/clothes: expected to publish it on the Hub, found: Client error '401 Unauthorized'")
    assert line.endswith("`hf auth login` says who you are")
    assert "me/clothes" not in server.files


@pytest.mark.parametrize(
    ("repository", "choices", "line"),
    [
        ("clothes", {}, "--to: expected OWNER/NAME, found 'clothes'"),
        ("me/x", {"licence": "mit: yes"}, "--licence: expected a short name such as mit or cc-by-4.0, found 'mit: yes'"),
        ("me/x", {"card": Path("none.md")}, "none.md: expected the text of a card, found none"),
    ],
)
def test_what_cannot_be_published_is_told_before_anybody_is_asked(bundle, repository, choices, line):
    with pytest.raises(SettingsError) as caught:
        publish_bundle(bundle, repository, **choices)
    assert str(caught.value).startswith(line)
