"""Networks recognised by the names and shapes of a file's tensors."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from math import prod

from torch import nn

from provenet.errors import ModelError
from provenet.models.catalog import NETWORKS, TOYS, build_on_meta
from provenet.models.classifier import Classifier
from provenet.weights.foreign import ForeignFile
from provenet.weights.found import Found, is_for_training, network_on_meta, signature
from provenet.weights.keras_names import KERAS, keras_names
from provenet.weights.naming import Naming
from provenet.weights.state_dict_names import TIMM, TORCHVISION, authors_names, our_names, timm_names, torchvision_names

WHOSE = {
    "torchvision": "torchvision's",
    "timm": "timm's",
    "keras": "Keras'",
    "keras of 2016": "the Keras of 2016's",
    "keras by number": "Keras 3's",
    "authors": "the authors'",
    "provenet": "our",
}
"""Dialects, as a report speaks of them."""

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
"""What wrappers put before every name: parallel training, compilation, a module around the network."""

AUTHORS = ("alexnet_bvlc", "caffenet", "googlenet", "vgg16", "vgg19", "resnet50_caffe", "resnet101_caffe", "resnet152_caffe")
"""Networks whose authors, or Caffe's, have published weights under these names; the likelier of two with equal shapes first."""

DIALECTS = {
    "torchvision": (torchvision_names, tuple(TORCHVISION)),
    "timm": (timm_names, tuple(TIMM)),
    "keras": (keras_names, tuple(KERAS)),
    "authors": (authors_names, AUTHORS),
    "provenet": (our_names, tuple(NETWORKS) + tuple(TOYS)),
}
"""How each dialect names a network's parameters, and the networks that it has, the likelier first."""


def find_by_names(file: ForeignFile, as_: str | None) -> Iterator[Found]:
    """Every network in every dialect whose names the file has, the likelier first."""
    for prefix in _prefixes(file):
        names = {name.removeprefix(prefix): tensor for name, tensor in file.tensors.items()}
        for namings, networks in DIALECTS.values():
            for network in (as_,) if as_ else networks:
                if not as_ and "1202" in network and len(names) < 5000:
                    continue  # the only one that takes seconds to build
                for naming in namings(network_on_meta(network)):
                    found = _fit(file, names, prefix, network, naming)
                    if found:
                        yield found


def _fit(file: ForeignFile, names: Mapping[str, object], prefix: str, network: str, naming: Naming) -> Found | None:
    """How well a naming fits, or None where no name does or the number of classes cannot be told."""
    places = {f"{path}.{leaf}": place for path, leaves in naming.layers.items() for leaf, place in leaves.items()}
    present = {ours: place for ours, place in places.items() if place.name in names}
    if len(present) * 2 < len(places) and len(present) < 8:
        return None
    shapes = {ours: place.to_ours(file.tensors[prefix + place.name]).shape for ours, place in present.items()}
    net = network_on_meta(network)
    first, last = _ends(net)
    classes = shapes.get(f"{last}.weight", (net.num_classes,))[0]
    channels = shapes.get(f"{first}.weight", (0, net.input_spec.channels))[1]
    try:
        net = build_on_meta(network, num_classes=classes, in_channels=channels, init="trainable")
    except (ModelError, RuntimeError):
        return None
    expected = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    unfit = {ours for ours, shape in shapes.items() if ours in expected and not _same_shape(shape, tuple(expected[ours].shape))}
    used = {place.name for ours, place in present.items() if ours not in unfit}
    rest = [name for name in names if name not in used]
    dropped = tuple(name for name in rest if matches(name, naming.leave_out))
    missing = tuple(ours for ours, place in places.items() if not place.is_optional and (ours not in present or ours in unfit))
    for part in net.training_parts:
        missing = tuple(name for name in missing if not name.startswith(f"{part}."))
    shown = tuple(f"{name} {'x'.join(map(str, file.tensors[prefix + name].shape))}" if name in {p.name for p in present.values()} else name
                  for name in rest if name not in dropped)  # fmt: skip
    net.discard_training_parts()
    return Found(net, naming.dialect, "", (), naming, prefix, {}, shown, missing, dropped)


def with_reason(found: Found, file: ForeignFile, as_: str | None) -> Found:
    """The same with why this network, and which others have equal tensors; of those the file's own name may choose."""
    if as_:
        return replace(found, why="--as names it")
    network, dialect = found.net.name, found.dialect
    relatives = [other for other in NETWORKS if other != network and _family(other) == _family(network)]
    also = [other for other in relatives if signature(other) == signature(network)]
    stem = file.path.stem.lower()
    if dialect in ("authors", "provenet") and (told := [name for name in also if name in stem]) and network not in stem:
        better = next((other for other in find_by_names(file, told[0]) if other.dialect == dialect), None)
        if better:
            rest = tuple(name for name in (network, *also) if name != told[0])
            return replace(better, why="its names and shapes fit, and the file's own name says so", also_fit=rest)
    theirs = (TORCHVISION if dialect == "torchvision" else TIMM if dialect == "timm" else KERAS).get(network, network)
    why = f"its names and shapes are those of {WHOSE[dialect]} {theirs}"
    if also:
        why += ", of networks with equal tensors the likeliest"
    return replace(found, why=why, also_fit=tuple(also))


def _family(network: str) -> str:
    """Networks that may have equal tensors."""
    word = re.split("[^a-z]", network)[0]
    return {"caffenet": "alexnet", "plain": "resnet"}.get(word, word)


def _same_shape(theirs: tuple[int, ...], ours: tuple[int, ...]) -> bool:
    """A fully connected layer may be a 1x1 convolution there, or the other way round."""
    return theirs == ours or (prod(theirs) == prod(ours) and theirs[:1] == ours[:1] and theirs[1:2] == ours[1:2])


def _prefixes(file: ForeignFile) -> list[str]:
    """What all names begin with, and nothing."""
    found = [""]
    for prefix in PREFIXES:
        longer = found[-1] + prefix
        if file.tensors and all(name.startswith(longer) for name in file.tensors):
            found.append(longer)
    return found


def _ends(net: Classifier) -> tuple[str, str]:
    """Paths of the first layer with weights, and of the last where it gives a number for each class."""
    layers = [(path, module) for path, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    layers = [(path, module) for path, module in layers if not is_for_training(net, path)]
    (first, _), (last, module) = layers[0], layers[-1]
    return first, last if len(module.get_parameter("weight")) == net.num_classes else ""


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether a name, which its shape may follow, is meant by one of the patterns."""
    return any(fnmatchcase(name.partition(" ")[0], pattern) for pattern in patterns)
