"""Brightness, contrast, saturation, hue and the principal components of colour: one affine map of RGB for each picture.

The map is composed for each picture in float64 and put on all its pixels together with the normalisation, as NVIDIA DALI composes its
colour twist, so that colour costs little more than normalising does. In order:

    saturation and hue   chrominance (I, Q of the YIQ space of NTSC) scaled and turned; luma Y stays
    brightness           a factor
    contrast             a factor of the distance from the picture's mean luma
    principal components an offset: the eigenvectors, each times its eigenvalue times a normal number (Krizhevsky et al. 2012, sec. 4.1)

Colours beyond black and white are cut off once, at the end. A sample's pixels depend on its own place and pixels only: sums over a
picture are whole numbers, and the map is single multiplications and additions, which round alike whatever is computed beside them.
Letters: B batch, S side, C channels.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.distortion import Distortion
from provenet.data.random import Places, Purpose, draw, normals, spread
from provenet.preprocessing import Preprocessing

LUMA = np.array([0.299, 0.587, 0.114])  # of ITU-R BT.601
_TO_YIQ = np.array([LUMA, [0.595716, -0.274453, -0.321263], [0.211456, -0.522591, 0.311135]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
# A turn of chrominance by an angle with a factor s is KEPT + s cos(angle) SCALED + s sin(angle) TURNED.
_KEPT, _SCALED, _TURNED = (
    _FROM_YIQ @ np.array(middle, dtype=np.float64) @ _TO_YIQ
    for middle in ([[1, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 1, 0], [0, 0, 1]], [[0, 0, 0], [0, 0, -1], [0, 1, 0]])
)


class ColourMaps(NamedTuple):
    """RGB of 0 to 1 -> matrices @ RGB + offsets, for each picture: [B, C, C] and [B, C]."""

    matrices: NDArray[np.float64]
    offsets: NDArray[np.float64]


def change_colour(windows: Tensor, distortion: Distortion, places: Places, preprocessing: Preprocessing) -> Tensor:
    """uint8 windows [B, S, S, C] -> float32 images [B, C, S, S] (channels-last in memory) with other colours, normalised."""
    planes = windows.permute(3, 0, 1, 2).contiguous().float()  # each channel in one piece is twice as fast to compute on
    return apply_maps(planes, colour_maps(planes, distortion, places), preprocessing)


def colour_maps(planes: Tensor, distortion: Distortion, places: Places) -> ColourMaps:
    """The maps of pictures [C, B, S, S] of 0 to 255, drawn for their places."""
    words = draw(places.seed, Purpose.COLOUR, places.epochs, places.positions)
    brightness, contrast, saturation = (
        1 + strength * spread(word, -1, 1)
        for strength, word in zip((distortion.brightness, distortion.contrast, distortion.saturation), words[:3], strict=True)
    )
    hue = np.radians(distortion.hue_degrees) * spread(words[3], -1, 1)
    maps = compose(mean_luma(planes) if distortion.contrast else np.zeros(len(hue)), brightness, contrast, saturation, hue)
    if len(planes) == 1:
        return ColourMaps((brightness * contrast)[:, None, None], maps.offsets[:, :1])
    alphas = distortion.pca_colour * normals(draw(places.seed, Purpose.COLOUR, places.epochs, places.positions, 1))[:3]
    return ColourMaps(maps.matrices, maps.offsets + principal_offsets(distortion, alphas))


def compose(
    mean: NDArray[np.float64],
    brightness: NDArray[np.float64],
    contrast: NDArray[np.float64],
    saturation: NDArray[np.float64],
    hue: NDArray[np.float64],
) -> ColourMaps:
    """The maps of pictures of mean luma [B] with these factors [B] and turns of hue [B] in radians."""
    if (saturation == 1).all() and (hue == 0).all():  # not one asked for: exactly the identity, whose zeros cost nothing
        chrominance = np.repeat(np.eye(3)[None], len(mean), axis=0)
    else:
        scaled, turned = saturation * np.cos(hue), saturation * np.sin(hue)
        chrominance = _KEPT + scaled[:, None, None] * _SCALED + turned[:, None, None] * _TURNED
    matrices = (brightness * contrast)[:, None, None] * chrominance
    return ColourMaps(matrices, np.repeat(((1 - contrast) * brightness * mean)[:, None], 3, axis=1))


def principal_offsets(distortion: Distortion, alphas: NDArray[np.float64]) -> NDArray[np.float64]:
    """What is added to RGB for three normal numbers each: [3, B] -> [B, 3]."""
    vectors = np.array(distortion.pca_eigenvectors).reshape(3, 3)
    first, second, third = (vectors[:, k] * (value * alphas[k])[:, None] for k, value in enumerate(distortion.pca_eigenvalues))
    return np.asarray(first + second + third)


def mean_luma(planes: Tensor) -> NDArray[np.float64]:
    """Of pictures [C, B, S, S] of 0 to 255, grey or RGB: [B], 0 to 1.

    Exact, whatever the order of summing: a row is at most 1,024 whole numbers of 8 bits, of which float32 holds the sum.
    """
    channels, _, height, width = planes.shape
    sums = planes.sum(3).double().sum(2).cpu().numpy()  # [C, B]
    total = sums[0] * LUMA[0] + sums[1] * LUMA[1] + sums[2] * LUMA[2] if channels == 3 else sums[0]
    return np.asarray(total / (255 * height * width))


def apply_maps(planes: Tensor, maps: ColourMaps, preprocessing: Preprocessing) -> Tensor:
    """Pictures [C, B, S, S] of 0 to 255 -> images [B, C, S, S] (channels-last in memory), cut off at black and white, normalised.

    The two affine maps are one, since cutting off before normalising at 0 and 1 is cutting off after it at what 0 and 1 become.
    """
    channels, num_images, height, width = planes.shape
    order = slice(None, None, -1 if preprocessing.channel_order == "BGR" else 1)
    by_place = preprocessing.mean_by_place(planes.device).permute(2, 0, 1) if preprocessing.mean_image else None  # [C, S, S]
    mean, std = np.zeros(channels) if preprocessing.mean_image else np.array(preprocessing.mean), np.array(preprocessing.std)
    factors = maps.matrices[:, order] * (preprocessing.white / (255 * std))[:, None]  # [B, C out, C in]
    offsets = (maps.offsets[:, order] * preprocessing.white - mean) / std  # [B, C]
    weights, shifts = (torch.from_numpy(values.astype(np.float32)).to(planes.device)[..., None, None] for values in (factors, offsets))
    black, white = (-mean / std).tolist(), ((preprocessing.white - mean) / std).tolist()
    changed, term = torch.zeros_like(planes), torch.empty_like(planes[0])
    for c in range(channels):
        for k in range(channels):
            if factors[:, c, k].any():
                changed[c] += torch.mul(planes[k], weights[:, c, k], out=term)
        changed[c] += shifts[:, c]
        changed[c].clamp_(black[c], white[c])
        if by_place is not None:  # after cutting off, whose bounds would else be by place too
            changed[c] -= by_place[c]
    images = torch.empty(num_images, channels, height, width, device=planes.device, memory_format=torch.channels_last)
    return images.copy_(changed.permute(1, 0, 2, 3))
