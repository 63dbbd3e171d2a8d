"""The engine for pictures of a set, and the measured choice among all ways on request."""

import os

import numpy as np
import torch
from torch import Tensor, nn

from provenet.data.index import ImageSet
from provenet.data.sources import open_data
from provenet.engines.choose import LEAST_INT8_IMAGES, MOST_INT8_IMAGES, Sample, Work, filled_up, make_wish, of_sound_ones, pictures_for
from provenet.engines.findings import Probe
from provenet.engines.memory import remember
from provenet.engines.probe import measure
from provenet.engines.ways import AUTO, WAYS, why_absent
from provenet.errors import DataError, EngineError, SettingsError
from provenet.evaluation.evaluate import BATCH_SIZE
from provenet.models.catalog import build_network, list_models
from provenet.preprocessing import Preprocessing, window
from provenet.runs.watcher import Silent, Watcher
from provenet.runtime import choose_device, place, seeded
from provenet.weights.create import open_weights

MOST_BATCH_SIZE = 4096


def sample_of(images: ImageSet, preprocessing: Preprocessing, device: torch.device) -> Sample:
    """Pictures of the set, evenly spread over it, as the network sees them; broken ones are passed over."""

    def sample(count: int) -> Tensor:
        squares = of_sound_ones(len(images), count, lambda number: images.pictures.square(number, preprocessing))
        if not squares:
            raise DataError(f"{images.name}: expected pictures to try engines on, found none that can be decoded")
        return preprocessing.normalise(window(torch.from_numpy(np.stack(squares)).to(device), preprocessing.size))

    return sample


def work_on(images: ImageSet, preprocessing: Preprocessing, device: torch.device, num_images: int | None = None) -> Work:
    """A network run over these pictures once, in the batches of evaluation."""
    num_images = len(images) if num_images is None else num_images
    return Work(num_images=num_images, batch_size=BATCH_SIZE, sample=sample_of(images, preprocessing, device))


def probe(
    model: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    engine: str = "auto",
    precision: str = "auto",
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Probe:
    """Every way to run a network, measured on this machine and remembered, so that other commands choose by it.

    `model` is a name, whose weights are then those it begins with, or a bundle or run folder. Without `data` it is shown noise, and int8,
    which is fitted to pictures, is left out. `engine` and `precision` name some of the ways. Raises EngineError where none is there.
    """
    watcher = watcher or Silent()
    if not 1 <= batch_size <= MOST_BATCH_SIZE:
        raise SettingsError(f"--batch-size: expected 1 to {MOST_BATCH_SIZE}, found {batch_size}")
    wish = make_wish(engine, precision)
    chosen_device = choose_device(device)
    net, preprocessing = _open(model)
    place(net.eval(), chosen_device)
    ways = [way for way in WAYS if wish == AUTO or wish.allows(way)]
    absent = [why for why in (why_absent(way, str(chosen_device), batch_size) for way in ways) if why]
    if len(absent) == len(ways):
        raise EngineError(f"--engine {engine} --precision {precision}: {absent[0]}")
    if data is None:
        with seeded(0):
            images, some = torch.randn(batch_size, preprocessing.channels, preprocessing.size, preprocessing.size), None
    else:
        data_set = open_data(data, watcher.progress)
        pictures = next(iter(data_set.splits.values()))
        some = sample_of(pictures, preprocessing, chosen_device)(max(batch_size, MOST_INT8_IMAGES))
        images = filled_up(some, batch_size)
        if len(some) < LEAST_INT8_IMAGES:
            watcher.note(f"int8 is left out: it takes {LEAST_INT8_IMAGES} pictures, and {pictures.name} has {len(some)}")
            some = None
    images = images.to(chosen_device).contiguous(memory_format=torch.channels_last)
    found = measure(net, pictures_for(images, some), ways, progress=watcher.progress)
    remember(found)
    return found


def _open(model: str | os.PathLike[str]) -> tuple[nn.Module, Preprocessing]:
    if os.fspath(model) in list_models():
        net = build_network(os.fspath(model), init="trainable")
        return net, net.input_spec.preprocessing
    bundle = open_weights(model)
    return bundle.network, bundle.preprocessing
