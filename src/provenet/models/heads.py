"""Networks with a head of one's own, and networks that end early: what transfer makes of a published one.

A head reads what the last stage that is kept gives: its numbers [N, F], or of maps [N, F, H, W] the mean of each.

    own         the network's own last stage, for another number of classes
    linear      one fully connected layer
    mlp:512     a hidden layer of 512 units with ReLU, then a fully connected layer; mlp:512,256 has two hidden layers
"""

from collections import OrderedDict
from functools import partial

import torch
from torch import nn

from provenet.errors import ModelError, suggest
from provenet.models.blocks import GlobalAverage
from provenet.models.classifier import Classifier, like
from provenet.models.initialisation import fill, he_normal, normal

OWN = "own"
LINEAR = "linear"
HEAD_STAGE = "head"
"""Name of the last stage of a network that ends early."""
MOST_HIDDEN_LAYERS, MOST_UNITS = 8, 65_536


def hidden_units(head: str) -> tuple[int, ...]:
    """Units of each hidden layer of a head that is described in words. Raises ModelError for words that describe none.

    >>> hidden_units("linear"), hidden_units("mlp:512,256")
    ((), (512, 256))
    """
    if head == LINEAR:
        return ()
    kind, _, units = head.partition(":")
    found = units.split(",")
    if kind == "mlp" and len(found) <= MOST_HIDDEN_LAYERS and all(unit.isascii() and unit.isdigit() and len(unit) < 6 for unit in found):
        widths = tuple(map(int, found))
        if all(1 <= width <= MOST_UNITS for width in widths):
            return widths
    raise ModelError(
        f"head (--head): expected own, linear or mlp:UNITS such as mlp:512 or mlp:512,256 (at most {MOST_HIDDEN_LAYERS} layers of at most "
        f"{MOST_UNITS:,} units), found {head!r}"
    )


def is_head_in_words(head: str) -> bool:
    """Whether these words describe a head of ours."""
    try:
        hidden_units(head)
    except ModelError:
        return False
    return True


def make_head(hidden: tuple[int, ...], num_features: int, reads_maps: bool, num_classes: int) -> nn.Module:
    """A fresh head: features [N, F], or maps [N, F, H, W], -> logits [N, K]; a single linear layer where that is all it is."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if reads_maps:
        layers["pool"] = GlobalAverage()
    for number, units in enumerate(hidden, start=1):
        layers[f"linear{number}"], layers[f"relu{number}"] = nn.Linear(num_features, units), nn.ReLU()
        fill(layers[f"linear{number}"], he_normal)  # type: ignore[arg-type]  # a Linear
        num_features = units
    layers["linear"] = nn.Linear(num_features, num_classes)
    fill(layers["linear"], normal(0.01))  # type: ignore[arg-type]
    return layers["linear"] if len(layers) == 1 else nn.Sequential(layers)


def adapt(net: Classifier, *, num_classes: int, head: str | nn.Module = OWN, ends_after: str = "") -> Classifier:
    """The network with a fresh head, after its last stage but one or, shorter, after the stage `ends_after`.

    The network is changed, or its stages are handed on to a shorter one; either way use what is returned. Auxiliary heads are left out:
    they are for training from the first layer on. `torch.manual_seed` decides the fresh weights. A head may also be any module that
    gives logits [N, K] of what the last kept stage gives; a network with such a head is code, and no bundle. Raises ModelError for a
    stage that is not there, or a head that makes no sense.
    """
    names = list(net.stages)
    if ends_after and ends_after not in names[:-1]:
        raise ModelError(
            f"{net.name}: expected one of its stages before the last to end after (--ends-after), found {ends_after!r}; "
            f"{suggest(ends_after, names[:-1])}"
        )
    if head == OWN and ends_after:
        head = LINEAR
    net.discard_training_parts()
    if ends_after:
        net = _shorter(net, ends_after)
    features = net.stage_shapes()[list(net.stages)[-2]]
    if isinstance(head, nn.Module):
        net.num_classes, net.own_head = num_classes, f"{type(head).__name__} (code)"
        net.add_module(list(net.stages)[-1], like(next(net.parameters()), head).train(net.training))
        return net
    if head != OWN:
        hidden = hidden_units(head)
        is_plain = not hidden and not ends_after and isinstance(net.get_classifier(), nn.Linear) and not net.own_head
        net.own_head = "" if is_plain else head  # one linear layer in the place of one is the network of the catalog
        net.replace_classifier(
            partial(make_head, hidden, features[0], len(features) == 3),
            GlobalAverage if len(features) == 3 else nn.Identity,
            num_features=features[0],
        )
    net.reset_classifier(num_classes)
    return net


def _shorter(net: Classifier, last: str) -> Classifier:
    """The stages up to `last`, then a place for a head."""
    names = list(net.stages)
    kept = names[: names.index(last) + 1]
    shorter = Classifier(
        name=net.name,
        stages={name: stage for name, stage in net.stages.items() if name in kept} | {HEAD_STAGE: nn.Identity()},
        head=HEAD_STAGE,
        num_features=0,
        num_classes=0,
        make_classifier=nn.Identity,
        input_spec=net.input_spec,
    )
    shorter.ends_after = last
    is_kept = {theirs: path for theirs, path in net.authors_names.items() if path.partition(".")[0] in kept}
    shorter.authors_names = is_kept
    shorter.authors_operations = {theirs: path for theirs, path in net.authors_operations.items() if path.partition(".")[0] in kept}
    return shorter.train(net.training)


def read_channels(net: Classifier, channels: int) -> None:
    """Change the first convolution so that it reads grey pictures (1) instead of coloured ones (3), or the reverse.

    A grey picture gives what it gave as a coloured one of three equal channels: kernels are summed over channels, or shared out evenly.
    Exact inside the picture where all channels are normalised alike. Raises ModelError where there is no such layer.
    """
    now = net.input_spec.channels
    first = next(iter(net.stages.values()))
    layer = next((module for module in first.modules() if isinstance(module, nn.Conv2d) and module.in_channels == now), None)
    if layer is None or {now, channels} != {1, 3} or layer.groups != 1:
        raise ModelError(f"{net.name}: expected a first layer that can read {channels} channels instead of {now}, found none")
    with torch.no_grad():
        summed = layer.weight.sum(1, keepdim=True)
        layer.weight = nn.Parameter(summed if channels == 1 else summed.expand(-1, channels, -1, -1) / channels)
    layer.in_channels = channels
    net.input_spec = net.input_spec.with_channels(channels)
