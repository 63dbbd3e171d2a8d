"""Contact sheets: a picture of each class, made of some of its pictures, so that a person sees what a network will be shown.

Thumbnails keep their shape on a neutral ground. Those of under half a tile are enlarged by whole steps, so that pixels stay pixels.
A picture that is there more than once is framed, one that cannot be read is a crossed-out tile.
"""

import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from provenet.checkup.duplicates import Duplicates
from provenet.checkup.examine import THUMBNAIL_PIXELS, Look
from provenet.checkup.facts import Facts

COLUMNS = 8
GAP = 14
LABEL_HEIGHT = 18
MARGIN = 24
CAPTION_HEIGHT = 66
FRAME = 3
LARGEST_NAME_BYTES = 80  # of a file's name, without number and ending; file systems take 255

GROUND, TILE, TEXT, QUIET = (52, 54, 58), (68, 70, 75), (242, 242, 242), (176, 178, 184)
AMBER, RED = (245, 176, 65), (255, 99, 92)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def name_sheets(facts: Facts) -> dict[str, str]:
    """Class -> file name of its sheet, for classes that have pictures: numbered, and fit for any file system."""
    digits = max(2, len(str(len(facts.classes))))
    numbered = [(f"{number:0{digits}}", label) for number, label in enumerate(facts.classes, start=1)]
    return {label: f"{number}-{plain_name(label)}.jpg" for number, label in numbered if facts.of_class(label)}


def plain_name(name: str) -> str:
    """Letters, digits, dots and dashes of a name, of at most LARGEST_NAME_BYTES in UTF-8.

    >>> plain_name("T-shirt/top"), plain_name("猫 cats' 🐈"), plain_name("../..")
    ('T-shirt-top', '猫-cats', 'unnamed')
    """
    plain = re.sub(r"[^\w.-]+", "-", unicodedata.normalize("NFC", name))
    return plain.encode()[:LARGEST_NAME_BYTES].decode(errors="ignore").strip("-.") or "unnamed"


def draw_sheet(facts: Facts, label: str, shown: Sequence[Look], duplicates: Mapping[bytes, Duplicates]) -> bytes:
    """One class as a JPEG. `shown` are its pictures with thumbnails; `duplicates` are the groups by their pixels' digest."""
    rows = -(-len(shown) // COLUMNS)
    width = 2 * MARGIN + COLUMNS * THUMBNAIL_PIXELS + (COLUMNS - 1) * GAP
    height = CAPTION_HEIGHT + MARGIN + rows * (THUMBNAIL_PIXELS + LABEL_HEIGHT) + (rows - 1) * GAP + MARGIN
    sheet = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(sheet)
    _draw_caption(draw, facts, label, shown, duplicates, width)
    for place, look in enumerate(shown):
        row, column = divmod(place, COLUMNS)
        left = MARGIN + column * (THUMBNAIL_PIXELS + GAP)
        top = CAPTION_HEIGHT + MARGIN + row * (THUMBNAIL_PIXELS + LABEL_HEIGHT + GAP)
        _draw_tile(sheet, draw, left, top, look, duplicates.get(look.digest) if look.digest else None)
    out = io.BytesIO()
    sheet.save(out, "JPEG", quality=90, subsampling=0)
    return out.getvalue()


def caption_name(label: str, number: int, font: Font) -> str:
    """The class's name where the font can draw it, else its number and what of it is ASCII: never silent boxes."""
    if all(character.isspace() or _can_draw(character, font) for character in label):
        return " ".join(label.split())
    ascii_part = unicodedata.normalize("NFKD", label).encode("ascii", "ignore").decode()
    kept = " ".join("".join(character if character.isprintable() else " " for character in ascii_part).split())
    return f"class {number:02} ({kept})" if kept else f"class {number:02}"


def _draw_caption(
    draw: ImageDraw.ImageDraw, facts: Facts, label: str, shown: Sequence[Look], duplicates: Mapping[bytes, Duplicates], width: int
) -> None:
    large, small = font_of(24), font_of(14)
    name = caption_name(label, facts.classes.index(label) + 1, large)
    draw.text((MARGIN, 20), cut_to(name, large, width - 2 * MARGIN), fill=TEXT, font=large)
    splits = [split for split in facts.splits if facts.pictures[label, split]]
    counts = ", ".join(
        f"{split} {facts.pictures[label, split]:,}{' (held out)' if split == 'val' and facts.held_out_from else ''}" for split in splits
    )
    words = f"{len(shown):,} of {facts.of_class(label):,} pictures: {counts}"
    if broken := sum(facts.unreadable[label, split] for split in splits):
        words += f"; {broken:,} cannot be read (crossed out)"
    draw.text((MARGIN, 54), words, fill=QUIET, font=small)
    legend = _legend(shown, duplicates)
    right = width - MARGIN
    for colour, meaning in reversed(legend):
        right -= round(small.getlength(meaning))
        draw.text((right, 54), meaning, fill=QUIET, font=small)
        draw.rectangle((right - 20, 55, right - 8, 67), outline=colour, width=FRAME)
        right -= 40


def _legend(shown: Sequence[Look], duplicates: Mapping[bytes, Duplicates]) -> list[tuple[tuple[int, int, int], str]]:
    colours = {_frame_colour(duplicates[look.digest]) for look in shown if look.digest and look.digest in duplicates}
    meanings = ((AMBER, "there twice"), (RED, "in another split or class too"))
    return [(colour, meaning) for colour, meaning in meanings if colour in colours]


def _draw_tile(sheet: Image.Image, draw: ImageDraw.ImageDraw, left: int, top: int, look: Look, group: Duplicates | None) -> None:
    right, bottom = left + THUMBNAIL_PIXELS, top + THUMBNAIL_PIXELS
    draw.rectangle((left, top, right - 1, bottom - 1), fill=TILE)
    font = font_of(12)
    if look.thumbnail is None:
        draw.line((left, top, right - 1, bottom - 1), fill=RED, width=2)
        draw.line((left, bottom - 1, right - 1, top), fill=RED, width=2)
        kind = look.kind or "not decoded"
        half = round(font.getlength(kind) / 2) + 5
        middle = (left + right) // 2, (top + bottom) // 2
        draw.rectangle((middle[0] - half, middle[1] - 10, middle[0] + half, middle[1] + 10), fill=TILE)
        draw.text(middle, kind, fill=TEXT, font=font, anchor="mm")
    else:
        small = _enlarged(Image.open(io.BytesIO(look.thumbnail)))
        sheet.paste(small, (left + (THUMBNAIL_PIXELS - small.width) // 2, top + (THUMBNAIL_PIXELS - small.height) // 2))
    if group:
        box = (left - FRAME - 1, top - FRAME - 1, right + FRAME, bottom + FRAME)
        draw.rectangle(box, outline=_frame_colour(group), width=FRAME)
    draw.text((left, bottom + 5), look.split, fill=QUIET, font=font)


def _enlarged(small: Image.Image) -> Image.Image:
    times = THUMBNAIL_PIXELS // max(small.size)
    return small.resize((small.width * times, small.height * times), Image.Resampling.NEAREST) if times > 1 else small


def _frame_colour(group: Duplicates) -> tuple[int, int, int]:
    return RED if len(group.splits) > 1 or len(group.labels) > 1 else AMBER


@cache
def font_of(size: int) -> Font:
    """The built-in font of that height in pixels."""
    return ImageFont.load_default(size)


@cache
def _can_draw(character: str, font: Font) -> bool:
    """Whether the font has the character: what it has not is drawn as the same box as what nobody has."""
    mask, missing = font.getmask(character), font.getmask("\U0010ffff")
    return (mask.size, bytes(mask)) != (missing.size, bytes(missing))


def cut_to(text: str, font: Font, width: int) -> str:
    """The beginning of a text that is at most so wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
