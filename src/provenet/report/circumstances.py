"""Settings and data as page and model card show them; both may come from files of strangers."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from provenet.report.facts import RunFacts
from provenet.report.guarded import table, whole, word, words

MOST_CLASS_ROWS = 1_000


def show_settings(facts: RunFacts) -> dict[str, dict[str, str]]:
    """The settings by section, as words; of where the data were only the last part, since a report is sent to others."""
    known = ("run", "preprocessing", "distortion", "training")
    given = table(facts.settings)
    sections = {word(name): words(given[name]) for name in (*[name for name in known if name in given], *sorted(set(given) - set(known)))}
    if "data" in sections.get("run", {}):
        sections["run"]["data"] = re.split(r"[/\\]", sections["run"]["data"].rstrip("/\\"))[-1]
    return {name: section for name, section in sections.items() if section}


def show_data(given: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """Pictures of each split and class."""
    data = table(given)
    splits = {word(name): count for name, value in table(data.get("images")).items() if (count := whole(value)) is not None}
    counted = {word(name): table(counts) for name, counts in table(data.get("classes")).items()}
    names = sorted(counted, key=_place_of_split)
    rows = [(name, [whole(counted[split].get(name)) for split in names]) for name in classes] if counted else []
    return {
        "splits": {split: splits[split] for split in sorted(splits, key=_place_of_split)},
        "class_splits": names,
        "rows": rows[:MOST_CLASS_ROWS],
        "num_classes": len(classes),
        "most": max((count or 0 for _, counts in rows for count in counts), default=0),
        "held_out_from": word(data.get("held_out_from")),
        "fingerprints": words(data.get("fingerprints")),
    }


def _place_of_split(name: str) -> tuple[int, str]:
    known = ("train", "val", "test")
    return known.index(name) if name in known else len(known), name
