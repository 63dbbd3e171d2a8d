"""Run the code of a document, block after block, in one empty folder, as a reader would: bash and python.

A block that a reader runs elsewhere (on a machine to install on, with the reader's own pictures) is marked by the line
`<!-- not run: REASON -->` above it; those are counted and shown too.

    python tools/run_readme.py README.md
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

BLOCK = re.compile(r"(?P<mark><!-- not run: [^\n]+ -->\n)?^```(?P<language>bash|python)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)


def find_blocks(text: str) -> list[tuple[str, str, str]]:
    """The blocks of a document: language, code, and the reason why it is not run, if so."""
    return [(match["language"], match["code"], match["mark"] or "") for match in BLOCK.finditer(text)]


def main() -> None:
    """Run every block of the named documents; end with status 1 at the first that fails."""
    for document in sys.argv[1:]:
        blocks = find_blocks(Path(document).read_text(encoding="utf-8"))
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        num_run = 0
        with tempfile.TemporaryDirectory() as folder:
            for language, code, mark in blocks:
                if mark:
                    print(f"{document}: {mark.strip()[5:-4]}")
                    continue
                command = ["bash", "-euo", "pipefail", "-c", code] if language == "bash" else [sys.executable, "-c", code]
                print(f"{document}: running\n{code}", flush=True)
                if subprocess.run(command, cwd=folder, env=environment, check=False).returncode:
                    sys.exit(f"{document}: this block failed:\n{code}")
                num_run += 1
        if not num_run:
            sys.exit(f"{document}: expected blocks to run, found none of {len(blocks)}")
        print(f"{document}: {num_run} blocks run, {len(blocks) - num_run} not")


if __name__ == "__main__":
    main()
