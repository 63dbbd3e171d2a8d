"""How long the gradient of each layer's weights is at the start of training: `python tools/measure_gradients.py`.

Plain and residual networks of one depth, on 16 pictures of clothes; with the start and the batch norm of their paper, and without batch
norm from Glorot's start, which lets signals shrink in plain networks. Computed in double precision.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import nn

import provenet as pn
from provenet.data.pictures import PixelArray

NUM_PICTURES = 16
NETWORKS = (
    ("plain20_cifar", True),
    ("resnet20_cifar", True),
    ("plain56_cifar", True),
    ("resnet56_cifar", True),
    ("plain56_cifar", False),
    ("resnet56_cifar", False),
)
"""Name, and whether with batch norm."""


def measure_gradients(name: str, *, has_batch_norm: bool) -> list[float]:
    """The norm of the gradient of each convolution's weights, from the first to the last."""
    clothes = pn.open_data("fashion-mini").splits["train"]
    pixels = torch.from_numpy(cast("PixelArray", clothes.pictures).pixels[:NUM_PICTURES])
    images = pixels.permute(0, 3, 1, 2).double() / 255  # [16, 1, 28, 28]
    torch.manual_seed(0)
    net = pn.create_model(name, in_channels=1, num_classes=len(clothes.classes))
    if not has_batch_norm:
        take_batch_norm_out(net)
    net.double().train()
    F.cross_entropy(net(images), torch.from_numpy(clothes.labels[:NUM_PICTURES])).backward()  # type: ignore[no-untyped-call]
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    return [float(cast("torch.Tensor", convolution.weight.grad).norm()) for convolution in convolutions]


def take_batch_norm_out(net: nn.Module) -> None:
    """Nothing in its place, and the convolutions' weights from Glorot's start."""
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
        if isinstance(module, nn.Conv2d):
            nn.init.xavier_normal_(module.weight)


if __name__ == "__main__":
    print(f"{'':16}{'batch norm':12}{'first':>8}{'middle':>8}{'last':>8}")
    for name, has_batch_norm in NETWORKS:
        norms = measure_gradients(name, has_batch_norm=has_batch_norm)
        chosen = (norms[0], norms[len(norms) // 2], norms[-1])
        shown = (f"{float(f'{norm:.0e}'):g}" for norm in chosen)  # one figure: the second depends on the processor
        print(f"{name:16}{'yes' if has_batch_norm else 'no':12}" + "".join(f"{norm:>8}" for norm in shown))
