"""How to train each network where its paper's months are not at hand: defaults by network and by how much data there is.

Those of LeNet-5 and of CIFAR's networks are measured on Fashion-MNIST, the one without batch norm is tried for a few passes only; see
docs/results.md.
"""

from dataclasses import replace
from typing import NamedTuple

from provenet.data.distortion import Distortion
from provenet.models.heads import OWN
from provenet.preprocessing import Preprocessing
from provenet.training.settings import Loss, TrainingSettings


class Recipe(NamedTuple):
    """One row: settings that suit a family at 60,000 pictures."""

    epochs: float
    batch_size: int
    peak_learning_rate: float
    weight_decay: float
    loss: Loss
    shift_fraction: float
    """Largest move of a training picture, as a part of the window."""
    mirror: bool


RECIPES = {
    "lenet5": Recipe(15, 64, 0.004, 0.0, "map", 0.0, mirror=False),
    "lenet5_softmax": Recipe(15, 64, 0.05, 0.0, "cross_entropy", 0.0, mirror=False),
    "cifar": Recipe(12, 128, 0.3, 5e-4, "cross_entropy", 1 / 14, mirror=True),
    "imagenet": Recipe(20, 64, 0.05, 1e-4, "cross_entropy", 1 / 14, mirror=True),
    "without_batch_norm": Recipe(20, 64, 0.01, 5e-4, "cross_entropy", 1 / 14, mirror=True),
}

BEFORE_BATCH_NORM = ("alexnet", "caffenet", "zfnet", "vgg", "nin", "googlenet")

PICTURES_OF_THE_RECIPES = 60_000


def choose_recipe(network: str) -> Recipe:
    """The row for a network of the catalog."""
    if network in RECIPES:
        return RECIPES[network]
    if network.startswith(BEFORE_BATCH_NORM) and "_bn" not in network:
        return RECIPES["without_batch_norm"]
    return RECIPES["cifar" if "_cifar" in network else "imagenet"]


def default_training(network: str, num_images: int) -> TrainingSettings:
    """Settings for `num_images` training pictures: more passes over fewer pictures, and smaller batches of very few.

    Passes grow with the fourth root of how much smaller the data are; the learning rate shrinks with the batch.

    >>> [default_training("lenet5", n).epochs for n in (60_000, 6_000, 600)]
    [15, 27, 47]
    """
    recipe = choose_recipe(network)
    epochs = round(recipe.epochs * (PICTURES_OF_THE_RECIPES / num_images) ** 0.25)
    batch_size = recipe.batch_size
    while batch_size > 8 and batch_size * 16 > num_images:
        batch_size //= 2
    return TrainingSettings(
        epochs=max(1, epochs),
        batch_size=batch_size,
        peak_learning_rate=recipe.peak_learning_rate * batch_size / recipe.batch_size,
        weight_decay=recipe.weight_decay,
        loss=recipe.loss,
    )


def default_transfer_training(network: str, num_images: int, *, head: str, is_head_alone: bool) -> TrainingSettings:
    """Settings for a network that knows something already: what it knows is changed with a fifth of the learning rate.

    A head that is new and learns alone does so at the whole of it. LeNet-5's own loss and rate are for its own output only.
    """
    has_own_loss = choose_recipe(network).loss != "cross_entropy" and head != OWN
    training = default_training("lenet5_softmax" if has_own_loss else network, num_images)
    return training if is_head_alone else replace(training, peak_learning_rate=training.peak_learning_rate / 5)


def default_distortion(network: str, preprocessing: Preprocessing, *, can_mirror: bool) -> Distortion:
    """The distortion that suits a network and its pictures."""
    recipe = choose_recipe(network)
    return Distortion(shift_pixels=round(recipe.shift_fraction * preprocessing.size), mirror=recipe.mirror and can_mirror)
