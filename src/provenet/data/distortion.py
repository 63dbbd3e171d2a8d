"""How training pictures are varied: each sample is moved by a few pixels and perhaps mirrored, drawn anew in each epoch.

Krizhevsky, Sutskever, Hinton 2012, section 4.1 (random crop and mirror); He et al. 2015, section 4.2 (pad, crop and mirror). Moving
the window over a larger stored square crops, moving it over a smaller one pads with black: see preprocessing.py.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.random import Purpose, draw, integers_below
from provenet.errors import SettingsError


class Moves(NamedTuple):
    """The distortion of each sample of a batch: three arrays [N]."""

    rows: Tensor
    columns: Tensor
    mirrored: Tensor


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """What may happen to a training picture. `Distortion()` does nothing."""

    shift_pixels: int = 0
    """Largest move in each direction, in pixels of the window."""
    mirror: bool = False
    """Whether every second picture, by chance, is turned left to right."""

    def __post_init__(self) -> None:
        if not 0 <= self.shift_pixels <= 512:
            raise SettingsError(f"distortion.shift_pixels (--shift-pixels): expected 0 to 512 pixels, found {self.shift_pixels}")

    def moves(self, seed: int, epochs: NDArray[np.int64], positions: NDArray[np.int64]) -> Moves | None:
        """The moves of the samples at these places of the order, a pure function of its arguments; None where nothing may happen."""
        if not self.shift_pixels and not self.mirror:
            return None
        words = draw(seed, Purpose.DISTORTION, epochs, positions)
        span = 2 * self.shift_pixels + 1
        rows, columns = (torch.from_numpy(integers_below(span, words[k]) - self.shift_pixels) for k in (0, 1))
        mirrored = torch.from_numpy(integers_below(2, words[2]) == 1) if self.mirror else torch.zeros(len(positions), dtype=torch.bool)
        return Moves(rows, columns, mirrored)
