"""How fresh weights are drawn: one function a rule. A rule fills one layer; `initialise` gives it every layer of a network.

Letters: fan_in, fan_out are the inputs of one output, and the outputs that one input reaches (kernel pixels counted).
"""

from collections.abc import Callable, Mapping
from functools import partial

from torch import nn

Weighted = nn.Conv2d | nn.Linear
Rule = Callable[[Weighted], None]


def initialise(net: nn.Module, rule: Rule, exceptions: Mapping[str, Rule] | None = None) -> None:
    """Fill every convolution and linear layer by `rule`, those in `exceptions` (by path) by their own. On the meta device nothing."""
    rules = dict(exceptions or {})
    for path, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            fill(layer, rules.pop(path, rule))
    assert not rules, f"no such layers: {list(rules)}"


def fill(layer: Weighted, rule: Rule) -> None:
    """Fill one layer, where it has memory: asked to draw without any, the library first imports its compiler, which takes seconds."""
    if not layer.weight.is_meta:
        rule(layer)


def linear_by(rule: Rule, in_features: int, num_classes: int) -> nn.Linear:
    """A fresh linear classifier, drawn by a rule."""
    layer = nn.Linear(in_features, num_classes)
    fill(layer, rule)
    return layer


def he_normal(layer: Weighted) -> None:
    """Normal with deviation sqrt(2 / fan_in), bias 0 (He et al. 2015, "Delving deep into rectifiers", equation 10)."""
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    _set_bias(layer, 0.0)


def he_normal_fan_out(layer: Weighted) -> None:
    """Normal with deviation sqrt(2 / fan_out), bias 0 (equation 14 there): keeps the size of gradients instead of activations."""
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    _set_bias(layer, 0.0)


def glorot_uniform(layer: Weighted) -> None:
    """Uniform with variance 2 / (fan_in + fan_out), bias 0 (Glorot and Bengio 2010, equation 16)."""
    nn.init.xavier_uniform_(layer.weight)
    _set_bias(layer, 0.0)


def caffe_xavier(layer: Weighted, bias: float = 0.0) -> None:
    """Uniform with variance 1 / fan_in: what Caffe calls Xavier."""
    bound = (3 / layer.weight[0].numel()) ** 0.5
    nn.init.uniform_(layer.weight, -bound, bound)
    _set_bias(layer, bias)


def normal(deviation: float, *, bias: float = 0.0) -> Rule:
    """Normal with a fixed deviation, one constant for the biases."""
    return partial(_normal, deviation=deviation, bias=bias)


def _normal(layer: Weighted, deviation: float, bias: float) -> None:
    nn.init.normal_(layer.weight, std=deviation)
    _set_bias(layer, bias)


def _set_bias(layer: Weighted, value: float) -> None:
    if layer.bias is not None:
        nn.init.constant_(layer.bias, value)
