"""What Keras calls the parameters of the networks of `keras.applications`, in three ages, and how it lays them out.

Images are [N, H, W, C] there, kernels [H, W, in, out]. Its ResNets are the published ones, with the stride in the first 1x1, and their
convolutions have a bias before batch norm, which the importer takes off the mean.

* today's names: `conv2_block1_1_conv`, `conv2_block1_0_bn` for the projection; batch norm adds 1.001e-5;
* those of 2015 to 2018, after the authors': `res2a_branch2a`, `bn2a_branch2a`; batch norm adds Keras' default, 1e-3;
* `.weights.h5` knows no names, only classes of layers, numbered in the order in which the model lists them.

Source: keras/src/applications/resnet.py and vgg16.py of Keras 3.15, and keras/src/saving/saving_lib.py for the numbers.
"""

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np
from torch import nn

from provenet.models.classifier import Classifier
from provenet.weights.foreign import Array, ForeignTensor
from provenet.weights.naming import Naming, Place

KERAS = {"vgg16": "VGG16", "vgg19": "VGG19", "resnet50": "ResNet50", "resnet101": "ResNet101", "resnet152": "ResNet152"}
"""Our networks that keras.applications has -> its names."""

EPSILON_TODAY, EPSILON_2016 = 1.001e-5, 1e-3

VGG_HEAD = {"fc6.linear": "fc1", "fc7.linear": "fc2", "fc8": "predictions"}

LEAVES: dict[type[nn.Module], dict[str, str]] = {
    nn.Conv2d: {"weight": "kernel", "bias": "bias"},
    nn.Linear: {"weight": "kernel", "bias": "bias"},
    nn.BatchNorm2d: {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"},
}
CLASSES: dict[type[nn.Module], str] = {nn.Conv2d: "conv2d", nn.Linear: "dense", nn.BatchNorm2d: "batch_normalization"}


def keras_names(net: Classifier) -> list[Naming]:
    """The namings of Keras' ages for a VGG or a ResNet of bottlenecks, today's first; of other networks none."""
    layers: dict[str, nn.Module] = {
        path: module for path, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d)
    }
    if net.name.startswith("vgg") and not net.name.endswith("_bn"):
        today = {path: VGG_HEAD.get(path) or path.replace("conv", "block", 1).replace(".", "_") for path in layers}
        return [
            _naming("keras", layers, today, EPSILON_TODAY),
            _naming("keras by number", layers, _numbered(layers), EPSILON_TODAY),
        ]
    if not any(path.endswith("block1.conv3") for path in layers):
        return []
    layers = {path: layers[path] for path in _in_their_order(list(layers))}
    today = {path: _today(path) for path in layers}
    authors = {path: name for name, path in net.authors_names.items() if not name.startswith("scale")}
    return [
        _naming("keras", layers, today, EPSILON_TODAY),
        _naming("keras of 2016", layers, {path: authors[path] for path in layers}, EPSILON_2016),
        _naming("keras by number", layers, _numbered(layers), EPSILON_TODAY),
    ]


def _today(path: str) -> str:
    """conv2_x.block1.conv1 -> conv2_block1_1_conv; the projection has number 0.

    >>> _today("conv2_x.block1.shortcut.bn"), _today("conv1.conv"), _today("fc")
    ('conv2_block1_0_bn', 'conv1_conv', 'predictions')
    """
    if path == "fc":
        return "predictions"
    stage, *block, layer = path.replace("_x.", ".").split(".")
    if block:
        number = "0" if block[-1] == "shortcut" else layer[-1]
        return f"{stage}_{block[0]}_{number}_{layer.rstrip('123')}"
    return f"{stage}_{layer}"


def _in_their_order(paths: list[str]) -> list[str]:
    """Keras sorts by depth: the projection, which needs one step, comes just before the third convolution, and so do their batch norms."""
    ordered: list[str] = []
    for path in paths:
        if not path.startswith("conv") or ".shortcut." not in path:
            ordered.append(path)
            continue
        third = f"{path.partition('.shortcut.')[0]}.{path.rpartition('.')[2]}3"  # …conv3 or …bn3
        ordered.insert(ordered.index(third), path)
    return ordered


def _numbered(layers: Mapping[str, nn.Module]) -> dict[str, str]:
    """conv2d, conv2d_1, … by class."""
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for path, module in layers.items():
        called = CLASSES[_class_of(module)]
        names[path] = f"{called}_{counts[called]}" if counts[called] else called
        counts[called] += 1
    return names


def _class_of(module: nn.Module) -> type[nn.Module]:
    return next(kind for kind in LEAVES if isinstance(module, kind))


def _naming(dialect: str, layers: Mapping[str, nn.Module], names: Mapping[str, str], eps: float) -> Naming:
    places: dict[str, dict[str, Place]] = {}
    for path, module in layers.items():
        places[path] = {}
        for leaf, theirs in LEAVES[_class_of(module)].items():
            name = f"{names[path]}/{theirs}"
            if leaf != "weight" or isinstance(module, nn.BatchNorm2d):
                # ours has no bias before a batch norm, and theirs mostly has
                places[path][leaf] = Place(name, is_optional=leaf == "bias" and getattr(module, "bias", None) is None)
            elif isinstance(module, nn.Conv2d):
                places[path][leaf] = Place(name, _kernel_to_ours, lambda array: np.ascontiguousarray(array.transpose(2, 3, 1, 0)))
            elif isinstance(module, nn.Linear) and path == "fc6.linear" and module.in_features % 49 == 0:
                places[path][leaf] = _after_maps(name, module.in_features // 49, 7)
            else:
                places[path][leaf] = Place(name, _dense_to_ours, lambda array: np.ascontiguousarray(array.T))
    return Naming(dialect, places, eps=eps if any(isinstance(module, nn.BatchNorm2d) for module in layers.values()) else None)


def _kernel_to_ours(tensor: ForeignTensor) -> ForeignTensor:
    """[H, W, in, out] -> [out, in, H, W]."""
    if len(tensor.shape) != 4:
        return tensor  # its shape will fit nowhere
    height, width, inputs, outputs = tensor.shape
    return tensor.arranged((outputs, inputs, height, width), lambda array: array.transpose(3, 2, 0, 1))


def _dense_to_ours(tensor: ForeignTensor) -> ForeignTensor:
    """[in, out] -> [out, in]."""
    return tensor.arranged(tensor.shape[::-1], lambda array: array.T) if len(tensor.shape) == 2 else tensor


def _after_maps(name: str, maps: int, side: int) -> Place:
    """A fully connected layer that reads flattened maps: [H W C, out] there, [out, C H W] here."""

    def to_ours(tensor: ForeignTensor) -> ForeignTensor:
        if len(tensor.shape) != 2 or tensor.shape[0] != side * side * maps:
            return tensor
        arrange: Callable[[Array], Array] = lambda array: (  # noqa: E731, it is handed on
            array.reshape(side, side, maps, -1).transpose(3, 2, 0, 1).reshape(tensor.shape[1], -1)
        )
        return tensor.arranged(tensor.shape[::-1], arrange)

    def to_theirs(array: Array) -> Array:
        return np.ascontiguousarray(array.reshape(-1, maps, side, side).transpose(2, 3, 1, 0).reshape(side * side * maps, -1))

    return Place(name, to_ours, to_theirs)
