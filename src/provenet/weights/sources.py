"""Public weight sets of the networks here: where each lies, what checks it, what it wants to see and how good it is said to be.

The table is `sources.toml`. Everything in it was read somewhere, and each row says where; what nobody states is left out of its row.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields, replace
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, get_args, get_type_hints

from provenet.errors import SettingsError, WeightsError, printable, suggest
from provenet.models.catalog import NETWORKS
from provenet.preprocessing import Preprocessing
from provenet.weights.table import TABLE, parse_rows, read_rows

DIALECTS = ("torchvision", "timm", "keras", "onnx", "caffe", "provenet")
EMBEDDED_TAG = "resnet20_cifar.fashion6"
"""Of the set that lies in the package: small, of small grey pictures, and there without a network."""
HASH_DIGITS = {"sha256": 64, "sha256_prefix": 8, "sha1": 40, "md5": 32}
NUMBERS = ("size", "top-1", "top-5")
LINE_COLUMNS = 140


@dataclass(frozen=True, kw_only=True)
class WeightSet:
    """One set of weights, as those who give it away describe it; None where they do not say."""

    tag: str
    """Our network's name, a dot, who published it and which of theirs it is."""
    network: str
    dialect: str
    """Whose names the tensors have: torchvision, timm, keras, onnx or caffe; provenet of a bundle in the package."""
    file: str
    """The published name of the file."""
    source: str
    """Where this was read: package, version and file, or repository, path and commit."""
    address: str | None = None
    also: tuple[str, ...] = ()
    """Other addresses that the source states for the same set, of files that may be of another kind."""
    bytes: int | None = None
    mebibytes: float | None = None
    """2^20 bytes, as its publisher rounds the size, where the bytes are not stated."""
    sha256: str | None = None
    sha256_prefix: str | None = None
    """Its first 8 digits, where the file's name has them."""
    sha1: str | None = None
    md5: str | None = None
    licence: str | None = None
    preprocessing: Preprocessing | None = None
    top1: float | None = None
    """Accuracy in percent, as published."""
    top5: float | None = None
    trained_on: str | None = None
    notes: str | None = None

    def __post_init__(self) -> None:
        who = self.tag.removeprefix(f"{self.network}.")
        if self.network not in NETWORKS:
            raise WeightsError(f"network: expected one of `provenet models`, found {self.network!r}; {suggest(self.network, NETWORKS)}")
        if who == self.tag or not re.fullmatch(r"[a-z0-9_]+", who):
            raise WeightsError(f"tag: expected {self.network}.NAME of small letters, digits and _, found {self.tag!r}")
        if self.dialect not in DIALECTS:
            raise WeightsError(f"dialect: expected {', '.join(DIALECTS)}, found {self.dialect!r}")
        if not self.source or not self.file or "/" in self.file:
            raise WeightsError(f"file, source: expected a name and where it was read, found {self.file!r} and {self.source!r}")
        for name, digits in HASH_DIGITS.items():
            value = getattr(self, name)
            if value is not None and not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
                raise WeightsError(f"{name}: expected {digits} digits of 0-9 and a-f, found {value!r}")
        for address in (*self.also, *([] if self.address is None else [self.address])):
            if not re.fullmatch(r"https?://[\x21-\x7e]+", address):
                raise WeightsError(f"address: expected https:// or http://, found {address!r}")
        for name in ("top1", "top5"):
            value = getattr(self, name)
            if value is not None and not 1 < value < 100:
                raise WeightsError(f"{name}: expected percent, found {value}")
        for name in ("bytes", "mebibytes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise WeightsError(f"{name}: expected 1 or more, found {value}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, None for what is not known."""
        rule = self.preprocessing and self.preprocessing.to_dict()
        return {**asdict(replace(self, preprocessing=None)), "also": list(self.also), "preprocessing": rule}


@cache
def read_sources() -> tuple[WeightSet, ...]:
    """Every known set, in the order of the table. Raises WeightsError for a table that is broken."""
    return _sets(read_rows())


def parse_sources(text: str) -> tuple[WeightSet, ...]:
    """The sets of a table in TOML, one for each [[set]]. Raises WeightsError, which names the row."""
    return _sets(parse_rows(text))


def _sets(rows: Sequence[Any]) -> tuple[WeightSet, ...]:
    sets: dict[str, WeightSet] = {}
    for number, row in enumerate(rows, 1):
        try:
            found = _set(row)
            if found.tag in sets:
                raise WeightsError("tag: expected each once, found this one twice")
        except (WeightsError, SettingsError) as error:
            where = f"{TABLE}, set {number} ({printable(str(row.get('tag')))})" if isinstance(row, Mapping) else f"{TABLE}, set {number}"
            raise WeightsError(f"{where}: {error}; install provenet anew") from error
        sets[found.tag] = found
    return tuple(sets.values())


def list_sets(pattern: str = "*") -> list[WeightSet]:
    """Sets whose tags match a shell pattern."""
    return [found for found in read_sources() if fnmatchcase(found.tag, pattern)]


def find_set(tag: str) -> WeightSet:
    """The set of that tag. Raises WeightsError, with the nearest tags."""
    sets = {found.tag: found for found in read_sources()}
    if tag not in sets:
        of_network = [known for known in sets if known.startswith(f"{tag.split('.')[0]}.")]
        raise WeightsError(
            f"{tag}: expected the tag of a published set, found none; {suggest(tag, of_network or sets)} "
            f"(`provenet weights list` shows all {len(sets)})",
            kind="unknown tag",
        )
    return sets[tag]


def set_of_file(name: str, sha256: str | None) -> WeightSet | None:
    """The set that a file is: by its SHA-256, or else by its published name, as far as that is evidence.

    Where the hash is published, or its beginning in the name, the file's has to agree. Other names count if one set alone has them:
    `model.safetensors` is the name of many. MD5 and SHA-1 are for those who fetch.
    """
    sets = read_sources()
    of_hash = [found for found in sets if sha256 is not None and found.sha256 == sha256]
    if of_hash:  # some are the same to the byte
        return next((found for found in of_hash if found.file == name), of_hash[0])
    named = [found for found in sets if found.file == name and found.sha256 is None]
    if prefix := _prefix(name):
        elsewhere = [found for found in sets if any(address.rsplit("/", 1)[-1] == name for address in found.also)]
        agrees = sha256 is not None and sha256.startswith(prefix)
        return next(iter(named + elsewhere), None) if agrees else None
    return named[0] if len(named) == 1 else None


def show_sets(sets: Sequence[WeightSet], *, wide: bool = False) -> str:
    """A table of at most 140 columns: tag, size, licence, accuracy in percent and where it was read first.

    With `wide` all of source and address, the training data and the preprocessing as well, in lines as long as they are.
    """
    head = ("tag", "size", "licence", "top-1", "top-5", *(("trained on", "preprocessing", "address", "source") if wide else ("read in",)))
    rows = [head]
    for found in sets:
        size = "" if found.mebibytes is None else f"~{found.mebibytes * 2**20 / 1e6:.0f} MB"
        size = size if found.bytes is None else f"{found.bytes / 1e6:.1f} MB"
        known = (found.tag, size, found.licence or "", *("" if value is None else f"{value:.2f}" for value in (found.top1, found.top5)))
        if wide:
            rows.append((*known, found.trained_on or "", _in_words(found.preprocessing), found.address or "", found.source))
        else:
            rows.append((*known, re.sub(r"(commit [0-9a-f]{8})[0-9a-f]{32}", r"\1", found.source.split(";")[0])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    lines = []
    for row in rows:
        cells = [f"{cell:>{width}}" if name in NUMBERS else f"{cell:{width}}" for cell, width, name in zip(row, widths, head, strict=True)]
        line = "  ".join(cells).rstrip()
        lines.append(line if wide or len(line) <= LINE_COLUMNS else line[: LINE_COLUMNS - 1] + "…")
    return "\n".join(lines)


def _in_words(rule: Preprocessing | None) -> str:
    """224 of 256, bilinear, RGB to 1, mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225."""
    if rule is None:
        return ""
    fit = "" if rule.fit == "short side" else f" {rule.fit}ed"
    mean, deviation = (" ".join(f"{value:g}" for value in values) for values in (rule.mean, rule.std))
    pixels = f"{rule.interpolation}, {rule.channel_order} to {rule.white:g}"
    return f"{rule.size} of {rule.resize}{fit}, {pixels}, mean {mean}, deviation {deviation}"


def _set(row: Any) -> WeightSet:
    if not isinstance(row, Mapping):
        raise WeightsError("expected a table, found something else")
    known = {field.name: field for field in fields(WeightSet)}
    needed = {name for name, field in known.items() if field.default is MISSING}
    if not needed <= set(row) <= set(known):
        missing, unknown = sorted(needed - set(row)), sorted(set(row) - set(known))
        raise WeightsError(f"expected {', '.join(sorted(needed))} and what is known, found no {missing}, unknown {unknown}")
    hints = get_type_hints(WeightSet)
    values: dict[str, Any] = dict(row)
    if "preprocessing" in row:
        values["preprocessing"] = Preprocessing.from_dict(row["preprocessing"])
    if "also" in row:
        values["also"] = _texts(row["also"])
    for name in ("top1", "top5"):
        if type(row.get(name)) is int:
            values[name] = float(row[name])
    for name, value in values.items():
        if name != "also" and not any(type(value) is kind for kind in (get_args(hints[name]) or (hints[name],))):
            raise WeightsError(f"{name}: expected {hints[name]}, found {value!r}")
    return WeightSet(**values)


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, Iterable) or isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise WeightsError(f"also: expected a list of addresses, found {values!r}")
    return tuple(values)


def _prefix(name: str) -> str | None:
    """The beginning of a SHA-256 that a file's name carries, as `torch.hub` has it: resnet50-11ad3fa6.pth."""
    match = re.search(r"-([0-9a-f]{8})\.pth$", name)
    return match and match[1]
