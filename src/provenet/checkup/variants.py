"""A sheet of what a network is shown in training: a picture a row, as evaluation sees it and then in some of its distortions."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from provenet.checkup.sheets import CAPTION_HEIGHT, GAP, GROUND, LABEL_HEIGHT, MARGIN, QUIET, TEXT, TILE, caption_name, cut_to, font_of

TILE_PIXELS = 144
STEP = 20
"""Space between the first column and the others."""


@dataclass(frozen=True)
class Variant:
    """One image, and the parts of the classes in it where it is mixed: (class number, part), the own class first."""

    image: Image.Image
    parts: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True)
class VariantRow:
    """A picture of a class (by its number) and its variants."""

    label: int
    plain: Image.Image
    variants: Sequence[Variant]


def draw_variants(title: str, subtitle: str, classes: Sequence[str], rows: Sequence[VariantRow]) -> bytes:
    """The sheet as a PNG."""
    columns = max(len(row.variants) for row in rows)
    width = 2 * MARGIN + (columns + 1) * TILE_PIXELS + columns * GAP + STEP
    height = CAPTION_HEIGHT + MARGIN + len(rows) * (TILE_PIXELS + LABEL_HEIGHT + GAP) - GAP + MARGIN
    sheet = Image.new("RGB", (width, height), GROUND)
    draw = ImageDraw.Draw(sheet)
    large, small, tiny = font_of(24), font_of(14), font_of(12)
    draw.text((MARGIN, 20), cut_to(title, large, width - 2 * MARGIN), fill=TEXT, font=large)
    draw.text((MARGIN, 54), cut_to(subtitle, small, width - 2 * MARGIN), fill=QUIET, font=small)
    for number, row in enumerate(rows):
        top = CAPTION_HEIGHT + MARGIN + number * (TILE_PIXELS + LABEL_HEIGHT + GAP)
        _paste(sheet, draw, row.plain, MARGIN, top)
        name = caption_name(classes[row.label], row.label + 1, small)
        draw.text((MARGIN, top + TILE_PIXELS + 4), cut_to(name, small, TILE_PIXELS), fill=TEXT, font=small)
        for column, variant in enumerate(row.variants, start=1):
            left = MARGIN + column * (TILE_PIXELS + GAP) + STEP
            _paste(sheet, draw, variant.image, left, top)
            words = " + ".join(f"{part:.0%} {caption_name(classes[label], label + 1, tiny)}" for label, part in variant.parts)
            draw.text((left, top + TILE_PIXELS + 5), cut_to(words, tiny, TILE_PIXELS), fill=QUIET, font=tiny)
    out = io.BytesIO()
    sheet.save(out, "PNG")
    return out.getvalue()


def _paste(sheet: Image.Image, draw: ImageDraw.ImageDraw, image: Image.Image, left: int, top: int) -> None:
    """Small images enlarged by whole steps, so that pixels stay pixels; large ones reduced."""
    draw.rectangle((left, top, left + TILE_PIXELS - 1, top + TILE_PIXELS - 1), fill=TILE)
    times = TILE_PIXELS // max(image.size)
    if times >= 1:
        shown = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    else:
        shown = image.resize((TILE_PIXELS, TILE_PIXELS), Image.Resampling.LANCZOS)
    sheet.paste(shown.convert("RGB"), (left + (TILE_PIXELS - shown.width) // 2, top + (TILE_PIXELS - shown.height) // 2))
