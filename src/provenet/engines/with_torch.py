"""Networks run by torch: as they are, with batch norms folded away, in bfloat16, and compiled."""

import copy
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from provenet.runtime import place

Run = Callable[[Tensor], Tensor]
"""Images float32 [B, C, S, S] -> what the network gives, float32."""


def as_it_is(net: nn.Module) -> Run:
    """The reference."""
    return lambda images: net(images).float()


def folded(net: nn.Module, device: torch.device, precision: str) -> Run:
    """A copy whose batch norms are in the convolutions before them, its weights in this precision and laid out channels last."""
    copied = fold_batch_norms(copy.deepcopy(net).eval().requires_grad_(False))
    place(copied, device)
    if precision == "float32":
        return lambda images: copied(images)
    copied.to(torch.bfloat16)
    return lambda images: copied(images.to(torch.bfloat16, memory_format=torch.channels_last)).float()


def compiled(net: nn.Module, device: torch.device, precision: str) -> Run:
    """The same, compiled for the one shape that it will see."""
    return torch.compile(folded(net, device, precision), dynamic=False)


def fold_batch_norms(net: nn.Module) -> nn.Module:
    """Put every batch norm that follows a convolution into its weights; the network is changed, and must be in evaluation mode.

    A batch norm follows a convolution that is registered just before it in the same module, as in all blocks here; whether that is true of
    a module from elsewhere is seen by its answers, which are compared with the reference's.
    """
    for module in list(net.modules()):
        children = list(module.named_children())
        for (name, convolution), (norm_name, norm) in pairwise(children):
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d) and convolution.out_channels == norm.num_features:
                setattr(module, name, fuse_conv_bn_eval(convolution, norm))
                setattr(module, norm_name, nn.Identity())
    return net
