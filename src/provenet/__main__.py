"""`python -m provenet`, and the `provenet` command."""

import gc
import os
import signal
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line."""
    # Libraries swallow an interrupt while they are imported; `runtime.prepare_process` puts the usual handler back.
    signal.signal(signal.SIGINT, _end_at_once)
    gc.disable()  # importing leaves no garbage; looking for it takes a seventh of `--help`. `prepare_process` puts it back too
    run()


def run(words: list[str] | None = None) -> NoReturn:
    """Run one command and end the process: status 0, 1 where `check` or `verify` found something, 2 with one line for unusable input."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115, it stays open
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # names in any script, whatever the system's own encoding
            stream.reconfigure(encoding="utf-8", errors="replace")
    from cyclopts import CycloptsError

    from provenet.cli import app
    from provenet.errors import ProvenetError, complain

    try:
        status = app(words, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except ProvenetError as error:
        complain(error)
        raise SystemExit(2) from None
    except CycloptsError as error:
        complain(f"{error} See provenet --help, or provenet COMMAND --help.")
        raise SystemExit(2) from None
    except KeyboardInterrupt as stop:
        complain(str(stop) or "interrupted")
        raise SystemExit(128 + getattr(stop, "signal_number", signal.SIGINT)) from None
    except BrokenPipeError:  # the reader of our output has gone: `provenet models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:  # a disk that is full or went away in the middle of a write
        complain(
            f"{error.filename or 'standard output or a file'}: expected to read or write, found: {error.strerror or error}; "
            "free some space or check the path"
        )
        raise SystemExit(2) from None
    raise SystemExit(status or 0)


def _end_at_once(*_: object) -> None:
    os.write(2, b"provenet: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
