"""A network with weights, in one call."""

import os
from pathlib import Path

from provenet.errors import ModelError, suggest
from provenet.models.catalog import NETWORKS, TOYS, build_network, build_on_meta
from provenet.models.classifier import Classifier, Initialisation
from provenet.weights.bundle import load_bundle


def create_model(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    init: Initialisation = "published",
) -> Classifier:
    """The network of that name: fresh, or with the weights of a bundle.

    With weights and another number of classes the classifier is replaced by a fresh one, drawn in the way that trains by itself, and the
    rest keeps its weights. `torch.manual_seed` decides whatever is fresh; `init` is for networks that are fresh as a whole.
    """
    if weights is None:
        return build_network(name, num_classes=num_classes, in_channels=in_channels, init=init)
    net = load_bundle(weights).network
    if net.name != name:
        raise ModelError(f"{os.fspath(weights)}: expected weights of {name!r}, found {net.name!r}; create that one, or give other weights")
    if in_channels not in (None, net.input_spec.channels):
        raise ModelError(
            f"{os.fspath(weights)}: expected {in_channels} input channels, found {net.input_spec.channels}; leave in_channels out"
        )
    if num_classes not in (None, net.num_classes):
        net.reset_classifier(num_classes)
    return net


def open_network(which: str) -> Classifier:
    """The network of a catalog's name, without memory for its weights, or that of a bundle or run folder. Raises ModelError for neither."""
    if which in NETWORKS or which in TOYS:
        return build_on_meta(which)
    if Path(which).exists():
        return load_bundle(which).network
    raise ModelError(
        f"{which}: expected a network or a bundle, found neither; {suggest(which, NETWORKS)} (provenet models lists all {len(NETWORKS)})"
    )
