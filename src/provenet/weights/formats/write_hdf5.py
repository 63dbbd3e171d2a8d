"""Keras' HDF5 files, written as Keras loads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from provenet.errors import show_path
from provenet.files import appearing
from provenet.weights.foreign import Array
from provenet.weights.formats.hdf5 import BY_NUMBER, import_h5py

LARGEST_ATTRIBUTE_BYTES = 64_512
"""HDF5 keeps at most 64 KiB in an attribute; Keras splits longer lists, and joins them when it reads."""


def write_keras(path: Path, layers: Mapping[str, Mapping[str, Array]]) -> None:
    """Write layers by name, each of kernel, bias, gamma and so on; the file appears whole or not at all.

    A path that ends in .weights.h5 gets Keras 3's own format, in which layers are named by class and number; any other that of
    keras.applications, which every Keras loads.
    """
    h5py = import_h5py(show_path(path))
    with appearing(path) as part, h5py.File(part, "w") as file:
        if path.name.lower().endswith(".weights.h5"):
            file.create_group("vars")
            for layer, arrays in layers.items():
                leaves = BY_NUMBER["batch_normalization" if layer.startswith("batch_normalization") else ""]
                for leaf, array in arrays.items():
                    file[f"layers/{layer}/vars/{leaves.index(leaf)}"] = array
            return
        _write_list(file, "layer_names", list(layers))
        file.attrs["backend"] = "torch"
        for layer, arrays in layers.items():
            group = file.create_group(layer)
            _write_list(group, "weight_names", [f"{layer}/{leaf}" for leaf in arrays])
            for leaf, array in arrays.items():
                group[f"{layer}/{leaf}"] = array


def _write_list(group: Any, name: str, texts: list[str]) -> None:
    encoded = [text.encode() for text in texts]
    longest = max(map(len, encoded), default=1)
    at_once = max(1, LARGEST_ATTRIBUTE_BYTES // longest)
    if len(encoded) <= at_once:
        group.attrs[name] = encoded
        return
    for number, start in enumerate(range(0, len(encoded), at_once)):
        group.attrs[f"{name}{number}"] = encoded[start : start + at_once]
