"""From a picture to what the network sees, as data that travels with the weights.

One rule covers every network. The shorter side of the picture is resized to `resize` pixels, of which the middle `resize` x `resize` are
stored (data/decode.py does that, in uint8); of this stored square the network is shown the centred `size` x `size` window, black beyond
the square's edge. Some public weights want the whole picture squashed into the stored square instead, whatever its shape: `fit` says so.
So

    resize 256, size 224   crops          (the ImageNet networks)
    resize  28, size  32   adds a border  (LeNet-5: the 28x28 digit centred in 32x32)
    resize  28, size  28   does neither.

Training moves the same window a little and mirrors it; evaluation and prediction never do.
Letters: N batch, R resize, S size, C channels.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal, Self, get_args

import numpy as np
import torch
from torch import Tensor

from provenet.errors import SettingsError
from provenet.mean_image import ELSE, WHERE, MeanImage

Fit = Literal["short side", "squash"]

LARGEST_SIDE_PIXELS = 1024
VALUES_AT_ONCE = 2**17


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The resize rule, the window and the normalisation of one set of weights.

    A pixel of 0..255 becomes `(pixel / 255 * white - mean) / std`, channel by channel, in `channel_order`. With a mean image the mean is
    that of the pixel's place in the window, wherever the window was cut from the picture.
    """

    size: int
    """Side of the square the network sees, in pixels."""
    resize: int
    """Side of the stored square, in pixels."""
    channels: int
    """1 (grey) or 3 (colour)."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    white: float = 1.0
    """The value of a white pixel before `mean` and `std`: 1 or 255."""
    channel_order: Literal["RGB", "BGR"] = "RGB"
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    fit: Fit = "short side"
    """What becomes the stored square: the middle of the picture once its shorter side is `resize`, or all of it, squashed to `resize` x
    `resize` without keeping its aspect, as Caffe's `convert_imageset` made its data and as examples of Keras load pictures."""
    mean_image: MeanImage | None = None
    """Means of 0 to 255 by place in the window, grey or RGB. They take the place of `mean`, which is then their mean by channel and
    stands for them where windows are of another size, as in a network at work on larger pictures."""

    def __post_init__(self) -> None:
        for side in ("size", "resize"):
            if not 1 <= getattr(self, side) <= LARGEST_SIDE_PIXELS:
                raise SettingsError(f"preprocessing.{side}: expected 1 to {LARGEST_SIDE_PIXELS} pixels, found {getattr(self, side)}")
        if self.channels not in (1, 3):
            raise SettingsError(f"preprocessing.channels: expected 1 (grey) or 3 (colour), found {self.channels}")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != self.channels:
                raise SettingsError(
                    f"preprocessing.{name}: expected {self.channels} values, one a channel, found {len(getattr(self, name))}"
                )
        if not all(1e-6 <= value <= 1e6 for value in (*self.std, self.white)) or not all(abs(value) <= 1e6 for value in self.mean):
            raise SettingsError("preprocessing: expected std above 0 and white above 0, and no number beyond a million, found others")
        if self.channel_order not in ("RGB", "BGR") or self.interpolation not in ("bilinear", "bicubic"):
            raise SettingsError(
                "preprocessing: expected channel_order RGB or BGR and interpolation bilinear or bicubic, "
                f"found {self.channel_order!r} and {self.interpolation!r}"
            )
        if self.fit not in get_args(Fit):
            raise SettingsError(f"preprocessing.fit: expected 'short side' or 'squash', found {self.fit!r}")
        image = self.mean_image
        if image and (image.side, image.channels) != (self.size, self.channels):
            raise SettingsError(
                f"{WHERE}: expected one of the window, {self.size}x{self.size}x{self.channels}, "
                f"found {image.side}x{image.side}x{image.channels}; {ELSE}"
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of `to_dict`; values come from files of strangers, so each is checked."""
        known, may_lack = {field.name for field in fields(cls)}, {"fit", "mean_image"}
        if not isinstance(values, Mapping) or set(values) | may_lack != known:
            found = ", ".join(sorted(map(str, values))) if isinstance(values, Mapping) else repr(values)
            raise SettingsError(f"preprocessing: expected the keys {', '.join(sorted(known - may_lack))}, found {found}")
        for name in ("size", "resize", "channels"):
            if type(values[name]) is not int or abs(values[name]) >= 2**63:
                raise SettingsError(f"preprocessing.{name}: expected a whole number of pixels or channels, found something else")
        try:
            image = MeanImage.from_text(values["mean_image"], values["size"], values["channels"]) if "mean_image" in values else None
            return cls(
                size=values["size"],
                resize=values["resize"],
                channels=values["channels"],
                mean=tuple(float(value) for value in values["mean"]),
                std=tuple(float(value) for value in values["std"]),
                white=float(values["white"]),
                channel_order=values["channel_order"],
                interpolation=values["interpolation"],
                fit=values.get("fit", "short side"),
                mean_image=image,
            )
        except (TypeError, ValueError, OverflowError) as error:
            raise SettingsError("preprocessing: expected numbers for mean, std and white, found something else") from error

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, words and lists, for JSON and TOML; no word of a mean image where there is none, nor of the usual `fit`."""
        values = asdict(replace(self, mean_image=None)) | ({"mean_image": self.mean_image.to_text()} if self.mean_image else {})
        said = {name: value for name, value in values.items() if value is not None and (name, value) != ("fit", "short side")}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}

    def with_channels(self, channels: int) -> "Preprocessing":
        """The same rule for grey (1) or colour (3) pictures, the mean and deviation averaged over channels or repeated.

        Images of other channels are no pictures: for them the rule stays as it is.
        """
        if channels == self.channels or channels not in (1, 3):
            return self
        mean, std = (sum(values) / len(values) for values in (self.mean, self.std))
        image = self.mean_image and self.mean_image.with_channels(channels)
        return replace(self, channels=channels, mean=(mean,) * channels, std=(std,) * channels, mean_image=image)

    def with_size(self, size: int) -> "Preprocessing":
        """The same rule for another window; the stored square grows or shrinks with it, and of a mean image the mean by channel is left."""
        image = self.mean_image if size == self.size else None
        return replace(self, size=size, resize=round(size * self.resize / self.size), mean_image=image)

    def stored_at(self, resize: int) -> "Preprocessing":
        """The same window of a stored square of another size."""
        return replace(self, resize=resize)

    def normalise(self, windows: Tensor) -> Tensor:
        """uint8 windows [N, S, S, C] -> float32 images [N, C, S, S] (channels-last in memory)."""
        if self.channel_order == "BGR":
            windows = windows.flip(-1)
        count, height, width, channels = windows.shape
        factor, offset = _line(self.mean, self.std, self.white, width, windows.device)  # [W C] each
        if self.mean_image and height == width == self.size:
            offset = self.mean_by_place(windows.device).view(height, width * channels)
        lines = windows.reshape(count, height, width * channels)
        if lines.device.type == "cpu":
            images = torch.empty(lines.shape)
            # By NumPy, some at a time that stay in the cache: torch's threads would wait for those that decode, longer than the work takes.
            num_images = max(1, VALUES_AT_ONCE // max(1, height * width * channels))
            for start in range(0, count, num_images):
                some = images.numpy()[start : start + num_images]
                some[...] = lines.numpy()[start : start + num_images]
                some *= factor.numpy()
                some -= offset.numpy()
        else:
            images = (lines * factor).sub_(offset)
        return images.view(count, height, width, channels).permute(0, 3, 1, 2)

    def mean_by_place(self, device: torch.device) -> Tensor:
        """The mean image, or without one `mean`, as it is subtracted after scaling: float32 [S, S, C] in `channel_order`, over `std`."""
        if self.mean_image is None:
            return _line(self.mean, self.std, self.white, self.size, device)[1].view(1, self.size, -1).expand(self.size, -1, -1)
        return _offsets(self.mean_image, self.std, self.white, self.channel_order, device)


@lru_cache(maxsize=4)
def _offsets(image: MeanImage, std: tuple[float, ...], white: float, channel_order: str, device: torch.device) -> Tensor:
    levels = image.levels()[:, :, :: -1 if channel_order == "BGR" else 1]
    return torch.from_numpy((levels * (white / (255 * np.array(std)))).astype(np.float32)).to(device)


@lru_cache(maxsize=16)
def _line(mean: tuple[float, ...], std: tuple[float, ...], white: float, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factor and offset of every value in a line of pixels [W C]: over three channels alone arithmetic takes twice the time."""
    means, deviations = (torch.tensor(values, device=device).repeat(width) for values in (mean, std))
    return white / (255 * deviations), means / deviations


# The usual statistics of training pixels; a run measures those of its own data.
IMAGENET_PREPROCESSING = Preprocessing(size=224, resize=256, channels=3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CIFAR_PREPROCESSING = Preprocessing(size=32, resize=32, channels=3, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
# As the papers of AlexNet, VGG and GoogLeNet have it: pixels of 0 to 255 from which a mean is subtracted, here ImageNet's.
MEAN_ONLY = Preprocessing(size=224, resize=256, channels=3, white=255.0, mean=(123.68, 116.779, 103.939), std=(1.0, 1.0, 1.0))

# What public weights want, by the names that Keras' `preprocess_input` gave them. Resize rule and window are those of most, not of all.
PREPROCESSINGS = {
    "torch": IMAGENET_PREPROCESSING,
    "caffe": replace(MEAN_ONLY, channel_order="BGR", mean=MEAN_ONLY.mean[::-1]),
    "tf": replace(IMAGENET_PREPROCESSING, mean=(0.5,) * 3, std=(0.5,) * 3),
}


def window_corner(side: int, size: int) -> int:
    """Where the centred window of `size` pixels begins on a line of `side`, a half to the even number, as torchvision's CenterCrop has it.

    Negative where the line is shorter than the window.
    """
    return round((side - size) / 2) if side >= size else -((size - side) // 2)


def window(
    squares: Tensor, size: int, *, rows: Tensor | None = None, columns: Tensor | None = None, mirrored: Tensor | None = None
) -> Tensor:
    """The `size` x `size` window of each stored square, black beyond its edge: uint8 [N, R, R, C] -> uint8 [N, S, S, C].

    `rows` and `columns` [N] move each window from the centre, in pixels; `mirrored` [N] turns some left to right. Without them the
    window is centred, which is what evaluation and prediction see.
    """
    num_images, side, _, channels = squares.shape
    corner = window_corner(side, size)
    largest_move = 0 if rows is None or columns is None else int(torch.stack([rows.abs().max(), columns.abs().max()]).max())
    border = max(0, largest_move - min(corner, side - size - corner))
    if border:
        padded = squares.new_zeros(num_images, side + 2 * border, side + 2 * border, channels)
        padded[:, border : border + side, border : border + side] = squares
        squares, corner = padded, corner + border
    if rows is None or columns is None or mirrored is None:
        return squares[:, corner : corner + size, corner : corner + size]
    line = torch.arange(size, device=squares.device)
    row_index = corner + rows[:, None] + line  # [N, S]
    column_index = corner + columns[:, None] + torch.where(mirrored[:, None], size - 1 - line, line)  # [N, S]
    image_index = torch.arange(num_images, device=squares.device)
    return squares[image_index[:, None, None], row_index[:, :, None], column_index[:, None, :]]
