"""A sketch of a picture: what is left of it after a change that a person would hardly notice, in a few hundred bytes.

The whole picture, its shape left out, becomes 16x16 pixels of brightness and 4x4 of each colour difference. JPEG noise and the size of the
picture do not reach that far down. Sketches are compared in `alike.py`.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16
COLOUR_SIDE = 4
SKETCH_BYTES = SIDE * SIDE + 2 * COLOUR_SIDE * COLOUR_SIDE
REDUCING_GAP = 3.0  # with less, the pixels of a picture and of its mirror image fall into other places of the sketch


def sketch(picture: Image.Image) -> bytes:
    """SKETCH_BYTES of an upright RGB picture: its brightness in rows, then Cb and Cr."""
    small = picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=REDUCING_GAP)
    brightness, *colours = small.convert("YCbCr").split()
    smaller = [colour.resize((COLOUR_SIDE, COLOUR_SIDE), Image.Resampling.BOX).tobytes() for colour in colours]
    return b"".join([brightness.tobytes(), *smaller])


def open_sketches(sketches: list[bytes]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Brightness [N, 256] and colours [N, 2, 4, 4] of N sketches."""
    pixels = np.frombuffer(b"".join(sketches), dtype=np.uint8).reshape(-1, SKETCH_BYTES)
    return pixels[:, : SIDE * SIDE], pixels[:, SIDE * SIDE :].reshape(-1, 2, COLOUR_SIDE, COLOUR_SIDE)
