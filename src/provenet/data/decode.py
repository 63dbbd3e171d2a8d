"""From a file to pixels: any picture people have, to grey or colour of 8 bits, exactly and safely.

What happens to the unusual ones: EXIF rotation is applied; transparency is laid over white; of an animation the first frame counts;
16-bit grey keeps its high byte; palette, CMYK and the rest become grey or RGB as Pillow converts them. Formats that run programs to
decode (PostScript) are not opened at all, and a picture of more than `LARGEST_PIXELS` is refused before it takes memory.
"""

import contextlib
import os
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from provenet.errors import ImageError, show_path
from provenet.preprocessing import Preprocessing

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"})
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
KINDS = ("missing", "no file", "empty", "not permitted", "unknown format", "too many pixels", "floating point", "damaged")
"""What can be wrong with a picture's file; `ImageError.kind` is one of them."""
LARGEST_PIXELS = 89_478_485  # at which Pillow begins to warn; up to 1.1 gigabytes while it is decoded
LARGE_PIXELS = 25_000_000  # of larger ones only one is decoded at a time, whatever the number of threads

_one_large_picture = threading.Lock()
_FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def read_picture(path: str | os.PathLike[str], channels: int, *, at_least_pixels: int | None = None) -> Image.Image:
    """The picture in a file, upright, of mode L (1 channel) or RGB (3). Raises ImageError with one line that names the file.

    With `at_least_pixels` it may come smaller, both sides still that long, where its format (JPEG) decodes faster so.
    """
    try:
        _refuse_devices(path)
        with Image.open(path, formats=FORMATS) as opened:
            if opened.width * opened.height > LARGEST_PIXELS:
                raise Image.DecompressionBombError
            if at_least_pixels is not None:
                opened.draft(None, (at_least_pixels, at_least_pixels))
            is_large = opened.width * opened.height > LARGE_PIXELS
            with _one_large_picture if is_large else contextlib.nullcontext():
                return convert_picture(opened, channels)
    except ImageError as error:
        raise ImageError(f"{show_path(path)}: {error}", error.kind) from error
    except Exception as error:  # decoders of damaged files raise anything from OSError to IndexError
        kind, found = _what_is_wrong(path, error)
        raise ImageError(f"{show_path(path)}: expected an image, found {found}; replace or remove it", kind) from error


class Header(NamedTuple):
    """What a picture's file says of itself."""

    is_grey: bool
    width: int
    height: int


def read_header(path: str | os.PathLike[str]) -> Header | None:
    """What a file says of its picture, without decoding it; None where it says nothing."""
    try:
        _refuse_devices(path)
        with Image.open(path, formats=FORMATS) as opened:
            is_grey = opened.mode in ("1", "L", "LA") or opened.mode.startswith("I")
            return Header(is_grey, opened.width, opened.height)
    except Exception:  # as above; the file is named when it is decoded
        return None


def convert_picture(picture: Image.Image, channels: int) -> Image.Image:
    """Any Pillow picture -> upright, of mode L (1 channel) or RGB (3), 8 bits. Raises ImageError for one that has no such form."""
    try:
        picture = ImageOps.exif_transpose(picture)
        if picture.mode == "F":
            raise ImageError(
                "expected whole-number pixels, found floating-point ones (mode F); save it with 8 or 16 bits", "floating point"
            )
        if picture.mode.startswith("I"):  # 16-bit grey in one of its byte orders, or 32-bit holding 16
            picture = Image.fromarray((np.asarray(picture).clip(0, 65535) >> 8).astype(np.uint8))
        if picture.has_transparency_data:
            colour = picture.convert("RGBA")
            picture = Image.new("RGB", colour.size, "white")
            picture.paste(colour, mask=colour)
        return picture.convert("L" if channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError) as error:  # Pillow reads a file's pixels only here
        raise ImageError(f"expected an image, found a damaged one ({error}); replace or remove it", "damaged") from error


def to_square(picture: Image.Image, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The largest centred square of an L or RGB picture, resized with antialiasing: uint8 [R, R, C]."""
    width, height = picture.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    box = (left, top, left + side, top + side)
    if side == preprocessing.resize:
        picture = picture.crop(box)
    else:
        # One step from the square alone: a strip of 20,000x1 pixels never becomes millions of rows.
        picture = picture.resize((preprocessing.resize,) * 2, _FILTERS[preprocessing.interpolation], box=box)
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels.reshape(preprocessing.resize, preprocessing.resize, preprocessing.channels)


def _refuse_devices(path: str | os.PathLike[str]) -> None:
    if not os.path.isfile(path):  # a pipe would wait for ever
        raise OSError("no file")


def _what_is_wrong(path: str | os.PathLike[str], error: Exception) -> tuple[str, str]:
    """One of KINDS, and the same in words."""
    try:
        size_bytes = Path(path).stat().st_size
    except (OSError, ValueError) as missing:
        kind = "not permitted" if isinstance(missing, PermissionError) else "missing"
        return kind, f"nothing readable ({getattr(missing, 'strerror', None) or missing})"
    if not os.path.isfile(path):
        return "no file", "something that is no file"
    if size_bytes == 0:
        return "empty", "an empty file (0 bytes)"
    if isinstance(error, PermissionError):
        return "not permitted", "a file that may not be read (permission denied)"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "too many pixels", f"one of more than {LARGEST_PIXELS:,} pixels, which is the limit"
    if isinstance(error, UnidentifiedImageError):
        return "unknown format", f"{size_bytes:,} bytes in no known image format"
    return "damaged", f"a damaged one ({' '.join(str(error).split()) or type(error).__name__})"
