"""The mean of training pictures pixel by pixel, as the papers of AlexNet (section 2) and ResNet (section 3.4) subtract it.

Kept in whole 256ths of a grey level, so that it is the same on every machine and in every file. Letters: S side of the window, C channels.
"""

import base64
import hashlib
import zlib
from dataclasses import dataclass, field
from typing import Self

import numpy as np
from numpy.typing import NDArray

from provenet.errors import SettingsError

LARGEST_SIDE_PIXELS = 512
"""So that it fits into a settings file."""
PARTS = 256
"""Of a grey level."""
WHERE = "preprocessing.mean_image"
ELSE = "put the right one there, or none for the mean by channel"


@dataclass(frozen=True)
class MeanImage:
    """A square of means of the window that a network sees, grey or RGB; equal to another by content."""

    side: int
    """In pixels."""
    channels: int
    content: bytes = field(repr=False)
    """256ths of a grey level, 0 to 255 * 256: uint16 [S, S, C], little-endian."""

    def __post_init__(self) -> None:
        num_bytes = _num_bytes(self.side, self.channels)
        if len(self.content) != num_bytes:
            found = f"{len(self.content):,}" if len(self.content) < num_bytes else "more"
            shape = f"{self.side}x{self.side}x{self.channels}"
            raise SettingsError(f"{WHERE}: expected {shape} means, {num_bytes:,} bytes, found {found}; {ELSE}")
        if self._parts().max() > 255 * PARTS:
            raise SettingsError(f"{WHERE}: expected means of 0 to 255 grey levels, found larger ones; {ELSE}")

    @classmethod
    def from_sums(cls, sums: NDArray[np.int64], count: int) -> Self:
        """From the sums [S, S, C] of `count` windows of 0 to 255: whole numbers, rounded once, to the nearest 256th."""
        parts = (2 * PARTS * sums + count) // (2 * count)
        return cls(sums.shape[0], sums.shape[2], parts.astype("<u2").tobytes())

    @classmethod
    def from_text(cls, text: object, side: int, channels: int) -> Self:
        """The inverse of `to_text`. Takes no more memory than an image of this shape, whatever was packed into the text."""
        num_bytes = _num_bytes(side, channels)
        longest = 4 * (num_bytes + num_bytes // 64 + 64) // 3  # of zlib at its worst, as base64
        if not isinstance(text, str) or len(text) > longest:
            found = "more" if isinstance(text, str) else "no text"
            shape = f"{side}x{side}x{channels}"
            raise SettingsError(f"{WHERE}: expected {shape} means in at most {longest:,} characters, found {found}; {ELSE}")
        unpacking = zlib.decompressobj()
        try:
            content = unpacking.decompress(base64.b64decode(text, validate=True), num_bytes + 1)
        except (ValueError, zlib.error) as error:
            raise SettingsError(f"{WHERE}: expected means as base64 of zlib, found something else ({error}); {ELSE}") from error
        if len(content) <= num_bytes and (not unpacking.eof or unpacking.unused_data):
            found = "more after" if unpacking.eof else "only a part of"
            raise SettingsError(f"{WHERE}: expected means as base64 of zlib, found {found} them; {ELSE}")
        return cls(side, channels, content)

    def to_text(self) -> str:
        """One word of plain text for settings.toml: base64 of zlib of `content`."""
        return base64.b64encode(zlib.compress(self.content, 9)).decode()

    def fingerprint(self) -> str:
        """A short word to know it by, where the whole would say nothing to a reader."""
        return f"{self.side}x{self.side}x{self.channels} {hashlib.sha256(self.content).hexdigest()[:16]}"

    def levels(self) -> NDArray[np.float64]:
        """Grey levels of 0 to 255, exact: [S, S, C]."""
        return self._parts() / PARTS

    def with_channels(self, channels: int) -> "MeanImage":
        """Averaged over channels and repeated, rounded as `from_sums` rounds."""
        parts = self._parts().astype(np.int64).sum(2, keepdims=True)
        grey = (2 * parts + self.channels) // (2 * self.channels)
        return MeanImage(self.side, channels, np.repeat(grey, channels, axis=2).astype("<u2").tobytes())

    def _parts(self) -> NDArray[np.uint16]:
        return np.frombuffer(self.content, "<u2").reshape(self.side, self.side, self.channels)


def check_side(side: int) -> None:
    """Raises SettingsError for a window that is too large."""
    if not 1 <= side <= LARGEST_SIDE_PIXELS:
        raise SettingsError(
            f"{WHERE}: expected a window of 1 to {LARGEST_SIDE_PIXELS} pixels, found {side}; choose a smaller --size or --mean channel"
        )


def _num_bytes(side: int, channels: int) -> int:
    check_side(side)
    if channels not in (1, 3):
        raise SettingsError(f"{WHERE}: expected 1 (grey) or 3 (colour) channels, found {channels}")
    return 2 * side * side * channels
