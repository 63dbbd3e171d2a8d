"""The folder of a run: a new one, never one in use."""

import os
import re
from pathlib import Path

from provenet.data.decode import show_path
from provenet.errors import SettingsError


def make_run_folder(output: str | os.PathLike[str] | None, data_name: str, model: str) -> Path:
    """A new folder: `output`, else `runs/DATA-MODEL` with the first free number."""
    plain = re.sub(r"[^\w.-]+", "-", data_name).strip("-.") or "data"
    try:
        if output is not None:
            folder = Path(output)
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise SettingsError(f"{show_path(folder)}: expected a new or empty folder, found one in use; choose another --output")
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        for number in range(1, 10_000):
            folder = Path("runs") / (f"{plain}-{model}" + (f"-{number}" if number > 1 else ""))
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise SettingsError(
            f"{show_path(folder)}: expected to make a run folder, found: {error.strerror}; choose another --output"
        ) from error
    raise SettingsError("runs: expected a free name, found 9,999 runs of this network on these data; choose an --output")
