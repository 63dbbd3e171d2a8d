"""How values are written in a page: for people in two languages, and for scripts."""

import json
from typing import Any

from markupsafe import Markup


def embed(value: Any) -> Markup:
    r"""JSON for a script element of type application/json: nothing in it can end the element or begin a comment.

    >>> print(embed(["</script><!--"]))
    ["\u003c/script\u003e\u003c!--"]
    """
    written = json.dumps(value, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return Markup(written)


def bilingual(english: str, chinese: str, **values: Any) -> Markup:
    """A text in both languages, of which the page shows one; `values` are put in and escaped.

    >>> bilingual("of {name}", "{name} 的", name="<b>")
    Markup('<span class="en" lang="en">of &lt;b&gt;</span><span class="zh" lang="zh-CN">&lt;b&gt; 的</span>')
    """
    spans = '<span class="en" lang="en">{}</span><span class="zh" lang="zh-CN">{}</span>'
    return Markup(spans).format(Markup(english).format(**values), Markup(chinese).format(**values))


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction for people; only all and nothing are shown as 100 % and 0 %.

    >>> [percent(fraction) for fraction in (0.8831, 0.99999, 1.0, 0.0001, 0.0, None)]
    ['88.3%', '99.9%', '100.0%', '<0.1%', '0.0%', '–']
    """
    if fraction is None:
        return "–"
    shown = f"{fraction:.{digits}%}"
    if fraction and float(shown[:-1]) == 0:
        return f"<{10**-digits:.{digits}f}%"
    return f"{100 - 10**-digits:.{digits}f}%" if shown.startswith("100") and fraction < 1 else shown


def duration(seconds: float | None) -> str:
    """A time in two units at most.

    >>> [duration(seconds) for seconds in (0.84, 42.3, 125, 7_322, 200_000)]
    ['0.8 s', '42 s', '2 min 5 s', '2 h 2 min', '2 d 7 h']
    """
    if seconds is None:
        return ""
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} d {hours % 24} h"


def moment(written: str | None) -> str:
    """An ISO time to the minute."""
    return written[:16].replace("T", " ") + (" UTC" if written.endswith(("+00:00", "Z")) else "") if written else ""
