"""Every network of the catalog keeps the contract of models/classifier.py."""

import pytest
import torch
from torch import nn

from provenet.errors import ModelError
from provenet.models.catalog import NETWORKS, build_network, build_on_meta, list_models

SMALL = ["lenet5", "lenet5_softmax", "resnet8_cifar", "resnet20_cifar", "resnet20_cifar_b", "plain20_cifar"]
LARGE_TOO = [*SMALL, "resnet18", "resnet18_a", "resnet34_c", "resnet50", "resnet50_v1_5", "plain18"]


def random_images(net, num_images=2, seed=0):
    spec = net.input_spec
    size = spec.size if spec.is_fixed else max(spec.smallest, 32)
    return torch.randn(num_images, spec.channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if "1202" in name else name for name in NETWORKS])
def test_shapes_on_the_meta_device(name):
    net = build_on_meta(name, num_classes=7)
    spec = net.input_spec
    images = torch.empty(2, spec.channels, spec.size, spec.size, device="meta")
    features = net.forward_features(images)
    assert net.forward_head(features, pre_logits=True).shape == (2, net.num_features)
    assert net.forward_head(features).shape == net(images).shape == (2, 7)
    assert [(weight, logits.shape) for weight, logits in net.training_logits(images)] == [(1.0, (2, 7))]


@pytest.mark.parametrize("name", LARGE_TOO)
def test_walking_the_stages_is_the_forward_pass(name):
    torch.manual_seed(0)
    net = build_network(name, num_classes=10).eval()
    x = images = random_images(net)
    for stage in net.stages.values():
        x = stage(x)
    assert torch.equal(x, net(images))
    assert torch.isfinite(x).all()


@pytest.mark.parametrize("name", LARGE_TOO)
def test_a_gradient_reaches_every_parameter(name):
    torch.manual_seed(0)
    net = build_network(name, num_classes=10)
    net(random_images(net, num_images=4)).square().sum().backward()
    without = [path for path, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not without


@pytest.mark.parametrize("name", SMALL)
def test_the_head_can_be_replaced(name):
    torch.manual_seed(0)
    net = build_network(name).eval()
    images = random_images(net)
    features = net.forward_head(net.forward_features(images), pre_logits=True)
    net.reset_classifier(12)
    assert net(images).shape == (2, 12)
    assert net.num_classes == 12
    net.reset_classifier(0)
    assert isinstance(net.get_classifier(), nn.Identity)
    assert isinstance(build_network(name, num_classes=0).get_classifier(), nn.Identity)
    assert torch.equal(net(images), features)
    with pytest.raises(ModelError, match="0 or more, found -1"):
        net.reset_classifier(-1)


@pytest.mark.parametrize("name", SMALL)
def test_grey_and_colour(name):
    for channels in (1, 3):
        net = build_network(name, in_channels=channels).eval()
        assert net.input_spec.channels == channels
        assert net(random_images(net)).shape == (2, 10)


@pytest.mark.parametrize("name", SMALL)
def test_a_batch_of_one_and_a_saved_state(name):
    torch.manual_seed(0)
    net, other = build_network(name).eval(), build_network(name).eval()
    other.load_state_dict(net.state_dict())
    images = random_images(net, num_images=1)
    assert torch.equal(net(images), other(images))


@pytest.mark.parametrize("name", SMALL)
def test_the_seed_decides_the_weights(name):
    torch.manual_seed(3)
    first = build_network(name).state_dict()
    torch.manual_seed(3)
    second = build_network(name).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_inputs_that_do_not_fit_are_named():
    with pytest.raises(ModelError, match=r"lenet5: expected images of 32x32 pixels, found 28x28"):
        build_network("lenet5")(torch.zeros(1, 1, 28, 28))
    with pytest.raises(ModelError, match=r"resnet18: expected images of at least 32x32 pixels, found 31x40"):
        build_network("resnet18")(torch.zeros(1, 3, 31, 40))
    with pytest.raises(ModelError, match=r"expected images \[N, 3, H, W\], found \[1, 1, 64, 64\]"):
        build_network("resnet18")(torch.zeros(1, 1, 64, 64))


def test_names_are_suggested():
    with pytest.raises(ModelError, match="unknown network 'resnet51'; did you mean 'resnet50'"):
        build_network("resnet51")
    with pytest.raises(ModelError, match="resnet50 has no layer 'res2z_branch2a'; did you mean"):
        build_on_meta("resnet50").layer("res2z_branch2a")
    with pytest.raises(ModelError, match="or 0 for features alone, found -1"):
        build_network("resnet50", num_classes=-1)
    with pytest.raises(ModelError, match="expected 1 or 3 input channels, found 2"):
        build_network("resnet50", in_channels=2)
    assert list_models("plain*_cifar") == [f"plain{depth}_cifar" for depth in (20, 32, 44, 56, 110)]


@pytest.mark.parametrize("name", ["resnet8_cifar", "lenet5_softmax"])
def test_a_new_head_is_initialised_as_the_first_was(name):
    torch.manual_seed(0)
    net = build_network(name, num_classes=1_000)
    spread = net.get_classifier().weight.detach().std()
    net.reset_classifier(1_000)
    assert torch.isclose(net.get_classifier().weight.detach().std(), spread, rtol=0.05)
    assert not net.get_classifier().bias.detach().any()


@pytest.mark.parametrize("name", SMALL)
def test_every_layer_has_a_place_of_its_own(name):
    net = build_network(name)
    paths = [path for path, _ in net.named_modules(remove_duplicate=False)]
    assert len(paths) == len(list(net.modules()))
    assert all(net.layer(path) is net.get_submodule(path) for path in paths if path and path not in net.authors_names)
