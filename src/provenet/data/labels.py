"""What the label members of a shard say: `.cls`, else `.json`, else `.txt`, each a class number or a class name."""

import json
import re
import unicodedata

from provenet.errors import is_plain_text

LABEL_ENDINGS = ("cls", "json", "txt")
"""In the order of which counts where a picture has several."""
LABEL_FIELDS = ("label", "cls", "class", "class_name")
"""Of a `.json` object, in the order of which counts."""
LARGEST_LABEL_BYTES = {"cls": 1_024, "txt": 1_024, "json": 2**20}
LONGEST_NAME = 256


def read_label(content: bytes, ending: str) -> str | None:
    r"""A label as text, whole numbers without leading zeros; None where there is no usable one.

    >>> read_label(b"007\n", "cls"), read_label(b'{"label": 3, "class_name": "cat"}', "json"), read_label(b"", "txt")
    ('7', '3', None)
    """
    try:
        text = content.decode("utf-8")
        if ending == "json":
            found = json.loads(text)
            value = next((found[name] for name in LABEL_FIELDS if name in found), None) if isinstance(found, dict) else None
            if type(value) not in (int, str):
                return None
            text = str(value)
    except (ValueError, RecursionError):  # no UTF-8, no JSON, a number of thousands of digits
        return None
    name = unicodedata.normalize("NFC", text.strip())
    if not name or len(name) > LONGEST_NAME or not is_plain_text(name) or re.fullmatch("-[0-9]+", name):  # -1 is what people write for none
        return None
    return (name.lstrip("0") or "0") if is_number(name) else name


def is_number(label: str) -> bool:
    """Whether a label is a class number."""
    return label.isascii() and label.isdigit() and len(label) < 10


def order_labels(labels: set[str]) -> list[str]:
    """Numbers by their value, then names by their letters.

    >>> order_labels({"10", "9", "cat"})
    ['9', '10', 'cat']
    """
    return sorted(labels, key=lambda label: (not is_number(label), int(label) if is_number(label) else 0, label))
