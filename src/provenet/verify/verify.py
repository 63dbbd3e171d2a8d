"""Networks as built against the tables of their papers."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import nn

from provenet.errors import ModelError
from provenet.inspection.trace import count_operations, loss_weights, trace
from provenet.inspection.tracer import Traced
from provenet.models.blocks import FlattenMaps
from provenet.models.catalog import build_network
from provenet.models.classifier import Classifier
from provenet.models.lenet import count_connections
from provenet.papers.listing import list_networks
from provenet.papers.paper import Paper, PublishedNetwork, find_paper
from provenet.preprocessing import Preprocessing
from provenet.progress import Progress
from provenet.runtime import seeded
from provenet.verify.arithmetic import NAME as ARITHMETIC
from provenet.verify.arithmetic import verify_arithmetic
from provenet.verify.checks import Check, NetworkVerification, Verification
from provenet.verify.computations import check_computations
from provenet.verify.rows import check_printed, check_rows, show
from provenet.verify.start import check_start

SILENT_LAYERS = (nn.ReLU, nn.Identity, FlattenMaps)
"""They may run without standing in a paper's order."""

EVERYTHING = ("*", ARITHMETIC)


def verify(names: str | Sequence[str] = EVERYTHING, *, progress: Progress | None = None) -> Verification:
    """Networks against their papers: every row of the papers' tables, and how the weights begin.

    `names` may be patterns such as `vgg*`; `arithmetic` is that of courses. By default everything. Raises ModelError for a name or
    pattern that fits no network.
    """
    patterns = [names] if isinstance(names, str) else list(names)
    if not patterns:
        raise ModelError("verify: expected names of networks, found none; leave them out for all")
    of_networks = [pattern for pattern in patterns if pattern != ARITHMETIC]
    names = [row.name for row in list_networks(of_networks)]
    if ARITHMETIC in patterns:
        names.append(ARITHMETIC)
    verified = []
    for k, name in enumerate(names):
        if progress:
            progress("verifying", k, len(names))
        with seeded(0):
            verified.append(verify_arithmetic() if name == ARITHMETIC else verify_network(build_network(name)))
    if progress:
        progress("verifying", len(names), len(names))
    return Verification(tuple(verified))


def verify_network(net: Classifier) -> NetworkVerification:
    """One network, as built, against what its paper prints of the network of its name; how weights begin only where there are any."""
    paper = find_paper(net.name)
    if paper is None:
        raise ModelError(f"{net.name}: expected a network of the papers' tables, found none of that name; add its row to papers/")
    published = paper.networks[net.name]
    misprints = tuple(misprint for misprint in paper.misprints if net.name in misprint.networks)
    traced = trace(net).modules
    checks = [
        *_check_whole(net, paper, published, traced),
        *check_rows(net, published.rows, traced, misprints),
        *check_computations(net),
        *check_start(net, published.init),
    ]
    if published.auxiliary:
        checks += check_rows(net, published.auxiliary, trace(net, training=True).modules, misprints)
    return NetworkVerification(net.name, paper.citation, tuple(checks), misprints)


def _check_whole(net: Classifier, paper: Paper, published: PublishedNetwork, traced: dict[str, Traced]) -> Iterator[Check]:
    spec, totals = net.input_spec, published.totals
    shape = (spec.channels, spec.size, spec.size)
    yield Check("network: input", show(published.input), show(shape), ok=shape == published.input)
    yield Check("network: classes", show(published.classes), show(net.num_classes), ok=net.num_classes == published.classes)
    wanted, found = published.order, _order(net, published, traced)
    at = next((k for k, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), min(len(wanted), len(found)))
    same = wanted == found
    yield Check(
        "network: order",
        f"{len(wanted)} layers" if same else f"{' '.join(wanted[at : at + 3]) or 'no more'} after {wanted[at - 1] if at else 'the input'}",
        f"{len(found)} layers" if same else f"{' '.join(found[at : at + 3]) or 'no more'}",
        ok=same,
    )
    misprints = tuple(misprint for misprint in paper.misprints if net.name in misprint.networks)
    macs = sum(traced[name].macs for name in net.stages if name in traced)
    weights = sum(
        layer.weight.numel() for stage in net.stages.values() for layer in stage.modules() if isinstance(layer, nn.Conv2d | nn.Linear)
    )
    auxiliary = sum(parameter.numel() for parameter in net.parameters()) - net.num_parameters
    values: dict[str, Callable[[], Any]] = {
        "parameters": lambda: net.num_parameters,
        "macs": lambda: macs,
        "connections": lambda: sum(count_connections(net).values()),
        "auxiliary_parameters": lambda: auxiliary,
        "black": lambda: round(-spec.preprocessing.mean[0] / spec.preprocessing.std[0], 9),
        "white": lambda: round((spec.preprocessing.white - spec.preprocessing.mean[0]) / spec.preprocessing.std[0], 9),
        "auxiliary_weight": lambda: sum(loss_weights(net)[1:]) / max(1, len(loss_weights(net)) - 1),
        "operations": lambda: count_operations(net),
        "preprocessing": lambda: describe(spec.preprocessing),
    }
    for field, expected in totals.items():
        what = f"network: {field}"
        if field in ("printed_parameters", "printed_macs"):
            yield check_printed(what, expected, (net.num_parameters, weights) if field == "printed_parameters" else (macs,), misprints)
        elif field in values:
            exact = values[field]()
            yield Check(what, show(expected), show(exact), ok=exact == expected)
        else:
            sums = sum(
                int(str(row_check.found).replace(",", ""))
                for row_check in check_rows(
                    net, {name: {field: row[field]} for name, row in published.rows.items() if field in row}, traced, ()
                )
            )
            yield Check(what, show(expected), show(sums), ok=sums == expected)


def describe(preprocessing: Preprocessing) -> str:
    """What is done to pixels before the network sees them, in a line."""
    scale = "0 to 255" if preprocessing.white == 255 else f"0 to {preprocessing.white:g}"
    mean, std = (" ".join(f"{value:g}" for value in values) for values in (preprocessing.mean, preprocessing.std))
    over = "" if set(preprocessing.std) == {1.0} else f", over {std}"
    squashed = "squashed, " if preprocessing.fit == "squash" else ""
    return f"side {preprocessing.resize}, {squashed}{preprocessing.channel_order} of {scale}, minus {mean}{over}"


def _order(net: Classifier, published: PublishedNetwork, traced: dict[str, Traced]) -> tuple[str, ...]:
    """What ran, by the names of the paper's order; layers beside it by their own, so that one too many is seen."""
    listed = {net.authors_names.get(name, name): name for name in published.order}
    found = []
    for path in traced:
        layer = net.get_submodule(path)
        is_inside = any(path.startswith(f"{other}.") for other in listed)
        if path in listed and not isinstance(layer, nn.Identity):
            found.append(listed[path])
        elif not is_inside and not list(layer.children()) and not isinstance(layer, SILENT_LAYERS):
            found.append(path)
    return tuple(found)
