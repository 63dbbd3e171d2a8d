"""`python -m provenet`, and the `provenet` command."""

import gc


def main() -> None:
    """Run the command line."""
    gc.disable()  # importing leaves no garbage; looking for it takes a seventh of `--help`. `prepare_process` puts it back
    from provenet import cli

    cli.main()


if __name__ == "__main__":
    main()
