"""Values from logs and bundles, which strangers may have written: taken where they are what they should be, else left out."""

import math
from collections.abc import Mapping
from typing import Any

LONGEST_WORD = 400


def table(value: Any) -> dict[str, Any]:
    """A mapping with words for keys, or an empty one."""
    return {str(key): entry for key, entry in value.items()} if isinstance(value, Mapping) else {}


def number(value: Any) -> float | None:
    """A finite number, or None; true and false are none.

    >>> [number(value) for value in (1, 0.5, True, "1", float("nan"), 10**400)]
    [1.0, 0.5, None, None, None, None]
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def whole(value: Any) -> int | None:
    """A whole number from 0 that fits into 63 bits, or None."""
    return value if type(value) is int and 0 <= value < 2**63 else None


def word(value: Any) -> str:
    r"""A value on one line, as a settings file would show it; the rest of a very long one is left out.

    >>> [word(value) for value in ("a\n b", True, None, 0.1, [1, 2.5])]
    ['a b', 'true', '', '0.1', '1, 2.5']
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return word(", ".join(word(entry) for entry in value[:20]) + (", …" if len(value) > 20 else ""))
    if isinstance(value, int) and abs(value) >= 10**30:
        return "…"
    text = " ".join(str(value).split())
    return text if len(text) <= LONGEST_WORD else text[:LONGEST_WORD] + "…"


def words(value: Any) -> dict[str, str]:
    """The entries of a table that are no tables themselves, as words."""
    return {word(key): word(entry) for key, entry in table(value).items() if not isinstance(entry, Mapping)}
