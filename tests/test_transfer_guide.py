"""The guide to transfer, in both languages: its code and commands are run, its pictures are there."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from provenet.weights.bundle import load_bundle

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from run_readme import find_blocks  # noqa: E402

GUIDES = ("transfer.md", "transfer.zh-CN.md")


def read_page(name):
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_the_code_and_the_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PROVENET_CACHE": str(tmp_path / "cache"),
        "PROVENET_WEIGHTS": "",
    }
    (_, code, _), (_, commands, _) = find_blocks(read_page(GUIDES[0]))
    exec(compile(code, GUIDES[0], "exec"), {})
    done = subprocess.run(["bash", "-euc", commands], env=environment, check=True, capture_output=True, text=True)
    assert "0 computed, 240 kept from before" in done.stderr + done.stdout  # the second head finds the features of the first
    assert {name: load_bundle(tmp_path / name).network.own_head for name in ("head", "hidden")} == {"head": "", "hidden": "mlp:32"}
    assert np.load(tmp_path / "features.npz")["features"].shape == (240, 64)
    assert (tmp_path / "survey/survey.html").is_file()


def test_both_languages_have_the_same_code_tables_and_headings():
    english, chinese = map(read_page, GUIDES)
    assert re.findall(r"^```.*?^```$", english, re.M | re.S) == re.findall(r"^```.*?^```$", chinese, re.M | re.S)
    for mark in (r"^\|", r"^#", r"^!\["):
        assert len(re.findall(mark, english, re.M)) == len(re.findall(mark, chinese, re.M))
    numbers = [re.findall(r"\d[\d,.]*(?= ?%)", page) for page in (english, chinese)]
    assert sorted(numbers[0]) == sorted(numbers[1])


def test_its_pictures_are_there():
    pictures = re.findall(r"\((charts/[\w-]+\.svg)\)", read_page(GUIDES[0]))
    assert len(pictures) == 2
    for picture in pictures:
        assert ElementTree.fromstring((ROOT / "docs" / picture).read_text(encoding="utf-8")).tag.endswith("svg")
