"""The guide to weights, in both languages: its code and commands are run, its tables compared."""

import io
import os
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

from provenet.models.catalog import NETWORKS, build_on_meta
from provenet.preprocessing import PREPROCESSINGS

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from run_readme import find_blocks  # noqa: E402

GUIDES = ("weights.md", "weights.zh-CN.md")
STEP = re.compile(r"^```python\n(?P<code>.*?)^```\n\n```text\n(?P<printed>.*?)^```$", re.MULTILINE | re.DOTALL)


def read_page(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_code_prints_what_the_page_says_and_the_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (step,) = STEP.finditer(read_page(GUIDES[0]))
    output = io.StringIO()
    with redirect_stdout(output):
        exec(compile(step["code"], "weights.md", "exec"), {})
    assert output.getvalue() == step["printed"]
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    (commands,) = (code for language, code, _ in find_blocks(read_page(GUIDES[0])) if language == "bash")
    subprocess.run(["bash", "-euc", commands], env=environment, check=True, capture_output=True)
    assert {"model.safetensors", "model-timm.safetensors", "again.safetensors"} <= {path.name for path in tmp_path.iterdir()}


def test_both_languages_have_the_same_code_tables_and_headings():
    english, chinese = map(read_page, GUIDES)
    assert re.findall(r"^```.*?^```$", english, re.M | re.S) == re.findall(r"^```.*?^```$", chinese, re.M | re.S)
    for mark in (r"^\|", r"^#"):
        assert len(re.findall(mark, english, re.M)) == len(re.findall(mark, chinese, re.M))


def test_the_networks_said_to_have_equal_tensors_have():
    rows = re.findall(r"^\| (`.+?) \|", read_page(GUIDES[0]).partition("| equal tensors")[2].partition("\n\n")[0], re.M)
    groups = [re.findall(r"`(\w+)`", row) for row in rows]
    assert len(groups) == 5
    for group in groups:
        assert set(group) <= set(NETWORKS)
        shapes = [{name: tensor.shape for name, tensor in build_on_meta(network).trained_state().items()} for network in group]
        assert all(one == shapes[0] for one in shapes)


def test_the_preprocessings_are_all_named():
    rows = re.findall(r"^\| `(\w+)` \|", read_page(GUIDES[0]).partition("## Preprocessing")[2].partition("\n## ")[0], re.M)
    assert rows == list(PREPROCESSINGS)
