"""Write docs/features.md from the networks as they are built: `make docs`. A test compares the page with them."""

from pathlib import Path

from provenet.models.catalog import NETWORKS, build_on_meta
from provenet.transfer.store import RECORD

PAGE = Path(__file__).parent.parent / "docs/features.md"
FLOAT32_BYTES = 4

HEAD = f"""# What features weigh

Written from the networks as they are built (`make docs`): bytes on disk of a picture's features in float32, by network and cut. The cut is
the stage after which the frozen part ends: the last before the head, in bold, or the one that `--ends-after` names, of whose maps the
means are kept, as the new head reads nothing else. `--feature-type float16` halves a figure; `--views 4` takes it five times. Beside each
row lies a record of {RECORD.itemsize} bytes: which picture, which view, a check sum. A thousand pictures take a thousand times as much and
nothing else, whatever their size.

| networks | bytes a picture, by cut |
|---|---|
"""


def write_page() -> str:
    """The whole page."""
    rows: dict[str, list[str]] = {}
    for name in NETWORKS:
        rows.setdefault(", ".join(_cuts(name)), []).append(f"`{name}`")
    return HEAD + "".join(f"| {', '.join(names)} | {cuts} |\n" for cuts, names in rows.items())


def _cuts(name: str) -> list[str]:
    """A cell for each stage but the head; of maps [C, H, W] their means [C] are kept."""
    shapes = build_on_meta(name, init="trainable").stage_shapes()
    cells = [f"{cut} {shape[0] * FLOAT32_BYTES:,}" for cut, shape in shapes.items()][:-1]
    return [*cells[:-1], f"**{cells[-1]}**"]


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
    print(f"{PAGE.relative_to(Path.cwd())} written")
