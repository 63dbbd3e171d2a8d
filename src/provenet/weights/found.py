"""A network that was recognised in a file, and what the recognition needs to know of our networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import nn

from provenet.models.catalog import build_on_meta
from provenet.models.classifier import Classifier
from provenet.weights.foreign import ForeignFile
from provenet.weights.graphs import Node, layer_of
from provenet.weights.naming import Naming
from provenet.weights.placing import Layer, Norm, units


@dataclass(frozen=True)
class Found:
    """A network whose weights a file holds, and where."""

    net: Classifier
    """On the meta device, with the file's numbers of classes and channels."""
    dialect: str
    why: str
    also_fit: tuple[str, ...] = ()
    """Other networks of equal tensors: only the name could tell them apart."""
    naming: Naming | None = None
    prefix: str = ""
    pairs: Mapping[str, Node] = field(default_factory=dict)
    """By graph: our layers -> nodes of the file."""
    theirs_left: tuple[str, ...] = ()
    """Names in the file that have no place."""
    ours_left: tuple[str, ...] = ()
    """Parameters of ours that the file lacks."""
    dropped: tuple[str, ...] = ()
    """What the file holds besides, and is left out on purpose."""

    def layers(self, file: ForeignFile) -> dict[str, Layer]:
        """The weights, read from the file, by our paths."""
        parts = units(self.net)
        if not self.naming:
            return {path: layer_of(node, self.net.get_parameter(f"{path}.weight").shape) for path, node in self.pairs.items()}
        arrays = {
            f"{path}.{leaf}": place.to_ours(file.tensors[self.prefix + place.name]).read()
            for path, leaves in self.naming.layers.items()
            for leaf, place in leaves.items()
            if self.prefix + place.name in file.tensors
        }
        layers: dict[str, Layer] = {}
        for path, unit in parts.items():
            if f"{path}.weight" not in arrays:
                continue
            norm = None
            if unit.norm_path and f"{unit.norm_path}.running_mean" in arrays:
                at, module = unit.norm_path, self.net.get_submodule(unit.norm_path)
                assert isinstance(module, nn.BatchNorm2d)
                mean = arrays[f"{at}.running_mean"]
                scale, shift = arrays.get(f"{at}.weight"), arrays.get(f"{at}.bias")
                norm = Norm(
                    mean,
                    arrays[f"{at}.running_var"],
                    mean * 0 + 1 if scale is None else scale,
                    mean * 0 if shift is None else shift,
                    module.eps if self.naming.eps is None else self.naming.eps,
                )
            layers[path] = Layer(arrays[f"{path}.weight"], arrays.get(f"{path}.bias"), norm)
        return layers


@cache
def network_on_meta(network: str) -> Classifier:
    """A network by its name, without memory for its weights; the same object each time."""
    return build_on_meta(network, init="trainable")


@cache
def signature(network: str) -> frozenset[tuple[str, torch.Size]]:
    """Names and shapes of a network's tensors: what a file of names cannot tell apart has the same; of the one that is huge, none."""
    return (
        frozenset((name, tensor.shape) for name, tensor in network_on_meta(network).trained_state().items())
        if "1202" not in network
        else frozenset()
    )


def is_for_training(net: Classifier, path: str) -> bool:
    """Whether a layer is a part that only training uses."""
    return path.partition(".")[0] in net.training_parts
