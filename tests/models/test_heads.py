"""Networks with heads of their own, and networks that end early: shapes everywhere, numbers against the same layers by hand."""

import pytest
import torch
from torch import nn

from provenet.errors import BundleError, ModelError
from provenet.models.catalog import NETWORKS, build_network, build_on_meta
from provenet.models.heads import adapt, hidden_units, read_channels
from provenet.preprocessing import Preprocessing
from provenet.weights.bundle import Bundle, load_bundle, save_bundle
from provenet.weights.export import export_weights

SMALL = ["lenet5", "lenet5_softmax", "nin_cifar", "resnet20_cifar", "googlenet_toy", "vgg_bn_toy", "alexnet_toy", "resnet_toy"]
LARGE = "resnet1202"


@pytest.mark.parametrize("name", [name for name in NETWORKS if not name.startswith(LARGE)])
def test_every_network_takes_a_head_at_its_last_stage(name):
    net = build_on_meta(name)
    shapes = net.stage_shapes()
    assert list(shapes) == list(net.stages)
    assert list(shapes.values())[-1] == (net.num_classes,)
    adapted = adapt(build_on_meta(name), num_classes=7, head="mlp:16")
    assert list(adapted.stage_shapes().values())[-1] == (7,)
    assert adapted.num_features == shapes[list(shapes)[-2]][0]


@pytest.mark.parametrize("name", SMALL)
def test_every_stage_can_be_the_last(name):
    torch.manual_seed(0)
    net = build_network(name).eval()
    spec = net.input_spec
    images = torch.randn(2, spec.channels, spec.size, spec.size)
    kept = images
    for stage in list(net.stages)[:-1]:
        kept = net.stages[stage](kept)
        shorter = adapt(build_network(name), num_classes=3, head="mlp:8", ends_after=stage).eval()
        assert list(shorter.stages) == [*list(net.stages)[: list(net.stages).index(stage) + 1], "head"]
        shorter.load_state_dict({key: tensor for key, tensor in net.state_dict().items() if key in shorter.state_dict()}, strict=False)
        numbers = kept.mean((2, 3)) if kept.ndim == 4 else kept
        head = shorter.get_classifier()
        by_hand = head.linear(torch.relu(head.linear1(numbers)))
        torch.testing.assert_close(shorter(images), by_hand, rtol=0, atol=0)
        torch.testing.assert_close(shorter.forward_head(shorter.forward_features(images), pre_logits=True), numbers, rtol=0, atol=0)
        assert shorter.title == f"{name} up to {stage} with a head mlp:8"


def test_a_linear_head_in_the_place_of_one_is_the_published_network():
    net = adapt(build_network("resnet20_cifar"), num_classes=4, head="linear")
    assert (net.title, net.own_head, type(net.get_classifier())) == ("resnet20_cifar", "", nn.Linear)
    net = adapt(build_network("lenet5"), num_classes=4, head="linear")
    assert net.title == "lenet5 with a head linear"
    assert adapt(build_network("nin_cifar"), num_classes=4).title == "nin_cifar"


def test_another_head_can_take_the_place_of_a_head_of_its_own():
    net = adapt(build_network("resnet20_cifar"), num_classes=4, head="mlp:8,6", ends_after="conv3_x")
    again = adapt(net, num_classes=5, head="linear", ends_after=net.ends_after)
    assert again.stage_shapes()["head"] == (5,)
    assert again.title == "resnet20_cifar up to conv3_x with a head linear"
    own = adapt(adapt(build_network("resnet20_cifar"), num_classes=4, head="mlp:8"), num_classes=6)
    assert own.title == "resnet20_cifar with a head mlp:8"
    assert own.stage_shapes()["fc"] == (6,)
    own.reset_classifier(0)
    assert own.stage_shapes()["fc"] == (64,)


@pytest.mark.parametrize(
    "head", ["", "mlp", "mlp:", "mlp:0", "mlp:-3", "mlp:99999", "mlp:8,", "mlp:1,2,3,4,5,6,7,8,9", "own", "mlp:٣", "x" * 99]
)
def test_heads_that_make_no_sense(head):
    with pytest.raises(ModelError, match=r"^head \(--head\): expected own, linear or mlp:UNITS such as mlp:512"):
        hidden_units(head)


def test_a_stage_that_is_not_there():
    with pytest.raises(ModelError, match=r"found 'conv5_x'; did you mean 'conv4_x'"):
        adapt(build_network("resnet20_cifar"), num_classes=2, ends_after="conv5_x")
    with pytest.raises(ModelError, match="expected one of its stages before the last"):
        adapt(build_network("resnet20_cifar"), num_classes=2, ends_after="fc")


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("head", "last"), [("mlp:8", 0), ("linear", 0), ("linear", -2), ("mlp:8,5", 1)])
def test_a_bundle_carries_the_head(name, head, last, tmp_path):
    torch.manual_seed(1)
    ends_after = list(build_on_meta(name).stages)[last] if last else ""
    net = adapt(build_network(name), num_classes=3, head=head, ends_after=ends_after).eval()
    save_bundle(Bundle(net, ("a", "b", "c"), net.input_spec.preprocessing), tmp_path / "model.safetensors")
    read = load_bundle(tmp_path / "model.safetensors").network
    images = torch.randn(2, net.input_spec.channels, net.input_spec.size, net.input_spec.size)
    assert torch.equal(read(images), net(images))
    assert read.title == net.title
    if net.title != name:
        with pytest.raises(Exception, match="expected a network"):
            export_weights(Bundle(net, ("a", "b", "c"), net.input_spec.preprocessing), "torchvision", tmp_path / "x.pth")


def test_a_head_that_is_code_works_and_is_no_bundle(tmp_path):
    class Cosine(nn.Module):
        def forward(self, features):
            return torch.stack([features.sum(1), -features.sum(1)], 1)

    net = adapt(build_network("resnet20_cifar"), num_classes=2, head=Cosine()).eval()
    assert net(torch.randn(3, 3, 32, 32)).shape == (3, 2)
    with pytest.raises(
        BundleError, match=r"expected a head in words \(linear, mlp:512\), found Cosine \(code\), and a bundle is data; keep"
    ):
        save_bundle(Bundle(net, ("a", "b"), net.input_spec.preprocessing), tmp_path / "model.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["resnet20_cifar", "lenet5_softmax", "nin_cifar", "vgg_toy"])
def test_a_grey_picture_gives_what_it_gave_in_colour(name):
    torch.manual_seed(0)
    net = build_network(name, in_channels=3).eval()
    grey = torch.randn(2, 1, net.input_spec.size, net.input_spec.size)
    in_colour = net(grey.expand(-1, 3, -1, -1))
    read_channels(net, 1)
    assert net.input_spec.channels == 1
    torch.testing.assert_close(net(grey), in_colour)
    read_channels(net, 3)
    torch.testing.assert_close(net(grey.expand(-1, 3, -1, -1)), in_colour)
    with pytest.raises(ModelError, match="expected a first layer that can read 4 channels"):
        read_channels(net, 4)


def test_frozen_stages_stay_in_evaluation_mode_whatever_is_said():
    net = build_network("resnet20_cifar")
    net.freeze(["conv1", "conv2_x"])
    net.train()
    assert {name: stage.training for name, stage in net.stages.items()} == dict.fromkeys(net.stages, True) | {
        "conv1": False,
        "conv2_x": False,
    }
    assert not any(module.training for module in net.stages["conv2_x"].modules())
    assert [name for name, parameter in net.named_parameters() if not parameter.requires_grad] == [
        name for name, _ in net.named_parameters() if name.startswith(("conv1", "conv2_x"))
    ]
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    net(torch.randn(4, 3, 32, 32)).sum().backward()
    changed = {key.partition(".")[0] for key, tensor in net.state_dict().items() if not torch.equal(before[key], tensor)}
    assert changed == {"conv3_x", "conv4_x"}  # the statistics of their batch norms
    net.freeze([])
    assert all(parameter.requires_grad for parameter in net.parameters())
    assert all(module.training for module in net.modules())
    with pytest.raises(ModelError, match="expected stages to freeze, found 'conv9'"):
        net.freeze(["conv9"])


def test_preprocessing_of_other_channels_is_told_apart():
    assert build_network("lenet5").input_spec.with_channels(3).preprocessing == Preprocessing(
        size=32, resize=28, channels=3, mean=(0.1 / 1.275,) * 3, std=(1 / 1.275,) * 3
    )
