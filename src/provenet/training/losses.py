"""Loss functions: logits [N, K] and labels [N], or probabilities of classes [N, K] -> one number, the mean over the batch."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from provenet.training.settings import TrainingSettings

LossFunction = Callable[[Tensor, Tensor], Tensor]

# The constant j of LeNet-5's equation 9, which the paper does not print: the distance at which what is no class at all is taken to be.
# Chosen by trial on the embedded pictures: 1 did better than 10 and 42.
RUBBISH_DISTANCE = 1.0


def maximum_a_posteriori(logits: Tensor, labels: Tensor, rubbish_distance: float = RUBBISH_DISTANCE) -> Tensor:
    """LeNet-5's loss (LeCun et al. 1998, equation 9) with logits = -distances.

    It is y_correct + log(exp(-j) + sum_i exp(-y_i)): a cross-entropy in which a rubbish class at the constant distance j competes, so
    that distances to all wrong classes grow only until they no longer matter. Of labels only: a mixture has no place in it.
    """
    rubbish = logits.new_full((len(logits), 1), -rubbish_distance)
    return F.cross_entropy(torch.cat([logits, rubbish], dim=1), labels)


def balanced_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Weights [K] under which every class counts alike, however many of the labels [N] are its; their mean over the labels is 1."""
    counts = torch.bincount(labels, minlength=num_classes)
    return len(labels) / (int((counts > 0).sum()) * counts.clamp(min=1))


def make_loss(settings: TrainingSettings, class_weights: Tensor | None = None) -> LossFunction:
    """The loss that the settings name, each class counted as `class_weights` [K] say."""
    if settings.loss == "map":
        return maximum_a_posteriori
    return partial(F.cross_entropy, weight=class_weights, label_smoothing=settings.label_smoothing)
