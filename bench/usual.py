"""The other side of the comparisons: data sets written item by item, as the usual examples are. Imports nothing of provenet.

Letters: S side of the training image.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
AREA, ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)
TRIES = 10


class UsualPhotographs(Dataset[tuple[Tensor, int]]):
    """Opened by Pillow, a random part resized, mirrored by chance, made a tensor, normalised: float32 [3, S, S] and the label."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], side_pixels: int = 224) -> None:
        self.paths = [str(path) for path in paths]
        self.labels = list(labels)
        self.side_pixels = side_pixels
        self.mean, self.std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.paths[index]) as opened:
            picture = opened.convert("RGB")
        left, top, width, height = draw_usual_box(picture.width, picture.height)
        part = picture.crop((left, top, left + width, top + height))
        part = part.resize((self.side_pixels, self.side_pixels), Image.Resampling.BILINEAR)
        if torch.rand(1).item() < 0.5:
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = torch.from_numpy(np.array(part)).permute(2, 0, 1).contiguous().float().div(255)
        return image.sub_(self.mean).div_(self.std), self.labels[index]


class UsualGreyArray(Dataset[tuple[Tensor, int]]):
    """Pixels in memory, uint8 [N, S, S], made a tensor and normalised one by one: float32 [1, S, S] and the label."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[np.int64], mean: float, std: float) -> None:
        self.pixels, self.labels, self.mean, self.std = pixels, labels, mean, std

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self.pixels[index])[None].float().div(255)
        return image.sub_(self.mean).div_(self.std), int(self.labels[index])


def draw_usual_box(width: int, height: int) -> tuple[int, int, int, int]:
    """Left, top, width, height in whole pixels: area and aspect are drawn until a box fits, ten times, else the largest in the middle."""
    for _ in range(TRIES):
        area = width * height * torch.empty(1).uniform_(*AREA).item()
        aspect = math.exp(torch.empty(1).uniform_(math.log(ASPECT[0]), math.log(ASPECT[1])).item())
        box_width, box_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < box_width <= width and 0 < box_height <= height:
            left = int(torch.randint(0, width - box_width + 1, ()).item())
            return left, int(torch.randint(0, height - box_height + 1, ()).item()), box_width, box_height
    box_width, box_height = min(width, round(height * ASPECT[1])), min(height, round(width / ASPECT[0]))
    return (width - box_width) // 2, (height - box_height) // 2, box_width, box_height
