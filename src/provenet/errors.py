"""What a person is told when something they gave cannot be used.

Every message is one line: what was expected, what was found, where, and what to do. The command line prints it and ends with status 2.
"""

import contextlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterable
from difflib import get_close_matches


class ProvenetError(Exception):
    """The root of every error that is the input's fault and not the program's."""


class DataError(ProvenetError):
    """A folder, index or data-set file that cannot be used. `kind` says in a word or two what is wrong, for machines."""

    def __init__(self, message: str, kind: str = "unusable") -> None:
        super().__init__(message)
        self.kind = kind


class ImageError(DataError):
    """One picture that cannot be decoded; the message names its file, `kind` is one of `data.decode.KINDS`."""


def without_frames(error: ImageError) -> ImageError:
    """The same error, to be kept: an error that was caught holds all that its functions held, the pixels and the file of the picture."""
    return ImageError(str(error), error.kind)


class CacheError(ProvenetError):
    """Features that cannot be kept on the disk, or that do not fit those that are; whoever computes them can go on without."""


class SettingsError(ProvenetError):
    """A setting that is unknown, of the wrong type, out of range, or against another one."""


class ModelError(ProvenetError):
    """An unknown network, or an input that it cannot take."""


class NotNumbersError(ModelError):
    """A network that answers with NaN or infinity."""


class BundleError(ProvenetError):
    """A `model.safetensors` that is damaged, foreign, or of another version."""


class EngineError(ProvenetError):
    """A way to run a network that is not there, does not start, or gives other answers than the network."""


class WeightsError(ProvenetError):
    """A file of weights from elsewhere that is damaged, dangerous, of no network here, or fetched in vain. `kind` says which, for code."""

    def __init__(self, message: str, kind: str = "unusable") -> None:
        super().__init__(message)
        self.kind = kind


class DownloadError(ProvenetError):
    """A file that could not be fetched. `kind`, in a word or two, is for code."""

    def __init__(self, message: str, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class SnapshotError(ProvenetError):
    """A snapshot that is damaged, or of another network, run or data set."""


class TrainingError(ProvenetError):
    """A run that cannot go on, such as a loss that is no number."""


def suggest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known ones, or the first few.

    >>> suggest("lenet6", ["lenet5", "vgg16"])
    "did you mean 'lenet5'?"
    >>> suggest("zebra", ["cat", "dog"])
    'known: cat, dog'
    """
    known = list(known)
    close = get_close_matches(name, known, n=3, cutoff=0.7)
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    shown = ", ".join(known[:8])
    return f"known: {shown}" + (f" and {len(known) - 8} more" if len(known) > 8 else "")


def show_path(path: str | os.PathLike[str]) -> str:
    """A path as text that can be written and compared: bytes that are no text become the replacement character."""
    return os.fsencode(path).decode("utf-8", "replace")


def is_plain_text(text: str) -> bool:
    r"""Whether text can be encoded and printed without surprises: no control characters (terminals obey them), no lone surrogates.

    >>> is_plain_text("猫 cats' 🐈"), is_plain_text("red\x1b[31m")
    (True, False)
    """
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def printable(text: str) -> str:
    """Text on one line without control characters, which a terminal would obey; columns stay where they are."""
    one_line = re.sub(r" *[^\S ]+\s*", " ", text.strip())
    return "".join(character if is_plain_text(character) else "\ufffd" for character in one_line)


def complain(message: object) -> None:
    """One line on standard error."""
    with contextlib.suppress(OSError):  # it may be full or gone; the status still tells
        sys.stderr.write(f"provenet: {printable(str(message))}\n")
