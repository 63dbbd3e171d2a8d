"""`python -m provenet`, and the `provenet` command."""

import gc
import os
import signal


def main() -> None:
    """Run the command line."""
    # Libraries swallow an interrupt while they are imported; `runtime.prepare_process` puts the usual handler back.
    signal.signal(signal.SIGINT, _end_at_once)
    gc.disable()  # importing leaves no garbage; looking for it takes a seventh of `--help`. `prepare_process` puts it back too
    from provenet import cli

    cli.main()


def _end_at_once(*_: object) -> None:
    os.write(2, b"provenet: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
