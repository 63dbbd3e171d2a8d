"""What distortions cost: milliseconds for a batch of 16 windows of 224 x 224 x 3, the least of seven. Run with OMP_NUM_THREADS=1."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from provenet.data.distort import distort
from provenet.data.distortion import Distortion
from provenet.data.mixing import mix
from provenet.data.random import Places
from provenet.preprocessing import IMAGENET_PREPROCESSING

COLOUR = Distortion(brightness=0.3, contrast=0.3, saturation=0.3, hue_degrees=20.0, pca_colour=0.1)
TURNED = Distortion(rotation_degrees=15.0, scale_fraction=0.1, shear_degrees=5.0)
CASES = {
    "normalising alone": Distortion(),
    "principal components": Distortion(pca_colour=0.1),
    "all of colour": COLOUR,
    "turned, scaled, slanted": TURNED,
    "warped": Distortion(warp_pixels=5.0),
    "noise": Distortion(noise=0.05),
    "a quarter erased": Distortion(erase=0.25),
    "everything but noise": replace(COLOUR, rotation_degrees=15.0, scale_fraction=0.1, shear_degrees=5.0, warp_pixels=5.0, erase=0.25),
}


def least_ms(work: Callable[[], object]) -> float:
    """The least of seven runs, after one that does not count."""
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return 1000 * min(seconds[1:])


def main() -> None:
    """Print a line for each."""
    windows = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (16, 224, 224, 3), dtype=np.uint8))
    places, labels = Places(0, np.zeros(16, np.int64), np.arange(16)), torch.arange(16) % 10
    for name, distortion in CASES.items():
        print(f"{name:24}{least_ms(lambda d=distortion: distort(windows, d, places, IMAGENET_PREPROCESSING)):7.1f} ms")  # type: ignore[misc]
    images = IMAGENET_PREPROCESSING.normalise(windows)
    for name, mixed in (("mixup", Distortion(mixup=0.2)), ("CutMix", Distortion(cutmix=1.0)), ("both", Distortion(mixup=0.2, cutmix=1.0))):
        work = lambda d=mixed: mix(images, labels, images.roll(-1, 0), labels.roll(-1), d, places, 10)  # noqa: E731
        print(f"{name + ', in addition':24}{least_ms(work):7.1f} ms")


if __name__ == "__main__":
    main()
