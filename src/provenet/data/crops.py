"""Boxes cut from decoded pixels and resized by torch, for training: what Pillow shows of the same box, to a grey step in the mean."""

import numpy as np
import torch
from numpy.typing import NDArray

from provenet.data.boxes import Box, place_square, reach
from provenet.preprocessing import Preprocessing


def cut(pixels: NDArray[np.uint8], box: Box, side_pixels: int, interpolation: str, *, reduction: int = 1) -> NDArray[np.uint8]:
    """The box, resized with antialiasing: uint8 [H, W, C], reduced by `reduction`, and a box on its grid -> uint8 [side, side, C]."""
    height, width, _ = pixels.shape
    left, top = int(box.left) // reduction, int(box.top) // reduction
    box_width, box_height = min(box.width / reduction, width - left), min(box.height / reduction, height - top)
    return _resize(pixels[top:, left:], (box_width, box_height), (side_pixels, side_pixels), interpolation)


def cut_square(
    pixels: NDArray[np.uint8], width: int, height: int, preprocessing: Preprocessing, *, reduction: int = 1
) -> NDArray[np.uint8]:
    """The stored square of a `width` x `height` picture that is decoded so reduced: what `decode.to_square` gives, quickly; [R, R, C]."""
    whole, (left, top) = place_square(width, height, preprocessing)
    resized = _resize(pixels, (width / reduction, height / reduction), whole, preprocessing.interpolation)
    return resized[top : top + preprocessing.resize, left : left + preprocessing.resize]


def _resize(pixels: NDArray[np.uint8], extent: tuple[float, float], sides_pixels: tuple[int, int], interpolation: str) -> NDArray[np.uint8]:
    """What lies within the first `extent` pixels across and down, which need not be whole, in so many pixels."""
    (wide, high), (width, height) = sides_pixels, extent
    if (width, height) == (wide, high):
        return pixels[:high, :wide]
    right, bottom = min(pixels.shape[1], reach(width, wide)), min(pixels.shape[0], reach(height, high))
    # Torch takes a side that is right already for one that needs no resizing, whatever the scale.
    right -= right == wide != width
    bottom -= bottom == high != height
    # Copied by NumPy, because torch would do it in as many threads as the machine has, in every one of ours.
    part = torch.from_numpy(np.array(pixels[:bottom, :right], order="C"))
    resize = torch.ops.aten._upsample_bilinear2d_aa if interpolation == "bilinear" else torch.ops.aten._upsample_bicubic2d_aa
    resized = resize(part[None].permute(0, 3, 1, 2), [high, wide], False, high / height, wide / width)
    found: NDArray[np.uint8] = resized[0].permute(1, 2, 0).numpy().reshape(high, wide, pixels.shape[2])
    return found
