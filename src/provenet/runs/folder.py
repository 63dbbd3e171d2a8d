"""The folder of a run: a new one, never one in use."""

import os
import re
from pathlib import Path

from provenet.errors import SettingsError, show_path


def make_run_folder(output: str | os.PathLike[str] | None, data_name: str, model: str) -> tuple[Path, bool]:
    """A new folder, `output`, else `runs/DATA-MODEL` with the first free number; and whether it was made here, not found empty."""
    plain = re.sub(r"[^\w.-]+", "-", data_name).strip("-.") or "data"
    try:
        if output is not None:
            folder = Path(output)
            if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
                raise SettingsError(f"{show_path(folder)}: expected a new or empty folder, found one in use; choose another --output")
            is_new = not os.path.exists(folder)
            folder.mkdir(parents=True, exist_ok=True)
            return folder, is_new
        for number in range(1, 10_000):
            folder = Path("runs") / (f"{plain}-{model}" + (f"-{number}" if number > 1 else ""))
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                if not os.path.lexists(folder):  # it is `runs` that is in the way
                    raise
                continue
            return folder, True
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{show_path(folder)}: expected to make a run folder, found: {reason}; choose another --output") from error
    raise SettingsError("runs: expected a free name, found 9,999 runs of this network on these data; choose an --output")
