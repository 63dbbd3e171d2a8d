"""A picture as the bytes that go into a shard: its file as it is, or a smaller one; and the ending that tells its format.

Every picture is decoded once on the way, so that a shard holds none that is broken.
"""

import io
from typing import NamedTuple

from PIL import Image

from provenet.data.decode import FORMATS, decode_header, decode_picture
from provenet.data.pictures import EncodedPictures, Pictures, PixelArray
from provenet.errors import ImageError

ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png", "BMP": "bmp", "GIF": "gif", "WEBP": "webp", "TIFF": "tif", "PPM": "ppm"}
JPEG_QUALITY = 92


class Packed(NamedTuple):
    """One picture, ready for a shard."""

    ending: str
    content: bytes


def pack_picture(pictures: Pictures, index: int, longest_side: int | None) -> Packed:
    """The file of one picture as it is; of an array a PNG. Raises ImageError for one that cannot be decoded.

    With `longest_side`, in pixels, a longer one is decoded exactly, reduced (Lanczos) and written as JPEG of quality 92 without
    subsampled colours, or, if its format is one that loses nothing, as PNG.
    """
    if isinstance(pictures, EncodedPictures):
        where, content = pictures.where(index), pictures.content(index)
        header = decode_header(content)
        channels = 1 if header and header.is_grey else 3
        picture = decode_picture(content, channels, where=where)
        with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
            file_format = opened.format or ""
        is_lossy = file_format in ("JPEG", "MPO") or (file_format == "WEBP" and content[12:16] != b"VP8L")
        if longest_side is None or max(picture.size) <= longest_side:
            return Packed(ENDINGS[file_format], content)
    elif isinstance(pictures, PixelArray):
        picture, is_lossy = pictures.picture(index), False
    else:
        raise ImageError(f"{pictures.where(index)}: expected a picture in a file or an array, found {type(pictures).__name__}", "damaged")
    if longest_side is not None and max(picture.size) > longest_side:
        factor = longest_side / max(picture.size)
        width, height = (max(1, round(side * factor)) for side in picture.size)
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    if is_lossy:
        picture.save(out, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return Packed("jpg", out.getvalue())
    picture.save(out, "PNG")
    return Packed("png", out.getvalue())
