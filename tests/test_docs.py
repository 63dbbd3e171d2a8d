"""Documents against what is there: the reading list, the links, the translation, the blocks that are run."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from run_readme import find_blocks  # noqa: E402

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])


def test_the_reading_list_is_the_tree():
    listed = re.findall(r"`(src/provenet/[\w/]+\.py)`", (ROOT / "docs/architecture.md").read_text())
    there = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("src/provenet/**/*.py") if path.name != "__init__.py")
    assert sorted(listed) == there
    assert len(there) > 30


def test_the_layers_are_those_of_the_contract():
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"][0]["layers"]
    drawing = (ROOT / "docs/architecture.md").read_text().split("```")[1]
    rooms = {room for line in contract for room in line.split(" | ")}
    assert rooms <= set(re.findall(r"\w+", drawing))
    there = {path.stem for path in (ROOT / "src/provenet").iterdir() if path.name not in ("__init__.py", "__pycache__", "py.typed")}
    assert there == rooms


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{document.name} -> {target}"


def test_the_translation_has_the_same_code_and_tables():
    english, chinese = ((ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md"))

    def without_comments(text):
        return [(language, re.sub(r"#.*", "", code), bool(mark)) for language, code, mark in find_blocks(text)]

    assert without_comments(english) == without_comments(chinese)
    assert len(find_blocks(english)) >= 6
    assert len(re.findall(r"^\|", english, re.M)) == len(re.findall(r"^\|", chinese, re.M))
    assert len(re.findall(r"^#", english, re.M)) == len(re.findall(r"^#", chinese, re.M))
    assert len(re.findall(r"[\u4e00-\u9fff]", chinese)) > 1_000


def test_the_readme_knows_every_command():
    shown = (ROOT / "README.md").read_text()
    listed = subprocess.run([sys.executable, "-m", "provenet", "--help"], capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^│ ([a-z]+) ", listed, re.M)
    assert len(commands) == 20
    assert all(f"`provenet {command} " in shown for command in commands)


def test_every_dependency_has_its_reason():
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    reasons = (ROOT / "docs/architecture.md").read_text().lower()
    for name in (re.match(r"[\w-]+", line)[0] for line in wanted):
        assert f"| {name} |" in reasons


def test_every_version_is_pinned():
    lines, peers = (
        [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
        for name in ("constraints.txt", "constraints-peers.txt")
    )
    assert peers.pop(0) == "-c constraints.txt"
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in (*lines, *peers))
    assert "torch==2.13.0" in lines


def test_the_networks_page_is_the_papers_data():
    sys.path.insert(0, str(ROOT / "tools"))
    from write_networks_page import write_page

    assert (ROOT / "docs/networks.md").read_text() == write_page()


def test_the_features_page_is_what_is_kept():
    sys.path.insert(0, str(ROOT / "tools"))
    from provenet.models.catalog import build_network
    from provenet.models.heads import adapt
    from provenet.transfer.features import key_of
    from provenet.transfer.parts import FrozenPart
    from write_features_page import write_page

    page = (ROOT / "docs/features.md").read_text()
    assert page == write_page()
    for name, cut in (("lenet5", "C3"), ("vgg16_gap", ""), ("googlenet", "inception_4e"), ("resnet50", ""), ("nin_cifar", "")):
        net = adapt(build_network(name, init="trainable"), num_classes=2, head="linear", ends_after=cut)
        key = key_of(FrozenPart(net), net.input_spec.preprocessing)
        (row,) = [line for line in page.splitlines() if f"`{name}`" in line]
        assert f"{key.cut} {key.row_bytes:,}" in row


def test_the_pictures_are_what_is_drawn_today():
    from provenet import draw

    for path in sorted((ROOT / "docs/pictures").iterdir()):
        assert path.read_text(encoding="utf-8") == draw(path.stem).svg, "renew it: make docs"
