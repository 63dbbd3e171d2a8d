"""Whole pictures at a chosen size, from which the views of an evaluation are cut; exactly, by Pillow alone.

Letters: H W pixels, C channels.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from provenet.data.decode import FILTERS, MOST_ELONGATED, to_square
from provenet.preprocessing import Preprocessing


class Canvas(NamedTuple):
    """A picture resized so that its shorter side has so many pixels, with so many black ones around it."""

    short_pixels: int
    before: int = 0
    """Border above and to the left."""
    after: int = 0
    """Border below and to the right."""
    is_square: bool = False
    """Whether only the stored square of the preprocessing is on it, its middle; else the picture from edge to edge."""

    def sides(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the canvas of an upright picture of that size."""
        border = self.before + self.after
        if self.is_square:
            return self.short_pixels + border, self.short_pixels + border
        width, height = limited(width, height)
        short = min(width, height)
        return self.short_pixels * width // short + border, self.short_pixels * height // short + border


def limited(width: int, height: int) -> tuple[int, int]:
    """The part of a picture that may be on a canvas: of a strip the middle, MOST_ELONGATED times as long as wide.

    A strip of 20,000x1 pixels never becomes millions of rows.
    """
    most = MOST_ELONGATED * min(width, height)
    return min(width, most), min(height, most)


def draw_canvas(picture: Image.Image, canvas: Canvas, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The canvas of an upright picture of mode L or RGB: uint8 [H, W, C]."""
    if canvas.is_square:
        pixels = to_square(picture, preprocessing.stored_at(canvas.short_pixels))
    else:
        part = limited(*picture.size)
        if part != picture.size:
            left, top = (picture.width - part[0]) // 2, (picture.height - part[1]) // 2
            picture = picture.crop((left, top, left + part[0], top + part[1]))
        sides = Canvas(canvas.short_pixels).sides(*picture.size)
        pixels = as_pixels(picture.resize(sides, FILTERS[preprocessing.interpolation]))
    if not canvas.before + canvas.after:
        return pixels
    border = (canvas.before, canvas.after)
    return np.pad(pixels, (border, border, (0, 0)))


def resize_square(pixels: NDArray[np.uint8], side_pixels: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """A square part of a canvas at another size: uint8 [H, H, C] -> uint8 [side, side, C]."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    return as_pixels(picture.resize((side_pixels, side_pixels), FILTERS[preprocessing.interpolation]))


def as_pixels(picture: Image.Image) -> NDArray[np.uint8]:
    """A picture of mode L or RGB as uint8 [H, W, C]."""
    pixels = np.asarray(picture, dtype=np.uint8)
    return pixels.reshape(picture.height, picture.width, -1)
