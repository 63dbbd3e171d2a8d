"""Every network of the catalog keeps the contract of models/classifier.py.

Real weights for the small networks and for toys, which are the large ones with fewer maps; the large ones themselves on the meta device,
and for real in the slow tests.
"""

import pickle

import pytest
import torch
from torch import nn

from provenet.errors import ModelError
from provenet.models.blocks import GlobalAverage
from provenet.models.catalog import NETWORKS, TOYS, build_network, build_on_meta, list_models

SMALL = [
    "lenet5", "lenet5_softmax", "nin_cifar", "resnet8_cifar", "resnet20_cifar", "resnet20_cifar_b", "plain20_cifar", *TOYS,
]  # fmt: skip
LARGE = [name for name in NETWORKS if name not in SMALL]


def slow(*names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


LARGE_TOO = [*SMALL, *slow(*LARGE)]
# A fresh network of 1202 layers overflows in evaluation: its batch norms have seen no picture yet.
EVALUATED = [name for name in LARGE if name != "resnet1202_cifar"]
ONE_OF_EACH = ["lenet5", "alexnet_toy", "vgg_toy", "nin_cifar", "googlenet_toy", "resnet_toy"]


def build_without_norms(name, **options):
    """On the meta device, where batch norm keeps the shape and takes the library milliseconds each."""
    net = build_on_meta(name, **options)
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.forward = lambda maps: maps
    return net


def random_images(net, num_images=2, seed=0, size=None):
    spec = net.input_spec
    size = size or max(spec.smallest, 32)
    return torch.randn(num_images, spec.channels, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) if "1202" in name else name for name in NETWORKS])
def test_shapes_on_the_meta_device(name):
    net = build_without_norms(name, num_classes=7)
    spec = net.input_spec
    images = torch.empty(2, spec.channels, spec.size, spec.size, device="meta")
    features = net.forward_features(images)
    assert net.forward_head(features, pre_logits=True).shape == (2, net.num_features)
    assert net.forward_head(features).shape == net(images).shape == (2, 7)
    outputs = [(weight, tuple(logits.shape)) for weight, logits in net.training_logits(images)]
    assert outputs == [(1.0, (2, 7))] + ([(0.3, (2, 7))] * 2 if name in ("googlenet", "googlenet_floor", "googlenet_bn") else [])


@pytest.mark.parametrize("name", [name for name in [*NETWORKS, *TOYS] if "1202" not in name])
def test_the_smallest_image(name):
    """It leaves every layer something, in training too; where layers have no padding to live on, one pixel less does not."""
    net = build_without_norms(name).eval()
    spec = net.input_spec
    images = torch.empty(1, spec.channels, spec.smallest, spec.smallest, device="meta")
    assert net(images).shape == net.training_logits(images)[-1][1].shape == (1, net.num_classes)
    less = torch.empty(1, spec.channels, spec.smallest - 1, spec.smallest, device="meta")
    with pytest.raises(ModelError, match=f"{name}: expected images of at least {spec.smallest}x{spec.smallest} pixels, found .*; enlarge"):
        net(less)
    if name.startswith(("lenet", "alexnet", "zfnet", "caffenet", "vgg", "nin_imagenet")) or name in ("googlenet", "googlenet_floor"):
        net._check_input = lambda images: None
        with pytest.raises(RuntimeError):
            [net(less), net.training_logits(less)]


@pytest.mark.parametrize("name", [*SMALL, *slow(*EVALUATED)])
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
    net = build_network(name, num_classes=10, init="trainable")
    outputs = net.training_logits(random_images(net, num_images=4))
    sum(weight * nn.functional.cross_entropy(logits, torch.arange(4)) for weight, logits in outputs).backward()
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
    assert all(logits.shape == (2, 12) for _, logits in net.training_logits(images))
    assert net.num_classes == 12
    net.reset_classifier(0)
    assert isinstance(net.get_classifier(), nn.Identity | GlobalAverage)
    assert isinstance(build_network(name, num_classes=0).get_classifier(), nn.Identity | GlobalAverage)
    assert torch.equal(net(images), features)
    with pytest.raises(ModelError, match="0 or more, found -1"):
        net.reset_classifier(-1)


@pytest.mark.parametrize("name", SMALL)
def test_grey_and_colour(name):
    for channels in (1, 3, 4):  # four are no picture, but an image
        net = build_network(name, in_channels=channels).eval()
        assert net.input_spec.channels == channels
        assert net(random_images(net)).shape == (2, net.num_classes)


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
    with pytest.raises(ModelError, match=r"lenet5: expected images of at least 32x32 pixels, found 28x28"):
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
    with pytest.raises(ModelError, match="or 0 for features alone, found '10'"):
        build_network("resnet50", num_classes="10")
    with pytest.raises(ModelError, match="expected a number of input channels, 1 or more, found 0"):
        build_network("resnet50", in_channels=0)
    assert list_models("plain*_cifar") == [f"plain{depth}_cifar" for depth in (20, 32, 44, 56, 110)]


@pytest.mark.parametrize("init", ["published", "trainable"])
@pytest.mark.parametrize("name", ["resnet8_cifar", "lenet5_softmax", "alexnet_toy", "vgg_toy", "vgg_bn_toy", "nin_cifar", "googlenet_toy"])
def test_a_new_head_is_initialised_as_the_first_was(name, init):
    torch.manual_seed(0)
    net = build_network(name, num_classes=1_000, init=init)
    weight, bias = (parameter.detach() for parameter in net.get_classifier().parameters())
    net.reset_classifier(1_000)
    new_weight, new_bias = (parameter.detach() for parameter in net.get_classifier().parameters())
    assert torch.isclose(new_weight.std(), weight.std(), rtol=0.05)
    assert torch.equal(bias, new_bias)


@pytest.mark.parametrize("name", SMALL)
def test_every_layer_has_a_place_of_its_own(name):
    net = build_network(name)
    paths = [path for path, _ in net.named_modules(remove_duplicate=False)]
    assert len(paths) == len(list(net.modules()))
    assert all(net.layer(path) is net.get_submodule(path) for path in paths if path and path not in net.authors_names)
    assert all(net.layer(theirs) is net.get_submodule(path) for theirs, path in net.authors_names.items())


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_channels_last_is_the_same_network(name):
    torch.manual_seed(0)
    net = build_network(name, num_classes=10, init="trainable").eval().double()
    images = random_images(net).double()
    expected = net(images)
    found = net.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    assert torch.dist(found, expected) < 1e-12 * expected.norm()


COMPILED = ["lenet5", *slow("alexnet_toy", "vgg_toy", "nin_cifar", "googlenet_toy", "resnet_toy", "alexnet", "vgg16", "googlenet")]


@pytest.mark.parametrize("name", COMPILED)
def test_it_compiles_as_one_graph_and_exports(name):
    torch.manual_seed(0)
    net = build_network(name, num_classes=10, init="trainable").eval()
    images = random_images(net)
    with torch.no_grad():
        expected = net(images)
        compiled = torch.compile(net, fullgraph=True, backend="eager")
        assert torch.dist(compiled(images), expected) <= 1e-6 * expected.norm()
        exported = torch.export.export(net, (images,))
        assert torch.dist(exported.module()(images), expected) <= 1e-6 * expected.norm()


@pytest.mark.parametrize("name", [*ONE_OF_EACH, *slow(*(name for name in SMALL if name not in ONE_OF_EACH), *EVALUATED)])
def test_as_convolutions_it_says_the_same(name):
    """At the network's own size, in double precision: there rounding, which differs by processor, is far below any mistake."""
    torch.manual_seed(0)
    net = build_network(name, num_classes=10, init="trainable").eval().double()
    size = net.input_spec.size
    with torch.no_grad():
        images = random_images(net, num_images=1, size=size).double()
        dense, expected = net.as_fully_convolutional().eval(), net(images)
        found = dense(images)
        assert found.shape == (1, 10, 1, 1)
        assert torch.dist(found[..., 0, 0], expected) < 1e-12 * expected.norm()
        wide = dense(random_images(net, num_images=1, size=size + 33).double())
        assert wide.shape[:2] == (1, 10)
        assert min(wide.shape[2:]) > 1
    with pytest.raises(ModelError, match=f"{name}: expected images of at least {size}x{size} pixels, its own size, found"):
        dense(images[..., 1:])


def test_each_place_of_a_dense_evaluation_is_a_window():
    """Where nothing is padded, a place is exactly what the network says of its window: LeNet-5, whose windows lie four pixels apart."""
    torch.manual_seed(0)
    net = build_network("lenet5").eval().double()
    images = random_images(net, num_images=1, size=44).double()
    found = net.as_fully_convolutional()(images)
    assert found.shape == (1, 10, 4, 4)
    for row in range(4):
        for column in range(4):
            window = images[..., 4 * row : 4 * row + 32, 4 * column : 4 * column + 32]
            assert torch.allclose(found[..., row, column], net(window), rtol=1e-12)


def test_a_size_without_a_convolutional_form_is_said():
    net = build_on_meta("alexnet")
    net.input_spec = net.input_spec.with_preprocessing(net.input_spec.preprocessing.with_size(131))
    with pytest.raises(ModelError, match="alexnet: expected 6x6 maps before its fully connected layers, found 3x3 at 131 pixels"):
        net.as_fully_convolutional()


def test_dense_weights_are_shared():
    net = build_network("vgg_toy")
    dense = net.as_fully_convolutional()
    with torch.no_grad():
        net.layer("fc6").weight.zero_()
    assert not dense.stages.fc6.linear.linear.weight.any()


@pytest.mark.parametrize("name", SMALL)
def test_it_survives_pickle_and_half_precision(name):
    """Whole networks are sent to other processes so; a new classifier has the type and mode of the rest."""
    net = pickle.loads(pickle.dumps(build_network(name, num_classes=3))).half().eval()
    net.reset_classifier(5)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float16}
    assert not any(layer.training for layer in net.modules())


def test_dense_networks_train():
    net = build_network("vgg_toy", num_classes=3)
    net.as_fully_convolutional()(torch.randn(1, 3, 224, 224)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.get_classifier().parameters())
    assert not net.eval().as_fully_convolutional().training


def test_auxiliary_heads_train_and_vanish():
    torch.manual_seed(0)
    net = build_network("googlenet_toy", num_classes=10, init="trainable").eval()
    images = random_images(net)
    with torch.no_grad():
        expected = net(images)
        assert [weight for weight, _ in net.training_logits(images)] == [1.0, 0.3, 0.3]
        assert torch.equal(net.training_logits(images)[0][1], expected)
        count = net.num_parameters
        assert count < sum(parameter.numel() for parameter in net.parameters())
        assert sum(tensor.numel() for tensor in net.trained_state().values()) == count
        net.discard_training_parts()
        with pytest.raises(ModelError, match="has no layer 'loss1/conv'"):
            net.layer("loss1/conv")
        assert count == net.num_parameters == sum(parameter.numel() for parameter in net.parameters())
        assert torch.equal(net(images), expected)
        assert [weight for weight, _ in net.training_logits(images)] == [1.0]
    net.reset_classifier(4)
    assert net(images).shape == (2, 4)


def test_what_cures_an_initialisation_is_said():
    assert build_on_meta("vgg16", init="published").cure is None
    assert "He initialisation" in build_on_meta("vgg16", init="trainable").cure
    assert build_on_meta("resnet50", init="trainable").cure is None  # its own trains by itself
