"""What runs in a network, in which order, and how large it is: one pass without numbers (on the meta device), so it costs no memory."""

from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn

from provenet.models.classifier import Classifier
from provenet.models.lenet import SparseConvolution


@dataclass(frozen=True)
class Traced:
    """One module that ran."""

    output: tuple[int, ...]
    """Shape of one picture's output: (C, H, W), or (F,)."""
    macs: int
    """Multiply-adds of convolutions and matrix products in it, as the papers count them."""
    reads: str | None = None
    """The path of the module whose output it was given, where it was given one as it stood."""


class _Training(nn.Module):
    """A forward pass that runs what only training uses, too."""

    def __init__(self, net: Classifier) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """Images [N, C, H, W] -> pairs of weight and logits."""
        return self.net.training_logits(images)


def trace(net: Classifier, *, training: bool = False) -> dict[str, Traced]:
    """Each module that runs on a picture of `net.input_spec.size`, by path, in the order in which they end; a stage after its layers.

    >>> from provenet.models.catalog import build_on_meta
    >>> trace(build_on_meta("alexnet"))["conv1.conv"]
    Traced(output=(96, 55, 55), macs=105415200, reads=None)
    """
    spec = net.input_spec
    images = torch.empty(1, spec.channels, spec.size, spec.size, device="meta")
    root: nn.Module = _Training(net) if training else net
    paths = {module: path.removeprefix("net.") if training else path for path, module in root.named_modules()}
    outputs: dict[nn.Module, Tensor] = {}
    makers: dict[int, str] = {}
    reads: dict[nn.Module, str | None] = {}

    def note(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if isinstance(output, Tensor):
            outputs[module] = output
            reads[module] = makers.get(id(inputs[0]))
            makers[id(output)] = paths[module]  # outputs are kept, so no other tensor gets that number

    hooks = [module.register_forward_hook(note) for module in paths]
    weightless = {name: tensor.to("meta") for name, tensor in root.state_dict().items()}
    keep_shape = [module for module in paths if isinstance(module, nn.BatchNorm2d)]
    try:
        for module in keep_shape:  # on the meta device the library needs milliseconds for each, and the shape is known
            module.forward = _same  # type: ignore[assignment, method-assign]
        with torch.no_grad():
            torch.func.functional_call(root, weightless, images)
    finally:
        for module in keep_shape:
            del module.forward
        for hook in hooks:
            hook.remove()
    own = {module: _count_macs(module, output) for module, output in outputs.items()}
    return {
        paths[module]: Traced(tuple(output.shape[1:]), sum(own.get(part, 0) for part in module.modules()), reads[module])
        for module, output in outputs.items()
        if paths[module]
    }


def loss_weights(net: Classifier) -> list[float]:
    """The weights of the pairs that `training_logits` gives."""
    spec = net.input_spec
    weightless = {f"net.{name}": tensor.to("meta") for name, tensor in net.state_dict().items()}
    images = torch.empty(2, spec.channels, spec.size, spec.size, device="meta")
    with torch.no_grad():
        return [weight for weight, _ in torch.func.functional_call(_Training(net), weightless, images)]


def _same(maps: Tensor) -> Tensor:
    return maps


def _count_macs(layer: nn.Module, output: Tensor) -> int:
    """Every weight as often as it is used for one picture."""
    if isinstance(layer, nn.Conv2d | SparseConvolution):
        return prod(output.shape[2:]) * layer.weight.numel()
    return layer.weight.numel() if isinstance(layer, nn.Linear) else 0
