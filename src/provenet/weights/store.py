"""Where files of published weights are: in folders of one's own, in the cache folder, or fetched into one of these."""

import os
from collections.abc import Iterator
from pathlib import Path

from provenet.data.fetch import cache_folder
from provenet.download import Check, differs, download
from provenet.errors import DownloadError, WeightsError, show_path
from provenet.progress import Progress
from provenet.weights.sources import WeightSet, read_sources

EMBEDDED = Path(__file__).parent / "embedded"
LARGEST_FILE_BYTES = 2**30
"""Of a set whose size nobody publishes; the largest known, VGG-19's, has 575 MB."""


def weight_folders() -> list[Path]:
    """The folders of `PROVENET_WEIGHTS`, then the cache's."""
    chosen = [Path(os.path.expanduser(part)) for part in os.environ.get("PROVENET_WEIGHTS", "").split(os.pathsep) if part]
    return [*chosen, cache_folder() / "weights"]


def local_name(found: WeightSet) -> str:
    """A set's file within a folder: its published name, below its tag where several sets have the same."""
    is_alone = sum(other.file == found.file for other in read_sources()) == 1
    return found.file if is_alone else f"{found.tag}/{found.file}"


def find_file(found: WeightSet) -> Path | None:
    """The file of a set, if one of the folders has it, by its published name or below its tag or its dialect. Nothing is fetched."""
    return next((path for path in _places(found) if path.is_file()), None)


def fetch_set(
    found: WeightSet,
    progress: Progress | None = None,
    *,
    mirror: str | None = None,
    proxy: str | None = None,
    timeout_seconds: float = 30,
) -> Path:
    """The file of a set: the one that is there, else fetched and checked against what is published of it.

    `mirror`, or `PROVENET_MIRROR`, is an address under which files lie as `local_name` says. Raises WeightsError with the address to
    fetch by hand, and where to put it.
    """
    path = find_file(found)
    if path is not None:
        _check_file(found, path)
        return path
    base = mirror or os.environ.get("PROVENET_MIRROR")
    address = f"{base.rstrip('/')}/{local_name(found)}" if base else found.address
    target = _folder_to_write() / local_name(found)
    if address is None:
        raise WeightsError(
            f"{found.tag}: expected {found.file} in {' or '.join(map(show_path, weight_folders()))}, found it in none, and nobody states "
            f"an address ({found.source}); put it at {show_path(target)}",
            "absent",
        )
    if address.endswith((".tar.gz", ".zip")):
        raise WeightsError(
            f"{found.tag}: it is published in an archive; fetch {address}, unpack it and put the file at {show_path(target)}"
        )
    try:
        download(
            address,
            target,
            check=_check(found),
            largest_bytes=found.bytes or LARGEST_FILE_BYTES,
            size_bytes=found.bytes,
            progress=progress,
            proxy=proxy,
            timeout_seconds=timeout_seconds,
        )
    except DownloadError as error:
        if error.kind not in ("unreachable", "absent", "refused"):
            raise
        raise WeightsError(f"{found.tag}: {error}; fetch {address} by hand and put it at {show_path(target)}", "absent") from error
    return target


def _places(found: WeightSet) -> Iterator[Path]:
    if found.dialect == "provenet":
        yield EMBEDDED / found.file
    is_alone = local_name(found) == found.file
    for folder in weight_folders():
        if is_alone:
            yield from (folder / found.file, folder / found.dialect / found.file)
        yield folder / found.tag / found.file


def _folder_to_write() -> Path:
    """The first that can be written; the cache's is made if need be."""
    for folder in weight_folders()[:-1]:
        if folder.is_dir() and os.access(folder, os.W_OK):
            return folder
    return weight_folders()[-1]


def _check(found: WeightSet) -> Check | None:
    """The strongest that is published."""
    if found.sha256 or found.sha256_prefix:
        return Check("sha256", found.sha256 or found.sha256_prefix or "")
    if found.sha1:
        return Check("sha1", found.sha1)
    return Check("md5", found.md5) if found.md5 else None


def _check_file(found: WeightSet, path: Path) -> None:
    """A file that was put there by hand is looked at like one that is fetched: its size at once, then its hash."""
    size_bytes, check = path.stat().st_size, _check(found)
    wrong = None
    if found.bytes is not None and size_bytes != found.bytes:
        wrong = f"{found.bytes:,} bytes", f"{size_bytes:,}"
    elif check is not None:
        wrong = differs(path, check)
    if wrong:
        raise WeightsError(
            f"{show_path(path)}: expected {wrong[0]} of {found.tag}, found {wrong[1]}; delete it and fetch it again", "damaged"
        )
