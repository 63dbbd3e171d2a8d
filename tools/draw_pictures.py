"""Draw the pictures that the documents show: `python tools/draw_pictures.py`. A test compares them with what is drawn today."""

from pathlib import Path

from provenet import draw

FOLDER = Path(__file__).parent.parent / "docs/pictures"
NAMES = ("resnet50",)


def main() -> None:
    """Write each."""
    FOLDER.mkdir(exist_ok=True)
    for name in NAMES:
        draw(name).save(FOLDER / f"{name}.svg")
        print(f"docs/pictures/{name}.svg written")


if __name__ == "__main__":
    main()
