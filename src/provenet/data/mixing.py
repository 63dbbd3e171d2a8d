"""Two pictures in one, and labels that say how much of each: mixup and CutMix.

Zhang, Cisse, Dauphin, Lopez-Paz, "mixup: beyond empirical risk minimization", 2017; Yun, Han, Oh, Chun, Choe, Yoo, "CutMix", 2019.
The partner of a sample is the next one of the same global batch, the first for the last: the order is random, so a neighbour is a random
partner, and it is chosen by place and not by process. Where both are asked for, a coin decides for each sample; weights are drawn for
each sample too. Letters: B batch, K classes, C channels, S side.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.distortion import Distortion
from provenet.data.erasing import Boxes
from provenet.data.random import Places, Purpose, draw, integers_below, normals, uniforms

ATTEMPTS = 16
"""At most so many draws of a gamma number, of which each is accepted with 95 percent or more: all fail once in 10^20 samples."""


class Mixture(NamedTuple):
    """How each sample is mixed: the weight of its own picture in a blend [B], 1 where a box is put in instead, and the boxes."""

    weights: NDArray[np.float32]
    boxes: Boxes


def mix(
    images: Tensor, labels: Tensor, partner_images: Tensor, partner_labels: Tensor, distortion: Distortion, places: Places, num_classes: int
) -> tuple[Tensor, Tensor]:
    """Images [B, C, S, S] and labels [B], with those of the partners of each, -> mixed images, and probabilities float32 [B, K].

    `places` are those of `images`. The probability of the own class is the blend's weight, or the part of the pixels that are left.
    """
    side = images.shape[2]
    weights, boxes = draw_mixture(distortion, places, side)
    mixed, own = images, weights
    if distortion.mixup:
        blend = torch.from_numpy(weights).to(images.device)[:, None, None, None]
        mixed = images * blend + partner_images * (1 - blend)
    if distortion.cutmix:
        mixed = mixed if distortion.mixup else images.clone(memory_format=torch.channels_last)
        for row in np.flatnonzero(boxes.areas()):
            top, left, bottom, right = (int(edge[row]) for edge in boxes)
            mixed[row, :, top:bottom, left:right] = partner_images[row, :, top:bottom, left:right]
        own = np.where(boxes.areas() > 0, (1 - boxes.areas() / side**2).astype(np.float32), weights)
    part = torch.from_numpy(own).to(images.device)
    rows = torch.arange(len(labels), device=images.device)
    probabilities = images.new_zeros(len(labels), num_classes, dtype=torch.float32)
    probabilities[rows, labels] += part
    probabilities[rows, partner_labels] += 1 - part
    return mixed, probabilities


def draw_mixture(distortion: Distortion, places: Places, side: int) -> Mixture:
    """The weights and boxes of samples at these places, a pure function of its arguments."""
    coin, down, across, _ = draw(places.seed, Purpose.MIXING, places.epochs, places.positions)
    is_cut = (uniforms(coin) < 0.5) if distortion.mixup and distortion.cutmix else np.full(len(coin), distortion.cutmix > 0)
    weights = np.ones(len(coin))
    if distortion.mixup:
        weights = np.where(is_cut, 1.0, beta_numbers(distortion.mixup, places))
    sides = np.zeros(len(coin), np.int64)
    if distortion.cutmix:
        left_over = beta_numbers(distortion.cutmix, places)
        sides = np.where(is_cut, (side * np.sqrt(1 - left_over)).astype(np.int64), 0)
    # As in the paper, the box's centre is anywhere, and what of it is outside the picture is lost.
    top, left = (integers_below(side, words) - sides // 2 for words in (down, across))
    edges = (np.clip(edge, 0, side) for edge in (top, left, top + sides, left + sides))
    return Mixture(weights.astype(np.float32), Boxes(*edges))


def beta_numbers(alpha: float, places: Places) -> NDArray[np.float64]:
    """A number of Beta(alpha, alpha) for each place, [B]: the part of one of two gamma numbers in their sum."""
    one, other = (_log_gamma_numbers(alpha, places, first) for first in (1, 1 + ATTEMPTS + 1))
    odds = np.clip(other - one, -700, 700)
    return np.asarray(1 / (1 + np.exp(odds)))


def _log_gamma_numbers(shape: float, places: Places, first_block: int) -> NDArray[np.float64]:
    """The logarithm of a number of Gamma(shape, 1) for each place; Marsaglia and Tsang 2000, with their cure for shapes below 1.

    Each place takes its own first draw that is accepted, so that what others need changes nothing for it.
    """
    boosted = shape + 1 if shape < 1 else shape
    d = boosted - 1 / 3
    c = 1 / np.sqrt(9 * d)
    found = np.full(len(places.positions), np.log(d))  # about the median, where every attempt fails
    is_open = np.full(len(found), True)
    for attempt in range(ATTEMPTS):
        words = draw(places.seed, Purpose.MIXING, places.epochs, places.positions, first_block + attempt)
        normal, uniform = normals(words)[0], uniforms(words[1])  # the first normal number takes words 0 and 2
        v = np.maximum(np.maximum(1 + c * normal, 1e-100) ** 3, 1e-300)
        is_accepted = (1 + c * normal > 0) & (np.log(uniform) < 0.5 * normal**2 + d - d * v + d * np.log(v))
        found = np.where(is_open & is_accepted, np.log(d) + np.log(v), found)
        is_open &= ~is_accepted
        if not is_open.any():
            break
    if shape < 1:
        words = draw(places.seed, Purpose.MIXING, places.epochs, places.positions, first_block + ATTEMPTS)
        found = found + np.log(uniforms(words[0])) / shape
    return found
