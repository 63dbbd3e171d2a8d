"""Which network a file's weights are of: by the graph where it has one, else by the names and shapes of its tensors."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cache
from math import prod

import torch
from torch import nn

from provenet.errors import ModelError, WeightsError, printable, show_path
from provenet.models.catalog import NETWORKS, TOYS, build_on_meta, check_name
from provenet.models.classifier import Classifier
from provenet.weights.foreign import ForeignFile
from provenet.weights.graphs import Comparison, Graph, Node, graph_of_file, graph_of_network, layer_of, left_out
from provenet.weights.keras_names import KERAS, keras_names
from provenet.weights.naming import Naming
from provenet.weights.placing import Layer, Norm, units
from provenet.weights.state_dict_names import TIMM, TORCHVISION, authors_names, our_names, timm_names, torchvision_names

PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "backbone.")
"""What wrappers put before every name: parallel training, compilation, a module around the network."""

AUTHORS = ("alexnet_bvlc", "caffenet", "googlenet", "vgg16", "vgg19", "resnet50", "resnet101", "resnet152")
"""Networks whose authors, or Caffe's, have published weights under these names; the likelier of two with equal shapes first."""

DIALECTS = {
    "torchvision": (torchvision_names, tuple(TORCHVISION)),
    "timm": (timm_names, tuple(TIMM)),
    "keras": (keras_names, tuple(KERAS)),
    "authors": (authors_names, AUTHORS),
    "provenet": (our_names, tuple(NETWORKS) + tuple(TOYS)),
}
"""How each dialect names a network's parameters, and the networks that it has, the likelier first."""


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


def recognise(file: ForeignFile, as_: str | None = None, without: Sequence[str] = ()) -> Found:
    """The network of a file, or that named by `as_`, with what of either side is left over.

    `without` are patterns of names that may be left over on either side; all others are an error. Raises WeightsError where no network
    fits, with the nearest and where it parts from the file.
    """
    if as_ is not None:
        check_name(as_)
    if file.graph:
        return _by_graph(file, as_)
    if not file.tensors:
        raise WeightsError(f"{show_path(file.path)}: expected weights, found no tensor in it; get another file")
    candidates: list[Found] = []
    for found in _by_names(file, as_):
        candidates.append(found)
        if not _badness(found)[0]:
            break  # all there is on both sides; dialects and networks come in the order of their likelihood
    best = _named(min(candidates, key=_badness), file, as_) if candidates else None
    if best is None:
        raise _unknown(file)
    theirs = [name for name in best.theirs_left if not _matches(name, without)]
    ours = [name for name in best.ours_left if not _matches(name, without)]
    if theirs or ours:
        num_places = sum(len(leaves) for leaves in (best.naming or Naming("", {})).layers.values())
        if len(ours) * 2 > num_places:
            raise _unknown(file)
        raise WeightsError(
            f"{show_path(file.path)}: nearest to {best.net.name} as {best.dialect} names it, but {_count(theirs, 'of its tensors')} without "
            f"a place ({_some(theirs)}) and {_count(ours, 'of ours')} not in it ({_some(ours)}); "
            "name what may be left with --without PATTERN"
        )
    return best


def _unknown(file: ForeignFile) -> WeightsError:
    return WeightsError(
        f"{show_path(file.path)}: expected names and shapes of a network here, found {len(file.tensors)} tensors of another "
        f"({_some(list(file.tensors))}); `provenet models` lists the networks, --as names one"
    )


def _named(found: Found, file: ForeignFile, as_: str | None) -> Found:
    """The same with why this network, and which others have equal tensors; of those the file's own name may choose."""
    if as_:
        return replace(found, why="--as names it")
    network, dialect = found.net.name, found.dialect
    family = re.match("[a-z]+", network)
    relatives = [other for other in NETWORKS if family and other.startswith(family[0]) and other != network]
    also = [other for other in relatives if _signature(other) == _signature(network)]
    stem = file.path.stem.lower()
    if dialect in ("authors", "provenet") and (told := [name for name in also if name in stem]) and network not in stem:
        better = next((other for other in _by_names(file, told[0]) if other.dialect == dialect), None)
        if better:
            rest = tuple(name for name in (network, *also) if name != told[0])
            return replace(better, why="its names and shapes fit, and the file's own name says so", also_fit=rest)
    theirs = (TORCHVISION if dialect == "torchvision" else TIMM if dialect == "timm" else KERAS).get(network, network)
    whose = {"authors": "the authors'", "provenet": "our"}.get(dialect, f"{dialect}'s")
    why = f"its names and shapes are those of {whose} {theirs}"
    if also:
        why += ", of networks with equal tensors the likeliest"
    return replace(found, why=why, also_fit=tuple(also))


def _badness(found: Found) -> tuple[int, int]:
    return len(found.theirs_left) + len(found.ours_left), len(found.dropped)


def _by_names(file: ForeignFile, as_: str | None) -> Iterator[Found]:
    """Every network in every dialect whose names the file has, the likelier first."""
    for prefix in _prefixes(file):
        names = {name.removeprefix(prefix): tensor for name, tensor in file.tensors.items()}
        for dialect, (namings, networks) in DIALECTS.items():
            for network in (as_,) if as_ else networks:
                if not as_ and "1202" in network and len(names) < 5000:
                    continue  # the only one that takes seconds to build
                for naming in namings(_on_meta(network)):
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
    net = _on_meta(network)
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
    dropped = tuple(name for name in rest if _matches(name, naming.leave_out))
    missing = tuple(ours for ours, place in places.items() if not place.is_optional and (ours not in present or ours in unfit))
    for part in net.training_parts:
        missing = tuple(name for name in missing if not name.startswith(f"{part}."))
    shown = tuple(f"{name} {'x'.join(map(str, file.tensors[prefix + name].shape))}" if name in {p.name for p in present.values()} else name
                  for name in rest if name not in dropped)  # fmt: skip
    net.discard_training_parts()
    return Found(net, naming.dialect, "", (), naming, prefix, {}, shown, missing, dropped)


def _same_shape(theirs: tuple[int, ...], ours: tuple[int, ...]) -> bool:
    """A fully connected layer may be a 1x1 convolution there, or the other way round."""
    return theirs == ours or (prod(theirs) == prod(ours) and theirs[:1] == ours[:1] and theirs[1:2] == ours[1:2])


def _by_graph(file: ForeignFile, as_: str | None) -> Found:
    """The network whose graph is the file's, at the size that the file says, else at the network's own."""
    assert file.graph
    shown = show_path(file.path)
    comparison = Comparison()
    fitting: list[tuple[str, Classifier, dict[str, Node], Graph]] = []
    nearest: tuple[int, str, str] = (-1, "", "")
    for network in (as_,) if as_ else NETWORKS:
        net = _on_meta(network)
        picture = file.graph.input_shape or (net.input_spec.channels, net.input_spec.size, net.input_spec.size)
        if picture[1] != picture[2] or ("1202" in network and not as_):
            continue
        try:
            theirs = graph_of_file(file.graph, picture)
            shape = theirs.nodes[theirs.result].shape if theirs.result >= 0 else ()
            if not shape or _num_layers(network) != sum(
                node.kind in ("convolution", "linear") for node in map(theirs.nodes.__getitem__, theirs.in_use())
            ):
                if not as_:
                    continue
            net = build_on_meta(network, num_classes=shape[0], in_channels=picture[0], init="trainable")
            net.discard_training_parts()
            ours = graph_of_network(net, picture[1])
        except (ModelError, RuntimeError, IndexError):
            continue
        except WeightsError as error:
            raise WeightsError(f"{shown}: {error}") from error
        pairs = comparison.pair(theirs, ours)
        if pairs is not None:
            fitting.append((network, net, pairs, theirs))
            continue
        alike, difference = comparison.first_difference(theirs, ours)
        nearest = max(nearest, (alike, network, difference))
    if not fitting:
        if nearest[0] > 0:
            raise WeightsError(
                f"{shown}: expected the graph of {'that' if as_ else 'a'} network here, found one nearest to {nearest[1]}, which parts from "
                f"it after {nearest[0]} operations: {nearest[2]}"
            )
        raise WeightsError(f"{shown}: expected the graph of a network here, found another; `provenet models` lists the networks")
    return _likeliest(file, fitting)


def _likeliest(file: ForeignFile, fitting: list[tuple[str, Classifier, dict[str, Node], Graph]]) -> Found:
    """Of networks with the same graph that which has batch norm if the file has it written out, and not if not."""
    has_norms = any(operation.kind == "batch_norm" for operation in (file.graph.operations if file.graph else ()))

    def fits_norms(net: Classifier) -> bool:
        return has_norms == any(isinstance(module, nn.BatchNorm2d) for module in net.modules())

    network, net, pairs, theirs = next((entry for entry in fitting if fits_norms(entry[1])), fitting[0])
    others = tuple(name for name, *_ in fitting if name != network)
    why = f"its graph computes what {network} does"
    if others:
        why += f", and {'has' if has_norms else 'has no'} batch norm of its own"
    dialect = {"ONNX": "onnx", "Caffe": "caffe"}.get(file.format, file.format)
    used = [node.name for node in left_out(theirs)]
    return Found(net, dialect, why, others, pairs=pairs, dropped=tuple(used))


def _prefixes(file: ForeignFile) -> list[str]:
    """What all names begin with, and nothing."""
    found = [""]
    for prefix in PREFIXES:
        longer = found[-1] + prefix
        if file.tensors and all(name.startswith(longer) for name in file.tensors):
            found.append(longer)
    return found


def _ends(net: Classifier) -> tuple[str, str]:
    """Paths of the first and the last layer with weights."""
    paths = [path for path, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear) and not _trains_only(net, path)]
    return (paths[0], paths[-1]) if paths else ("", "")


def _trains_only(net: Classifier, path: str) -> bool:
    return path.partition(".")[0] in net.training_parts


@cache
def _on_meta(network: str) -> Classifier:
    return build_on_meta(network, init="trainable")


@cache
def _num_layers(network: str) -> int:
    return sum(
        isinstance(module, nn.Conv2d | nn.Linear) and not _trains_only(_on_meta(network), path)
        for path, module in _on_meta(network).named_modules()
    )


@cache
def _signature(network: str) -> frozenset[tuple[str, torch.Size]]:
    return (
        frozenset((name, tensor.shape) for name, tensor in _on_meta(network).trained_state().items())
        if "1202" not in network
        else frozenset()
    )


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name.partition(" ")[0], pattern) for pattern in patterns)


def _count(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what} {'is' if len(names) == 1 else 'are'}"


def _some(names: Sequence[str]) -> str:
    return printable(", ".join(names[:4]) + (" …" if len(names) > 4 else "") if names else "none")[:300]
