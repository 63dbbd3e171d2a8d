"""A network in two parts: the frozen one, which makes features of images, and the head, which reads them."""

from functools import cached_property

import torch
from torch import Tensor, nn

from provenet.errors import SettingsError
from provenet.models.blocks import GlobalAverage
from provenet.models.classifier import Classifier
from provenet.transfer.plan import fingerprint_of


class FrozenPart(nn.Module):
    """The stages before the head: images [N, C, H, W] -> what the head reads, [N, F] or maps [N, F, h, w].

    Of maps whose means are all that the head reads, it gives these means.
    """

    def __init__(self, net: Classifier) -> None:
        super().__init__()
        names = list(net.stages)
        self.network = net.name
        self.stages = nn.Sequential(*(net.stages[name] for name in names[:-1]))
        self.averages = _begins_with_average(net.get_classifier())
        self.cut = names[-2]
        shape = tuple(net.stage_shapes()[names[-2]])
        self.shape = shape[:1] if self.averages else shape

    @cached_property
    def fingerprint(self) -> str:
        """A short name for exactly these weights, and what batch norms add to the variance; they do not change while anybody asks."""
        epsilons = torch.tensor([module.eps for module in self.modules() if isinstance(module, nn.BatchNorm2d)], dtype=torch.float64)
        return fingerprint_of({**self.state_dict(), "batch norm epsilon": epsilons})

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> [N, F] or [N, F, h, w]."""
        features: Tensor = self.stages(images)
        return features.mean((2, 3)) if self.averages else features


class HeadPart(nn.Module):
    """The head of a network, which reads features: the same layers, so that training one trains the other."""

    def __init__(self, net: Classifier) -> None:
        super().__init__()
        head = net.get_classifier()
        layers = list(head.children())[1:] if _begins_with_average(head) else [head]
        self.layers = nn.Sequential(*layers)

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, F] -> logits [N, K]."""
        logits: Tensor = self.layers(features)
        return logits

    def training_logits(self, features: Tensor) -> list[tuple[float, Tensor]]:
        """What the training loop asks of a network."""
        return [(1.0, self(features))]


def can_be_solved(net: Classifier) -> bool:
    """Whether the head begins with a fully connected layer, which features are kept for."""
    layers = [module for module in HeadPart(net).modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return bool(layers) and isinstance(layers[0], nn.Linear)


def check_head(net: Classifier) -> None:
    """Raise SettingsError for a head that cannot be solved."""
    if not can_be_solved(net):
        raise SettingsError(
            f"--transfer cached: expected a head that begins with a fully connected layer, and that of {net.name} does not; "
            "take --head linear, or --transfer head"
        )


def _begins_with_average(head: nn.Module) -> bool:
    return isinstance(head, nn.Sequential) and isinstance(head[0], GlobalAverage)
