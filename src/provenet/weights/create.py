"""A network with weights, in one call."""

import os
from pathlib import Path

from provenet.errors import ModelError, WeightsError, show_path, suggest
from provenet.models.catalog import NETWORKS, TOYS, build_network, build_on_meta, check_name
from provenet.models.classifier import Classifier, Initialisation
from provenet.weights.bundle import Bundle, is_bundle, load_bundle
from provenet.weights.importer import import_weights
from provenet.weights.sources import find_set
from provenet.weights.store import fetch_set


def create_model(
    name: str,
    *,
    weights: str | os.PathLike[str] | None = None,
    num_classes: int | None = None,
    in_channels: int | None = None,
    init: Initialisation = "published",
) -> Classifier:
    """The network of that name: fresh, or with weights.

    `weights` is a bundle or run folder; a file of torchvision, timm, Keras, ONNX, Caffe or the authors; or the tag of a published set, such
    as `torchvision_v2`, which is fetched once. Its preprocessing is in `input_spec`. With another number of classes the classifier is
    replaced by a fresh one, drawn in the way that trains by itself, and the rest keeps its weights. `torch.manual_seed` decides whatever is
    fresh; `init` is for networks that are fresh as a whole.
    """
    if weights is None:
        return build_network(name, num_classes=num_classes, in_channels=in_channels, init=init)
    check_name(name)
    net = open_weights(weights, name).network
    if net.name != name:
        raise ModelError(f"{os.fspath(weights)}: expected weights of {name!r}, found {net.name!r}; create that one, or give other weights")
    if in_channels not in (None, net.input_spec.channels):
        raise ModelError(
            f"{os.fspath(weights)}: expected {in_channels} input channels, found {net.input_spec.channels}; leave in_channels out"
        )
    if num_classes not in (None, net.num_classes):
        net.reset_classifier(num_classes)
    return net


def open_weights(weights: str | os.PathLike[str], network: str | None = None) -> Bundle:
    """The bundle of what `create_model` takes as weights; `network` names the network where a file fits several, or a tag lacks it."""
    path = Path(weights)
    if os.path.exists(path):
        return load_bundle(path) if os.path.isdir(path) or is_bundle(path) else import_weights(path, network)[0]
    text = os.fspath(weights)
    if isinstance(text, str) and not path.suffix.lower().endswith((".pth", ".pt", ".bin", ".safetensors", ".h5", ".onnx", ".caffemodel")):
        if network and "." not in text:
            text = f"{network}.{text}"
        found = find_set(text)
        tells_itself = found.dialect in ("onnx", "caffe")  # by its graph
        return import_weights(fetch_set(found), None if tells_itself else found.network, preprocessing=found.preprocessing)[0]
    raise WeightsError(f"{show_path(path)}: expected a file of weights, a bundle or the tag of a published set, found none; check the path")


def open_network(which: str) -> Classifier:
    """The network of a catalog's name, without memory for its weights, or that of a bundle or run folder. Raises ModelError for neither."""
    if which in NETWORKS or which in TOYS:
        return build_on_meta(which)
    if Path(which).exists():
        return load_bundle(which).network
    raise ModelError(
        f"{which}: expected a network or a bundle, found neither; {suggest(which, NETWORKS)} (provenet models lists all {len(NETWORKS)})"
    )
