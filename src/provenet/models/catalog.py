"""Every network by its name: an explicit table. It builds; it knows no weights."""

from collections.abc import Callable
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial

import torch

from provenet.errors import ModelError, suggest
from provenet.models.alexnet import ALEXNET_TOY, ALEXNETS, alexnet
from provenet.models.classifier import Classifier, Initialisation
from provenet.models.googlenet import GOOGLENET_TOY, GOOGLENETS, googlenet
from provenet.models.lenet import lenet5, lenet5_softmax
from provenet.models.nin import NINS, nin
from provenet.models.resnet import CIFAR, IMAGENET, RESNET_TOY, resnet_cifar, resnet_imagenet
from provenet.models.vgg import VGG_TOY, VGGS, vgg
from provenet.models.zfnet import ZFNETS, zfnet

NETWORKS: dict[str, Callable[..., Classifier]] = {
    "lenet5": lenet5,
    "lenet5_softmax": lenet5_softmax,
    **{name: partial(alexnet, name, variant) for name, variant in ALEXNETS.items()},
    **{name: partial(zfnet, name, variant) for name, variant in ZFNETS.items()},
    **{name: partial(vgg, name, variant) for name, variant in VGGS.items()},
    **{name: partial(nin, name, variant) for name, variant in NINS.items()},
    **{name: partial(googlenet, name, variant) for name, variant in GOOGLENETS.items()},
    **{name: partial(resnet_imagenet, name, variant) for name, variant in IMAGENET.items()},
    **{name: partial(resnet_cifar, name, variant) for name, variant in CIFAR.items()},
}

# Small ones of each family, for tests and first steps: the same code with fewer maps. They stand in no list.
TOYS: dict[str, Callable[..., Classifier]] = {
    "alexnet_toy": partial(alexnet, "alexnet_toy", ALEXNET_TOY),
    "vgg_toy": partial(vgg, "vgg_toy", VGG_TOY),
    "vgg_bn_toy": partial(vgg, "vgg_bn_toy", VGG_TOY._replace(has_batch_norm=True)),
    "googlenet_toy": partial(googlenet, "googlenet_toy", GOOGLENETS["googlenet"]._replace(table=GOOGLENET_TOY)),
    "googlenet_bn_toy": partial(googlenet, "googlenet_bn_toy", GOOGLENETS["googlenet_bn"]._replace(table=GOOGLENET_TOY)),
    "resnet_toy": partial(resnet_imagenet, "resnet_toy", RESNET_TOY),
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the networks, those that match a shell pattern.

    >>> list_models("lenet*")
    ['lenet5', 'lenet5_softmax']
    """
    return [name for name in NETWORKS if fnmatchcase(name, pattern)]


def check_name(name: str) -> None:
    """Raise ModelError, with names that come close, for one that is no network's."""
    if name not in NETWORKS and name not in TOYS:
        raise ModelError(f"unknown network {name!r}; {suggest(name, NETWORKS)} (provenet models lists all {len(NETWORKS)})")


def build_network(
    name: str, *, num_classes: int | None = None, in_channels: int | None = None, init: Initialisation = "published"
) -> Classifier:
    """A fresh network; without `num_classes` and `in_channels` those of its paper; with 0 classes it gives features.

    `torch.manual_seed` decides its weights.

    >>> sum(parameter.numel() for parameter in build_network("resnet20_cifar").parameters())
    269722
    """
    check_name(name)
    if num_classes is not None and (type(num_classes) is not int or num_classes < 0):
        raise ModelError(f"{name}: expected a number of classes, or 0 for features alone, found {num_classes!r}")
    if in_channels is not None and (type(in_channels) is not int or in_channels < 1):
        raise ModelError(f"{name}: expected a number of input channels, 1 or more, found {in_channels!r}")
    if init not in ("published", "trainable"):
        raise ModelError(f"{name}: expected init 'published' or 'trainable', found {init!r}")
    chosen = {"num_classes": num_classes or None, "in_channels": in_channels}
    net = (NETWORKS | TOYS)[name](**{key: value for key, value in chosen.items() if value is not None}, init=init)
    if in_channels not in (None, 1, 3):
        net.input_spec = replace(net.input_spec, other_channels=in_channels)
    if num_classes == 0:
        net.reset_classifier(0)
    return net


def build_on_meta(
    name: str, *, num_classes: int | None = None, in_channels: int | None = None, init: Initialisation = "published"
) -> Classifier:
    """The same network without memory for its weights: for its shapes, counts and `input_spec`, in milliseconds."""
    with torch.device("meta"):
        return build_network(name, num_classes=num_classes, in_channels=in_channels, init=init)
