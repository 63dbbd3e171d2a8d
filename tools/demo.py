"""The product in about a minute: train LeNet-5 on real pictures, evaluate it, and let it name some it has never seen."""

import json
import subprocess
import sys
from pathlib import Path

from provenet.data.pictures import PixelArray
from provenet.data.sources import open_data

PICTURES = 6


def main() -> None:
    """Run the commands a person would type, each shown before it runs."""
    run_folder = Path(json.loads(provenet("train", "fashion-mini", "--model", "lenet5", "--json", is_shown=False))["folder"])
    provenet("evaluate", str(run_folder), "fashion-mini")
    provenet("predict", str(run_folder), *map(str, write_pictures(run_folder / "pictures")))
    print(f"\nMade in {run_folder}:")
    for path in sorted(run_folder.rglob("*")):
        if path.is_file():
            print(f"  {path.relative_to(run_folder)}  {path.stat().st_size:,} bytes")
    print(f"Try it on a picture of your own: provenet predict {run_folder} PICTURE")


def provenet(*words: str, is_shown: bool = True) -> str:
    """Run one command and return what it printed."""
    print("\n$ provenet", *words, flush=True)
    done = subprocess.run([sys.executable, "-m", "provenet", *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    if is_shown:
        print(done.stdout, end="", flush=True)
    return done.stdout


def write_pictures(folder: Path) -> list[Path]:
    """A few test pictures of different classes as PNG files, each named by what it truly is."""
    images = open_data("fashion-mini").splits["test"]
    assert isinstance(images.pictures, PixelArray)
    folder.mkdir()
    paths = []
    for label in range(PICTURES):
        index = int((images.labels == label).argmax())
        paths.append(folder / f"{images.classes[label].replace('/', '-')}.png")
        images.pictures.picture(index).save(paths[-1])
    return paths


if __name__ == "__main__":
    main()
