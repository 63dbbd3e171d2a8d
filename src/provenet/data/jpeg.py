"""JPEG decoded for training: without the interpreter's lock, and no larger than needed. Whatever is unusual is left to decode.py."""

import io
from typing import NamedTuple

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from provenet.data.boxes import Part
from provenet.data.decode import LARGE_PIXELS, LARGEST_PIXELS

_EXIF_BYTES = 2**16
_ORIENTATION = 0x0112
_BASELINE, _EXTENDED, _START_OF_SCAN, _END = 0xC0, 0xC1, 0xDA, b"\xff\xd9"
ROWS_TOGETHER = 16  # more than colours at less resolution are smoothed over
MOST_SEGMENTS = 1_000  # before the pixels; cameras write some dozens, and whoever writes millions shall wait for nothing


class UnusualJpegError(ValueError):
    """A JPEG that Pillow must look at: damaged, of four inks, or so large that memory must be counted. Never reaches a user."""


class Frame(NamedTuple):
    """Where a JPEG of one scan says how high it is."""

    offset: int

    def shorten(self, content: bytes, rows: int) -> bytes:
        """The same JPEG, saying that it has so many rows: the decoder reads no further."""
        return content[: self.offset] + rows.to_bytes(2, "big") + content[self.offset + 2 :]


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
        self._frame = _find_frame(content)
        self.orientation = _read_orientation(content)
        self._stored = height, width
        self.height, self.width = (width, height) if self.orientation >= 5 else (height, width)

    def decode(self, channels: int, reduction: int, part: Part | None = None) -> NDArray[np.uint8]:
        """The upright picture, both sides divided by `reduction` (1, 2, 4 or 8) and rounded up: uint8 [H, W, C].

        If only a part is needed, decoding may stop below it: what lies elsewhere is undefined.
        """
        height, width = (-(-side // reduction) for side in self._stored)
        if height * width > LARGE_PIXELS:
            raise UnusualJpegError
        content, rows = self.content, height
        if part is not None and self._frame is not None:
            last = reduction * _last_row(part, height, self.orientation)
            stored_rows = (last // ROWS_TOGETHER + 2) * ROWS_TOGETHER  # smoothed colours look one row further
            if stored_rows < self._stored[0]:
                content, rows = self._frame.shorten(content, stored_rows), stored_rows // reduction
        pixels = np.empty((height, width, channels), np.uint8)
        try:
            found = simplejpeg.decode_jpeg(
                content,
                "RGB" if channels == 3 else "GRAY",
                min_height=rows,
                min_width=width,
                buffer=pixels,
                strict=rows == height,  # of a shortened one, what follows is superfluous
            )
        except ValueError as error:
            raise UnusualJpegError from error
        if found.shape[:2] != (rows, width):
            raise UnusualJpegError
        return _turn_upright(pixels, self.orientation)


def is_jpeg(content: bytes) -> bool:
    """Whether these bytes begin as a JPEG does."""
    return content[:3] == b"\xff\xd8\xff"


def _find_frame(content: bytes) -> Frame | None:
    """None where there are several scans, each of which has all rows, or where the end is missing (ITU T.81, annex B)."""
    place, frame, components = 2, None, 0
    for _ in range(MOST_SEGMENTS):
        if content[place : place + 1] != b"\xff" or place + 10 >= len(content):
            return None
        marker, size_bytes = content[place + 1], int.from_bytes(content[place + 2 : place + 4], "big")
        if marker in (_BASELINE, _EXTENDED):
            frame, components = Frame(place + 5), content[place + 9]
        elif marker == _START_OF_SCAN:
            is_whole = content[place + 4] == components and content.rfind(_END) > place
            return frame if is_whole else None
        place += 2 + size_bytes
    return None


def _last_row(part: Part, height: int, orientation: int) -> int:
    """How many rows of the stored picture, of `height`, it takes to have a part of the upright one."""
    needed = {1: part.bottom, 2: part.bottom, 3: height - part.top, 4: height - part.top}
    needed |= {5: part.right, 8: part.right, 6: height - part.left, 7: height - part.left}
    return needed[orientation]


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
