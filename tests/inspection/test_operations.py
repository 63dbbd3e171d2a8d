"""What the library carries out in a network."""

import torch
import torch.nn.functional as F

from provenet.inspection.trace import count_operations
from provenet.models.catalog import build_network


def test_functional_operations_are_counted_too():
    net = build_network("resnet8_cifar").eval()
    before = count_operations(net)
    assert before == {
        "add": 3, "batch_norm": 7, "convolution": 7, "linear": 1, "mean": 1, "relu": 7, "zero_padding": 2,
    }  # fmt: skip
    net.pool.forward = lambda maps: F.dropout(F.gelu(maps).amax((2, 3)), 0.1)
    assert set(count_operations(net)) - set(before) >= {"gelu", "amax"}
    assert "mean" not in count_operations(net)


def test_it_leaves_the_network_as_it_was():
    torch.manual_seed(0)
    net = build_network("vgg_bn_toy").eval()
    net.get_submodule("conv2").train()
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    count_operations(net)
    assert [name for name, module in net.named_children() if module.training] == ["conv2"]
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert not any(module._forward_hooks for module in net.modules())
