"""Every network by its name: an explicit table. It builds; it knows no weights."""

from collections.abc import Callable
from fnmatch import fnmatchcase
from functools import partial

import torch

from provenet.errors import ModelError, suggest
from provenet.models.classifier import Classifier, Initialisation
from provenet.models.lenet import lenet5, lenet5_softmax
from provenet.models.resnet import CIFAR, IMAGENET, resnet_cifar, resnet_imagenet

NETWORKS: dict[str, Callable[..., Classifier]] = {
    "lenet5": lenet5,
    "lenet5_softmax": lenet5_softmax,
    **{name: partial(resnet_imagenet, name, variant) for name, variant in IMAGENET.items()},
    **{name: partial(resnet_cifar, name, variant) for name, variant in CIFAR.items()},
}


def list_models(pattern: str = "*") -> list[str]:
    """Names of the networks, those that match a shell pattern.

    >>> list_models("lenet*")
    ['lenet5', 'lenet5_softmax']
    """
    return [name for name in NETWORKS if fnmatchcase(name, pattern)]


def build_network(
    name: str, *, num_classes: int | None = None, in_channels: int | None = None, init: Initialisation = "published"
) -> Classifier:
    """A fresh network; without `num_classes` and `in_channels` those of its paper; with 0 classes it gives features.

    `torch.manual_seed` decides its weights.

    >>> sum(parameter.numel() for parameter in build_network("resnet20_cifar").parameters())
    269722
    """
    if name not in NETWORKS:
        raise ModelError(f"unknown network {name!r}; {suggest(name, NETWORKS)} (provenet models lists all {len(NETWORKS)})")
    if num_classes is not None and num_classes < 0:
        raise ModelError(f"{name}: expected a number of classes, or 0 for features alone, found {num_classes}")
    if in_channels not in (None, 1, 3):
        raise ModelError(f"{name}: expected 1 or 3 input channels, found {in_channels}")
    if init not in ("published", "trainable"):
        raise ModelError(f"{name}: expected init 'published' or 'trainable', found {init!r}")
    chosen = {"num_classes": num_classes or None, "in_channels": in_channels}
    net = NETWORKS[name](**{key: value for key, value in chosen.items() if value is not None}, init=init)
    if num_classes == 0:
        net.reset_classifier(0)
    return net


def build_on_meta(name: str, *, num_classes: int | None = None, in_channels: int | None = None) -> Classifier:
    """The same network without memory for its weights: for its shapes, counts and `input_spec`, in milliseconds."""
    with torch.device("meta"):
        return build_network(name, num_classes=num_classes, in_channels=in_channels)
