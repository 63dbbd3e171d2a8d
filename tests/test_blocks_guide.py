"""The guide to the public blocks, run from top to bottom in both languages: each block prints what the page says it prints."""

import io
import re
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
from run_readme import find_blocks  # noqa: E402

GUIDES = ("blocks.md", "blocks.zh-CN.md")
STEP = re.compile(r"^```python\n(?P<code>.*?)^```\n\n```text\n(?P<printed>.*?)^```$", re.MULTILINE | re.DOTALL)


def read_steps(name: str) -> list[tuple[str, str]]:
    """Code, and what it prints by the page; no code stands there without."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    steps = [(match["code"], match["printed"]) for match in STEP.finditer(text)]
    assert [("python", code, "") for code, _ in steps] == find_blocks(text)
    assert text.count("```") == 4 * len(steps)
    return steps


@pytest.fixture
def own_settings() -> Iterator[None]:
    """One thread, which is three times as fast where others compute too, and random numbers that nobody else will miss."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("own_settings")
@pytest.mark.parametrize("name", GUIDES)
def test_the_guide_prints_what_it_says(name):
    namespace: dict[str, object] = {}
    steps = read_steps(name)
    for number, (code, printed) in enumerate(steps, start=1):
        output = io.StringIO()
        with redirect_stdout(output):
            exec(compile(code, f"{name}, block {number}", "exec"), namespace)
        assert output.getvalue() == printed, f"{name}, block {number}"
    assert len(steps) == 15
    page = "".join(printed for _, printed in steps)
    for fact in (
        "25,557,032 parameters\n",
        "as many parameters: True\n",
        "the same logits, to the bit: True\n",
        "120,422,400\n",
        "= 12,443,648\n",
        "163,696 parameters; as many: True\n",
        "the same maps, to the bit: True\n",
    ):
        assert page.count(fact) == 1, fact


def test_the_translation_has_the_same_code_and_headings():
    english, chinese = (read_steps(name) for name in GUIDES)
    assert english == chinese
    english_text, chinese_text = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in GUIDES)
    assert re.findall(r"^#+ ", english_text, re.MULTILINE) == re.findall(r"^#+ ", chinese_text, re.MULTILINE)
    assert english_text.splitlines()[2] == "[中文](blocks.zh-CN.md)"
    assert chinese_text.splitlines()[2] == "[English](blocks.md)"
    assert len(re.findall(r"[\u4e00-\u9fff]", chinese_text)) > 1_000
