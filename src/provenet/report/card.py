"""The model card: a README.md beside the network that people and Hugging Face can read."""

import json
import re
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from provenet.report.circumstances import show_data, show_settings
from provenet.report.facts import RunFacts
from provenet.report.findings import find
from provenet.report.guarded import table, word, words
from provenet.report.wording import duration, percent

MOST_CLASSES = 200
CALIBRATION_WORDS = {
    "over": "It is overconfident: it claims more than it keeps.",
    "under": "It is underconfident: it keeps more than it claims.",
    "mixed": "Its probabilities are right on average, but too high in some ranges and too low in others.",
    "fair": "Its probabilities can be taken at their word.",
    "unclear": "Whether its probabilities can be trusted, these pictures are too few to tell.",
}


def render_card(facts: RunFacts) -> str:
    """The card as Markdown; the same facts give the same card."""
    parts = [(part.split, find(part.evaluation)) for part in facts.ordered_parts if part.evaluation.images]
    settings = show_settings(facts)
    return (
        _environment()
        .get_template("card.md")
        .render(
            facts=facts,
            parts=parts,
            test=next((findings for split, findings in parts if split == "test"), None),
            data_name=settings.get("run", {}).get("data") or facts.title,
            data=show_data(facts.data, facts.classes),
            seen=_describe_preprocessing(facts),
            class_list=_list_classes(facts),
            settings=settings,
            machine=words(facts.machine),
            versions=words(facts.versions),
            calibration_words=CALIBRATION_WORDS,
        )
    )


def escape_markdown(value: Any) -> str:
    r"""Text that Markdown shows as it is, on one line; what is Markup already stays.

    >>> print(escape_markdown("a|b *c* <img> [d](e) `f`"))
    a\|b \*c\* &lt;img&gt; \[d\]\(e\) \`f\`
    """
    if isinstance(value, Markup):
        return str(value)
    text = word(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]()#|~$!])", r"\\\1", text)


def yaml(value: str) -> Markup:
    r"""A word as YAML reads it, whatever is in it.

    >>> yaml('a: "b"\n')
    Markup('"a: \\"b\\""')
    """
    return Markup(json.dumps(word(value), ensure_ascii=False))


@cache
def _environment() -> Environment:
    """Every value that a template shows is escaped, but for those that it calls raw: numbers, and names of the catalog."""
    environment = Environment(
        loader=PackageLoader("provenet.report"),
        autoescape=False,
        finalize=escape_markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(raw=Markup, yaml=yaml)
    environment.filters.update(percent=percent, duration=duration)
    return environment


def _list_classes(facts: RunFacts) -> Markup:
    names = [escape_markdown(name) for name in facts.classes[:MOST_CLASSES]]
    more = f", and {len(facts.classes) - MOST_CLASSES:,} more" if len(facts.classes) > MOST_CLASSES else ""
    return Markup(", ".join(names) + more + ".")


def _describe_preprocessing(facts: RunFacts) -> str:
    """What the network sees of a picture, in words."""
    seen = words(table(facts.settings).get("preprocessing"))
    if not {"size", "resize", "channels"} <= set(seen):
        return ""
    colour = "grey" if seen["channels"] == "1" else "colour"
    sides = f"{seen['resize']} x {seen['resize']}"
    if seen.get("fit") == "squash":
        square = f"the whole of it squashed to {sides} pixels"
    else:
        square = f"the shorter side resized to {seen['resize']} pixels, of which the middle {sides}"
    window = f", cropped or bordered with black to {seen['size']} x {seen['size']}" if seen["size"] != seen["resize"] else ""
    return f"{square}{window}, in {colour}"
