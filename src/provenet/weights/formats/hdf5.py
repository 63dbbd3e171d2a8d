"""Keras' HDF5 files: `.weights.h5` of Keras 3, whole models in `.h5`, and those that keras.applications publishes, back to 2015.

All give the same names: `LAYER/kernel`, `LAYER/bias`, `LAYER/gamma`, `LAYER/beta`, `LAYER/moving_mean`, `LAYER/moving_variance`. HDF5 can
point to other files and declare numbers that are nowhere; such a file is refused. What a model's configuration says of code (Lambda
layers) is never looked at.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from provenet.errors import WeightsError, printable, show_path
from provenet.weights.foreign import LARGEST_TENSOR_BYTES, Array, ForeignFile, ForeignTensor
from provenet.weights.formats.hdf5_header import claimed_text_bytes

LARGEST_NUM_OBJECTS = 10_000
"""A whole ResNet-152 has 3,010, as Keras 3 saves it; to open a hundred thousand would take many seconds."""
LARGEST_DEPTH = 16
CONFIGURATION = "model_config"
LARGEST_CONFIG_BYTES = 2**21
"""A ResNet-152's is 447,678 long, an EfficientNetV2-L's 871,075. JSON of nothing but brackets takes twenty times its length in memory."""

BY_NUMBER = {
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "": ("kernel", "bias"),
}
"""What the variables of a layer are, where they are only numbered; of all but batch norm the same."""

OLD_LEAVES = {
    "W": "kernel", "b": "bias", "gamma": "gamma", "beta": "beta", "running_mean": "moving_mean", "running_std": "moving_variance",
}  # fmt: skip
"""Before 2017. What was called a deviation is a variance."""


def read_hdf5(path: Path) -> ForeignFile:
    """Read an HDF5 file of Keras. Raises WeightsError for one that is damaged, points elsewhere or declares more than it holds."""
    shown = show_path(path)
    h5py = import_h5py(shown)
    try:
        with h5py.File(path, "r") as file:
            found = dict(_tensors(h5py, file, path, shown))
            metadata = _configuration(h5py, file, path, shown)
    except WeightsError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, IndexError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise WeightsError(
            f"{shown}: expected an HDF5 file of Keras, found one that cannot be read ({printable(str(error))[:200]}); fetch it again"
        ) from error
    return ForeignFile(path, "Keras HDF5", found, metadata=metadata)


def import_h5py(shown: str) -> Any:
    """The library, or one line that says how to get it."""
    try:
        import h5py
    except Exception as error:  # a broken one is none
        raise WeightsError(f"{shown}: expected h5py for Keras' files, found none ({error}); install provenet[keras]") from error
    return h5py


def _tensors(h5py: Any, file: Any, path: Path, shown: str) -> Iterator[tuple[str, ForeignTensor]]:
    """Name and tensor of every dataset of a layer."""
    seen: set[str] = set()
    file_bytes = path.stat().st_size
    for place, dataset in _datasets(h5py, file, shown):
        name = _name(place)
        if name is None:
            continue
        if name in seen:  # a layer of a model within the model has the name of one outside: that one keeps it
            name = place
        seen.add(name)
        if dataset.shape is None or dataset.dtype.kind not in "fiu" or dataset.dtype.itemsize > 8:
            raise WeightsError(f"{shown}: expected numbers, found {printable(place)} of {dataset.dtype}; save the weights alone")
        held_bytes = min(dataset.id.get_storage_size(), file_bytes)  # the first is only what an index of chunks says
        needed_bytes = dataset.size * dataset.dtype.itemsize
        if dataset.compression is not None or dataset.id.get_create_plist().get_nfilters():
            raise WeightsError(f"{shown}: expected plain numbers, found {printable(place)} compressed, as Keras never does; save it again")
        if needed_bytes > held_bytes or dataset.size * 4 > LARGEST_TENSOR_BYTES:
            raise WeightsError(
                f"{shown}: {printable(place)} says it is {'x'.join(map(str, dataset.shape))}, the file holds {held_bytes:,} bytes of it; "
                "do not trust it"
            )
        yield name, ForeignTensor(tuple(dataset.shape), str(dataset.dtype), _reader(path, place))


def _datasets(h5py: Any, group: Any, shown: str) -> Iterator[tuple[str, Any]]:
    """Every dataset by its path; nothing is followed out of the file, nor to where it has been."""
    waiting = [("", group)]
    count = 0
    while waiting:
        prefix, here = waiting.pop()
        count += len(here)  # before any of them is opened
        if count > LARGEST_NUM_OBJECTS or prefix.count("/") >= LARGEST_DEPTH:
            raise WeightsError(f"{shown}: expected the layers of a network, found {count:,} objects and more; do not trust it")
        for name in here:
            place = f"{prefix}/{name}" if prefix else name
            link = here.get(name, getlink=True)
            if not isinstance(link, h5py.HardLink):
                raise WeightsError(f"{shown}: expected all in one file, found {printable(place)} that points elsewhere; do not trust it")
            found = here[name]
            if isinstance(found, h5py.Group):
                if not place.startswith(("optimizer", "_optimizer")):
                    waiting.append((place, found))
            elif isinstance(found, h5py.Dataset):
                if found.external or found.is_virtual:
                    raise WeightsError(f"{shown}: expected all in one file, found {printable(place)} in another; do not trust it")
                yield place, found


def _name(place: str) -> str | None:
    """The layer and what of it a dataset is, from its path; None for what belongs to no layer.

    >>> _name("model_weights/conv1/conv1/kernel:0"), _name("bn_conv1/bn_conv1_running_std:0"), _name("layers/conv2d_3/vars/1")
    ('conv1/kernel', 'bn_conv1/moving_variance', 'conv2d_3/bias')
    """
    *parents, last = place.split("/")
    last = last.partition(":")[0]
    if len(parents) >= 2 and parents[-1] == "vars" and last.isdecimal():
        layer = parents[-2]
        leaves = BY_NUMBER["batch_normalization" if layer.startswith("batch_normalization") else ""]
        return f"{layer}/{leaves[int(last)]}" if int(last) < len(leaves) else None
    if not parents:
        return None
    old = re.fullmatch(r"(.+)_(W|b|gamma|beta|running_mean|running_std)(_\d+)?", last)
    if old and old[1] == parents[-1]:
        return f"{old[1]}/{OLD_LEAVES[old[2]]}"
    return f"{parents[-1]}/{last}"


def _reader(path: Path, place: str) -> Callable[[], Array]:
    def read() -> Array:
        h5py = import_h5py(show_path(path))
        try:
            with h5py.File(path, "r") as file:
                values: Array = file[place][()]
        except (OSError, RuntimeError, ValueError, KeyError, MemoryError) as error:  # its place may be anywhere, or the file gone
            reason = printable(str(error))[:200]
            raise WeightsError(f"{printable(place)}: expected numbers, found none that can be read ({reason}); fetch it again") from error
        return values.astype("float32") if values.dtype.kind == "f" else values

    return read


def _configuration(h5py: Any, file: Any, path: Path, shown: str) -> dict[str, str]:
    """What a whole model says of its batch norms: the epsilon, where all have one."""
    written = _text_of_configuration(h5py, file, path, shown)
    if not written:
        return {}
    found: set[float] = set()
    waiting: list[Any] = [json.loads(written)]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            config = part.get("config")
            if part.get("class_name") == "BatchNormalization" and isinstance(config, dict):
                epsilon = float(config.get("epsilon", 1e-3))
                if not 0 < epsilon < 1:
                    raise ValueError(f"an epsilon of {epsilon:g}, not between 0 and 1")
                found.add(epsilon)
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return {"epsilon": repr(found.pop())} if len(found) == 1 else {}


def _text_of_configuration(h5py: Any, file: Any, path: Path, shown: str) -> str | bytes:
    """The JSON of a whole model, and nothing for weights alone. Keras writes one text: a list of them may name one a thousand times."""
    if CONFIGURATION not in file.attrs:
        return ""
    described = file.attrs.get_id(CONFIGURATION)
    text = h5py.check_string_dtype(described.dtype)
    if text is None or described.shape != () or file.id.get_create_plist().get_sizes() != (8, 8):
        raise WeightsError(f"{shown}: expected the configuration of a model as one text, found something else; do not trust it")
    claimed_bytes = described.get_storage_size()
    if text.length is None:
        claimed_bytes = claimed_text_bytes(path, h5py.h5o.get_info(file.id).addr, CONFIGURATION)
    if claimed_bytes > LARGEST_CONFIG_BYTES:
        raise WeightsError(
            f"{shown}: expected a configuration of at most {LARGEST_CONFIG_BYTES:,} bytes, found one that claims {claimed_bytes:,}; "
            "save the weights alone"
        )
    written: str | bytes = file.attrs[CONFIGURATION]
    return written
