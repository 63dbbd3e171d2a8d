"""What the batch norms of a network add to the variance: one number, in weights from elsewhere perhaps another than ours."""

from functools import cache

from torch import nn

from provenet.errors import BundleError
from provenet.models.catalog import build_on_meta
from provenet.models.classifier import Classifier

EPSILON = "batch_norm_epsilon"
"""In the header of a bundle, where it is not the network's own."""


def set_batch_norm_eps(net: Classifier, eps: object) -> None:
    """Give all batch norms what they add to the variance; weights from elsewhere may have been trained with another than ours."""
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise BundleError(f"{EPSILON}: expected a number between 0 and 1, found something else")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps


def own_epsilon(net: Classifier) -> float | None:
    """What its batch norms add to the variance, where it is not what the network is built with."""
    found = _epsilons(net)
    if found <= _published_epsilons(net.name):
        return None
    if len(found) > 1:
        raise BundleError(f"expected batch norms of one epsilon, found {', '.join(map(str, sorted(found)))}; set one for all")
    (own,) = found
    return own


@cache
def _published_epsilons(name: str) -> frozenset[float]:
    return _epsilons(build_on_meta(name))


def _epsilons(net: Classifier) -> frozenset[float]:
    return frozenset(module.eps for module in net.modules() if isinstance(module, nn.BatchNorm2d))
