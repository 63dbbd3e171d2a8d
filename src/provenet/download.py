"""Files from elsewhere: whole, with the published hash, or not at all. The only place that fetches over HTTP for the house.

What arrives is kept in a part file beside its place, so that a fetch that was cut, or killed, goes on where it stopped; the hash is taken
over the whole part before it is renamed.
"""

import contextlib
import email.utils
import errno
import hashlib
import http.client
import json
import os
import re
import shutil
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple
from urllib.parse import urlsplit

from filelock import FileLock

from provenet.errors import DownloadError, printable, show_path
from provenet.files import flush, flush_folder
from provenet.progress import Progress
from provenet.version import __version__

CHUNK_BYTES = 2**18
ATTEMPTS = 5
"""In a row without a new byte."""
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.5, 60.0
SPARE_BYTES = 2**24
"""Left free on the disk."""


class Check(NamedTuple):
    """What the bytes of a file must hash to; `digest` may be the beginning of it, where no more is published."""

    algorithm: Literal["sha256", "sha1", "md5"]
    digest: str


def differs(path: Path, check: Check) -> tuple[str, str] | None:
    """What the hash of a file should be and what it is, where these differ."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.new(check.algorithm, usedforsecurity=False)).hexdigest()
    if found.startswith(check.digest.lower()):
        return None
    name = {"md5": "MD5", "sha1": "SHA-1", "sha256": "SHA-256"}[check.algorithm]
    return f"the published {name} {check.digest}{'…' if len(check.digest) < len(found) else ''}", found


class _AgainError(Exception):
    """Worth another try, perhaps after so many seconds."""

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.seconds = seconds


def download(
    address: str,
    path: Path,
    *,
    check: Check | None,
    largest_bytes: int,
    size_bytes: int | None = None,
    progress: Progress | None = None,
    proxy: str | None = None,
    timeout_seconds: float = 30,
) -> None:
    """Fetch one file to `path`, unless it is there; two processes that ask at once fetch it once.

    `address` is http://, https:// or file://; `proxy` such as http://localhost:3128, else the system's; `size_bytes` is the published
    size: of a file without a hash the only sign that all of it came. Raises DownloadError, of the kind "unreachable", "absent", "refused",
    "wrong hash", "wrong size", "too large", "no room" or "unwritable".
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            if not path.is_file():
                _Fetch(address, path, largest_bytes, size_bytes, progress, proxy, timeout_seconds).run(check)
        # Whoever still waits for this lock finds the file. After a failure it stays: two that try again must not write one part.
        path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
    except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
        raise DownloadError(f"{printable(address)} could not be fetched ({printable(_reason(error))})", "unreachable") from error
    except OSError as error:  # what the network does was answered where it happened: this is the disk
        has_no_room = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise DownloadError(
            f"{show_path(path.parent)}: expected to write {path.name} there, found: {printable(error.strerror or str(error))}; "
            f"{'free some room' if has_no_room else 'mend that'}, or choose another folder",
            "no room" if has_no_room else "unwritable",
        ) from error


class _Fetch:
    """One file on its way."""

    def __init__(
        self,
        address: str,
        path: Path,
        largest_bytes: int,
        size_bytes: int | None,
        progress: Progress | None,
        proxy: str | None,
        timeout_seconds: float,
    ) -> None:
        self.address = address
        self.path = path
        self.part = path.with_name(f".{path.name}.part")
        self.note = path.with_name(f".{path.name}.part.json")
        self.largest_bytes = largest_bytes
        self.size_bytes = size_bytes
        self.progress = progress
        self.timeout_seconds = timeout_seconds
        chosen = proxy or os.environ.get("PROVENET_PROXY")
        handlers: list[Any] = [_Redirects()]
        if chosen:
            handlers.append(urllib.request.ProxyHandler({"http": chosen, "https": chosen}))
        self.opener = urllib.request.build_opener(*handlers)

    def run(self, check: Check | None) -> None:
        """Until the file is there, or nothing comes any more."""
        failed = restarts = 0
        farthest = done_before = self._size()  # a server that sends all again, and cuts it here and there, gets nowhere
        while True:
            try:
                self._attempt()
            except _AgainError as again:
                failed = 0 if self._size() > farthest else failed + 1
                farthest = max(farthest, self._size())
                if failed >= ATTEMPTS:
                    raise DownloadError(
                        f"{printable(self.address)} could not be fetched ({printable(str(again))}); what has come is kept: try again",
                        "unreachable",
                    ) from again.__cause__
                time.sleep(min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2**failed if again.seconds is None else again.seconds))
                continue
            wrong = self._is_wrong(check)
            if not wrong:
                break
            self.discard()
            if done_before and not restarts:  # parts of two files were put together: once more, from the start
                restarts += 1
                continue
            raise DownloadError(
                f"{printable(self.address)}: expected {wrong[1]}, found {wrong[2]}; try again or use another address", wrong[0]
            )
        flush(self.part)
        self.part.replace(self.path)
        flush_folder(self.path.parent)
        self.note.unlink(missing_ok=True)

    def discard(self) -> None:
        """Begin anew."""
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def _is_wrong(self, check: Check | None) -> tuple[str, str, str] | None:
        """What is not as published, as the kind of error, what was expected and what came."""
        if self.size_bytes is not None and self._size() != self.size_bytes:
            return "wrong size", f"the published {self.size_bytes:,} bytes", f"{self._size():,}"
        wrong = None if check is None else differs(self.part, check)
        return wrong and ("wrong hash", *wrong)

    def _attempt(self) -> None:
        """Ask for what is missing and append it; returns when all has come."""
        done, known = self._size(), self._read_note()
        if done and (known is None or known.get("address") != self.address):
            self.discard()
            done, known = 0, None
        headers = {"User-Agent": f"provenet/{__version__}", "Accept-Encoding": "identity"}
        if done and known:
            headers["Range"] = f"bytes={done}-"
            if known.get("validator"):
                headers["If-Range"] = str(known["validator"])
        try:
            response = self.opener.open(urllib.request.Request(self.address, headers=headers), timeout=self.timeout_seconds)
        except urllib.error.HTTPError as error:
            with error:
                self._refused(error, done)
            return
        except urllib.error.URLError as error:
            if isinstance(error.reason, socket.gaierror | ConnectionRefusedError | FileNotFoundError | str):
                raise  # there is no such place: waiting does not help
            raise _AgainError(_reason(error)) from error
        except (OSError, http.client.HTTPException) as error:
            raise _AgainError(_reason(error)) from error
        with response:
            self._receive(response, done)

    def _refused(self, error: urllib.error.HTTPError, done: int) -> None:
        """An answer without the file; returns where all of it is there already."""
        if error.code == 416 and done:
            total = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
            if total and int(total[1]) == done:
                return
            self.discard()
            raise _AgainError("the part that was there is longer than the file")
        if error.code in (408, 429) or error.code >= 500:
            raise _AgainError(f"the server answers {error.code}", _seconds_until(error.headers.get("Retry-After", "")))
        if 300 <= error.code < 400:  # out of HTTP, or in a circle
            raise DownloadError(f"{printable(self.address)} leads to {printable(error.url)[:200]}, which is not followed", "unreachable")
        kind = "absent" if error.code in (404, 410) else "refused"
        raise DownloadError(f"{printable(self.address)} could not be fetched (the server answers {error.code}: {kind})", kind)

    def _receive(self, response: Any, done: int) -> None:
        start = 0
        if getattr(response, "status", None) == 206:
            span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", ""))
            if not span or int(span[1]) != done:
                self.discard()
                raise _AgainError("the server sends another part than was asked for")
            start = done
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else self.size_bytes or 0
        self._check_room(total, start)
        if not start:
            self._write_note(response)
        with self.part.open("r+b" if start else "wb") as out:
            out.seek(start)
            done = self._copy(response, out, start, total)
        if done < total:
            raise _AgainError(f"{done:,} of {total:,} bytes came")

    def _copy(self, response: Any, out: IO[bytes], done: int, total: int) -> int:
        while True:
            try:
                chunk = response.read(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise _AgainError(_reason(error)) from error
            if not chunk:
                return done
            done += len(chunk)
            if done > self.largest_bytes:
                self._too_large()
            out.write(chunk)
            if self.progress:
                self.progress(f"fetching {self.path.name}", done, total)

    def _check_room(self, total: int, start: int) -> None:
        if total > self.largest_bytes:
            self._too_large()
        free = shutil.disk_usage(self.path.parent).free
        if total - start > free - SPARE_BYTES:
            raise DownloadError(
                f"{show_path(self.path.parent)}: expected room for {total - start:,} bytes, found {free:,} free; free some, or choose "
                "another folder",
                "no room",
            )

    def _too_large(self) -> None:
        self.discard()
        raise DownloadError(
            f"{printable(self.address)}: expected at most {self.largest_bytes:,} bytes, found more; this is not {self.path.name}",
            "too large",
        )

    def _read_note(self) -> dict[str, Any] | None:
        """What is known of the part that is there."""
        try:
            known = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return known if isinstance(known, dict) else None

    def _write_note(self, response: Any) -> None:
        etag = response.headers.get("ETag", "")
        validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified", "")
        self.note.write_text(json.dumps({"address": self.address, "validator": validator}), encoding="utf-8")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Redirects within HTTP, never from a secured connection to an open one."""

    def redirect_request(self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request to follow with."""
        before, after = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if after not in ("http", "https") or (before == "https" and after == "http"):
            with contextlib.suppress(Exception):
                fp.close()
            raise DownloadError(
                f"{printable(req.full_url)} leads from {before}:// to {printable(newurl)[:200]}, which is not followed", "unreachable"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _seconds_until(after: str) -> float | None:
    """The two forms of Retry-After, a number of seconds or a date (RFC 9110, section 10.2.3); None for another."""
    if after.isdecimal():
        return float(after)
    with contextlib.suppress(ValueError, TypeError, IndexError):
        return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    return None


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or error) or type(error).__name__
