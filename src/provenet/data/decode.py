"""From a file to pixels: any picture people have, to grey or colour of 8 bits, exactly and safely.

What happens to the unusual ones: EXIF rotation is applied; transparency is laid over white; of an animation the first frame counts;
16-bit grey keeps its high byte; palette, CMYK and the rest become grey or RGB as Pillow converts them. Formats that run programs to
decode (PostScript) are not opened at all, and a picture of more than `LARGEST_PIXELS` is refused before it takes memory.
"""

import contextlib
import io
import os
import stat
import threading
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from provenet.data.boxes import central_box, place_square
from provenet.errors import ImageError, show_path
from provenet.preprocessing import Preprocessing

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"})
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
KINDS = ("missing", "no file", "empty", "not permitted", "too large", "unknown format", "too many pixels", "floating point", "damaged")
"""What can be wrong with a picture's file; `ImageError.kind` is one of them."""
LARGEST_FILE_BYTES = 2**30  # the largest picture of 16-bit RGBA is below
LARGEST_PIXELS = 89_478_485  # at which Pillow begins to warn; up to 1.1 gigabytes while it is decoded
MOST_ELONGATED = 4  # times longer than wide is a picture that is resized whole, for exactness, before its middle is cut out
LARGE_PIXELS = 25_000_000  # of larger ones only one is decoded at a time, whatever the number of threads

_one_large_picture = threading.Lock()
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def read_content(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a picture's file. Raises ImageError with one line that names the file."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # a pipe would wait for ever
            raise _unusable(show_path(path), "no file", "something that is no file")
        if status.st_size > LARGEST_FILE_BYTES:
            raise _unusable(show_path(path), "too large", f"one of {status.st_size:,} bytes, where {LARGEST_FILE_BYTES:,} is the limit")
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except PermissionError as error:
        raise _unusable(show_path(path), "not permitted", "a file that may not be read (permission denied)") from error
    except (OSError, ValueError) as error:
        raise _unusable(show_path(path), "missing", f"nothing readable ({getattr(error, 'strerror', None) or error})") from error


def read_picture(path: str | os.PathLike[str], channels: int, *, at_least_pixels: int | None = None) -> Image.Image:
    """The picture in a file; see `decode_picture`."""
    return decode_picture(read_content(path), channels, where=show_path(path), at_least_pixels=at_least_pixels)


def decode_picture(content: bytes, channels: int, *, where: str, at_least_pixels: int | None = None) -> Image.Image:
    """The picture that a file holds, upright, of mode L (1 channel) or RGB (3). Raises ImageError with one line that says `where`.

    With `at_least_pixels` it may come smaller, its longer side still that long, where its format (JPEG) decodes faster so.
    """
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            if opened.width * opened.height > LARGEST_PIXELS:
                raise Image.DecompressionBombError
            if at_least_pixels is not None:
                longer = max(opened.size)
                opened.draft(None, (-(-at_least_pixels * opened.width // longer), -(-at_least_pixels * opened.height // longer)))
            is_large = opened.width * opened.height > LARGE_PIXELS
            with _one_large_picture if is_large else contextlib.nullcontext():
                return convert_picture(opened, channels)
    except ImageError as error:
        raise ImageError(f"{where}: {error}", error.kind) from error
    except Exception as error:  # decoders of damaged files raise anything from OSError to IndexError
        raise what_is_wrong(content, error, where) from error


class Header(NamedTuple):
    """What a picture's file says of itself."""

    is_grey: bool
    width: int
    height: int


def read_header(path: str | os.PathLike[str]) -> Header | None:
    """What a file says of its picture, without decoding it; None where it says nothing."""
    try:
        if not os.path.isfile(path):
            return None
        with Image.open(path, formats=FORMATS) as opened:
            return _header(opened)
    except Exception:  # as above; the file is named when it is decoded
        return None


def decode_header(content: bytes) -> Header | None:
    """The same of a file's bytes."""
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            return _header(opened)
    except Exception:
        return None


def _header(opened: Image.Image) -> Header:
    is_grey = opened.mode in ("1", "L", "LA") or opened.mode.startswith("I")
    return Header(is_grey, opened.width, opened.height)


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
    """The middle of an L or RGB picture, resized with antialiasing: uint8 [R, R, C]; where exactly, `boxes.place_square` says."""
    method, side = FILTERS[preprocessing.interpolation], preprocessing.resize
    if max(picture.size) <= MOST_ELONGATED * min(picture.size):
        # All of it, though some is cut off: that is what others do, and Pillow rounds by the sizes of the whole.
        whole, (left, top) = place_square(*picture.size, preprocessing)
        picture = picture.resize(whole, method).crop((left, top, left + side, top + side))
    else:  # a strip of 20,000x1 pixels never becomes millions of rows
        box = central_box(*picture.size, preprocessing)
        right, bottom = min(box.left + box.width, picture.width), min(box.top + box.height, picture.height)
        picture = picture.resize((side, side), method, box=(box.left, box.top, right, bottom))
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels.reshape(preprocessing.resize, preprocessing.resize, preprocessing.channels)


def what_is_wrong(content: bytes, error: Exception, where: str) -> ImageError:
    """What a decoder's complaint about these bytes means to people."""
    if not content:
        return _unusable(where, "empty", "an empty file (0 bytes)")
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return _unusable(where, "too many pixels", f"one of more than {LARGEST_PIXELS:,} pixels, which is the limit")
    if isinstance(error, UnidentifiedImageError):
        return _unusable(where, "unknown format", f"{len(content):,} bytes in no known image format")
    return _unusable(where, "damaged", f"a damaged one ({' '.join(str(error).split()) or type(error).__name__})")


def _unusable(where: str, kind: str, found: str) -> ImageError:
    return ImageError(f"{where}: expected an image, found {found}; replace or remove it", kind)
