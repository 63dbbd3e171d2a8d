"""A few numbers of each network, fixed: a change of what they compute is always seen.

`PROVENET_ACCEPT=1 pytest tests/models/test_golden_logits.py -m ''` renews them; the commit says which changed and why.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from torch import nn

from provenet.models.catalog import NETWORKS, TOYS, build_network

GOLDEN = Path(__file__).parent / "golden_logits.json"
SMALL = ["lenet5", "lenet5_softmax", "nin_cifar", "resnet8_cifar", "resnet20_cifar", "resnet20_cifar_b", "plain20_cifar", *TOYS]
LARGE = [name for name in NETWORKS if name not in SMALL]


@pytest.mark.parametrize("name", [*SMALL, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_logits_are_what_they_were(name):
    torch.manual_seed(0)
    net = build_network(name, num_classes=10, init="trainable")
    spec = net.input_spec
    size = max(spec.smallest, 32)
    images = torch.randn(4, spec.channels, size, size, generator=torch.Generator().manual_seed(1))
    norms = [layer for layer in net.modules() if isinstance(layer, nn.BatchNorm2d)]
    if norms:  # a hundred of them make rounding into another number; not in double precision
        net, images = net.double(), images.double()
    for layer in norms:
        layer.momentum = 1.0  # its statistics become those of these images: fresh ones let GoogLeNet's signal fade to 1e-13
    with torch.no_grad():
        if norms:
            net.train()(images)
        logits = net.eval()(images)[0, :4]
    golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    if os.environ.get("PROVENET_ACCEPT"):
        golden[name] = [float(f"{value:.6g}") for value in logits.tolist()]
        ordered = {key: golden[key] for key in [*NETWORKS, *TOYS] if key in golden}
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(values)}" for key, values in ordered.items())
        GOLDEN.write_text("{\n" + lines + "\n}\n")
    else:
        expected = torch.tensor(golden[name], dtype=logits.dtype)
        assert torch.allclose(logits, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max())), (
            f"{name}: expected {golden[name]}, found {logits.tolist()}; PROVENET_ACCEPT=1 pytest {Path(__file__).name} -m '' accepts that"
        )


def test_every_network_has_some():
    assert set(json.loads(GOLDEN.read_text())) == {*NETWORKS, *TOYS}
