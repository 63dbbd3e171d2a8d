"""DATA -> the addresses of its shards, by split: a folder, a `.tar`, `name-{000..009}.tar`, or a text file that lists them.

The split of a shard is the folder it is in, the word beside it in a list, or a word of its name: `train-000000.tar`,
`flowers-validation-12.tar`. A set without any such word is one split, `all`.
"""

import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path

from provenet.data.decode import EXTENSIONS
from provenet.data.folder import SPLIT_NAMES
from provenet.errors import DataError, show_path

TAR_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")  # the compressed ones are refused, not passed over
LIST_ENDINGS = (".shards", ".txt")
LARGEST_NUM_SHARDS = 100_000
LARGEST_LIST_BYTES = 2**26
PACK_NAME = "pack.json"
"""What `provenet pack` leaves beside its shards: whether it came to its end, and what a tar does not tell."""
CLASSES_NAMES = ("classes.txt", "classes.json")


@dataclass(frozen=True)
class ShardAddresses:
    """Where shards are: paths, or addresses with `://`; and the folder that may hold their classes."""

    name: str
    splits: dict[str, list[str]]
    folder: Path | None
    is_folder: bool = False
    """Whether that folder is DATA, so that whatever else is in it is passed over."""


def find_shards(data: str | os.PathLike[str]) -> ShardAddresses | None:
    """The shards that DATA means; None where it means something else. Raises DataError where it means shards that cannot be."""
    text = os.fspath(data)
    if is_remote(text):
        return _named(text) if text.lower().endswith(TAR_ENDINGS) else None
    path = Path(os.path.expanduser(text))
    if os.path.isdir(path):
        return _in_folder(path)
    if os.path.isfile(path):
        if path.name.lower().endswith(TAR_ENDINGS):
            return ShardAddresses(_plain_name(path.name), {"all": [str(path)]}, path.parent)
        return _in_list(path) if path.name.lower().endswith(LIST_ENDINGS) else None
    return _named(str(path)) if "{" in text and text.lower().endswith(TAR_ENDINGS) else None


def is_remote(address: str) -> bool:
    """Whether it is an address and not a path."""
    return bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", address))


def expand_braces(text: str) -> list[str]:
    """`{000..010}` counts with as many digits, `{a,b}` lists.

    >>> expand_braces("{train,val}-{08..10}.tar")
    ['train-08.tar', 'train-09.tar', 'train-10.tar', 'val-08.tar', 'val-09.tar', 'val-10.tar']
    """
    parts: list[list[str]] = []
    num_shards = 1
    for piece in re.split(r"(\{[^{}]*\})", text):
        choices = [piece]
        if piece.startswith("{") and piece.endswith("}"):
            if found := re.fullmatch(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}", piece):
                numbers = range(int(found[1]), int(found[2]) + 1)
                if not numbers or len(numbers) > LARGEST_NUM_SHARDS:
                    raise DataError(f"{text}: expected {piece} to count from 1 to {LARGEST_NUM_SHARDS:,} shards, found {len(numbers):,}")
                choices = [str(number).zfill(len(found[1])) for number in numbers]
            else:
                choices = piece[1:-1].split(",")
        num_shards *= len(choices)
        if num_shards > LARGEST_NUM_SHARDS:
            raise DataError(f"{text}: expected at most {LARGEST_NUM_SHARDS:,} shards, found more; give fewer")
        parts.append(choices)
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def _in_folder(folder: Path) -> ShardAddresses | None:
    """Tars in the folder itself, or in its split folders. A folder with folders of pictures is none of shards."""
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError:
        return None  # whoever reads the folder next says why
    name = show_path(folder.resolve().name or folder)
    tars = [str(folder / name) for name, is_folder in found if not is_folder and name.lower().endswith(TAR_ENDINGS)]
    folders = [name for name, is_folder in found if is_folder]
    if tars:
        return (
            None
            if any(_may_be_class(folder / name) for name in folders)
            else ShardAddresses(name, _by_name(name, tars), folder, is_folder=True)
        )
    splits: dict[str, list[str]] = {}
    for inner in folders:
        split = SPLIT_NAMES.get(inner.lower())
        try:
            names = sorted(os.listdir(folder / inner)) if split else []
        except OSError:
            names = []
        inside = [str(folder / inner / name) for name in names if name.lower().endswith(TAR_ENDINGS) and not name.startswith(".")]
        if split and inside:
            if split in splits:
                raise DataError(f"{show_path(folder / inner)}: expected one folder for {split}, found another too; remove or rename one")
            splits[split] = inside
    is_pack = os.path.isfile(folder / PACK_NAME) and not folders  # perhaps one that has no shard yet
    return ShardAddresses(name, splits, folder, is_folder=True) if splits or is_pack else None


def _may_be_class(folder: Path) -> bool:
    try:
        with os.scandir(folder) as entries:
            return any(entry.is_dir() or Path(entry.name).suffix.lower() in EXTENSIONS for entry in entries)
    except OSError:
        return False


def _named(pattern: str) -> ShardAddresses:
    shards = expand_braces(pattern)
    splits = _by_name(pattern, shards)
    if len(splits) == 1:
        splits = {"all": shards}  # who names some shards means these, whatever they are called
    return ShardAddresses(
        _plain_name(re.sub(r"[-_.]?\{[^{}]*\}", "", pattern)), splits, None if is_remote(pattern) else Path(pattern).parent
    )


def _in_list(path: Path) -> ShardAddresses:
    """One address a line, after its split where it has one; blank lines and lines that begin with # say nothing."""
    try:
        if path.stat().st_size > LARGEST_LIST_BYTES:
            raise DataError(f"{show_path(path)}: expected a list of shards, found a file of {path.stat().st_size:,} bytes; give a list")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{show_path(path)}: expected a list of shards as UTF-8 text, found: {error}; mend or replace it") from error
    splits: dict[str, list[str]] = {}
    without_split: list[str] = []
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        first, _, rest = text.partition(" ")
        split = SPLIT_NAMES.get(first.lower()) if rest else None
        address = rest.strip() if split else text
        if not address.lower().split("?")[0].endswith(TAR_ENDINGS):
            raise DataError(
                f"{show_path(path)}, line {number}: expected the address of a .tar, with its split before it or without, "
                f"found {text[:80]!r}; mend the line"
            )
        for shard in expand_braces(address):
            place = shard if is_remote(shard) else str(path.parent / os.path.expanduser(shard))
            (splits.setdefault(split, []) if split else without_split).append(place)
    if splits and without_split:
        raise DataError(
            f"{show_path(path)}: expected a split (train, val, test) before each address or before none, found {without_split[0]} without; "
            "add it"
        )
    if not splits and not without_split:
        raise DataError(f"{show_path(path)}: expected a list of shards, found no address in it; write one a line")
    shards = [shard for inside in splits.values() for shard in inside] or without_split
    if len(set(shards)) < len(shards):
        twice = next(shard for place, shard in enumerate(shards) if shard in shards[:place])
        raise DataError(f"{show_path(path)}: expected each shard once, found {twice} twice; remove one")
    return ShardAddresses(_plain_name(path.name), splits or _by_name(show_path(path), shards), path.parent)


def _by_name(where: str, shards: list[str]) -> dict[str, list[str]]:
    splits: dict[str, list[str]] = {}
    for shard in shards:
        words = {SPLIT_NAMES[word] for word in re.split("[^a-z]+", shard.rpartition("/")[2].lower()) if word in SPLIT_NAMES}
        splits.setdefault(words.pop() if len(words) == 1 else "all", []).append(shard)
    if "all" in splits and len(splits) > 1:
        raise DataError(
            f"{where}: expected the split in the name of each shard or of none, found {show_path(splits['all'][0])} beside those of "
            f"{', '.join(sorted(set(splits) - {'all'}))}; rename it or move it away"
        )
    return {split: splits[split] for split in ("train", "val", "test", "all") if split in splits}


def _plain_name(name: str) -> str:
    base = show_path(name).rpartition("/")[2]
    for ending in (*TAR_ENDINGS, *LIST_ENDINGS):
        base = base.removesuffix(ending)
    return base.strip("-_.") or "shards"
