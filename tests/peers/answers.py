"""Three photographs, weights at random that let every layer matter, and when two networks' answers to them agree."""

import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from provenet.deploy.predictor import Predictor

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT / "bench"))
from photographs import find_samples  # noqa: E402

TOLERANCE = 1e-4
"""Of the difference of two networks' logits, over the logits."""


def make_photographs(bundle) -> Tensor:
    """Three photographs as the bundle shows them to its network: [3, C, S, S]."""
    predictor = Predictor(bundle, device="cpu")
    return torch.cat([predictor.see(Image.open(path).convert("RGB")) for path in find_samples()[:3]])


def disturb(net: nn.Module, images: Tensor | None = None) -> nn.Module:
    """Biases and batch norms that are not as they begin; with images the statistics are near theirs: nothing grows without bound."""
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    with torch.no_grad():
        for norm in norms:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.1)
            norm.momentum = 1.0
        for name, parameter in net.named_parameters():
            if parameter.ndim > 1:
                nn.init.kaiming_normal_(parameter)
            elif name.endswith("bias") and not any(parameter is norm.bias for norm in norms):
                nn.init.normal_(parameter, std=0.05)
        if norms:
            net.train()(torch.randn(4, 3, 224, 224) if images is None else images)
        for norm in norms:
            norm.momentum = 0.1
            norm.running_mean += 0.1 * norm.running_var.sqrt() * torch.randn_like(norm.running_mean)
            norm.running_var *= 0.5 + torch.rand_like(norm.running_var)
    return net.eval()


def agree(ours: Tensor, theirs: Tensor) -> float:
    """Assert that two networks give the same answer: logits [N, K] near to each other, and the five likeliest in the same order."""
    ours, theirs = ours.detach().double(), theirs.detach().double()
    assert ours.shape == theirs.shape
    assert float(theirs.std()) > 1e-3, "the weights make logits that prove little"
    error = float((ours - theirs).norm() / theirs.norm())
    assert error < TOLERANCE, error
    for mine, other in zip(ours, theirs, strict=True):
        values, order = other.topk(min(6, len(other)))
        gaps = (values[:-1] - values[1:]) > 2 * TOLERANCE * float(other.norm())
        if gaps.all():
            assert mine.topk(5).indices.tolist() == order[:5].tolist()
    return error
