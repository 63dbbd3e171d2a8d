"""How training pictures are varied: complete settings, each of which does nothing by default. What they do is in the files they name.

Every choice is drawn anew for each sample and epoch, as a pure function of the seed and the sample's place: see random.py.
"""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.random import Purpose, draw, integers_below
from provenet.errors import SettingsError
from provenet.preprocessing import Preprocessing

Crop = Literal["window", "scale", "area"]

# The principal components of ImageNet's training pixels (0 to 1), as fb.resnet.torch published them (datasets/imagenet.lua, Facebook,
# 2016) and everybody copied: eigenvalues of the covariance, and the eigenvectors as columns, rows R, G, B.
IMAGENET_EIGENVALUES = (0.2175, 0.0188, 0.0045)
IMAGENET_EIGENVECTORS = (-0.5675, 0.7192, 0.4009, -0.5808, -0.0045, -0.8140, -0.5836, -0.6948, 0.4203)

LARGEST_SHORT_SIDE_PIXELS = 4096
LEAST_ALPHA = 0.01


class Moves(NamedTuple):
    """The distortion of each sample of a batch: three arrays [N]."""

    rows: Tensor
    columns: Tensor
    mirrored: Tensor


@dataclass(frozen=True, kw_only=True)
class Distortion:
    """What may happen to a training picture. `Distortion()` does nothing."""

    crop: Crop = "window"
    """Which part is shown: the window over the stored square, moved by `shift_pixels` (Krizhevsky et al. 2012, section 4.1; He et al. 2015,
    section 4.2); a window anywhere on the picture at a random scale (`short_sides`); or a box of random `area` and `aspect`."""
    shift_pixels: int = 0
    """Largest move in each direction, in pixels of the window."""
    short_sides: tuple[int, int] = (256, 256)
    """With crop "scale": the picture's short side becomes a random length between these, in pixels (Simonyan, Zisserman 2014, sec. 3.1)."""
    area: tuple[float, float] = (1.0, 1.0)
    """With crop "area": the least and most part of the picture's area (Szegedy et al. 2014, section 6)."""
    aspect: tuple[float, float] = (1.0, 1.0)
    """With crop "area": the least and most width over height."""
    mirror: bool = False
    """Whether every second picture, by chance, is turned left to right."""
    rotation_degrees: float = 0.0
    """Largest turn to either side; this and the next four are one resampling, see geometry.py."""
    scale_fraction: float = 0.0
    """Largest change of size: 0.1 is a factor of 0.9 to 1.1."""
    squeeze_fraction: float = 0.0
    """Largest squeeze: 0.1 is a width times 0.9 to 1.1 and the height divided by as much."""
    shear_degrees: float = 0.0
    """Largest slant of upright lines to either side."""
    warp_pixels: float = 0.0
    """Largest displacement of a point in each direction by a smooth random field."""
    brightness: float = 0.0
    """0.1 is a factor of 0.9 to 1.1; this and the next four are one affine map of colour, see colour.py."""
    contrast: float = 0.0
    """The same, about the mean grey of the picture."""
    saturation: float = 0.0
    """The same, of the distance from grey."""
    hue_degrees: float = 0.0
    """Largest turn of the hues."""
    pca_colour: float = 0.0
    """Deviation of the normal numbers that multiply the principal components of colour (Krizhevsky et al. 2012, section 4.1)."""
    pca_eigenvalues: tuple[float, float, float] = IMAGENET_EIGENVALUES
    """Of the covariance of pixels of 0 to 1; `provenet colours` measures those of your pictures."""
    pca_eigenvectors: tuple[float, float, float, float, float, float, float, float, float] = IMAGENET_EIGENVECTORS
    """As columns, row by row: red, green, blue."""
    noise: float = 0.0
    """Deviation of normal noise in every pixel and channel, in parts of white."""
    erase: float = 0.0
    """Probability that a box of the picture becomes mean grey (Zhong et al. 2017), see erasing.py."""
    erase_area: tuple[float, float] = (0.02, 0.33)
    """Least and most part of the picture that is erased."""
    mixup: float = 0.0
    """The alpha of Beta(alpha, alpha), the weight with which two pictures are blended (Zhang et al. 2017), see mixing.py."""
    cutmix: float = 0.0
    """The alpha of Beta(alpha, alpha), the part that is left of a picture when a box of another is put in (Yun et al. 2019)."""

    def __post_init__(self) -> None:
        for name, (is_right, expected) in self._checks().items():
            if not is_right:
                flag = f" (--{name.replace('_', '-')})" if name in ("shift_pixels", "mirror") else ""
                raise SettingsError(f"distortion.{name}{flag}: expected {expected}, found {_show(getattr(self, name))}")

    def _checks(self) -> dict[str, tuple[bool, str]]:
        unit = ("brightness", "contrast", "saturation", "noise", "erase")
        return {
            "crop": (self.crop in get_args(Crop), "one of " + ", ".join(get_args(Crop))),
            "shift_pixels": (0 <= self.shift_pixels <= 512, "0 to 512 pixels"),
            "short_sides": (
                _rises(self.short_sides, 1, LARGEST_SHORT_SIDE_PIXELS),
                f"two lengths of 1 to {LARGEST_SHORT_SIDE_PIXELS} pixels, the smaller first",
            ),
            "area": (_rises(self.area, 0.001, 1), "two parts of 0.001 to 1, the smaller first"),
            "aspect": (_rises(self.aspect, 0.1, 10), "two numbers of 0.1 to 10, the smaller first"),
            "rotation_degrees": (0 <= self.rotation_degrees <= 180, "0 to 180 degrees"),
            "scale_fraction": (0 <= self.scale_fraction <= 0.9, "0 to 0.9"),
            "squeeze_fraction": (0 <= self.squeeze_fraction <= 0.9, "0 to 0.9"),
            "shear_degrees": (0 <= self.shear_degrees <= 60, "0 to 60 degrees"),
            "warp_pixels": (0 <= self.warp_pixels <= 512, "0 to 512 pixels"),
            **{name: (0 <= getattr(self, name) <= 1, "0 to 1") for name in unit},
            "hue_degrees": (0 <= self.hue_degrees <= 180, "0 to 180 degrees"),
            "pca_colour": (0 <= self.pca_colour <= 10, "0 to 10"),
            "pca_eigenvalues": (_are_within(self.pca_eigenvalues, 3, 0, 3), "3 numbers of 0 to 3"),
            "pca_eigenvectors": (_are_within(self.pca_eigenvectors, 9, -1.01, 1.01), "9 numbers of -1 to 1"),
            "erase_area": (_rises(self.erase_area, 0.0001, 1), "two parts of 0.0001 to 1, the smaller first"),
            **{
                name: (getattr(self, name) == 0 or LEAST_ALPHA <= getattr(self, name) <= 100, f"0, or {LEAST_ALPHA} to 100")
                for name in ("mixup", "cutmix")
            },
        }

    @property
    def mixes(self) -> bool:
        """Whether labels become probabilities of two classes."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def bends(self) -> bool:
        """Whether pictures are resampled."""
        return any((self.rotation_degrees, self.scale_fraction, self.squeeze_fraction, self.shear_degrees, self.warp_pixels))

    def recolours(self, channels: int) -> bool:
        """Whether colours change in pictures of so many channels; of grey ones only brightness and contrast can."""
        return any((self.brightness, self.contrast)) or (channels == 3 and any((self.saturation, self.hue_degrees, self.pca_colour)))

    def check_with(self, preprocessing: Preprocessing) -> None:
        """Raise SettingsError where the two do not go together."""
        if self.crop == "scale" and self.short_sides[0] < preprocessing.size:
            raise SettingsError(
                f"distortion.short_sides: expected at least the {preprocessing.size} pixels of preprocessing.size, "
                f"found {_show(self.short_sides)}; enlarge them, or take crop = 'area'"
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, words and lists, for JSON and TOML."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def moves(self, seed: int, epochs: NDArray[np.int64], positions: NDArray[np.int64]) -> Moves | None:
        """The moves of the samples at these places of the order, a pure function of its arguments; None where nothing may happen."""
        if not self.shift_pixels and not self.mirror:
            return None
        words = draw(seed, Purpose.DISTORTION, epochs, positions)
        span = 2 * self.shift_pixels + 1
        rows, columns = (torch.from_numpy(integers_below(span, words[k]) - self.shift_pixels) for k in (0, 1))
        mirrored = torch.from_numpy(integers_below(2, words[2]) == 1) if self.mirror else torch.zeros(len(positions), dtype=torch.bool)
        return Moves(rows, columns, mirrored)


def _are_within(values: tuple[float, ...], count: int, least: float, most: float) -> bool:
    return len(values) == count and all(least <= value <= most for value in values)


def _rises(values: tuple[float, ...], least: float, most: float) -> bool:
    return _are_within(values, 2, least, most) and all(low <= high for low, high in pairwise(values))


def _show(value: object) -> str:
    return ", ".join(f"{number:g}" for number in value) if isinstance(value, tuple) else repr(value)
