"""JPEG decoded for training: without the interpreter's lock, and no larger than needed. Whatever is unusual is left to decode.py."""

import io

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from provenet.data.decode import LARGE_PIXELS, LARGEST_PIXELS

_EXIF_BYTES = 2**16
_ORIENTATION = 0x0112


class UnusualJpegError(ValueError):
    """A JPEG that Pillow must look at: damaged, of four inks, or so large that memory must be counted. Never reaches a user."""


class Jpeg:
    """One JPEG's bytes and what its header says: `width` and `height` of the upright picture."""

    def __init__(self, content: bytes) -> None:
        try:
            height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        except ValueError as error:
            raise UnusualJpegError from error
        if colours not in ("YCbCr", "Gray", "RGB") or height * width > LARGEST_PIXELS:
            raise UnusualJpegError
        self.content = content
        self.orientation = _read_orientation(content)
        self._stored = height, width
        self.height, self.width = (width, height) if self.orientation >= 5 else (height, width)

    def decode(self, channels: int, reduction: int) -> NDArray[np.uint8]:
        """The upright picture, both sides divided by `reduction` (1, 2, 4 or 8) and rounded up: uint8 [H, W, C]."""
        height, width = (-(-side // reduction) for side in self._stored)
        if height * width > LARGE_PIXELS:
            raise UnusualJpegError
        try:
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
                self.content, "RGB" if channels == 3 else "GRAY", min_height=height, min_width=width
            )
        except ValueError as error:
            raise UnusualJpegError from error
        if pixels.shape[:2] != (height, width):
            raise UnusualJpegError
        return _turn_upright(pixels, self.orientation)


def is_jpeg(content: bytes) -> bool:
    """Whether these bytes begin as a JPEG does."""
    return content[:3] == b"\xff\xd8\xff"


def _read_orientation(content: bytes) -> int:
    """How the camera was held, 1 to 8 as EXIF numbers it; 1 where nothing is said."""
    if content.find(b"Exif\0\0", 0, _EXIF_BYTES) < 0:
        return 1
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG",)) as opened:
            found = opened.getexif().get(_ORIENTATION, 1)
    except Exception as error:
        raise UnusualJpegError from error
    return found if found in range(1, 9) else 1


def _turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """A view of the pixels as Pillow's `exif_transpose` turns them."""
    if orientation in (2, 3):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4):
        pixels = pixels[::-1]
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (7, 8):
        pixels = pixels[::-1]
    return pixels
