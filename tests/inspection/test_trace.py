"""What runs in a network, by two roads."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from provenet.inspection.trace import trace
from provenet.models.catalog import build_network, build_on_meta

NAMES = [
    "alexnet",
    "alexnet_owt",
    "zfnet",
    "vgg16",
    "vgg16_gap",
    "nin_imagenet",
    "googlenet",
    "googlenet_bn",
    "resnet18",
    "resnet50",
    "resnet34_c",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_library_counts_the_same_multiply_adds(name):
    net = build_on_meta(name).eval()
    spec = net.input_spec
    with FlopCounterMode(display=False) as counter:
        net(torch.empty(1, spec.channels, spec.size, spec.size, device="meta"))
    traced = trace(net).modules
    assert sum(traced[stage].macs for stage in net.stages) == counter.get_total_flops() // 2


def test_a_real_pass_has_the_same_outputs_and_leaves_nothing_behind():
    net = build_network("googlenet_toy").eval()
    spec = net.input_spec
    traced = trace(net, training=True).modules
    images = torch.zeros(1, 3, spec.size, spec.size)
    with torch.no_grad():
        x = images
        for name, stage in net.stages.items():
            x = stage(x)
            assert traced[name].output == tuple(x.shape[1:])
    assert traced["auxiliary.inception_4a.classifier"].output == (1000,)
    assert "auxiliary.inception_4a" not in trace(net).modules
    assert not any(module._forward_hooks or "forward" in vars(module) for module in net.modules())


def test_layers_come_in_the_order_they_run():
    traced = list(trace(build_on_meta("alexnet")).modules)
    assert traced[:5] == ["conv1.conv", "conv1.relu", "conv1.norm", "conv1.pool", "conv1"]
    assert traced[-1] == "fc8"
