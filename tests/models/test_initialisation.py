"""Initialisations: that the cures cure, on real pictures; rules against their formulas are checked by `verify`."""

import math

import pytest
import torch
import torch.nn.functional as F

from conftest import take
from provenet.models.catalog import build_network


def losses(name, init, mini, *, size, steps, learning_rate=0.01):
    """Of the network's own logits, step by step: 300 pictures, batches of 32, momentum, the learning rate rising for 20 steps."""
    torch.manual_seed(0)
    pictures = take(mini["train"], 30)
    pixels, labels = torch.from_numpy(pictures.pictures.pixels).float(), torch.from_numpy(pictures.labels).long()
    images = F.interpolate(((pixels - pixels.mean()) / pixels.std()).view(-1, 1, 28, 28), size=size, mode="bilinear")
    net = build_network(name, num_classes=10, in_channels=1, init=init)
    optimizer = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=0.9)
    found = []
    for step in range(steps):
        chosen = torch.randint(0, len(images), (32,))
        outputs = net.training_logits(images[chosen])
        each = [weight * F.cross_entropy(logits, labels[chosen]) for weight, logits in outputs]
        optimizer.param_groups[0]["lr"] = learning_rate * min(1, (step + 1) / 20)
        optimizer.zero_grad()
        sum(each).backward()
        optimizer.step()
        found.append(each[0].item())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size", "steps"), [("alexnet_toy", 67, 200), ("vgg_toy", 32, 250), ("nin_cifar", 16, 120)])
def test_the_cure_trains(name, size, steps, mini):
    found = losses(name, "trainable", mini, size=size, steps=steps)
    assert found[0] < 3 * math.log(10)
    assert sum(found[-20:]) / 20 < 0.85 * math.log(10)


def test_the_printed_start_of_vgg_does_not_train(mini):
    """Its signal grows by a factor of a hundred thousand in the real network; in the toy already enough."""
    torch.manual_seed(0)
    net = build_network("vgg11", num_classes=10, init="published").eval()
    with torch.no_grad():
        assert net(torch.randn(1, 3, 32, 32)).square().mean().sqrt() > 10_000
        torch.manual_seed(0)
        assert 1e-3 < build_network("vgg11", num_classes=10, init="trainable").eval()(torch.randn(1, 3, 32, 32)).square().mean().sqrt() < 10
