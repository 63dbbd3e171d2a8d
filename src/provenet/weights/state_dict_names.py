"""What torchvision, timm and the authors call the parameters of our networks.

Patterns are read from left to right: a path of ours, with `{b}` for the number of a block or module, gives the name there. Both
libraries number from 0, so `{b-1}` is the number less one. Names are made for each network that we have and looked for in the file; a
network that a library does not have gives names all the same, for whoever trained `resnet50` as published under torchvision's names.
"""

import re
from collections.abc import Iterator, Mapping

from torch import nn

from provenet.models.classifier import Classifier
from provenet.weights.naming import Naming, Place, as_it_is, reshaped

TORCHVISION = {
    "alexnet_owt": "alexnet",
    **{name: name for depth in (11, 13, 16, 19) for name in (f"vgg{depth}", f"vgg{depth}_bn")},
    "googlenet_bn": "googlenet",
    "resnet18": "resnet18",
    "resnet34": "resnet34",
    **{f"resnet{depth}_v1_5": f"resnet{depth}" for depth in (50, 101, 152)},
}
"""Our networks that torchvision has -> its names."""

TIMM = {ours: theirs for ours, theirs in TORCHVISION.items() if ours.startswith(("vgg", "resnet"))}

RESNET = {
    "conv1.conv": "conv1",
    "conv1.bn": "bn1",
    "conv{s}_x.block{b}.conv{k}": "layer{s-1}.{b-1}.conv{k}",
    "conv{s}_x.block{b}.bn{k}": "layer{s-1}.{b-1}.bn{k}",
    "conv{s}_x.block{b}.shortcut.conv": "layer{s-1}.{b-1}.downsample.0",
    "conv{s}_x.block{b}.shortcut.bn": "layer{s-1}.{b-1}.downsample.1",
    "fc": "fc",
}

# A unit is a convolution and its batch norm.
GOOGLENET = {
    "conv1.conv.{u}": "conv1.{u}",
    "conv2.reduce.{u}": "conv2.{u}",
    "conv2.conv.{u}": "conv3.{u}",
    "inception_{m}.column1.conv.{u}": "inception{m}.branch1.{u}",
    "inception_{m}.column3.reduce.{u}": "inception{m}.branch2.0.{u}",
    "inception_{m}.column3.conv.{u}": "inception{m}.branch2.1.{u}",
    "inception_{m}.column5.reduce.{u}": "inception{m}.branch3.0.{u}",
    "inception_{m}.column5.conv.{u}": "inception{m}.branch3.1.{u}",
    "inception_{m}.column_pool.project.{u}": "inception{m}.branch4.1.{u}",
    "fc": "fc",
}

ALEXNET = {
    **{f"conv{number}.conv": f"features.{index}" for number, index in zip((1, 2, 3, 4, 5), (0, 3, 6, 8, 10), strict=True)},
    **{layer: f"classifier.{index}" for layer, index in zip(("fc6.linear", "fc7.linear", "fc8"), (1, 4, 6), strict=True)},
}

VGG_HEADS = {
    "torchvision": {"fc6.linear": "classifier.0", "fc7.linear": "classifier.3", "fc8": "classifier.6"},
    "timm": {"fc6.linear": "pre_logits.fc1", "fc7.linear": "pre_logits.fc2", "fc8": "head.fc"},
}

STATISTICS = "*num_batches_tracked"
"""How many batches a batch norm has seen: of use to nobody who does not go on training with its settings."""


def torchvision_names(net: Classifier) -> list[Naming]:
    """The one naming of torchvision, for the networks of its families; of others none."""
    return [_naming("torchvision", net, names, ("aux1.*", "aux2.*", STATISTICS)) for names in _names(net, "torchvision")]


def timm_names(net: Classifier) -> list[Naming]:
    """The one naming of timm; it has the ResNets under torchvision's names, and VGG's first fully connected layers as convolutions."""
    return [_naming("timm", net, names, (STATISTICS,)) for names in _names(net, "timm") if net.name.startswith(("vgg", "resnet", "plain"))]


def authors_names(net: Classifier) -> list[Naming]:
    """Layer names of the authors' releases: `res2a_branch2a.weight`; the scale of a batch norm under its own name or under `scale…`."""
    if not net.authors_names:
        return []
    layers = dict(_layers(net))
    first: dict[str, str] = {}
    scales: dict[str, str] = {}
    for theirs, path in net.authors_names.items():
        if path in layers:
            (scales if theirs.startswith("scale") else first).setdefault(path, theirs)
    for path in layers:
        if "." not in path:  # the stage has their name already: fc8
            first.setdefault(path, path)
    heads = ("loss1*", "loss2*", STATISTICS)
    namings = [_naming("authors", net, first, heads)]
    if scales:
        naming = _naming("authors", net, first, heads)
        split = {
            path: {leaf: Place(f"{scales[path]}.{leaf}") if path in scales and leaf in ("weight", "bias") else place
                   for leaf, place in leaves.items()}
            for path, leaves in naming.layers.items()
        }  # fmt: skip
        namings.append(Naming("authors", split, leave_out=heads))
    return namings


def our_names(net: Classifier) -> list[Naming]:
    """The names of our own modules: a `state_dict()` that is in no bundle."""
    return [_naming("provenet", net, {path: path for path, _ in _layers(net)}, (*(f"{part}.*" for part in net.training_parts), STATISTICS))]


def _names(net: Classifier, library: str) -> Iterator[dict[str, str]]:
    """Our layer paths -> names there."""
    if net.name.startswith("vgg"):
        yield {**_numbered(net), **VGG_HEADS[library]}
    patterns = {"alexnet": ALEXNET, "googlenet": GOOGLENET, "resnet": RESNET, "plain": RESNET}
    for family, table in patterns.items():
        if net.name.startswith(family) and not net.name.endswith("_cifar"):
            yield {path: name for path, _ in _layers(net) if (name := translate(path, table)) is not None}


def _numbered(net: Classifier) -> dict[str, str]:
    """VGG's convolutions by their place in one sequence with its batch norms, ReLUs and pools."""
    layers = [f"{stage_name}.{name}" for stage_name, stage in net.stages.items() if stage_name.startswith("conv")
              for name, _ in stage.named_children() if name != "norm"]  # fmt: skip
    return {path: f"features.{index}" for index, path in enumerate(layers)}


def translate(path: str, table: Mapping[str, str]) -> str | None:
    """The name there of a path of ours, by a table of patterns.

    >>> translate("conv2_x.block3.conv1", RESNET), translate("conv1.norm", RESNET)
    ('layer1.2.conv1', None)
    """
    for pattern, name in table.items():
        found = re.fullmatch(re.sub(r"\\{(\w)\\}", r"(?P<\1>\\w+)", re.escape(pattern)), path)
        if found:
            numbers = found.groupdict()
            less_one = {f"{key}-1": str(int(value) - 1) for key, value in numbers.items() if value.isdecimal()}
            return re.sub(r"\{([^}]+)\}", lambda place, known=numbers | less_one: known[place[1]], name)  # type: ignore[misc]
    return None


def _layers(net: Classifier) -> Iterator[tuple[str, nn.Module]]:
    """Layers with weights, those for training left out."""
    for path, module in net.named_modules():
        if (module._parameters or module._buffers) and path.partition(".")[0] not in net.training_parts:
            yield path, module


def _leaves(module: nn.Module, *, all_of_them: bool) -> tuple[str, ...]:
    """What a layer has by name; of ours all, of others what their like has."""
    if all_of_them:
        own = [name for pairs in (module.named_parameters, module.named_buffers) for name, _ in pairs(recurse=False)]
        return tuple(name for name in own if name != "num_batches_tracked")
    return ("weight", "bias", "running_mean", "running_var") if isinstance(module, nn.BatchNorm2d) else ("weight", "bias")


def _naming(dialect: str, net: Classifier, names: Mapping[str, str], leave_out: tuple[str, ...]) -> Naming:
    layers: dict[str, dict[str, Place]] = {}
    for path, module in _layers(net):
        if path not in names:
            continue
        leaves = _leaves(module, all_of_them=dialect == "provenet")
        layers[path] = {}
        for leaf in leaves:
            # a convolution of ours without bias may have one there: it goes into the batch norm that follows
            is_optional = leaf == "bias" and getattr(module, "bias", None) is None
            if leaf == "weight" and dialect == "timm" and path in ("fc6.linear", "fc7.linear"):
                side = 7 if path == "fc6.linear" else 1
                layers[path][leaf] = reshaped(f"{names[path]}.{leaf}", (-1, side, side))
            else:
                layers[path][leaf] = as_it_is(f"{names[path]}.{leaf}", is_optional=is_optional)
    return Naming(dialect, layers, leave_out=leave_out)
