"""What a network makes of pictures, shown in some way: its scores of each, what they are summed up in, and what they cost."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from provenet.data.canvases import draw_canvas
from provenet.data.index import ImageSet
from provenet.data.loader import Loader
from provenet.engines.any_size import open_for_any_size
from provenet.engines.choose import open_engine
from provenet.engines.engine import Engine
from provenet.engines.ways import EngineWish, Way
from provenet.errors import DataError, ImageError
from provenet.evaluation.averaging import Cost, Runners, average_views
from provenet.evaluation.evaluate import BATCH_SIZE, Run, at_temperature, compute_logits
from provenet.evaluation.predictions import LARGEST_BYTES, Predictions
from provenet.evaluation.temperature import with_calibrated
from provenet.evaluation.views import Views
from provenet.metrics import Evaluation, Totals
from provenet.preprocessing import Preprocessing
from provenet.runs.engines import work_on
from provenet.runs.pictures import leave_out_broken, open_sound_squares
from provenet.runs.watcher import Watcher
from provenet.runtime import count_cores, place
from provenet.weights.bundle import Bundle

TYPICAL_SIZE = (500, 375)
"""Of a photograph, in pixels, to tell how many views there will be."""


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A network's scores of the pictures of a set."""

    images: ImageSet
    """Those that could be decoded; its classes are the network's."""
    evaluation: Evaluation | None
    """None where no picture has a label."""
    predictions: Predictions | None
    """None where they are too many to be kept in memory."""
    views: Views
    way: Way
    seconds: float
    """Of all pictures together, decoding included, without starting the engine."""
    passes: float
    """Forward passes for a picture."""

    @property
    def milliseconds(self) -> float:
        """For a picture."""
        return 1_000 * self.seconds / len(self.images)


def score(
    bundle: Bundle,
    images: ImageSet,
    views: Views,
    *,
    name: str,
    wish: EngineWish,
    device: torch.device,
    skip_broken: bool,
    watcher: Watcher,
) -> Scored:
    """Show the network every picture once, in these views. Labels of -1 are none; `images` has the network's classes.

    Probabilities are those at the bundle's temperature. Raises DataError for a picture that cannot be decoded, unless it is to be skipped.
    """
    place(bundle.network.eval(), device)
    run = _Windows if views.is_center else _Views
    scoring = run(bundle, images, views, wish, device, skip_broken, watcher)
    totals = Totals(len(images.classes))
    kept: list[Tensor] | None = [] if 8 * len(images) * len(images.classes) <= LARGEST_BYTES else None
    num_done, has_labels = 0, False
    started_at = time.perf_counter()
    for samples, logits in scoring.batches():
        logits = logits.cpu()
        labels = torch.from_numpy(scoring.images.labels[samples])
        known = labels >= 0
        if known.any():
            totals.add(logits[known], labels[known])
            has_labels = True
        if kept is not None:
            kept.append(logits.double())
        num_done += len(samples)
        watcher.progress(f"evaluating {views.name}", num_done, len(scoring.images))
    seconds = scoring.seconds_decoding + time.perf_counter() - started_at
    found = scoring.sound()
    evaluation = totals.result(images.classes) if has_labels else None
    predictions = None
    if kept is not None:
        predictions = Predictions(name, images.classes, found.pictures.keys(), found.labels, torch.cat(kept))
        if evaluation is not None:
            evaluation = with_calibrated(evaluation, predictions.logits[torch.from_numpy(found.labels >= 0)])
    return Scored(
        images=found,
        evaluation=evaluation,
        predictions=predictions,
        views=views,
        way=scoring.way,
        seconds=seconds,
        passes=scoring.cost.passes / max(1, scoring.cost.pictures),
    )


class _Windows:
    """One window of each stored square, in the batches of training's evaluations."""

    def __init__(
        self, bundle: Bundle, images: ImageSet, views: Views, wish: EngineWish, device: torch.device, skip_broken: bool, watcher: Watcher
    ) -> None:
        preprocessing = views.preprocessing(bundle.preprocessing)
        started_at = time.perf_counter()
        squares, self.images = open_sound_squares(images, preprocessing, skip_broken=skip_broken, training=None, watcher=watcher)
        self.seconds_decoding = time.perf_counter() - started_at
        self._loader = Loader(squares, self.images.labels, preprocessing, batch_size=BATCH_SIZE, device=device)
        work = work_on(self.images, preprocessing, device)
        engine = open_engine(bundle.network, work, wish, progress=watcher.progress, note=watcher.note)
        self.way = engine.way
        self._net, self._run = bundle.network, at_temperature(engine, bundle.temperature)
        self.cost = Cost(pictures=len(self.images), passes=len(self.images) * (preprocessing.size / bundle.preprocessing.size) ** 2)

    def batches(self) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        done = 0
        for logits, labels in compute_logits(self._net, self._loader.evaluation_batches(), self._run):
            yield np.arange(done, done + len(labels)), logits
            done += len(labels)

    def sound(self) -> ImageSet:
        return self.images


class _Views:
    """Several views of each picture."""

    seconds_decoding = 0.0

    def __init__(
        self, bundle: Bundle, images: ImageSet, views: Views, wish: EngineWish, device: torch.device, skip_broken: bool, watcher: Watcher
    ) -> None:
        self.images = images
        self.cost = Cost()
        self._preprocessing, self._views = views.preprocessing(bundle.preprocessing), views
        self._device, self._skip_broken, self._watcher = device, skip_broken, watcher
        typical = views.of(*TYPICAL_SIZE, self._preprocessing)
        engines: list[Engine] = []
        windows: Run = bundle.network
        maps: Run = bundle.network
        if views.has_windows:
            count = sum(not view.is_dense for view in typical)
            work = work_on(images, self._preprocessing, device, num_images=len(images) * count)
            engines.append(open_engine(bundle.network, work, wish, progress=watcher.progress, note=watcher.note))
            windows = at_temperature(engines[-1], bundle.temperature)
        if views.has_maps:
            net = bundle.network.as_fully_convolutional().eval()
            example = _example(images, views, self._preprocessing).to(device)
            engines.append(open_for_any_size(net, example, len(images), wish, watcher.note))
            maps = at_temperature(engines[-1], bundle.temperature)
        self.way = engines[0].way
        self._runners = Runners(windows=windows, maps=maps)

    def batches(self) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        try:
            yield from average_views(
                self._runners,
                self.images.pictures,
                self._views,
                self._preprocessing,
                num_threads=count_cores(),
                device=self._device,
                cost=self.cost,
                skip_broken=self._skip_broken,
            )
        except ImageError as error:
            raise DataError(f"{error}; or go on without with --skip-broken") from error

    def sound(self) -> ImageSet:
        broken = self.cost.broken
        return self.images.select(
            leave_out_broken(self.images, broken, skip_broken=self._skip_broken, is_trained_on=False, watcher=self._watcher)
        )


def _example(images: ImageSet, views: Views, preprocessing: Preprocessing) -> Tensor:
    """A map as the network will see them, of the first picture that can be decoded: [1, C, H, W]."""
    for number in range(len(images)):
        try:
            picture = images.pictures.upright(number, preprocessing.channels)
        except ImageError:
            continue
        canvas = next(view.canvas for view in views.of(*picture.size, preprocessing) if view.is_dense)
        return preprocessing.normalise(torch.from_numpy(draw_canvas(picture, canvas, preprocessing).copy()[None]))
    raise DataError(f"{images.name}: expected pictures that can be decoded, found none")
