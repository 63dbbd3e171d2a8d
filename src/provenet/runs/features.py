"""What a network makes of pictures, before its head: for transfer, and as a file for anything else that learns."""

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from provenet.data.index import ImageSet
from provenet.data.sources import open_data
from provenet.engines.choose import make_wish, open_engine
from provenet.engines.engine import Engine
from provenet.engines.ways import WAYS, EngineWish, Way, exactly, why_absent
from provenet.errors import DataError, EngineError, SettingsError, show_path
from provenet.files import appearing
from provenet.models.heads import LINEAR, adapt
from provenet.preprocessing import Preprocessing
from provenet.runs.engines import work_on
from provenet.runs.pictures import leave_out_broken, refuse_or_note
from provenet.runs.watcher import Silent, Watcher
from provenet.runtime import choose_device, place
from provenet.transfer.features import Features, Wanted, compute_features, kept_part, key_of
from provenet.transfer.parts import FrozenPart
from provenet.transfer.store import FeatureType
from provenet.weights.bundle import Bundle
from provenet.weights.create import open_weights

ENDINGS = (".npz", ".parquet")


@dataclass(frozen=True)
class Extracted:
    """The features of all pictures of a set, split after split."""

    network: str
    cut: str
    """The stage that they come after."""
    way: Way
    features: NDArray[np.float32]
    """[N, F]; of maps the mean of each, or all of a picture's in a row."""
    labels: NDArray[np.int64]
    """[N], numbers in `classes`."""
    classes: tuple[str, ...]
    splits: NDArray[np.str_]
    """[N], such as `train`."""
    paths: NDArray[np.str_]
    """[N], as the data names its pictures."""
    num_computed: int
    """Of N, those whose features were not kept from before."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """As NumPy's file of arrays (.npz, without pickles), or a Parquet table with a column of lists (.parquet)."""
        path = Path(path)
        check_output(path)
        with appearing(path) as part:
            if path.suffix.lower() == ".npz":
                with part.open("wb") as file:
                    np.savez(file, **self.arrays())  # type: ignore[arg-type]  # of no name is `allow_pickle`
            else:
                self._write_parquet(part)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """By the names that the file has."""
        return {
            "features": self.features,
            "labels": self.labels,
            "classes": np.array(self.classes),
            "splits": self.splits,
            "paths": self.paths,
            "network": np.array(self.network),
            "cut": np.array(self.cut),
            "way": np.array(str(self.way)),
        }

    def _write_parquet(self, path: Path) -> None:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
        flat = arrow.array(self.features.reshape(-1))
        columns = {
            "path": arrow.array(self.paths.tolist()),
            "label": arrow.array([self.classes[label] for label in self.labels]),
            "split": arrow.array(self.splits.tolist()),
            "features": arrow.FixedSizeListArray.from_arrays(flat, self.features.shape[1]),
        }
        about = {"network": self.network, "cut": self.cut, "way": str(self.way)}
        parquet.write_table(arrow.table(columns).replace_schema_metadata(about), path)


def check_output(path: Path) -> None:
    """Raise SettingsError for a file that features cannot be written to."""
    if path.suffix.lower() not in ENDINGS:
        raise SettingsError(f"{show_path(path)}: expected a file that ends in {' or '.join(ENDINGS)}, found another; name one (-o)")
    if not path.parent.is_dir():
        raise SettingsError(f"{show_path(path.parent)}: expected a folder to write {path.name} to, found none; make it, or name another")
    if path.suffix.lower() == ".parquet":
        try:
            importlib.import_module("pyarrow.parquet")
        except Exception as error:  # whatever a broken one raises
            raise SettingsError("--output: Parquet is written with pyarrow: pip install 'provenet[tables]', or name an .npz") from error


def extract_features(
    model: str | os.PathLike[str] | Bundle,
    data: str | os.PathLike[str],
    *,
    ends_after: str = "",
    split: str | None = None,
    feature_type: FeatureType = "float32",
    engine: str = "auto",
    precision: str = "auto",
    skip_broken: bool = False,
    device: str = "auto",
    watcher: Watcher | None = None,
) -> Extracted:
    """What a network with weights makes of pictures up to the stage `ends_after`, by default the last before the head.

    `model` is a bundle, a run folder, a file of weights or the tag of a published set. They are kept, as for `--transfer cached`, so that
    the next time only pictures that are new are computed.
    """
    watcher = watcher or Silent()
    wish = make_wish(engine, precision)
    if precision == "int8":
        raise SettingsError("--precision int8: expected float32 or bfloat16 for features: int8 is judged by labels, and they have none")
    chosen_device = choose_device(device)
    bundle = model if isinstance(model, Bundle) else open_weights(model)
    net = adapt(bundle.network, num_classes=2, head=LINEAR, ends_after=ends_after)
    net.to(chosen_device)
    data_set = open_data(data, watcher.progress, refuse_or_note(skip_broken=skip_broken, watcher=watcher), allow_missing=skip_broken)
    for note in data_set.notes:
        watcher.note(note)
    if split is not None and split not in data_set.splits:
        raise DataError(f"--split {split}: expected a split that {data_set.name} has, which are: {', '.join(data_set.splits)}; choose one")
    sets = {name: images for name, images in data_set.splits.items() if split in (None, name)}
    part = FrozenPart(net).eval()
    found = features_of(part, sets, bundle.preprocessing, wish, feature_type=feature_type, device=chosen_device, watcher=watcher)
    rows, labels, splits, paths = [], [], [], []
    classes = list(dict.fromkeys(name for images in sets.values() for name in images.classes))
    for name, images in sets.items():
        sound = leave_out_broken(images, found[name].broken, skip_broken=skip_broken, is_trained_on=False, watcher=watcher)
        kept = images.select(sound)
        rows.append(np.asarray(found[name].rows[0][np.arange(len(sound))], np.float32).reshape(len(sound), -1))
        labels.append(np.array([classes.index(name) for name in images.classes], np.int64)[kept.labels])
        splits += [name] * len(sound)
        paths += kept.pictures.keys()
    return Extracted(
        network=bundle.network.name,
        cut=part.cut,
        way=next(iter(found.values())).way,
        features=np.concatenate(rows),
        labels=np.concatenate(labels),
        classes=tuple(classes),
        splits=np.array(splits),
        paths=np.array(paths),
        num_computed=sum(each.num_computed for each in found.values()),
    )


def features_of(
    part: FrozenPart,
    sets: Mapping[str, ImageSet],
    preprocessing: Preprocessing,
    wish: EngineWish,
    *,
    feature_type: FeatureType = "float32",
    device: torch.device,
    watcher: Watcher,
) -> dict[str, Features]:
    """The features of several sets, all computed in one way."""
    wanted = {name: Wanted.look_at(images, watcher.progress) for name, images in sets.items()}
    chosen = choose_way(part, preprocessing, wish, feature_type, list(wanted.values()), device=device, watcher=watcher)
    return chosen.compute(
        lambda way, open_engine: {
            name: compute_features(
                part, images, preprocessing, way=way, open_engine=open_engine, looked_at=wanted[name], type=feature_type, device=device,
                progress=watcher.progress, note=watcher.note,
            )
            for name, images in sets.items()
        }
    )  # fmt: skip


T = TypeVar("T")


@dataclass(frozen=True)
class Chosen:
    """How features are computed, those of several sets in one way."""

    way: Way
    open_engine: Callable[[], Engine]
    """Asked for if anything is to be computed."""
    note: Callable[[str], None]
    another: Callable[[], Engine] | None = None
    """What to take where that engine, whose features are kept, does not start any more."""

    def compute(self, all_sets: Callable[[Way, Callable[[], Engine]], T]) -> T:
        """What `all_sets` makes of the way and its engine; made anew in another way where the engine is gone. Raises EngineError."""
        try:
            return all_sets(self.way, self.open_engine)
        except EngineError as error:
            if self.another is None:
                raise
            self.note(f"{error}; what is kept of {self.way} is not used, and features are computed by another")
            engine = self.another()
            return all_sets(engine.way, lambda: engine)


def choose_way(
    part: FrozenPart,
    preprocessing: Preprocessing,
    wish: EngineWish,
    feature_type: FeatureType,
    wanted: list[Wanted],
    *,
    views: int = 0,
    device: torch.device,
    watcher: Watcher,
) -> Chosen:
    """How features are computed.

    Where nothing is decided, as those that are kept already, if these are most of them: the others would else be computed anew.
    """
    largest = max(wanted, key=lambda some: len(some.images)).images
    work = work_on(largest, preprocessing, device, sum(len(some.images) for some in wanted) * (1 + views))

    def opened(wish: EngineWish) -> Engine:
        place(part, device)  # not before: what is kept already needs no network
        return open_engine(part, work, wish, progress=watcher.progress, note=watcher.note)

    def opener(way: Way) -> Callable[[], Engine]:
        return cache(lambda: opened(exactly(way)))

    ways = [way for way in WAYS if wish.allows(way)]
    if len(ways) == 1:
        return Chosen(ways[0], opener(ways[0]), watcher.note)
    kept = {way: kept_part(key_of(part, preprocessing, way, feature_type, device), wanted) for way in ways}
    most = max(ways, key=lambda way: kept[way])
    if kept[most] == 1 or (kept[most] >= 0.5 and not why_absent(most, str(device), work.batch_size)):
        return Chosen(most, opener(most), watcher.note, another=lambda: opened(wish))
    engine = opened(wish)
    return Chosen(engine.way, lambda: engine, watcher.note)
