"""Where pictures come from: encoded files, wherever their bytes are, or one array in memory. Both give the same squares of uint8.

Letters: N pictures, R side of the stored square, C channels, H W pixels.
"""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from provenet.data.boxes import Box, central_box, choose_reduction, needed_part, place_on_grid
from provenet.data.crops import cut, cut_square
from provenet.data.decode import (
    MOST_ELONGATED,
    Header,
    convert_picture,
    decode_header,
    decode_picture,
    read_content,
    read_header,
    to_square,
)
from provenet.data.jpeg import Jpeg, UnusualJpegError, is_jpeg
from provenet.data.paths import Paths
from provenet.errors import ImageError, show_path
from provenet.preprocessing import Preprocessing

FILES_ASKED = 64
"""Files, evenly spread over a set, whose headers are read to tell its colour and size."""

ChooseBox = Callable[[int, int], Box]
"""Width and height of an upright picture -> the part of it to show."""


class Pictures(ABC):
    """A sequence of pictures; `len` says how many."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def upright(self, index: int, channels: int) -> Image.Image:
        """One whole picture, exactly, upright, of mode L (1 channel) or RGB (3). Raises ImageError for one that cannot be decoded."""

    def square(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """The stored square of one picture, exactly: uint8 [R, R, C]. Raises ImageError for one that cannot be decoded."""
        return to_square(self.upright(index, preprocessing.channels), preprocessing)

    def quick_square(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """Nearly the same: uint8 [R, R, C]; a JPEG is decoded no larger than that needs. Raises ImageError."""
        return self.square(index, preprocessing)

    @abstractmethod
    def crop(self, index: int, choose: ChooseBox, side_pixels: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """A part of one picture, quickly: uint8 [side, side, C]; a JPEG is decoded no larger than that needs. Raises ImageError."""

    @abstractmethod
    def rgb(self, index: int, *, at_least_pixels: int | None = None) -> Image.Image:
        """One whole picture, upright, of mode RGB. Raises ImageError for one that cannot be decoded.

        With `at_least_pixels` it may come smaller, its longer side still that long, where that is faster.
        """

    @abstractmethod
    def file(self, index: int) -> Path | None:
        """The file one picture is in, where each has its own."""

    @abstractmethod
    def where(self, index: int) -> str:
        """What to call one picture in a message or a table."""

    @abstractmethod
    def keys(self) -> list[str]:
        """A name for each picture that stays when others come and go; decides the split."""

    @abstractmethod
    def select(self, indices: NDArray[np.int64]) -> "Pictures":
        """Some of them, in that order."""

    @abstractmethod
    def identities(self) -> NDArray[np.uint64]:
        """A number for each picture that changes with it: of files by name and size, of an array by place and every pixel."""

    @abstractmethod
    def content_key(self, index: int) -> int:
        """A number of 64 bits for what is in one picture's file, or of its pixels in memory: another one after any change.

        Nothing is decoded. Raises ImageError where the file cannot be read. Called by threads.
        """

    def blocks(self) -> tuple[int, ...] | None:
        """How many lie together in each shard, in their order; None where each can be read alone just as fast."""
        return None

    @abstractmethod
    def native_channels(self) -> int:
        """1 if the pictures are grey, else 3; of files some, evenly spread, decide."""

    @abstractmethod
    def native_side(self) -> int | None:
        """The side in pixels, where all are squares of one size; of files some decide."""

    @abstractmethod
    def largest_side(self) -> int | None:
        """The longest side of any, in pixels, where it can be known; of files some decide."""


class EncodedPictures(Pictures):
    """Pictures that are bytes before they are pixels: JPEG, PNG and so on, in files of their own or inside larger ones."""

    @abstractmethod
    def content(self, index: int) -> bytes:
        """The bytes of one picture's file, whole. Raises ImageError with one line that says where it was expected. Called by threads."""

    @abstractmethod
    def size_bytes(self, index: int) -> int:
        """How many those are, without reading them; -1 where it is gone or may not be read."""

    def header(self, index: int) -> Header | None:
        """What a file says of its picture, without decoding it; None where it says nothing."""
        try:
            return decode_header(self.content(index))
        except ImageError:
            return None  # it is named when it is decoded

    def content_key(self, index: int) -> int:
        return content_number(self.content(index))

    def upright(self, index: int, channels: int) -> Image.Image:
        return decode_picture(self.content(index), channels, where=self.where(index))

    def quick_square(self, index: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        content = self.content(index)
        if is_jpeg(content):
            try:
                jpeg = Jpeg(content)
                if max(jpeg.width, jpeg.height) > MOST_ELONGATED * min(jpeg.width, jpeg.height):
                    raise UnusualJpegError
                reduction = choose_reduction(central_box(jpeg.width, jpeg.height, preprocessing), preprocessing.resize)
                pixels = jpeg.decode(preprocessing.channels, reduction)
                return cut_square(pixels, jpeg.width, jpeg.height, preprocessing, reduction=reduction)
            except UnusualJpegError:
                pass
        return to_square(decode_picture(content, preprocessing.channels, where=self.where(index)), preprocessing)

    def crop(self, index: int, choose: ChooseBox, side_pixels: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        content = self.content(index)
        if is_jpeg(content):
            try:
                jpeg = Jpeg(content)
                box = choose(jpeg.width, jpeg.height)
                reduction = choose_reduction(box, side_pixels)
                box = place_on_grid(box, reduction)
                pixels = jpeg.decode(preprocessing.channels, reduction, needed_part(box, side_pixels, reduction))
                return cut(pixels, box, side_pixels, preprocessing.interpolation, reduction=reduction)
            except UnusualJpegError:
                pass
        picture = decode_picture(content, preprocessing.channels, where=self.where(index))
        return _cut_picture(picture, choose, side_pixels, preprocessing)

    def rgb(self, index: int, *, at_least_pixels: int | None = None) -> Image.Image:
        return decode_picture(self.content(index), 3, where=self.where(index), at_least_pixels=at_least_pixels)

    def file(self, index: int) -> Path | None:
        del index
        return None

    def identities(self) -> NDArray[np.uint64]:
        named = enumerate(self.keys())
        return np.fromiter((content_number(f"{key}\0{self.size_bytes(place)}".encode()) for place, key in named), np.uint64, len(self))

    def native_channels(self) -> int:
        return 1 if self._headers and all(header.is_grey for header in self._headers) else 3

    def native_side(self) -> int | None:
        sides = {side for header in self._headers for side in (header.width, header.height)}
        return sides.pop() if len(sides) == 1 else None

    def largest_side(self) -> int | None:
        return max((side for header in self._headers for side in (header.width, header.height)), default=None)

    @cached_property
    def _headers(self) -> list[Header]:
        spread = np.unique(np.linspace(0, len(self) - 1, min(len(self), FILES_ASKED)).astype(np.int64))
        return [header for index in spread if (header := self.header(int(index)))]


class PictureFiles(EncodedPictures):
    """Pictures in files below a folder; `paths` are relative to `root`."""

    def __init__(self, root: Path, paths: Sequence[str]) -> None:
        self.root = root
        self.paths = Paths.of(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def content(self, index: int) -> bytes:
        return read_content(self.file(index))

    def size_bytes(self, index: int) -> int:
        try:
            return self.file(index).stat().st_size
        except (OSError, ValueError):
            return -1

    def header(self, index: int) -> Header | None:
        return read_header(self.file(index))

    def file(self, index: int) -> Path:
        return self.root / self.paths[index]

    def where(self, index: int) -> str:
        return show_path(self.root / self.paths[index])

    def keys(self) -> list[str]:
        return [show_path(path).replace(os.sep, "/") for path in self.paths]

    def select(self, indices: NDArray[np.int64]) -> "PictureFiles":
        return PictureFiles(self.root, self.paths.select(indices))


class PixelArray(Pictures):
    """Pictures in memory: uint8 [N, H, W, C]."""

    def __init__(self, pixels: NDArray[np.uint8], name: str, numbers: NDArray[np.int64] | None = None) -> None:
        if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or (pixels.ndim == 4 and pixels.shape[3] not in (1, 3)):
            raise ImageError(f"{name}: expected uint8 pixels [N, H, W] or [N, H, W, 1 or 3], found {pixels.dtype} {list(pixels.shape)}")
        self.pixels = pixels if pixels.ndim == 4 else pixels[..., None]
        self.name = name
        self.numbers = np.arange(len(pixels)) if numbers is None else numbers

    def __len__(self) -> int:
        return len(self.pixels)

    def upright(self, index: int, channels: int) -> Image.Image:
        return convert_picture(self.picture(index), channels)

    def crop(self, index: int, choose: ChooseBox, side_pixels: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        return _cut_picture(self.upright(index, preprocessing.channels), choose, side_pixels, preprocessing)

    def rgb(self, index: int, *, at_least_pixels: int | None = None) -> Image.Image:
        del at_least_pixels
        return self.picture(index).convert("RGB")

    def file(self, index: int) -> None:
        del index

    def picture(self, index: int) -> Image.Image:
        """One of them as Pillow has it."""
        pixels = self.pixels[index]
        return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)

    def where(self, index: int) -> str:
        return f"{self.name}[{self.numbers[index]}]"

    def keys(self) -> list[str]:
        return [str(number) for number in self.numbers]

    def select(self, indices: NDArray[np.int64]) -> "PixelArray":
        return PixelArray(self.pixels[indices], self.name, self.numbers[indices])

    def identities(self) -> NDArray[np.uint64]:
        numbered = zip(self.numbers.tolist(), self.pixels, strict=True)
        return np.array([content_number(f"{number}\0".encode() + pixels.tobytes()) for number, pixels in numbered], dtype=np.uint64)

    def content_key(self, index: int) -> int:
        pixels = self.pixels[index]
        return content_number(f"{pixels.shape}".encode() + pixels.tobytes())

    def native_channels(self) -> int:
        return int(self.pixels.shape[-1])

    def native_side(self) -> int | None:
        height, width = self.pixels.shape[1:3]
        return int(height) if height == width else None

    def largest_side(self) -> int | None:
        return int(max(self.pixels.shape[1:3]))


def _cut_picture(picture: Image.Image, choose: ChooseBox, side_pixels: int, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    pixels = np.asarray(picture, dtype=np.uint8).reshape(picture.height, picture.width, preprocessing.channels)
    box = place_on_grid(choose(picture.width, picture.height), 1)
    return cut(pixels, box, side_pixels, preprocessing.interpolation)


def content_number(content: bytes) -> int:
    """A number of 64 bits that two different contents do not share, for all practical purposes."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")
