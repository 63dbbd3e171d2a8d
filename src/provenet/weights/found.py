"""A network that was recognised in a file, and what the recognition needs to know of our networks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import torch
from torch import nn

from provenet.models.catalog import build_on_meta
from provenet.models.classifier import Classifier
from provenet.progress import Progress
from provenet.weights.foreign import Array, ForeignFile
from provenet.weights.graphs import Node, layer_of
from provenet.weights.naming import Naming
from provenet.weights.placing import Layer, Norm, Unit, units


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

    def layers(self, file: ForeignFile, progress: Progress | None = None) -> dict[str, Layer]:
        """The weights, read from the file, by our paths."""
        found: dict[str, Layer] = {}
        parts = units(self.net)
        for number, (path, unit) in enumerate(parts.items(), start=1):
            if self.naming:
                layer = self._layer_by_name(file, self.naming, unit)
            else:
                layer = layer_of(self.pairs[path], self.net.get_parameter(f"{path}.weight").shape)
            if layer:
                found[path] = layer
            if progress:
                progress("reading weights", number, len(parts))
        return found

    def _layer_by_name(self, file: ForeignFile, naming: Naming, unit: Unit) -> Layer | None:
        def read(path: str) -> dict[str, Array]:
            places = naming.layers.get(path, {})
            there = {leaf: (place, file.tensors.get(self.prefix + place.name)) for leaf, place in places.items()}
            return {leaf: place.to_ours(tensor).read() for leaf, (place, tensor) in there.items() if tensor is not None}

        own = read(unit.path)
        if "weight" not in own:
            return None
        statistics = read(unit.norm_path) if unit.norm_path else {}
        if not unit.norm_path or not {"running_mean", "running_var"} <= set(statistics):
            return Layer(own["weight"], own.get("bias"))
        module = self.net.get_submodule(unit.norm_path)
        assert isinstance(module, nn.BatchNorm2d)
        mean = statistics["running_mean"]
        norm = Norm(
            mean,
            statistics["running_var"],
            statistics.get("weight", np.ones_like(mean)),
            statistics.get("bias", np.zeros_like(mean)),
            float(file.metadata.get("epsilon") or naming.eps or module.eps),
        )
        return Layer(own["weight"], own.get("bias"), norm)


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
