"""A second implementation, in ONNX: its tables against the published counts, its logits against ours."""

from functools import partial

import onnx_oracle
import onnxruntime
import pytest
import torch
from onnx_oracle import Graph
from torch import nn

from comparison import PIXELS, TOLERANCE, make_images, randomise, relative_error
from provenet.models.catalog import build_network

# With their papers' classes; GoogLeNet without its auxiliary heads.
PUBLISHED_PARAMETERS = {
    "lenet5": 60_000, "alexnet": 60_965_224, "alexnet_one_tower": 62_378_344, "caffenet": 60_965_224, "zfnet": 62_357_608,
    "zfnet_big": 107_627_624, "vgg11_lrn": 132_863_336, "vgg16_c": 133_638_952, "vgg16_gap": 37_694_248, "nin_cifar": 966_986,
    "nin_imagenet": 7_595_176, "googlenet": 6_998_552, "googlenet_floor": 6_998_552, "resnet18_a": 11_515_688, "plain18": 11_515_688,
    "resnet34_a": 21_623_848, "plain34": 21_623_848, "resnet34_c": 22_716_840, "resnet20_cifar": 269_722,
    "resnet20_cifar_b": 269_722 + 2_752, "resnet110_cifar": 1_727_962, "plain20_cifar": 269_722,
}  # fmt: skip
NORMALISE_RESPONSES = ("alexnet", "caffenet", "zfnet", "vgg11_lrn", "googlenet")


@pytest.mark.parametrize(("name", "published"), PUBLISHED_PARAMETERS.items())
def test_the_tables_have_the_published_counts(name, published):
    is_small = name == "lenet5" or "cifar" in name
    graph, _ = onnx_oracle.write(onnx_oracle.NETWORKS[name], 1 if name == "lenet5" else 3, 10 if is_small else 1000)
    assert graph.num_parameters() == published


def test_the_tables_of_googlenet_s_relatives():
    with_heads, _ = onnx_oracle.write(partial(onnx_oracle.googlenet, heads=True), 3, 1000)
    assert with_heads.num_parameters() == 13_378_280
    naive, _ = onnx_oracle.write(onnx_oracle.NETWORKS["googlenet_naive"], 3, 1000)
    assert round(naive.num_parameters(), -5) == 97_500_000


def run(network, net, images):
    """Images [N, C, H, W] -> logits [N, K] of a network of the oracle with the weights of `net`."""
    graph, model = onnx_oracle.write(network, net.input_spec.channels, net.num_classes)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feed = {"images": images.numpy()}
    for weight in (*graph.weights, *graph.statistics):
        layer, _, attribute = weight.rpartition(".")
        feed[weight] = getattr(net.layer(layer), attribute).numpy()
    (logits,) = session.run(None, feed)
    return torch.from_numpy(logits)


def build(name):
    """Our network of that name with random weights, and two images."""
    net = build_network(name, num_classes=10, init="trainable")
    images = make_images(net, scale=PIXELS if name.startswith(NORMALISE_RESPONSES) else 1.0)
    return randomise(net, images), images


@pytest.mark.parametrize("name", onnx_oracle.NETWORKS)
def test_logits(name, comparisons):
    net, images = build(name)
    network = onnx_oracle.NETWORKS[name]
    comparisons.agree(name, "ONNX, written from the tables", lambda dtype: (net(images), run(network, net, images)), [torch.float32])


def test_auxiliary_heads(comparisons):
    net, images = build("googlenet")
    for layer in net.train().modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0
    network = partial(onnx_oracle.googlenet, heads=True)

    def logits(dtype):
        return torch.cat([logits for _, logits in net.training_logits(images)], 1), run(network, net, images)

    comparisons.agree("googlenet", "ONNX, written from the tables, in training, with auxiliary heads", logits, [torch.float32])


MISTAKES = {
    "one map of S2 for another": ("lenet5", partial(onnx_oracle.lenet5, c3_reads=["013", *onnx_oracle.C3_READS[1:]])),
    "the norm divides alpha by the neighbours": ("alexnet", partial(onnx_oracle.alexnet, norm=partial(Graph.response_norm, alpha=2e-5))),
    "pool before norm": ("alexnet", partial(onnx_oracle.alexnet, norm_first=False)),
    "the norm of AlexNet's paper": ("caffenet", partial(onnx_oracle.alexnet, norm_first=False)),
    "the norm of AlexNet's paper, before the pool": ("alexnet_bvlc", onnx_oracle.alexnet),
    "pools that round up": ("alexnet_floor", onnx_oracle.NETWORKS["alexnet_bvlc"]),
    "pools that round up, in GoogLeNet": ("googlenet_floor", onnx_oracle.googlenet),
    "no norm": ("vgg11_lrn", partial(onnx_oracle.vgg, groups="3 3 33 33 33")),
    "a shortcut": ("plain18", onnx_oracle.NETWORKS["resnet18_a"]),
    "no shortcut": ("resnet20_cifar", onnx_oracle.NETWORKS["plain20_cifar"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_would_be_noticed(mistake):
    name, mistaken = MISTAKES[mistake]
    net, images = build(name)
    with torch.no_grad():
        assert relative_error(net(images), run(mistaken, net, images)) > 100 * TOLERANCE[torch.float32]
