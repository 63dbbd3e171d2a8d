"""A page of HTML from a template: what strangers named is escaped, and freed of control characters."""

from pathlib import Path
from typing import Any

from provenet.errors import printable


def fill_template(path: Path, **values: Any) -> str:
    """The template at `path` with its values, each of which it must use by a name that is there."""
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value,
    )
    return environment.from_string(path.read_text(encoding="utf-8")).render(**values)
