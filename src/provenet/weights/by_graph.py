"""Networks recognised by the graph of a file: what it computes."""

from functools import cache
from typing import NamedTuple

from torch import nn

from provenet.errors import ModelError, WeightsError, show_path
from provenet.models.catalog import NETWORKS, build_on_meta
from provenet.models.classifier import Classifier
from provenet.weights.foreign import ForeignFile
from provenet.weights.found import Found, is_for_training, network_on_meta
from provenet.weights.graphs import Comparison, Graph, Node, graph_of_file, graph_of_network, left_out


def find_by_graph(file: ForeignFile, as_: str | None) -> Found:
    """The network whose graph is the file's, at the size that the file says, else at the network's own."""
    shown = show_path(file.path)
    comparison = Comparison()
    fitting: list[_Candidate] = []
    nearest: tuple[int, str, str] = (-1, "", "")
    for network in (as_,) if as_ else NETWORKS:
        try:
            candidate = _candidate(file, network, is_named=as_ is not None)
        except (ModelError, RuntimeError, IndexError):  # it does not run at this size, or not on such pictures
            continue
        except WeightsError as error:
            raise WeightsError(f"{shown}: {error}") from error
        if candidate is None:
            continue
        pairs = comparison.pair(candidate.theirs, candidate.ours)
        if pairs is not None:
            fitting.append(candidate._replace(pairs=pairs))
        else:
            nearest = max(nearest, (*comparison.first_difference(candidate.theirs, candidate.ours), network))
    if fitting:
        return _likeliest(file, fitting)
    num_alike, difference, network = nearest
    wanted = f"the graph of {as_ or 'a network here'}"
    if num_alike < (0 if as_ else 1):
        raise WeightsError(f"{shown}: expected {wanted}, found another; `provenet models` lists the networks")
    found = "one" if as_ else f"one nearest to {network},"
    raise WeightsError(f"{shown}: expected {wanted}, found {found} which parts from it after {num_alike} operations: {difference}")


class _Candidate(NamedTuple):
    """A network beside the file's graph."""

    net: Classifier
    theirs: Graph
    ours: Graph
    pairs: dict[str, Node]


def _candidate(file: ForeignFile, network: str, *, is_named: bool) -> _Candidate | None:
    """Both graphs, or None for a network that has another number of layers, unless it was named."""
    assert file.graph
    net = network_on_meta(network)
    channels, height, width = file.graph.input_shape or (net.input_spec.channels, net.input_spec.size, net.input_spec.size)
    if channels == height and width in (1, 3):
        raise WeightsError(f"expected channels before height and width, found {channels}x{height}x{width}; export the model channels first")
    if height != width:
        raise WeightsError(f"expected square pictures, found {height}x{width}; export the model for square ones")
    theirs = graph_of_file(file.graph, (channels, height, width))
    num_layers = sum(theirs.nodes[number].kind in ("convolution", "linear") for number in theirs.in_use())
    if theirs.result < 0 or (num_layers != _num_layers(network) and not is_named):
        return None
    net = build_on_meta(network, num_classes=theirs.nodes[theirs.result].shape[0], in_channels=channels, init="trainable")
    net.discard_training_parts()
    return _Candidate(net, theirs, graph_of_network(net, height), {})


def _likeliest(file: ForeignFile, fitting: list[_Candidate]) -> Found:
    """Of networks with the same graph that which has batch norm if the file has it written out, and not if not."""
    has_norms = any(operation.kind == "batch_norm" for operation in (file.graph.operations if file.graph else ()))

    def is_cut_alike(candidate: _Candidate) -> bool:
        return has_norms == any(isinstance(module, nn.BatchNorm2d) for module in candidate.net.modules())

    best = next(filter(is_cut_alike, fitting), fitting[0])
    others = tuple(candidate.net.name for candidate in fitting if candidate is not best)
    why = f"its graph computes what {best.net.name} does"
    if others:
        why += f", and {'has' if has_norms else 'has no'} batch norm of its own"
    return Found(best.net, file.format.lower(), why, others, pairs=best.pairs, dropped=tuple(node.name for node in left_out(best.theirs)))


@cache
def _num_layers(network: str) -> int:
    return sum(
        isinstance(module, nn.Conv2d | nn.Linear) and not is_for_training(network_on_meta(network), path)
        for path, module in network_on_meta(network).named_modules()
    )
