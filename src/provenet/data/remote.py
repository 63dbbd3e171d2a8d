"""Shards that are elsewhere: brought whole into the cache folder, whatever the network does on the way.

A shard is read on from where a broken connection left it, compared with the size that its server tells, and put into its place when it
is whole. Its name in the cache is of its address, its size and its server's mark (ETag or time of change), so a changed shard is another
one. What is beyond the limit of the cache, `PROVENET_SHARD_CACHE_GB`, is removed, longest unused first, and brought again when needed.
Anything that fsspec can open will do: `https://`, `s3://`, `gs://` … with whatever that system finds in your environment.
"""

import contextlib
import errno
import hashlib
import importlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from provenet.data.fetch import cache_folder
from provenet.data.offsets import ENDING, open_index, read_offsets
from provenet.data.shard_files import ShardFile
from provenet.data.shard_index import ShardIndex
from provenet.errors import DataError, SettingsError, printable
from provenet.files import write_whole
from provenet.progress import Progress

DEFAULT_CACHE_GIGABYTES = 50.0
PIECE_BYTES = 2**20
NUM_TRIES = 6  # without a byte more than before
TIMEOUT_SECONDS = 30.0
WAIT_SECONDS = 1.0  # after the first failure, then twice as long each time
MARKS = ("ETag", "etag", "Last-Modified", "LastModified", "mtime", "updated", "created", "generation", "md5Hash")
FINAL_STATUSES = frozenset(range(400, 500)) - {408, 425, 429}  # of HTTP: asking again will not help


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server."""

    timeout_seconds: float = TIMEOUT_SECONDS
    wait_seconds: float = WAIT_SECONDS
    num_tries: int = NUM_TRIES


PATIENCE = Patience()


@dataclass(frozen=True)
class Known:
    """What a server says of a shard."""

    size_bytes: int
    mark: str
    """Another one when the shard has changed, as far as the server tells."""


def open_remote(address: str, progress: Progress | None = None, patience: Patience = PATIENCE) -> tuple[ShardFile, ShardIndex]:
    """A shard that is elsewhere, and its index. It is brought here only where its offset file is not there yet."""
    shard = RemoteShard(address, progress, patience)
    shard.ask()
    return open_asked(shard)


def open_asked(shard: "RemoteShard") -> tuple[ShardFile, ShardIndex]:
    """The same of a shard whose server has answered."""
    index = read_offsets(shard.path.with_name(shard.path.name + ENDING), shard.known.size_bytes, shard.mtime_ns)
    if index is None:
        index = open_index(shard.bring(), shard.name)
    return ShardFile(shard.name, shard.path, index.tar_bytes, index.tar_mtime_ns, shard.bring), index


class RemoteShard:
    """One shard and its place in the cache."""

    known: Known
    """These three are there after `ask`."""
    path: Path
    mtime_ns: int

    def __init__(self, address: str, progress: Progress | None, patience: Patience) -> None:
        self.address = address
        self.name = printable(_without_secrets(address))
        self.progress = progress
        self.patience = patience
        self.folder = cache_folder() / "shards"
        self.system = _open_system(address, self.name, patience.timeout_seconds)
        self.limit_bytes = _limit_bytes()

    def ask(self) -> None:
        """Ask the server about it; where it does not answer, what it said the last time counts. Raises DataError with one line."""
        memory = self.folder / f"{_digest(self.address)}.json"
        remembered = _recall(memory)
        try:
            self.known = self._ask(1 if remembered else self.patience.num_tries)
        except DataError:
            if remembered is None:
                raise
            self.known = remembered
        else:
            with contextlib.suppress(OSError):  # then it is asked again
                self.folder.mkdir(parents=True, exist_ok=True)
                if remembered != self.known:
                    write_whole(memory, json.dumps(vars(self.known)).encode())
        digest = _digest(f"{self.address}\0{self.known.size_bytes}\0{self.known.mark}")
        self.path = self.folder / f"{digest}.tar"
        self.mtime_ns = (
            int(digest[:7], 16) * 2_000_000_000
        )  # in whole seconds, as every disk keeps them; the same whenever it is brought, so its offset file stays good

    def bring(self) -> Path:
        """The file in the cache, brought there first if need be. Raises DataError with one line."""
        try:
            if not self._is_here():
                self.folder.mkdir(parents=True, exist_ok=True)
                with FileLock(self.path.with_suffix(".lock"), is_singleton=False):
                    if not self._is_here():
                        self._fetch(self.path.with_suffix(".part"))
            os.utime(self.path, ns=(time.time_ns(), self.mtime_ns))  # the first says when it was used
        except OSError as error:
            reason = "the disk is full" if error.errno == errno.ENOSPC else error.strerror or error
            raise DataError(
                f"{self.name}: expected to keep it in {self.folder}, found: {reason}; "
                "make room there, or let PROVENET_CACHE name another folder"
            ) from error
        return self.path

    def _is_here(self) -> bool:
        try:
            return self.path.stat().st_size == self.known.size_bytes
        except FileNotFoundError:
            return False

    def _fetch(self, part: Path) -> None:
        size_bytes = self.known.size_bytes
        with part.open("ab") as out:
            if out.tell() > size_bytes:
                out.truncate(0)
            num_failures = 0
            while (done := out.seek(0, os.SEEK_END)) < size_bytes:
                failure = self._append(out, done)
                if failure is None:
                    continue
                num_failures = 1 if out.seek(0, os.SEEK_END) > done else num_failures + 1
                if num_failures >= self.patience.num_tries or _is_final(failure):
                    part_left = f"{out.tell():,} of {size_bytes:,} bytes" if out.tell() else "nothing"
                    raise self._unreachable(failure, f"after {part_left}; check the network and try again, it goes on from there")
                time.sleep(self.patience.wait_seconds * 2 ** (num_failures - 1))
            os.fsync(out.fileno())
        now = self._ask(self.patience.num_tries)
        if now != self.known:
            part.unlink()
            raise DataError(f"{self.name}: expected it to stay as it is while it is fetched, found it changed; try again")
        os.utime(part, ns=(time.time_ns(), self.mtime_ns))
        part.replace(self.path)
        _make_room(self.folder, self.path, self.limit_bytes)

    def _append(self, out: Any, done: int) -> Exception | None:
        """Write what comes after `done` bytes to the file; what stopped it before the end, if anything did."""
        size_bytes = self.known.size_bytes
        try:
            source, skip = self._open_at(done)
        except Exception as error:  # other people's file systems raise anything
            return error
        try:
            while done < size_bytes:
                try:
                    piece = source.read(min(PIECE_BYTES, size_bytes - done))
                except TimeoutError as error:
                    return error
                except Exception as error:  # it had begun, so it is worth another try, whatever it is
                    return ConnectionError(f"the connection broke off ({' '.join(str(error).split())[:120] or type(error).__name__})")
                if not piece:
                    return EOFError(f"it ended after {done:,} of {size_bytes:,} bytes")
                if skip:
                    skip, piece = max(0, skip - len(piece)), piece[skip:]
                out.write(piece)
                out.flush()
                done += len(piece)
                if self.progress:
                    self.progress(f"fetching {self.name.rpartition('/')[2]}", done, size_bytes)
        finally:
            with contextlib.suppress(Exception):
                source.close()
        return None

    def _open_at(self, done: int) -> tuple[Any, int]:
        """The shard as a stream from byte `done` on, and how many bytes to pass over because the server begins earlier."""
        if not _is_http(self.address):
            source = self.system.open(self.address, "rb")
            source.seek(done)
            return source, 0
        # A stream, because reading by ranges would take the whole of what a server sends that knows no ranges.
        headers = {"Range": f"bytes={done}-", "Accept-Encoding": "identity"} if done else {"Accept-Encoding": "identity"}
        source = self.system.open(self.address, "rb", block_size=0, size=self.known.size_bytes, headers=headers)
        return source, done if done and source.r.status != 206 else 0

    def _ask(self, num_tries: int) -> Known:
        """Size and mark, from the server; asked again where it fails."""
        num_failures = 0
        while True:
            try:
                info = self.system.info(self.address)
                break
            except Exception as error:
                num_failures += 1
                if num_failures >= num_tries or _is_final(error):
                    raise self._unreachable(error, "; check the address and the network") from error
                time.sleep(self.patience.wait_seconds * 2 ** (num_failures - 1))
        size_bytes = info.get("size")
        if type(size_bytes) is not int or size_bytes < 0:
            raise DataError(f"{self.name}: expected a server that tells the size of its files, found one that does not; use another")
        return Known(size_bytes, "\0".join(f"{name}={info[name]}" for name in MARKS if info.get(name)))

    def _unreachable(self, error: Exception, ending: str) -> DataError:
        return DataError(f"{self.name}: expected a shard there, found: {_reason(error)} {ending}".replace(" ;", ";"), "missing shard")


def _is_http(address: str) -> bool:
    return address.lower().startswith(("http://", "https://"))


def _open_system(address: str, name: str, timeout_seconds: float) -> Any:
    """The file system that fsspec has for an address. No options of ours, but that a download over HTTP may take more than five minutes."""
    try:
        fsspec = importlib.import_module("fsspec")
        options: dict[str, Any] = {}
        if _is_http(address):
            timeout = importlib.import_module("aiohttp").ClientTimeout(total=None, sock_connect=timeout_seconds, sock_read=timeout_seconds)
            options = {"client_kwargs": {"timeout": timeout}}
        return fsspec.core.url_to_fs(address, **options)[0]
    except ValueError as error:  # an unknown kind of address
        raise DataError(f"{name}: expected an address that fsspec can open, found: {printable(str(error))}; use another") from error
    except Exception as error:  # a package may be absent, or broken in any way
        raise DataError(
            f"{name}: expected what reads shards from elsewhere, found: {printable(str(error)) or type(error).__name__}; "
            "pip install 'provenet[remote]', or copy the shards to this machine"
        ) from error


def _is_final(error: BaseException) -> bool:
    """Whether asking again will not help."""
    root = _root(error)
    status = getattr(root, "status", None)
    if isinstance(status, int):
        return status in FINAL_STATUSES
    return isinstance(root, FileNotFoundError | PermissionError | NotImplementedError | ValueError | ImportError)


def _root(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _reason(error: BaseException) -> str:
    root = _root(error)
    status = getattr(root, "status", None)
    if isinstance(status, int):
        return f"the server answers {status} {printable(str(getattr(root, 'message', '')))}".strip()
    if isinstance(root, TimeoutError):
        return "the server does not answer in time"
    if isinstance(root, FileNotFoundError):
        return "nothing of that name"
    return printable(str(root))[:200] or type(root).__name__


def _recall(path: Path) -> Known | None:
    try:
        values = json.loads(path.read_bytes())
        known = Known(values["size_bytes"], values["mark"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return known if type(known.size_bytes) is int and isinstance(known.mark, str) else None


def _make_room(folder: Path, kept: Path, limit_bytes: int) -> None:
    """Remove the shards that nobody has used for longest, until the rest is within the limit; `kept` stays."""
    shards = []
    for path in folder.glob("*.tar"):
        with contextlib.suppress(OSError):
            status = path.stat()
            shards.append((status.st_atime_ns, status.st_size, path))
    total = sum(size for _, size, _ in shards)
    for _, size, path in sorted(shards):
        if total <= limit_bytes:
            break
        if path != kept:
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size


def _limit_bytes() -> int:
    text = os.environ.get("PROVENET_SHARD_CACHE_GB", "")
    try:
        gigabytes = float(text) if text else DEFAULT_CACHE_GIGABYTES
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < 1e9:
        raise SettingsError(f"PROVENET_SHARD_CACHE_GB: expected a number of gigabytes, found {text!r}; mend or unset it")
    return int(gigabytes * 1e9)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _without_secrets(address: str) -> str:
    """An address for messages: signed ones carry keys after their question mark, some a password before the host."""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
