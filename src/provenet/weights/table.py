"""The table of published weights as it is written, for those who need no more than its tags, and no torch."""

import tomllib
from importlib import resources
from typing import Any

from provenet.errors import WeightsError, printable

TABLE = "sources.toml"


def read_rows() -> list[Any]:
    """The rows of the table in the package."""
    return parse_rows(resources.files("provenet.weights").joinpath(TABLE).read_text("utf-8"))


def parse_rows(text: str) -> list[Any]:
    """The rows of a table in TOML, one for each [[set]]. Raises WeightsError for another."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise WeightsError(f"{TABLE}: expected TOML, found otherwise ({printable(str(error))}); install provenet anew") from error
    rows = table.get("set")
    if set(table) != {"set"} or not isinstance(rows, list):
        raise WeightsError(f"{TABLE}: expected [[set]] alone, found {', '.join(map(repr, table)) or 'nothing'}; install provenet anew")
    return rows


def published_for_networks() -> dict[str, list[str]]:
    """Network -> what its tags say after its name, as `create_model` takes them."""
    published: dict[str, list[str]] = {}
    for row in read_rows():
        published.setdefault(row["network"], []).append(row["tag"].removeprefix(f"{row['network']}."))
    return published
