"""A bundle's weights as a file that torchvision, timm or Keras loads, for the networks that they have; any network as ONNX."""

import os
from collections import OrderedDict
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from provenet.errors import SettingsError, WeightsError, show_path, suggest
from provenet.files import appearing
from provenet.models.classifier import Classifier
from provenet.weights.bundle import Bundle
from provenet.weights.export_onnx import describe_input, export_onnx
from provenet.weights.foreign import Array
from provenet.weights.formats.write_hdf5 import write_keras
from provenet.weights.keras_names import KERAS, keras_names
from provenet.weights.naming import Naming
from provenet.weights.state_dict_names import TIMM, TORCHVISION, timm_names, torchvision_names

Library = Literal["torchvision", "timm", "keras", "onnx"]

LIBRARIES = {
    "torchvision": (TORCHVISION, torchvision_names, (".pth", ".pt", ".safetensors")),
    "timm": (TIMM, timm_names, (".safetensors", ".bin", ".pth")),
    "keras": (KERAS, keras_names, (".h5",)),
}
"""The networks of each, ours -> theirs; how it names their parameters; and the kinds of file that it loads, the usual one first."""


def export_weights(bundle: Bundle, to: Library, path: str | os.PathLike[str]) -> list[str]:
    """Write the weights as that library names and lays them out; what its user has to know, a line each.

    A file of weights holds neither preprocessing nor class names: the lines say them. Read back by `import_weights`, it gives the same
    numbers to the bit. Raises SettingsError for a network that the library does not have. ONNX has them all: see `export_onnx`.
    """
    path = Path(path)
    if to == "onnx":
        return export_onnx(bundle, path)
    if to not in LIBRARIES:
        raise SettingsError(f"--to: expected {', '.join(get_args(Library))}, found {to!r}; {suggest(to, get_args(Library))}")
    networks, namings, suffixes = LIBRARIES[to]
    net = bundle.network
    if net.name not in networks:
        raise SettingsError(f"{net.name}: expected a network that {to} has ({', '.join(networks)}), found another; --to onnx takes any")
    if net.title != net.name:
        raise SettingsError(f"{net.title}: expected a network as {to} has it, found one with a head of its own; --to onnx takes any")
    if not path.name.lower().endswith(suffixes):
        raise SettingsError(f"{show_path(path)}: expected a name that ends in {' or '.join(suffixes)} for {to}, found another; rename it")
    naming = _naming_for(namings(net), path)
    arrays = dict(_arrays(net, naming, writes_all_biases=to == "keras"))
    try:
        if to == "keras":
            layers: dict[str, dict[str, Array]] = {}
            for name, array in arrays.items():
                layer, _, leaf = name.rpartition("/")
                layers.setdefault(layer, {})[leaf] = array
            write_keras(path, layers)
        else:
            tensors = OrderedDict((name, torch.from_numpy(array)) for name, array in arrays.items())
            for path_of_ours, leaves in naming.layers.items():
                if isinstance(net.get_submodule(path_of_ours), nn.BatchNorm2d):
                    name = leaves["running_var"].name.removesuffix("running_var") + "num_batches_tracked"
                    tensors[name] = torch.zeros((), dtype=torch.int64)
            with appearing(path) as part:
                if path.suffix.lower() == ".safetensors":
                    save_file(tensors, part, metadata={"format": "pt"})
                else:
                    torch.save(tensors, part)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{show_path(path)}: expected to write the weights, found: {error}; free some space or name another") from error
    return _advice(bundle, to, networks[net.name], path)


def _naming_for(namings: list[Naming], path: Path) -> Naming:
    """Keras 3's own format names layers by class and number; everything else has one naming, the first."""
    if path.name.lower().endswith(".weights.h5"):
        return next((naming for naming in namings if naming.dialect == "keras by number"), namings[0])
    return namings[0]


def _arrays(net: Classifier, naming: Naming, *, writes_all_biases: bool) -> "list[tuple[str, Array]]":
    """Names there and values, in their layout."""
    found: list[tuple[str, Array]] = []
    for path, leaves in naming.layers.items():
        module = net.get_submodule(path)
        for leaf, place in leaves.items():
            tensor = getattr(module, leaf, None)
            if tensor is not None:
                values = tensor.detach().cpu().numpy()
                if leaf == "weight" and isinstance(module, nn.BatchNorm2d) and naming.eps not in (None, module.eps):
                    variance = module.running_var
                    assert variance is not None
                    wide = variance.detach().cpu().numpy().astype(np.float64)
                    values = (values * np.sqrt((wide + naming.eps) / (wide + module.eps))).astype(np.float32)
                found.append((place.name, place.to_theirs(values)))
            elif writes_all_biases:
                found.append((place.name, np.zeros(len(module.get_parameter("weight")), np.float32)))
    return found


def _advice(bundle: Bundle, to: Library, theirs: str, path: Path) -> list[str]:
    net = bundle.network
    classes = "" if net.num_classes == 1000 else f"num_classes={net.num_classes}" if to != "keras" else f"classes={net.num_classes}"
    if to == "torchvision":
        arguments = ", ".join(filter(None, [classes, "aux_logits=False" if theirs == "googlenet" else ""]))
        loads = "load_file(FILE)" if path.suffix.lower() == ".safetensors" else "torch.load(FILE, weights_only=True)"
        call = f"torchvision.models.{theirs}({arguments}).load_state_dict({loads})"
    elif to == "timm":
        call = f"timm.create_model({theirs!r}, {f'{classes}, ' if classes else ''}checkpoint_path=FILE)"
    else:
        call = f"keras.applications.{theirs}({f'{classes}, ' if classes else ''}weights=FILE)"
    expects = f"{describe_input(bundle)}; its {net.num_classes} classes stay in the bundle"
    return [f"to load it: {call}", f"what it expects of a picture: {expects}"]
