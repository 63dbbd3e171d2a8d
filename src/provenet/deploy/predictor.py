"""Pictures in, names out: what one does with a trained network."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from provenet.data.decode import convert_picture, read_picture, to_square
from provenet.data.folder import find_pictures
from provenet.data.ignored import summarise
from provenet.data.threads import decoding_threads
from provenet.engines.choose import Work, make_wish, of_sound_ones, open_engine
from provenet.engines.engine import Engine, reference
from provenet.engines.ways import AUTO, REFERENCE
from provenet.errors import DataError, ImageError, SettingsError, show_path, without_frames
from provenet.evaluation.evaluate import BATCH_SIZE, at_temperature, compute_logits
from provenet.metrics import TOP
from provenet.preprocessing import window
from provenet.progress import Progress
from provenet.runtime import choose_device, count_cores, place
from provenet.weights.bundle import Bundle, load_bundle

Picture = str | os.PathLike[str] | Image.Image
"""A file, or what Pillow made of one."""


@dataclass(frozen=True)
class Prediction:
    """What the network says of one picture; `top` are its likeliest classes, at most five, with their probabilities."""

    path: str
    label: str
    probability: float
    top: list[tuple[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"path": self.path, "label": self.label, "probability": self.probability, "top": [list(pair) for pair in self.top]}


class Predictor:
    """A bundle at work: `Predictor.load(path)`, then call it with pictures or paths."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "auto",
        progress: Progress | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        """`engine` and `precision` are names of engines/ways.py; left alone, many pictures get what was measured to be fast and right."""
        self.bundle = bundle
        self.device = choose_device(device)
        self.wish = make_wish(engine, precision)
        self._progress, self._note = progress, note
        self._engine: Engine | None = None
        place(bundle.network, self.device)
        bundle.network.eval()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        *,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "auto",
        progress: Progress | None = None,
        note: Callable[[str], None] | None = None,
    ) -> Self:
        """From a bundle's file or its run folder."""
        return cls(load_bundle(path), device=device, engine=engine, precision=precision, progress=progress, note=note)

    def __call__(
        self,
        pictures: Picture | Iterable[Picture],
        *,
        on_broken: Callable[[ImageError], None] | None = None,
    ) -> Iterator[Prediction]:
        """A prediction for each picture, or for the only one, in order, as they come.

        A broken one goes to `on_broken`, or is raised without it.
        """
        pictures = [pictures] if isinstance(pictures, str | os.PathLike | Image.Image) else pictures
        engine = self._open_engine(pictures)
        waiting = iter(pictures)
        with decoding_threads(count_cores()) as threads:
            while chunk := list(islice(waiting, BATCH_SIZE)):
                names, squares = [], []
                decoding = [threads.start(self._try_square, picture) for picture in chunk]
                for name, square in zip(map(_name, chunk), map(threads.wait_for, decoding), strict=True):
                    if isinstance(square, Tensor):
                        names.append(name)
                        squares.append(square)
                    elif on_broken is None:
                        raise square
                    else:
                        on_broken(square)
                if squares:
                    yield from self._predict(engine, names, torch.stack(squares))

    def see(self, picture: Picture) -> Tensor:
        """What the network is shown of a picture: normalised, float32 [1, C, S, S]."""
        return self._normalise(self._square(picture)[None])

    def _open_engine(self, pictures: Iterable[Picture]) -> Engine:
        """What runs the network for these; an engine that was opened for many runs it for few from then on."""
        if self._engine is not None:
            return self._engine
        if not isinstance(pictures, Sequence) or (self.wish == AUTO and len(pictures) <= BATCH_SIZE):
            if self.wish != AUTO:
                raise SettingsError("an engine that is asked for is tried on some of the pictures first: give them as a list")
            return reference(self.bundle.network)

        def sample(count: int) -> Tensor:
            squares = of_sound_ones(len(pictures), count, lambda number: self._square(pictures[number]))
            if not squares:
                raise DataError("expected pictures to try engines on, found none that can be decoded")
            return self._normalise(torch.stack(squares))

        work = Work(num_images=len(pictures), batch_size=min(BATCH_SIZE, len(pictures)), sample=sample)
        engine = open_engine(self.bundle.network, work, self.wish, progress=self._progress, note=self._note)
        self._engine = engine if engine.way != REFERENCE or self.wish != AUTO else None
        return engine

    def _predict(self, engine: Engine, names: Sequence[str], squares: Tensor) -> Iterator[Prediction]:
        batch = [(self._normalise(squares), torch.zeros(0))]
        run = at_temperature(engine, self.bundle.temperature)
        logits = torch.cat([logits for logits, _ in compute_logits(self.bundle.network, batch, run)])
        probabilities, order = logits.cpu().double().softmax(1).topk(min(TOP, len(self.bundle.classes)))
        for name, values, classes in zip(names, probabilities.tolist(), order.tolist(), strict=True):
            top = [(self.bundle.classes[k], value) for k, value in zip(classes, values, strict=True)]
            yield Prediction(name, *top[0], top)

    def _normalise(self, squares: Tensor) -> Tensor:
        preprocessing = self.bundle.preprocessing
        return preprocessing.normalise(window(squares.to(self.device), preprocessing.size))

    def _square(self, picture: Picture) -> Tensor:
        preprocessing = self.bundle.preprocessing
        if isinstance(picture, Image.Image):
            upright = convert_picture(picture, preprocessing.channels)
        else:
            upright = read_picture(picture, preprocessing.channels)
        return torch.from_numpy(np.array(to_square(upright, preprocessing)))

    def _try_square(self, picture: Picture) -> Tensor | ImageError:
        try:
            return self._square(picture)
        except ImageError as error:
            return without_frames(error)


def list_pictures(paths: Sequence[str | os.PathLike[str]]) -> tuple[list[Path], list[str]]:
    """Files as they are given and all pictures below folders, in order; and notes of what was passed over."""
    found: list[Path] = []
    notes: list[str] = []
    for path in map(Path, paths):
        if not os.path.isdir(path):
            found.append(path)
            continue
        inside, ignored = find_pictures(path)
        if not inside:
            raise DataError(f"{show_path(path)}: expected pictures in this folder, found none; name picture files or another folder")
        found += [path / name for name in inside]
        notes += summarise(ignored)
    return found, notes


def _name(picture: Picture) -> str:
    return "" if isinstance(picture, Image.Image) else show_path(picture)
