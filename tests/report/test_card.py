"""The model card: what it says, and that names of strangers change nothing in it."""

import json
import re

from made import HOSTILE, make_evaluation, make_facts

from provenet.report.card import render_card
from provenet.report.facts import EvaluatedPart


def front_matter(card):
    """The lines between the rules, and the rest."""
    _, matter, rest = card.split("---\n", 2)
    return matter.splitlines(), rest


def test_what_hugging_face_reads():
    matter, _ = front_matter(render_card(make_facts()))
    assert matter[:2] == ["library_name: provenet", "pipeline_tag: image-classification"]
    assert "- image-classification" in matter
    assert '- "lenet5"' in matter
    at = matter.index("model-index:")
    assert matter[at + 1] == '- name: "lenet5 on toys"'
    assert '      name: "toys"' in matter[at:]
    values = {a: float(b) for a, b in re.findall(r"name: ([\w -]+)\n      value: (.*)", "\n".join(matter))}
    assert set(values) == {"Top-1 accuracy", "Top-5 accuracy", "Cross-entropy"}
    assert values["Top-1 accuracy"] == 0.5


def test_no_results_are_claimed_without_test_pictures():
    val = EvaluatedPart("val", make_evaluation(("cat", "dog", "fox"), [(0, 0, 0.9)] * 9))
    matter, rest = front_matter(render_card(make_facts(parts=[val])))
    assert "model-index:" not in matter
    assert "There were no test pictures." in rest
    assert "no picture was kept for a test" in rest
    assert "None yet" in render_card(make_facts(parts=[]))


def test_the_sections_and_numbers():
    _, rest = front_matter(render_card(make_facts()))
    assert re.findall("^#+ (.*)$", rest, re.M) == [
        "lenet5 on toys",
        "How to use it",
        "Classes",
        "Results",
        "Training data",
        "Training settings",
        "Limits",
        "Environment",
        "中文简介",
    ]
    assert "| test | 6 | 50.00% | 18.76% to 81.24% | 100.00% |" in rest
    assert "cat, dog, fox." in rest
    assert "| fox | 1 | – | 0.0% | 0.0% | dog |" in rest
    assert "held out of train" in rest
    assert "| training.epochs | 4.0 |" in rest
    assert "把“cat”认成“dog”" in rest
    assert not re.search("\n\n\n\n", rest)
    rows = [line for line in rest.splitlines() if line.startswith("|")]
    assert len(rows) > 12
    assert all(line.endswith("|") for line in rows)


def test_hostile_names_are_text():
    classes = (HOSTILE, "a|b", "`code` *bold* [link](http://x) ~~no~~ # {{ 7 }}")
    name = '"\n- evil: [1]\n---\n'
    card = render_card(make_facts(classes=classes, title=name, machine={name: "a|b"}, settings={"run": {"data": name, HOSTILE: "x|y"}}))
    matter, rest = front_matter(card)
    assert not [line for line in matter if line.startswith("- evil")]
    names = [json.loads(line.split("name: ", 1)[1]) for line in matter if 'name: "' in line]
    assert names == ['" - evil: [1] ---'] * 2
    assert "<img" not in rest
    assert "](http" not in rest
    assert not re.search(r"(?<!\\)[*~]", re.sub(r"^\* ", "", rest, flags=re.M))
    for line in rest.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (3, 7, 8), line
