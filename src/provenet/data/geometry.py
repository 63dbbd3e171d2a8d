"""Pictures turned, scaled, squeezed, slanted and warped, all in one resampling of the window.

LeCun, Bottou, Bengio, Haffner 1998, section III-A (affine distortions); Simard, Steinkraus, Platt 2003 (smooth random displacements).
Sampling is bilinear, from the 8-bit window to 8 bits again. What is beyond the edge is the picture reflected: black corners would tell
the network how far it was turned, and where pictures lie on black the reflection is black too.

A sample's pixels depend on its own place only, never on the rest of the batch or on threads: what is computed per sample is computed in
float64, element by element, and the resampling goes picture by picture. Letters: B batch, S side, C channels.
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.distortion import Distortion
from provenet.data.random import Places, Purpose, draw, spread

WARP_CELLS = 4
"""Cells of the displacement field in each direction."""


def bend(windows: Tensor, distortion: Distortion, places: Places) -> Tensor:
    """uint8 windows [B, S, S, C] -> the same, resampled."""
    fields = displacements(distortion, places, windows.shape[1]) if distortion.warp_pixels else None
    return resample(windows, inverse_maps(distortion, places), fields)


def inverse_maps(distortion: Distortion, places: Places) -> NDArray[np.float64]:
    """Where each pixel comes from: matrices [B, 2, 2] on (right, down) from the centre.

    The picture is slanted, then scaled and squeezed, then turned anticlockwise; this is the inverse of the three.
    """
    turn, size, narrow, slant = draw(places.seed, Purpose.GEOMETRY, places.epochs, places.positions)
    angle = np.radians(distortion.rotation_degrees) * spread(turn, -1, 1)
    scale = 1 + distortion.scale_fraction * spread(size, -1, 1)
    squeeze = 1 + distortion.squeeze_fraction * spread(narrow, -1, 1)
    tangent = np.tan(np.radians(distortion.shear_degrees) * spread(slant, -1, 1))
    return compose(angle, scale * squeeze, scale / squeeze, tangent)


def compose(
    angle: NDArray[np.float64], width: NDArray[np.float64], height: NDArray[np.float64], tangent: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Inverse matrices [B, 2, 2] of: x += tangent * y, then the factors of width and height, then a turn by `angle` (radians)."""
    cosine, sine = np.cos(angle), np.sin(angle)
    right = np.stack([cosine / width - tangent * sine / height, -sine / width - tangent * cosine / height], axis=1)
    down = np.stack([sine / height, cosine / height], axis=1)
    return np.stack([right, down], axis=1)


def displacements(distortion: Distortion, places: Places, side: int) -> NDArray[np.float32]:
    """Smooth random fields in pixels, [B, 2 (right, down), S, S], within plus and minus `warp_pixels`.

    A uniform cubic B-spline over a grid of random coefficients: twice continuously differentiable, and as its weights are positive and
    sum to one, bounded by them. The deviation is about 0.29 of `warp_pixels`.
    """
    grid = WARP_CELLS + 3
    count = 2 * grid * grid
    blocks = [draw(places.seed, Purpose.GEOMETRY, places.epochs, places.positions, block) for block in range(1, 1 + -(-count // 4))]
    numbers = np.ascontiguousarray(np.concatenate(blocks)[:count].T)  # [B, count]
    coefficients = (distortion.warp_pixels * spread(numbers, -1, 1)).astype(np.float32).reshape(-1, 2, grid, grid)
    cells, weights = spline_weights(side)
    across = coefficients[..., cells] * weights[0]  # [B, 2, grid, S]
    for k in range(1, 4):
        across += coefficients[..., cells + k] * weights[k]
    fields: NDArray[np.float32] = across[:, :, cells] * weights[0][:, None]
    for k in range(1, 4):
        fields += across[:, :, cells + k] * weights[k][:, None]
    return fields


def spline_weights(side: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """For each pixel of a line the first of its four coefficients [S], and their weights [4, S]."""
    place = (np.arange(side) + 0.5) / side * WARP_CELLS
    cells = np.minimum(place.astype(np.int64), WARP_CELLS - 1)
    t = place - cells
    weights = (1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3
    return cells, (np.stack(weights) / 6).astype(np.float32)


def resample(windows: Tensor, maps: NDArray[np.float64], fields: NDArray[np.float32] | None = None) -> Tensor:
    """Pixel p of the result is what is at `maps` p (+ `fields`) of the window: uint8 [B, S, S, C] -> uint8 [B, S, S, C]."""
    num_images, side, _, _ = windows.shape
    line = (2 * np.arange(side) + 1) / side - 1  # centres of pixels, from -1 to 1 over the window
    rightwards, downwards = ((maps[:, :, k, None] * line).astype(np.float32) for k in (0, 1))  # [B, 2, S]
    grid = np.empty((num_images, side, side, 2), np.float32)
    for k in (0, 1):
        np.add(rightwards[:, k, None, :], downwards[:, k, :, None], out=grid[..., k])
        if fields is not None:
            grid[..., k] += fields[:, k] * np.float32(2 / side)
    planes = windows.permute(0, 3, 1, 2).contiguous().float()
    where = torch.from_numpy(grid).to(windows.device)
    found = F.grid_sample(planes, where, mode="bilinear", padding_mode="reflection", align_corners=False)
    return found.round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
