"""The networks that nobody else has, written a second time: as ONNX graphs, from the papers' tables and without our modules.

A graph holds no weights. Each is an input named by the authors' name of its layer, with the shape that the table gives it, so that
weights of another shape are refused. ONNX Runtime has operators of its own for local response normalisation, groups and pools that
round up. Letters: N batch, C channels, H W pixels, K classes.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 22
CAFFE_NORM = {"alpha": 2e-5, "k": 1.0}
"""Response norm of CaffeNet and of BVLC's AlexNet and GoogLeNet: `alpha: 0.0001` over five neighbours, averaged, and Caffe's default k."""


class Maps(NamedTuple):
    """A value of the graph: [N, C, H, W], or [N, C]."""

    name: str
    channels: int


class Graph:
    """An ONNX graph, written node by node."""

    def __init__(self, channels: int) -> None:
        self.images = Maps("images", channels)
        self.weights: dict[str, tuple[int, ...]] = {}
        self.statistics: dict[str, tuple[int, ...]] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def model(self, logits: Maps) -> onnx.ModelProto:
        """The whole graph: images and weights -> logits [N, K]."""
        shapes = {"images": ("N", self.images.channels, "H", "W"), **self.weights, **self.statistics}
        inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        outputs = [helper.make_tensor_value_info(logits.name, TensorProto.FLOAT, ("N", logits.channels))]
        graph = helper.make_graph(self.nodes, "oracle", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model

    def num_parameters(self) -> int:
        """What is trained: weights and biases, not statistics."""
        return sum(map(math.prod, self.weights.values()))

    def node(self, kind: str, *inputs: str, **attributes: object) -> str:
        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, values: object, dtype: type = np.int64) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def weight(self, name: str, *shape: int) -> str:
        self.weights[name] = shape
        return name

    def conv(
        self, x: Maps, layer: str, out: int, kernel: int, *, stride: int = 1, pad: int = 0, groups: int = 1, bias: bool = True
    ) -> Maps:
        inputs = [x.name, self.weight(f"{layer}.weight", out, x.channels // groups, kernel, kernel)]
        if bias:
            inputs.append(self.weight(f"{layer}.bias", out))
        return Maps(self.node("Conv", *inputs, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups), out)

    def full(self, x: Maps, layer: str, out: int, *, pixels: int = 1) -> Maps:
        """Fully connected, over maps of so many pixels, channel by channel."""
        inputs = [self.node("Flatten", x.name), self.weight(f"{layer}.weight", out, x.channels * pixels), self.weight(f"{layer}.bias", out)]
        return Maps(self.node("Gemm", *inputs, transB=1), out)

    def batch_norm(self, x: Maps, layer: str) -> Maps:
        affine = [self.weight(f"{layer}.{name}", x.channels) for name in ("weight", "bias")]
        statistics = [f"{layer}.running_mean", f"{layer}.running_var"]
        self.statistics |= dict.fromkeys(statistics, (x.channels,))
        return Maps(self.node("BatchNormalization", x.name, *affine, *statistics, epsilon=1e-5), x.channels)

    def relu(self, x: Maps) -> Maps:
        return Maps(self.node("Relu", x.name), x.channels)

    def response_norm(self, x: Maps, *, alpha: float = 1e-4, k: float = 2.0, beta: float = 0.75, neighbours: int = 5) -> Maps:
        """x / (k + alpha * sum of squares)^beta, the sum as the paper has it; the operator takes alpha times the number of neighbours."""
        return Maps(self.node("LRN", x.name, alpha=alpha * neighbours, beta=beta, bias=k, size=neighbours), x.channels)

    def pool(self, kind: str, x: Maps, kernel: int, stride: int, *, pad: int = 0, far_pad: int = 0, rounds_up: bool = False) -> Maps:
        pads = [pad, pad, pad + far_pad, pad + far_pad]
        sizes = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2, "pads": pads, "ceil_mode": int(rounds_up)}
        return Maps(self.node(kind, x.name, **sizes), x.channels)

    def max(self, x: Maps, kernel: int, stride: int, *, pad: int = 0, rounds_up: bool = False) -> Maps:
        return self.pool("MaxPool", x, kernel, stride, pad=pad, rounds_up=rounds_up)

    def average(self, x: Maps, kernel: int, stride: int, *, rounds_up: bool = False) -> Maps:
        return self.pool("AveragePool", x, kernel, stride, rounds_up=rounds_up)

    def global_average(self, x: Maps) -> Maps:
        """[N, C, H, W] -> [N, C]."""
        return Maps(self.node("Flatten", self.node("GlobalAveragePool", x.name)), x.channels)

    def add(self, x: Maps, y: Maps) -> Maps:
        assert x.channels == y.channels
        return Maps(self.node("Add", x.name, y.name), x.channels)

    def concatenate(self, *columns: Maps) -> Maps:
        return Maps(self.node("Concat", *(column.name for column in columns), axis=1), sum(column.channels for column in columns))


def alexnet(
    graph: Graph,
    classes: int,
    *,
    groups: int = 2,
    norm_first: bool = True,
    norm: Callable[[Graph, Maps], Maps] = Graph.response_norm,
    rounds_up: bool = True,
) -> Maps:
    """Krizhevsky, Sutskever, Hinton 2012, 227x227; CaffeNet and the one tower of the course notes pool first, then normalise.

    Caffe2's file of BVLC's weights, for 224x224, rounds down in the first two pools and pads the last by one pixel at the far edges.
    """

    def norm_and_pool(x: Maps) -> Maps:
        steps = [partial(norm, graph), lambda x: graph.max(x, 3, 2, rounds_up=rounds_up)]
        for step in steps if norm_first else reversed(steps):
            x = step(x)
        return x

    x = norm_and_pool(graph.relu(graph.conv(graph.images, "conv1", 96, 11, stride=4)))  # 55 -> 27
    x = norm_and_pool(graph.relu(graph.conv(x, "conv2", 256, 5, pad=2, groups=groups)))  # 27 -> 13
    x = graph.relu(graph.conv(x, "conv3", 384, 3, pad=1))
    x = graph.relu(graph.conv(x, "conv4", 384, 3, pad=1, groups=groups))
    x = graph.relu(graph.conv(x, "conv5", 256, 3, pad=1, groups=groups))
    x = graph.max(x, 3, 2, rounds_up=True) if rounds_up else graph.pool("MaxPool", x, 3, 2, far_pad=1)  # 6
    return three_full(graph, x, classes, pixels=6 * 6)


def three_full(graph: Graph, x: Maps, classes: int, *, pixels: int, fc7: int = 4096) -> Maps:
    x = graph.relu(graph.full(x, "fc6", 4096, pixels=pixels))
    return graph.full(graph.relu(graph.full(x, "fc7", fc7)), "fc8", classes)


def zfnet(graph: Graph, classes: int, *, widths: tuple[int, int, int] = (384, 384, 256)) -> Maps:
    """Zeiler, Fergus 2013, 224x224; the paper prints no constants of its norm, so AlexNet's."""
    x = graph.relu(graph.conv(graph.images, "conv1", 96, 7, stride=2, pad=1))  # 110
    x = graph.response_norm(graph.max(x, 3, 2, rounds_up=True))  # 55
    x = graph.relu(graph.conv(x, "conv2", 256, 5, stride=2))  # 26
    x = graph.response_norm(graph.max(x, 3, 2, rounds_up=True))  # 13
    for number, width in enumerate(widths, start=3):
        x = graph.relu(graph.conv(x, f"conv{number}", width, 3, pad=1))
    return three_full(graph, graph.max(x, 3, 2, rounds_up=True), classes, pixels=6 * 6)


def zfnet_512(graph: Graph, classes: int) -> Maps:
    """ZFNet-512 as zfnet512/predict_net.pbtxt of caffe2/models lists it, 224x224; its norm's alpha of 5e-4 is over five neighbours."""
    x = graph.relu(graph.conv(graph.images, "conv1", 96, 7, stride=2))  # 109
    x = graph.max(graph.response_norm(x, alpha=5e-4 / 5, k=2.0), 3, 2)  # 54
    x = graph.relu(graph.conv(x, "conv2", 256, 5, stride=2))  # 25
    x = graph.max(graph.response_norm(x, alpha=5e-4 / 5, k=2.0), 3, 2)  # 12
    for number in (3, 4, 5):
        x = graph.relu(graph.conv(x, f"conv{number}", 512, 3, pad=1))
    return three_full(graph, graph.max(x, 2, 2), classes, pixels=6 * 6, fc7=1024)


def vgg(graph: Graph, classes: int, *, groups: str, norm_after: str = "", averages: bool = False) -> Maps:
    """Simonyan, Zisserman 2014, 224x224; `groups` lists kernel sizes, one word for each group of convolutions."""
    x = graph.images
    for group, (width, kernels) in enumerate(zip((64, 128, 256, 512, 512), groups.split(), strict=True), start=1):
        for number, kernel in enumerate(map(int, kernels), start=1):
            x = graph.relu(graph.conv(x, f"conv{group}_{number}", width, kernel, pad=kernel // 2))
            if norm_after == f"relu{group}_{number}":
                x = graph.response_norm(x)
        x = graph.max(x, 2, 2)  # 112, 56, 28, 14, 7
    return three_full(graph, graph.global_average(x) if averages else x, classes, pixels=1 if averages else 7 * 7)


def nin(graph: Graph, x: Maps, *layers: tuple[str, int, int]) -> Maps:
    """Convolutions that keep the size, each with its ReLU: name, width, kernel."""
    for layer, width, kernel in layers:
        x = graph.relu(graph.conv(x, layer, width, kernel, pad=kernel // 2))
    return x


def nin_cifar(graph: Graph, classes: int) -> Maps:
    """Lin, Chen, Yan 2013, 32x32, as published with its weights."""
    x = nin(graph, graph.images, ("conv1", 192, 5), ("cccp1", 160, 1), ("cccp2", 96, 1))
    x = graph.max(x, 3, 2, rounds_up=True)  # 16
    x = nin(graph, x, ("conv2", 192, 5), ("cccp3", 192, 1), ("cccp4", 192, 1))
    x = graph.average(x, 3, 2, rounds_up=True)  # 8
    x = nin(graph, x, ("conv3", 192, 3), ("cccp5", 192, 1), ("cccp6", classes, 1))
    return graph.global_average(x)


def nin_imagenet(graph: Graph, classes: int) -> Maps:
    """The same idea for ImageNet, from Caffe's zoo."""
    x = graph.relu(graph.conv(graph.images, "conv1", 96, 11, stride=4))
    x = graph.max(nin(graph, x, ("cccp1", 96, 1), ("cccp2", 96, 1)), 3, 2, rounds_up=True)
    x = graph.max(nin(graph, x, ("conv2", 256, 5), ("cccp3", 256, 1), ("cccp4", 256, 1)), 3, 2, rounds_up=True)
    x = graph.max(nin(graph, x, ("conv3", 384, 3), ("cccp5", 384, 1), ("cccp6", 384, 1)), 3, 2, rounds_up=True)
    return graph.global_average(nin(graph, x, ("conv4-1024", 1024, 3), ("cccp7-1024", 1024, 1), ("cccp8-1024", classes, 1)))


class Inception(NamedTuple):
    """A row of Table 1 of Szegedy et al. 2014."""

    conv1x1: int
    reduce3x3: int
    conv3x3: int
    reduce5x5: int
    conv5x5: int
    pool_proj: int


INCEPTION = {
    "3a": Inception(64, 96, 128, 16, 32, 32),
    "3b": Inception(128, 128, 192, 32, 96, 64),
    "4a": Inception(192, 96, 208, 16, 48, 64),
    "4b": Inception(160, 112, 224, 24, 64, 64),
    "4c": Inception(128, 128, 256, 24, 64, 64),
    "4d": Inception(112, 144, 288, 32, 64, 64),
    "4e": Inception(256, 160, 320, 32, 128, 128),
    "5a": Inception(256, 160, 320, 32, 128, 128),
    "5b": Inception(384, 192, 384, 48, 128, 128),
}


def googlenet(graph: Graph, classes: int, *, reduces: bool = True, heads: bool = False, rounds_up: bool = True) -> Maps:
    """Szegedy et al. 2014, 224x224; the naive module has no 1x1 reductions and keeps its pool whole.

    The paper prints no constants of its norm; these are those of the public weights. With the two auxiliary heads, which only training
    has, logits are [N, 3 K]: the network's own, the first head's, the second's. Caffe2's inception_v1 has pools that round down, and a
    last mean of 7x7 over the 6x6 that are left, padded by one pixel at the far edges.
    """

    def conv(x: Maps, layer: str, width: int, kernel: int) -> Maps:
        return graph.relu(graph.conv(x, layer, width, kernel, pad=kernel // 2))

    auxiliary: list[Maps] = []
    x = graph.relu(graph.conv(graph.images, "conv1/7x7_s2", 64, 7, stride=2, pad=3))  # 112
    x = graph.response_norm(graph.max(x, 3, 2, rounds_up=rounds_up), **CAFFE_NORM)  # 56
    x = conv(conv(x, "conv2/3x3_reduce", 64, 1), "conv2/3x3", 192, 3)
    x = graph.max(graph.response_norm(x, **CAFFE_NORM), 3, 2, rounds_up=rounds_up)  # 28
    for module, widths in INCEPTION.items():
        name = f"inception_{module}"
        if module in ("4a", "5a"):
            x = graph.max(x, 3, 2, rounds_up=rounds_up)  # 14, 7
        pooled = graph.max(x, 3, 1, pad=1)
        if reduces:
            columns = (
                conv(x, f"{name}/1x1", widths.conv1x1, 1),
                conv(conv(x, f"{name}/3x3_reduce", widths.reduce3x3, 1), f"{name}/3x3", widths.conv3x3, 3),
                conv(conv(x, f"{name}/5x5_reduce", widths.reduce5x5, 1), f"{name}/5x5", widths.conv5x5, 5),
                conv(pooled, f"{name}/pool_proj", widths.pool_proj, 1),
            )
        else:
            kernels = {"1x1": (widths.conv1x1, 1), "3x3": (widths.conv3x3, 3), "5x5": (widths.conv5x5, 5)}
            columns = (*(conv(x, f"{name}/{layer}", width, kernel) for layer, (width, kernel) in kernels.items()), pooled)
        x = graph.concatenate(*columns)
        if heads and module in ("4a", "4d"):
            name = f"loss{len(auxiliary) + 1}"
            y = conv(graph.average(x, 5, 3), f"{name}/conv", 128, 1)  # 4x4
            y = graph.relu(graph.full(y, f"{name}/fc", 1024, pixels=4 * 4))
            auxiliary.append(graph.full(y, f"{name}/classifier", classes))
    x = graph.global_average(x if rounds_up else graph.pool("AveragePool", x, 7, 1, far_pad=1))
    logits = graph.full(x, "loss3/classifier", classes)
    return graph.concatenate(logits, *auxiliary) if heads else logits


def basic_block(graph: Graph, x: Maps, width: int, stride: int, shortcut: str, layers: dict[str, str]) -> Maps:
    """Two 3x3 convolutions beside a shortcut; `layers` names the convolutions first, second, projection and their norms."""

    def conv_and_norm(x: Maps, layer: str, kernel: int, stride: int) -> Maps:
        x = graph.conv(x, layers[layer], width, kernel, stride=stride, pad=kernel // 2, bias=False)
        return graph.batch_norm(x, layers[f"{layer} norm"])

    y = conv_and_norm(graph.relu(conv_and_norm(x, "first", 3, stride)), "second", 3, 1)
    changes = stride != 1 or x.channels != width
    if shortcut == "C" or (shortcut == "B" and changes):
        y = graph.add(y, conv_and_norm(x, "projection", 1, stride))
    elif shortcut == "A" and changes:
        every_second = graph.node("Slice", x.name, *map(graph.constant, ([0, 0], [2**31, 2**31], [2, 3], [stride, stride])))
        padded = graph.node("Pad", every_second, graph.constant([0, 0, 0, 0, 0, width - x.channels, 0, 0]))
        y = graph.add(y, Maps(padded, width))
    elif shortcut != "none":
        y = graph.add(y, x)
    return graph.relu(y)


def resnet_imagenet(graph: Graph, classes: int, *, blocks: tuple[int, ...], shortcut: str) -> Maps:
    """He, Zhang, Ren, Sun 2015, Table 1, 224x224, depths 18 and 34; names of the authors' release."""
    x = graph.conv(graph.images, "conv1", 64, 7, stride=2, pad=3, bias=False)  # 112
    x = graph.max(graph.relu(graph.batch_norm(x, "bn_conv1")), 3, 2, pad=1)  # 56
    for stage, (width, count) in enumerate(zip((64, 128, 256, 512), blocks, strict=True), start=2):
        for block, letter in enumerate("abcdef"[:count]):
            branches = {"first": "2a", "second": "2b", "projection": "1"}
            names = {layer: f"res{stage}{letter}_branch{branch}" for layer, branch in branches.items()}
            names |= {f"{layer} norm": f"bn{stage}{letter}_branch{branch}" for layer, branch in branches.items()}
            x = basic_block(graph, x, width, 2 if stage > 2 and block == 0 else 1, shortcut, names)
    return graph.full(graph.global_average(x), "fc1000", classes)


def resnet_cifar(graph: Graph, classes: int, *, blocks: int, shortcut: str) -> Maps:
    """The same paper's section 4.2, 32x32; the authors published no names, so ours."""
    x = graph.relu(graph.batch_norm(graph.conv(graph.images, "conv1.conv", 16, 3, pad=1, bias=False), "conv1.bn"))
    for stage, width in enumerate((16, 32, 64), start=2):
        for block in range(1, blocks + 1):
            path = f"conv{stage}_x.block{block}"
            names = {"first": "conv1", "first norm": "bn1", "second": "conv2", "second norm": "bn2"}
            names |= {"projection": "shortcut.conv", "projection norm": "shortcut.bn"}
            names = {layer: f"{path}.{name}" for layer, name in names.items()}
            x = basic_block(graph, x, width, 2 if stage > 2 and block == 1 else 1, shortcut, names)
    return graph.full(graph.global_average(x), "fc", classes)


# Table I of LeCun, Bottou, Bengio, Haffner 1998: the maps of S2 that each map of C3 reads.
C3_READS = ["012", "123", "234", "345", "045", "015", "0123", "1234", "2345", "0345", "0145", "0125", "0134", "1245", "0235", "012345"]

BITMAPS = """
.#####. ....... ..###.. .##.##. ##...## ##...## ##...## ##...## .##.##. ..###.. ....... .......
...##.. ..###.. .####.. ...##.. ...##.. ...##.. ...##.. ...##.. ...##.. .###### ....... .......
.#####. ....... .#####. ##...## #....## ....##. ..###.. .##.... ##..... ####### ....... .......
####### .....## ....##. ...##.. ..####. .....## .....## .....## ##...## .#####. ....... .......
.#####. ....... ....... .##..## .##..## ###..## ##...## ##...## ##..### .###### .....## .....##
.#####. ....... ####### ##..... ##..... .####.. ..####. .....## ##...## .#####. ....... .......
..####. .##.... ##..... ##..... ######. ###..## ##...## ##...## ###..## .#####. ....... .......
####### .....## .....## ....##. ...##.. ...##.. ..##... ..##... ..##... ..##... ....... .......
.#####. ##...## ##...## ##...## .#####. ##...## ##...## ##...## ##...## .#####. ....... .......
.#####. ##..### ##...## ##...## ##..### .###### .....## .....## ....##. .####.. ....... .......
"""


def lenet5(graph: Graph, classes: int, *, c3_reads: Sequence[str] = C3_READS) -> Maps:
    """LeCun, Bottou, Bengio, Haffner 1998, 32x32; logits are minus the squared distance to the bitmap of each digit."""

    def squash(x: Maps) -> Maps:
        inner = graph.node("Tanh", graph.node("Mul", x.name, graph.constant(2 / 3, np.float32)))
        return Maps(graph.node("Mul", inner, graph.constant(1.7159, np.float32)), x.channels)

    def subsample(x: Maps, layer: str) -> Maps:
        """The sum of 2x2 times a coefficient of the map, plus a bias of the map."""
        total = graph.node("Mul", graph.average(x, 2, 2).name, graph.constant(4, np.float32))
        coefficient, bias = (
            graph.node("Unsqueeze", graph.weight(f"{layer}.{name}", x.channels), graph.constant([1, 2])) for name in ("weight", "bias")
        )
        return squash(Maps(graph.node("Add", graph.node("Mul", total, coefficient), bias), x.channels))

    x = subsample(squash(graph.conv(graph.images, "C1.conv", 6, 5)), "S2.subsampling")  # 28 -> 14

    pairs = [(into, int(read)) for into, reads in enumerate(c3_reads) for read in reads]
    kernels = graph.weight("C3.conv.weight", len(pairs), 5, 5)
    dense = graph.node("ScatterND", graph.constant(np.zeros((16, 6, 5, 5)), np.float32), graph.constant(pairs), kernels)
    x = Maps(graph.node("Conv", x.name, dense, graph.weight("C3.conv.bias", 16), kernel_shape=[5, 5]), 16)
    x = subsample(squash(x), "S4.subsampling")  # 10 -> 5

    x = squash(graph.conv(x, "C5.conv", 120, 5))  # 1
    x = squash(graph.full(x, "F6.linear", 84))

    bitmaps = [[1 if pixel == "#" else -1 for pixel in line.replace(" ", "")] for line in BITMAPS.split("\n")[1:-1]]
    assert len(bitmaps) == classes
    gap = graph.node("Sub", graph.node("Unsqueeze", x.name, graph.constant([1])), graph.constant(bitmaps, np.float32))  # [N, 10, 84]
    distance = graph.node("ReduceSum", graph.node("Mul", gap, gap), graph.constant([2]), keepdims=0)
    return Maps(graph.node("Neg", distance), classes)


NETWORKS: dict[str, Callable[..., Maps]] = {
    "lenet5": lenet5,
    "alexnet": alexnet,
    "alexnet_bvlc": partial(alexnet, norm=partial(Graph.response_norm, **CAFFE_NORM)),
    "alexnet_floor": partial(alexnet, norm=partial(Graph.response_norm, **CAFFE_NORM), rounds_up=False),
    "alexnet_one_tower": partial(alexnet, groups=1, norm_first=False),
    "caffenet": partial(alexnet, norm_first=False, norm=partial(Graph.response_norm, **CAFFE_NORM)),
    "zfnet": zfnet,
    "zfnet_big": partial(zfnet, widths=(512, 1024, 512)),
    "zfnet_512": zfnet_512,
    "vgg11_lrn": partial(vgg, groups="3 3 33 33 33", norm_after="relu1_1"),
    "vgg16_c": partial(vgg, groups="33 33 331 331 331"),
    "vgg16_gap": partial(vgg, groups="33 33 333 333 333", averages=True),
    "nin_cifar": nin_cifar,
    "nin_imagenet": nin_imagenet,
    "googlenet": googlenet,
    "googlenet_floor": partial(googlenet, rounds_up=False),
    "googlenet_naive": partial(googlenet, reduces=False),
    "resnet18_a": partial(resnet_imagenet, blocks=(2, 2, 2, 2), shortcut="A"),
    "resnet34_a": partial(resnet_imagenet, blocks=(3, 4, 6, 3), shortcut="A"),
    "resnet34_c": partial(resnet_imagenet, blocks=(3, 4, 6, 3), shortcut="C"),
    "plain18": partial(resnet_imagenet, blocks=(2, 2, 2, 2), shortcut="none"),
    "plain34": partial(resnet_imagenet, blocks=(3, 4, 6, 3), shortcut="none"),
    "resnet20_cifar": partial(resnet_cifar, blocks=3, shortcut="A"),
    "resnet20_cifar_b": partial(resnet_cifar, blocks=3, shortcut="B"),
    "resnet110_cifar": partial(resnet_cifar, blocks=18, shortcut="A"),
    "plain20_cifar": partial(resnet_cifar, blocks=3, shortcut="none"),
}


def write(network: Callable[..., Maps], channels: int, classes: int) -> tuple[Graph, onnx.ModelProto]:
    """The graph of a network, and the model to run."""
    graph = Graph(channels)
    return graph, graph.model(network(graph, classes))
