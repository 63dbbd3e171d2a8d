"""Many views of each picture, one answer: it is decoded once, its views stream through the network, and their scores are averaged.

Pictures are taken in groups. What is run together depends on the group alone, so neither threads nor processes change an answer, and
of the views of a group no more is in memory than a batch. Letters: G pictures of a group, K classes, B views of a batch, H W C pixels.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.canvases import Canvas, draw_canvas, resize_square
from provenet.data.loader import Share
from provenet.data.pictures import Pictures
from provenet.data.threads import in_order
from provenet.errors import ImageError, without_frames
from provenet.evaluation.evaluate import BATCH_SIZE, Run, check_numbers
from provenet.evaluation.views import View, Views
from provenet.preprocessing import Preprocessing

GROUP_SIZE = BATCH_SIZE
MOST_AHEAD = 8
"""Pictures that are decoded and wait, each with all its canvases."""
LEAST_PROBABILITY = torch.finfo(torch.float64).tiny


@dataclass(frozen=True, kw_only=True)
class Runners:
    """What runs the network: on windows of its own size [B, C, S, S] -> logits [B, K], and on maps [B, C, H, W] -> [B, K, h, w]."""

    windows: Run
    maps: Run


class Averaged(NamedTuple):
    """What was made of some pictures: their numbers [G], and the logarithms of their mean probabilities, float64 [G, K]."""

    samples: NDArray[np.int64]
    logits: Tensor


@dataclass
class Cost:
    """What it took so far."""

    pictures: int = 0
    passes: float = 0.0
    """Forward passes; one over a map counts as many as it is larger than the network's own window."""
    broken: dict[int, ImageError] = field(default_factory=dict)
    """Pictures that could not be decoded, which no answer is given for."""


class Drawn(NamedTuple):
    """One picture, decoded: its canvases, and its views with their weights."""

    canvases: dict[Canvas, NDArray[np.uint8]]
    views: Mapping[View, float]


def average_views(
    runners: Runners,
    pictures: Pictures,
    views: Views,
    preprocessing: Preprocessing,
    *,
    num_threads: int,
    device: torch.device | str = "cpu",
    share: Share | None = None,
    cost: Cost | None = None,
    skip_broken: bool = False,
) -> Iterator[Averaged]:
    """Every picture once, in order, group by group; several processes take groups in turn.

    A picture that cannot be decoded is an ImageError, or is passed over, if asked, and in `cost.broken`.
    """
    cost, share = cost or Cost(), share or Share()
    starts = range(share.rank * GROUP_SIZE, len(pictures), share.num_processes * GROUP_SIZE)
    order = [number for start in starts for number in range(start, min(start + GROUP_SIZE, len(pictures)))]

    def draw(number: int) -> Drawn | ImageError:
        try:
            picture = pictures.upright(number, preprocessing.channels)
        except ImageError as error:
            if not skip_broken:
                raise
            return without_frames(error)
        shown = views.of(*picture.size, preprocessing)
        return Drawn({canvas: draw_canvas(picture, canvas, preprocessing) for canvas in dict.fromkeys(v.canvas for v in shown)}, shown)

    with in_order(draw, order, num_threads, most_ahead=MOST_AHEAD) as drawn:
        for start in starts:
            numbers = np.arange(start, min(start + GROUP_SIZE, len(pictures)))
            group = _Group(runners, preprocessing, torch.device(device))
            sound = []
            for number in numbers.tolist():
                found = next(drawn)
                if isinstance(found, ImageError):
                    cost.broken[number] = found
                else:
                    sound.append(number)
                    group.add(found)
            cost.pictures += len(sound)
            cost.passes += group.num_pixels / preprocessing.size**2
            if sound:
                yield Averaged(np.array(sound, np.int64), group.finish())


class _Group:
    """The pictures of a group: views are collected until they are a batch, run, and forgotten."""

    def __init__(self, runners: Runners, preprocessing: Preprocessing, device: torch.device) -> None:
        self.runners = runners
        self.preprocessing = preprocessing
        self.device = device
        self.num_pixels = 0
        self._weights: list[float] = []
        self._sums: Tensor | None = None  # of probabilities times weights, float64 [GROUP_SIZE, K]
        self._waiting: dict[tuple[bool, int, int], list[tuple[int, float, NDArray[np.uint8]]]] = {}

    def add(self, drawn: Drawn) -> None:
        """The views of the next picture."""
        row = len(self._weights)
        self._weights.append(sum(drawn.views.values()))
        for view, weight in drawn.views.items():
            pixels = cut_view(drawn.canvases[view.canvas], view, self.preprocessing)
            height, width, _ = pixels.shape
            self.num_pixels += height * width
            waiting = self._waiting.setdefault((view.is_dense, height, width), [])
            waiting.append((row, weight, pixels))
            if len(waiting) >= max(1, BATCH_SIZE * self.preprocessing.size**2 // (height * width)):
                self._run(view.is_dense, waiting)
                waiting.clear()

    def finish(self) -> Tensor:
        """The logarithms of the mean probabilities of all that were added, float64 [G, K]."""
        for (is_dense, _, _), waiting in self._waiting.items():
            if waiting:
                self._run(is_dense, waiting)
        self._waiting.clear()
        assert self._sums is not None  # each picture has a view
        means = self._sums[: len(self._weights)] / torch.tensor(self._weights, dtype=torch.float64)[:, None]
        return means.clamp_min(LEAST_PROBABILITY).log()

    def _run(self, is_dense: bool, waiting: Iterable[tuple[int, float, NDArray[np.uint8]]]) -> None:
        rows, weights, pixels = zip(*waiting, strict=True)
        images = self.preprocessing.normalise(torch.from_numpy(np.stack(pixels)).to(self.device))
        with torch.inference_mode():
            logits = self.runners.maps(images).float().mean((2, 3)) if is_dense else self.runners.windows(images).float()
        check_numbers(logits)
        probabilities = logits.cpu().double().softmax(1)
        if self._sums is None:
            self._sums = probabilities.new_zeros(GROUP_SIZE, probabilities.shape[1])
        self._sums.index_add_(0, torch.tensor(rows), probabilities * torch.tensor(weights, dtype=torch.float64)[:, None])


def cut_view(canvas: NDArray[np.uint8], view: View, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """What a view shows of its canvas: uint8 [S, S, C], or of a dense one [H, W, C]."""
    part = view.part
    pixels = canvas[part.top : part.bottom, part.left : part.right]
    if not view.is_dense and len(pixels) != preprocessing.size:
        pixels = resize_square(np.ascontiguousarray(pixels), preprocessing.size, preprocessing)
    return pixels[:, ::-1] if view.is_mirrored else pixels
