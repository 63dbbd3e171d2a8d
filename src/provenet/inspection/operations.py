"""Which operations run in a network, functional ones too, counted as the library carries them out; on the meta device, without numbers."""

from collections import Counter
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from provenet.models.blocks import ResponseNorm, ZeroPadding
from provenet.models.classifier import Classifier
from provenet.models.lenet import RBFOutput, ScaledTanh, SparseConvolution, Subsampling

WHOLE = {
    ResponseNorm: "response_norm",
    ZeroPadding: "zero_padding",
    Subsampling: "subsampling",
    SparseConvolution: "sparse_convolution",
    RBFOutput: "rbf",
    ScaledTanh: "squash",
    nn.Dropout: "dropout",
}
"""Layers that count as one operation each, whatever the library makes of them."""

NAMES = {
    "addmm": "linear",
    "max_pool2d_with_indices": "max_pool",
    "avg_pool2d": "average_pool",
    "native_batch_norm": "batch_norm",
    "cat": "concatenate",
}

WITHOUT_ARITHMETIC = {
    "view", "_unsafe_view", "t", "transpose", "permute", "slice", "select", "detach", "alias", "unsqueeze", "expand", "empty",
    "empty_like", "clone",
}  # fmt: skip


def count_operations(net: Classifier) -> dict[str, int]:
    """How often each operation runs for one picture in training, by its name.

    >>> from provenet.models.catalog import build_on_meta
    >>> count_operations(build_on_meta("alexnet"))
    {'convolution': 5, 'dropout': 2, 'linear': 3, 'max_pool': 3, 'relu': 7, 'response_norm': 2}
    """
    counter = _Counter()
    whole = [layer for layer in net.modules() if type(layer) in WHOLE]
    hooks = [layer.register_forward_pre_hook(lambda *_: counter.enter()) for layer in whole]
    hooks += [layer.register_forward_hook(lambda layer, *_: counter.leave(WHOLE[type(layer)])) for layer in whole]
    modes = {module: module.training for module in net.modules()}
    spec = net.input_spec
    weightless = {name: tensor.to("meta") for name, tensor in net.state_dict().items()}
    images = torch.empty(2, spec.channels, spec.size, spec.size, device="meta")
    try:
        net.train()
        with torch.no_grad(), counter:
            torch.func.functional_call(net, weightless, images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes.items():
            module.training = mode
    return dict(sorted(counter.found.items()))


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: Counter[str] = Counter()
        self.depth = 0

    def enter(self) -> None:
        self.depth += 1

    def leave(self, name: str) -> None:
        self.depth -= 1
        self.found[name] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        is_counted = name not in WITHOUT_ARITHMETIC and isinstance(args[0], Tensor | list) and not self.depth
        if is_counted and not (isinstance(args[0], Tensor) and not args[0].is_floating_point()):  # batch norm counts its batches
            self.found[NAMES.get(name, name)] += 1
        if name == "native_batch_norm":  # which keeps the shape, and takes the library milliseconds to say so
            channels = args[0].new_empty(args[0].shape[1])
            return torch.empty_like(args[0]), channels, channels
        return func(*args, **(kwargs or {}))
