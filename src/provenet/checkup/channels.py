"""Mean and deviation of the channels, as training measures them: of the centred square of each picture, each picture counted alike.

Sums are whole numbers, so neither the order of the pictures nor the threads change a digit. Squares are taken as they are in the file;
training, which makes them smaller first, finds the same mean and a slightly smaller deviation.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

UNITS = 2**32
"""What a picture's mean is counted in: a fraction of a level of 0 to 255."""
LEVELS = 255
_LEVELS = np.arange(256)


@dataclass(frozen=True, slots=True)
class ChannelTotals:
    """The sums over some pictures of what each one's square has on average: levels, and their squares, in UNITS."""

    num_pictures: int = 0
    levels: tuple[int, int, int] = (0, 0, 0)
    squares: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def of(cls, picture: Image.Image) -> "ChannelTotals":
        """Of one upright RGB picture."""
        width, height = picture.size
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        counts = np.array(picture.crop((left, top, left + side, top + side)).histogram(), dtype=np.int64).reshape(3, 256)
        red, green, blue = (total * UNITS // side**2 for total in (counts @ _LEVELS).tolist())
        red_square, green_square, blue_square = (total * UNITS // side**2 for total in (counts @ _LEVELS**2).tolist())
        return cls(1, (red, green, blue), (red_square, green_square, blue_square))

    def __add__(self, other: "ChannelTotals") -> "ChannelTotals":
        levels = tuple(one + another for one, another in zip(self.levels, other.levels, strict=True))
        squares = tuple(one + another for one, another in zip(self.squares, other.squares, strict=True))
        return ChannelTotals(
            self.num_pictures + other.num_pictures, (levels[0], levels[1], levels[2]), (squares[0], squares[1], squares[2])
        )

    @property
    def mean(self) -> tuple[float, ...]:
        """Of each channel, 0 to 1; one value where all pictures are grey."""
        return tuple(level / (self.num_pictures * UNITS * LEVELS) for level in self._used(self.levels))

    @property
    def std(self) -> tuple[float, ...]:
        """The deviation of each channel's pixels from that mean, over all pictures."""
        divisor = self.num_pictures * UNITS * LEVELS**2
        variances = (square / divisor - mean**2 for square, mean in zip(self._used(self.squares), self.mean, strict=True))
        return tuple(max(0.0, variance) ** 0.5 for variance in variances)

    def _used(self, values: tuple[int, int, int]) -> tuple[int, ...]:
        is_grey = len(set(self.levels)) == len(set(self.squares)) == 1
        return values[:1] if is_grey else values

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        rounded = {name: [round(value, 6) for value in values] for name, values in (("mean", self.mean), ("std", self.std))}
        return {"pictures": self.num_pictures, **rounded}
