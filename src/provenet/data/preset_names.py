"""The distortions that have a name, a line each; what they are is in presets.py. Imports no torch."""

from typing import Literal

Augment = Literal[
    "none", "light", "standard", "strong", "modern", "lenet5", "alexnet", "zfnet", "nin", "vgg", "googlenet", "resnet", "cifar"
]

PRESET_NAMES: dict[str, str] = {
    "none": "the pictures as they are",
    "light": "a small crop or move, mirror, a touch of light",
    "standard": "crops, mirror, light and colour: for most photographs",
    "strong": "crops, turns, light and colour, parts erased: for few pictures",
    "modern": "crops, mirror, mixup or CutMix, parts erased",
    "lenet5": "1998: moved, scaled, squeezed, slanted",
    "alexnet": "2012: window of the square, mirror, principal components of colour",
    "zfnet": "2013: window of the square, mirror",
    "nin": "2013: moved, mirror",
    "vgg": "2014: scale 256 to 512, window, mirror, colour as alexnet",
    "googlenet": "2014: 8 to 100 percent of the area, mirror, light and colour",
    "resnet": "2015, ImageNet: scale 256 to 480, window, mirror, colour as alexnet",
    "cifar": "2015, CIFAR: moved by up to 4 pixels, mirror",
}


def list_presets() -> str:
    """All on one line."""
    return "; ".join(f"{name} ({about})" for name, about in PRESET_NAMES.items()) + "."
