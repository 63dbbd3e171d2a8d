"""The papers' tables, read from their TOML files.

A network `like` another of its file takes over what it does not give itself; rows are merged by name, without those of layers that its
own order leaves out.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

FILES = ("lenet", "alexnet", "zfnet", "vgg", "nin", "googlenet", "resnet")
"""In the order of the networks in lists: by year and, within it, by publication."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Misprint:
    """A place where a paper contradicts itself or arithmetic."""

    networks: tuple[str, ...]
    where: str
    printed: str
    arithmetic: str
    reading: str
    check: str | None = None
    """The check of the verification that it explains."""


@dataclass(frozen=True)
class PublishedNetwork:
    """One network as its paper, or whoever made it known, describes it."""

    name: str
    source: str
    """paper, world (public weights or software) or notes (a course's variant)."""
    about: str
    input: tuple[int, int, int]
    """Channels, height, width."""
    classes: int
    order: tuple[str, ...]
    """Layers in the order they run."""
    rows: dict[str, Row]
    """One for each row of the paper's table, and for each layer with a number of its own."""
    auxiliary: dict[str, Row]
    """The same for what only training uses."""
    totals: Row
    """parameters, macs, connections, printed_parameters and the like."""
    init: Row


@dataclass(frozen=True)
class Paper:
    """One paper and its networks."""

    key: str
    title: str
    authors: tuple[str, ...]
    year: int
    venue: str
    address: str | None
    contest: Row | None
    training: Row
    accuracies: tuple[Row, ...]
    misprints: tuple[Misprint, ...]
    networks: dict[str, PublishedNetwork]

    @property
    def citation(self) -> str:
        """Authors and title in one line.

        >>> read_papers()["zfnet"].citation
        'Zeiler, Fergus 2013, Visualizing and understanding convolutional networks'
        """
        surnames = ", ".join(name.split()[-1] for name in self.authors)
        return f"{surnames} {self.year}, {self.title}"


@cache
def read_papers() -> dict[str, Paper]:
    """Every paper, by the name of its file."""
    return {key: _read(key, _load(key)) for key in FILES}


def read_arithmetic() -> dict[str, list[Row]]:
    """Examples of courses, by their kind: see the file."""
    return _load("arithmetic")


def find_paper(network: str) -> Paper | None:
    """The paper a network belongs to."""
    return next((paper for paper in read_papers().values() if network in paper.networks), None)


def _load(key: str) -> dict[str, Any]:
    return tomllib.loads((resources.files("provenet.papers") / f"{key}.toml").read_text(encoding="utf-8"))


def _read(key: str, values: dict[str, Any]) -> Paper:
    tables = values["networks"]
    return Paper(
        key=key,
        title=values["title"],
        authors=tuple(values["authors"]),
        year=values["year"],
        venue=values["venue"],
        address=values.get("address"),
        contest=values.get("contest"),
        training=values.get("training", {}),
        accuracies=tuple(values.get("accuracy", ())),
        misprints=tuple(Misprint(**{**entry, "networks": tuple(entry["networks"])}) for entry in values.get("misprint", ())),
        networks={name: _network(name, _complete(tables, name)) for name in tables},
    )


def _complete(tables: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """A network's table with what it takes over."""
    table = tables[name]
    return _inherit(_complete(tables, table["like"]), table) if "like" in table else _with_rows_by_name(table)


def _with_rows_by_name(network: dict[str, Any]) -> dict[str, Any]:
    lists: dict[str, Any] = {name: {row["name"]: row for row in network[name]} for name in ("layers", "auxiliary") if name in network}
    return {**network, **lists}


def _inherit(parent: dict[str, Any], child: dict[str, Any]) -> dict[str, Any]:
    child = _with_rows_by_name(child)
    merged = {**parent, **child}
    for name in ("layers", "auxiliary"):
        rows = {key: dict(row) for key, row in parent.get(name, {}).items()}
        for key, row in child.get(name, {}).items():
            rows[key] = {**rows.get(key, {}), **row}
        gone = () if name == "auxiliary" else set(parent["order"]) - set(merged["order"])
        merged[name] = {key: row for key, row in rows.items() if key not in gone}
    merged["init"] = {**parent.get("init", {}), **child.get("init", {})}
    return merged


def _network(name: str, values: dict[str, Any]) -> PublishedNetwork:
    own = ("like", "source", "about", "input", "classes", "order", "layers", "auxiliary", "init")
    channels, height, width = values["input"]
    return PublishedNetwork(
        name=name,
        source=values["source"],
        about=values["about"],
        input=(channels, height, width),
        classes=values["classes"],
        order=tuple(values["order"]),
        rows=values["layers"],
        auxiliary=values.get("auxiliary", {}),
        totals={key: value for key, value in values.items() if key not in own},
        init=values["init"],
    )
