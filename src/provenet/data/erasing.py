"""Noise in every pixel, and boxes that are erased, in normalised images. Letters: B batch, C channels, S side.

Both depend on the sample's place only. Erasing: Zhong, Zheng, Kang, Li, Yang, "Random erasing data augmentation", 2017.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.distortion import Distortion
from provenet.data.random import Places, Purpose, draw, integers_below, normals, spread, uniforms
from provenet.preprocessing import Preprocessing

LEAST_ASPECT = 0.3  # of the box, as in the paper, with its inverse the most


class Boxes(NamedTuple):
    """A box of each sample, in pixels: four arrays [B]; `bottom` and `right` are beyond it. An empty one is none."""

    top: NDArray[np.int64]
    left: NDArray[np.int64]
    bottom: NDArray[np.int64]
    right: NDArray[np.int64]

    def areas(self) -> NDArray[np.int64]:
        """In pixels."""
        return (self.bottom - self.top) * (self.right - self.left)


def add_noise(images: Tensor, distortion: Distortion, places: Places, preprocessing: Preprocessing) -> Tensor:
    """Normalised images [B, C, S, S] with noise, changed in place.

    A number for each pixel and channel, drawn on the processor: by far the dearest of the distortions, some 8 ms for 224 x 224 x 3.
    """
    num_images, channels, side, _ = images.shape
    count = side * side * channels
    blocks = np.arange(-(-count // 4))
    deviations = distortion.noise * preprocessing.white / np.array(preprocessing.std)  # [C]
    for row in range(num_images):
        epochs, positions = (np.full(len(blocks), where[row]) for where in places[1:])
        numbers = normals(draw(places.seed, Purpose.NOISE, epochs, positions, blocks)).ravel()[:count]
        noise = (numbers.reshape(side, side, channels) * deviations).astype(np.float32)
        images[row] += torch.from_numpy(noise).to(images.device).permute(2, 0, 1)
    return images


def erase(images: Tensor, distortion: Distortion, places: Places) -> Tensor:
    """Normalised images [B, C, S, S] with some boxes set to 0, which is the mean, in place."""
    boxes = boxes_to_erase(distortion, places, images.shape[2])
    for row in np.flatnonzero(boxes.areas()):
        top, left, bottom, right = (int(edge[row]) for edge in boxes)
        images[row, :, top:bottom, left:right] = 0
    return images


def boxes_to_erase(distortion: Distortion, places: Places, side: int) -> Boxes:
    """The box of each sample, empty where nothing is erased.

    The paper draws area and aspect until the box is inside; here the aspect is drawn, evenly in its logarithm, among those that fit.
    """
    gate, size, shape, _ = draw(places.seed, Purpose.ERASING, places.epochs, places.positions)
    across, down, _, _ = draw(places.seed, Purpose.ERASING, places.epochs, places.positions, 1)
    area = spread(size, *distortion.erase_area)
    widest = -np.log(np.maximum(LEAST_ASPECT, area))
    aspect = np.exp(widest * spread(shape, -1, 1))
    height, width = (np.clip(np.rint(side * np.sqrt(area * ratio)), 1, side).astype(np.int64) for ratio in (1 / aspect, aspect))
    is_erased = uniforms(gate) < distortion.erase
    height, width = height * is_erased, width * is_erased
    top, left = integers_below(side - height + 1, down), integers_below(side - width + 1, across)
    return Boxes(top, left, top + height, left + width)
