"""Which part of a picture becomes a training image, by its paper's rule, or is evaluated; and how small it may be decoded for that.

A box lies on the grid of the pixels that are decoded: where a JPEG is decoded at an eighth, on every eighth pixel. Its sides may end
anywhere, so its scale is exactly the one that was drawn.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from provenet.data.distortion import Distortion
from provenet.preprocessing import Preprocessing, window_corner

LARGEST_REDUCTION = 8  # libjpeg decodes at a half, a quarter or an eighth in about the time of reading the file
SPARE = 1.5
"""How many times the pixels of the training image a reduced picture keeps along each side; see bench/crops.py."""


class Box(NamedTuple):
    """A part of an upright picture, in its pixels from its upper left corner; width and height need not be whole."""

    left: float
    top: float
    width: float
    height: float


class Part(NamedTuple):
    """A part of an upright picture in whole pixels, of those that are decoded; it may reach beyond the edges to the right and below."""

    left: int
    top: int
    right: int
    bottom: int


def draw_box(distortion: Distortion, preprocessing: Preprocessing, words: Sequence[int], width: int, height: int) -> Box:
    """The box of one sample in a picture of that size, from four random words of 32 bits: across, down, extent, aspect.

    `scale`: the short side becomes a random number of pixels, of which the box is `size` x `size` (Simonyan and Zisserman 2014, section
    3.1; He et al. 2015, section 3.4). `area`: a random part of the area, of a random aspect (Szegedy et al. 2014, section 6).
    """
    across, down, extent, aspect = (word / 2**32 for word in words)
    short = min(width, height)
    if distortion.crop == "scale":
        least, most = distortion.short_sides
        side = min(short, short * preprocessing.size / (least + math.floor(extent * (most - least + 1))))
        return Box(across * (width - side), down * (height - side), side, side)
    least_area, most_area = distortion.area
    pixels = (least_area + extent * (most_area - least_area)) * width * height
    # Of the aspects asked for, those with which so large a box fits; drawing again until one fits would favour small boxes.
    narrowest = min(max(distortion.aspect[0], pixels / height**2), width**2 / pixels)
    widest = max(min(distortion.aspect[1], width**2 / pixels), narrowest)
    chosen = narrowest * (widest / narrowest) ** aspect
    box_width, box_height = min(math.sqrt(pixels * chosen), width), min(math.sqrt(pixels / chosen), height)
    return Box(across * (width - box_width), down * (height - box_height), box_width, box_height)


def place_square(width: int, height: int, preprocessing: Preprocessing) -> tuple[tuple[int, int], tuple[int, int]]:
    """Width and height of a whole upright picture once resized, and the upper left corner in it of the stored square, in whole pixels.

    As torchvision's `Resize` and `CenterCrop` have it: the longer side is rounded down, and the middle of the window is the picture's.
    With `fit` "squash" both sides become `resize`, and the square is all there is.
    """
    if preprocessing.fit == "squash":
        return (preprocessing.resize, preprocessing.resize), (0, 0)
    sides = [preprocessing.resize * side // min(width, height) for side in (width, height)]
    left, top = (window_corner(side, preprocessing.size) - window_corner(preprocessing.resize, preprocessing.size) for side in sides)
    return (sides[0], sides[1]), (left, top)


def central_box(width: int, height: int, preprocessing: Preprocessing) -> Box:
    """The part of an upright picture that becomes its stored square; corner and sides need not be whole."""
    (wide, high), (left, top) = place_square(width, height, preprocessing)
    across, down = width / wide, height / high
    return Box(left * across, top * down, preprocessing.resize * across, preprocessing.resize * down)


def choose_reduction(box: Box, side_pixels: int) -> int:
    """The largest of 1, 2, 4 and 8 by which a picture may be reduced so that the box keeps SPARE times `side_pixels`."""
    reduction = 1
    while reduction < LARGEST_REDUCTION and min(box.width, box.height) / (2 * reduction) >= SPARE * side_pixels:
        reduction *= 2
    return reduction


def place_on_grid(box: Box, reduction: int) -> Box:
    """The box moved to the nearest pixel above and to the left of it that a picture so reduced has."""
    return box._replace(left=math.floor(box.left / reduction) * reduction, top=math.floor(box.top / reduction) * reduction)


def needed_part(box: Box, side_pixels: int, reduction: int) -> Part:
    """What `cut` looks at, in the pixels of the reduced picture."""
    left, top = int(box.left) // reduction, int(box.top) // reduction
    right, bottom = (reach(side / reduction, side_pixels) for side in (box.width, box.height))
    return Part(left, top, left + right, top + bottom)


def reach(length: float, pixels: int) -> int:
    """How many pixels are looked at to resize a length to that many: the filter, at most bicubic, reaches over the edge like Pillow's."""
    return math.ceil(length + 2 * length / pixels) + 2
