"""ResNet and its plain twins against published counts and the paper's rules."""

import math

import pytest
import torch

from provenet.models.blocks import BasicBlock, Bottleneck, ConvolutionUnit, GlobalAverage, ZeroPadding
from provenet.models.catalog import build_network, build_on_meta

PUBLISHED_PARAMETERS = {
    "resnet18": 11_689_512, "resnet34": 21_797_672, "resnet50": 25_557_032, "resnet101": 44_549_160, "resnet152": 60_192_808,
    "resnet50_v1_5": 25_557_032, "resnet101_v1_5": 44_549_160, "resnet152_v1_5": 60_192_808,
    "resnet34_c": 22_716_840, "resnet18_a": 11_515_688, "plain18": 11_515_688, "resnet34_a": 21_623_848, "plain34": 21_623_848,
    "resnet20_cifar": 269_722, "resnet32_cifar": 464_154, "resnet44_cifar": 658_586, "resnet56_cifar": 853_018,
    "resnet110_cifar": 1_727_962, "resnet1202_cifar": 19_421_274, "resnet20_cifar_b": 269_722 + 2_752,
    "plain20_cifar": 269_722, "plain32_cifar": 464_154, "plain44_cifar": 658_586, "plain56_cifar": 853_018, "plain110_cifar": 1_727_962,
}  # fmt: skip


def count(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.mark.parametrize(("name", "published"), PUBLISHED_PARAMETERS.items())
def test_parameters(name, published):
    assert count(build_on_meta(name)) == published


def test_one_input_channel():
    assert count(build_on_meta("resnet20_cifar", in_channels=1)) == 269_434


@pytest.mark.parametrize(("name", "first", "second"), [("resnet50", 2, 1), ("resnet50_v1_5", 1, 2)])
def test_where_the_stride_of_a_bottleneck_sits(name, first, second):
    net = build_on_meta(name)
    for stage in ("conv3_x", "conv4_x", "conv5_x"):
        block = net.get_submodule(f"{stage}.block1")
        assert (block.conv1.stride[0], block.conv2.stride[0]) == (first, second)
    assert net.get_submodule("conv2_x.block1").conv1.stride == (1, 1)


def test_outputs_of_table_1():
    net, x, found = build_on_meta("resnet50"), torch.empty(1, 3, 224, 224, device="meta"), {}
    for name, stage in net.stages.items():
        x = stage(x)
        found[name] = tuple(x.shape[1:])
    assert found == {
        "conv1": (64, 112, 112), "conv2_x": (256, 56, 56), "conv3_x": (512, 28, 28), "conv4_x": (1024, 14, 14), "conv5_x": (2048, 7, 7),
        "pool": (2048,), "fc": (1000,),
    }  # fmt: skip


def test_option_a_pads_with_zeros_and_has_no_parameters():
    shortcut = ZeroPadding(2, 4, stride=2)
    maps = torch.arange(1.0, 33.0).view(1, 2, 4, 4)
    out = shortcut(maps)
    assert out[0, 0].tolist() == [[1, 3], [9, 11]]
    assert out[0, 1].tolist() == [[17, 19], [25, 27]]
    assert not out[0, 2:].any()
    assert not list(shortcut.parameters())


@pytest.mark.parametrize("block", [BasicBlock(16, 16), Bottleneck(64, 16)])
def test_a_block_whose_last_layer_is_zero_is_the_identity_on_non_negative_inputs(block):
    last = block.bn3 if isinstance(block, Bottleneck) else block.bn2
    torch.nn.init.zeros_(last.weight)
    maps = torch.rand(2, 64 if isinstance(block, Bottleneck) else 16, 8, 8)
    assert torch.equal(block.eval()(maps), maps)


def test_plain_twins_differ_only_by_the_shortcut():
    torch.manual_seed(0)
    plain, residual = build_network("plain20_cifar").eval(), build_network("resnet20_cifar").eval()
    residual.load_state_dict(plain.state_dict())
    assert not torch.allclose(plain(torch.ones(1, 3, 32, 32)), residual(torch.ones(1, 3, 32, 32)))
    assert {key: value.shape for key, value in plain.state_dict().items()} == {
        key: value.shape for key, value in residual.state_dict().items()
    }


def test_he_initialisation():
    torch.manual_seed(0)
    net = build_network("resnet18")
    for path in ("conv1.conv", "conv3_x.block1.conv2", "conv5_x.block2.conv2"):
        weight = net.get_submodule(path).weight.detach()
        assert math.isclose(float(weight.std()), math.sqrt(2 / weight[0].numel()), rel_tol=0.03)
    assert not net.get_submodule("fc").bias.detach().any()


def test_names_of_the_authors_release():
    net = build_on_meta("resnet50")
    assert net.layer("res4d_branch2a") is net.get_submodule("conv4_x.block4.conv1")
    assert net.layer("bn2a_branch1") is net.get_submodule("conv2_x.block1.shortcut.bn")
    assert net.layer("conv5_x.block3.conv3") is net.layer("res5c_branch2c")
    assert "res2b_branch1" not in net.authors_names
    deep = build_on_meta("resnet152")
    assert deep.layer("res3b7_branch2b") is deep.get_submodule("conv3_x.block8.conv2")
    assert deep.layer("res4b35_branch2c") is deep.get_submodule("conv4_x.block36.conv3")
    assert deep.layer("res2c_branch2a") is deep.get_submodule("conv2_x.block3.conv1")
    # every convolution of the network has exactly one name
    convolutions = [path for path, layer in net.named_modules() if isinstance(layer, torch.nn.Conv2d)]
    assert sorted(path for name, path in net.authors_names.items() if path in convolutions) == sorted(convolutions)
    assert len(convolutions) == 53


def test_resnet50_from_blocks_is_the_catalogs():
    """The exercise of many courses: ResNet-50 in ten lines from public blocks."""
    blocks, channels = [ConvolutionUnit(3, 64, kernel_size=7, stride=2), torch.nn.MaxPool2d(3, 2, padding=1)], 64
    for k, (width, count) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for b in range(count):
            blocks.append(Bottleneck(channels, width, stride=2 if k and not b else 1))
            channels = 4 * width
    by_hand = torch.nn.Sequential(*blocks, GlobalAverage(), torch.nn.Linear(2048, 10)).eval()

    net = build_network("resnet50", num_classes=10).eval()
    weights = zip(by_hand.state_dict(), net.state_dict().values(), strict=True)
    by_hand.load_state_dict(dict(weights))
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(by_hand(images), net(images))
