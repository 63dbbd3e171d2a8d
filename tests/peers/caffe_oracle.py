"""Public Caffe nets, layer by layer as their prototxts have them: written as .caffemodel files, and computed here without our modules.

Settings are those of the messages in caffe.proto, by their names there; what is computed follows Caffe's layers in the phase TEST.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent / "weights"))
from protobuf_writer import caffe_model, integer, layer, old_layer, real

FIELDS = {
    "convolution": (106, 10, {"num_output": 1, "bias_term": 2, "pad": 3, "kernel_size": 4, "group": 5, "stride": 6}),
    "pooling": (121, 19, {"pool": 1, "kernel_size": 2, "stride": 3, "pad": 4}),
    "lrn": (118, 18, {"local_size": 1, "alpha": 2, "beta": 3}),
    "inner_product": (117, 17, {"num_output": 1}),
    "dropout": (108, 12, {"dropout_ratio": 1}),
    "batch_norm": (139, None, {"use_global_stats": 1}),
    "scale": (142, None, {"bias_term": 4}),
    "loss": (101, 42, {}),
}
"""The number of a message in LayerParameter and in V1LayerParameter, and its fields."""
OLD_TYPES = {
    "Accuracy": 1, "Concat": 3, "Convolution": 4, "Data": 5, "Dropout": 6, "InnerProduct": 14, "LRN": 15, "Pooling": 17, "ReLU": 18,
    "Softmax": 20, "SoftmaxWithLoss": 21, "Split": 22, "Eltwise": 25,
}  # fmt: skip
AVERAGE, TRAIN, TEST = 1, 0, 1


@dataclass
class Layer:
    kind: str
    name: str
    bottoms: list[str]
    tops: list[str]
    settings: dict[str, dict[str, object]] = field(default_factory=dict)
    blobs: list[Tensor] = field(default_factory=list)
    phase: int | None = None


def compute(layer: Layer, inputs: list[Tensor]) -> list[Tensor] | None:
    """What the layer gives when it is tested; None for one that gives nothing for a picture without a label."""
    x, blobs = inputs[0], layer.blobs
    given = next(iter(layer.settings.values()), {})
    match layer.kind:
        case "Convolution":
            bias = blobs[1] if len(blobs) > 1 else None
            return [F.conv2d(x, blobs[0], bias, given.get("stride", 1), given.get("pad", 0), groups=given.get("group", 1))]
        case "InnerProduct":
            return [F.linear(x.flatten(1), blobs[0], blobs[1])]
        case "Pooling" if given.get("pool") == AVERAGE:
            return [F.avg_pool2d(x, given["kernel_size"], given.get("stride", 1), given.get("pad", 0), ceil_mode=True)]
        case "Pooling":
            return [F.max_pool2d(x, given["kernel_size"], given.get("stride", 1), given.get("pad", 0), ceil_mode=True)]
        case "LRN":  # within channels is another one; alpha is over the number of neighbours, in both
            return [F.local_response_norm(x, given["local_size"], given["alpha"], given["beta"], k=1.0)]
        case "BatchNorm":
            mean, variance = (blob / blobs[2] for blob in blobs[:2])
            return [F.batch_norm(x, mean, variance, eps=1e-5)]
        case "Scale":
            return [x * blobs[0][:, None, None] + blobs[1][:, None, None]]
        case "ReLU":
            return [x.relu()]
        case "Concat":
            return [torch.cat(inputs, 1)]
        case "Eltwise":
            return [inputs[0] + inputs[1]]
        case "Dropout":
            return [x]
        case "Split":
            return [x] * len(layer.tops)
    raise AssertionError(layer.kind)


class Net:
    """A net that grows: each layer is computed at once on some pictures, so that a batch norm can be given their statistics."""

    def __init__(self, images: Tensor) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.values = {"data": images}
        self.layers = [Layer("Data", "data", [], ["data", "label"], phase=TRAIN)]

    def add(self, kind: str, name: str, bottoms: str | list[str], top: str | None = None, *, settings=None, blobs=(), phase=None) -> str:
        bottoms = [bottoms] if isinstance(bottoms, str) else bottoms
        new = Layer(kind, name, bottoms, [top or name], settings or {}, list(blobs), phase)
        self.layers.append(new)
        if kind not in ("SoftmaxWithLoss", "Accuracy"):
            self.values |= zip(new.tops, compute(new, [self.values[bottom] for bottom in bottoms]), strict=True)
        return new.tops[0]

    def split(self, bottom: str, count: int) -> list[str]:
        """Caffe puts a layer of its own where several read one blob, and saves it with the others."""
        tops = [f"{bottom}_{bottom}_0_split_{number}" for number in range(count)]
        self.layers.append(Layer("Split", f"{bottom}_{bottom}_0_split", [bottom], tops))
        self.values |= dict.fromkeys(tops, self.values[bottom])
        return tops

    def random(self, *shape: int, std: float) -> Tensor:
        return torch.randn(shape, generator=self.generator) * std

    def conv(self, name: str, bottom: str, out: int, kernel: int, *, stride=1, pad=0, group=1, bias=True) -> str:
        channels = self.values[bottom].shape[1] // group
        settings = {"num_output": out, "kernel_size": kernel} | ({"stride": stride} if stride > 1 else {}) | ({"pad": pad} if pad else {})
        settings |= ({"group": group} if group > 1 else {}) | ({} if bias else {"bias_term": 0})
        blobs = [self.random(out, channels, kernel, kernel, std=(2 / (channels * kernel**2)) ** 0.5)]
        blobs += [self.random(out, std=0.1)] if bias else []
        return self.add("Convolution", name, bottom, settings={"convolution": settings}, blobs=blobs)

    def relu(self, name: str, bottom: str) -> str:
        """In place, as everywhere."""
        return self.add("ReLU", name, bottom, bottom)

    def full(self, name: str, bottom: str, out: int) -> str:
        inputs = self.values[bottom].flatten(1).shape[1]
        blobs = [self.random(out, inputs, std=(2 / inputs) ** 0.5), self.random(out, std=0.1)]
        return self.add("InnerProduct", name, bottom, settings={"inner_product": {"num_output": out}}, blobs=blobs)

    def pool(self, name: str, bottom: str, kernel: int, stride: int, *, pad=0, pool=0) -> str:
        settings = {"pool": pool, "kernel_size": kernel, "stride": stride} | ({"pad": pad} if pad else {})
        return self.add("Pooling", name, bottom, settings={"pooling": settings})

    def norm(self, name: str, bottom: str) -> str:
        return self.add("LRN", name, bottom, settings={"lrn": {"local_size": 5, "alpha": 1e-4, "beta": 0.75}})

    def dropout(self, name: str, bottom: str, ratio: float, *, phase=None) -> str:
        return self.add("Dropout", name, bottom, bottom, settings={"dropout": {"dropout_ratio": ratio}}, phase=phase)

    def batch_norm(self, name: str, bottom: str) -> str:
        """Two layers in place: statistics near those of the pictures, times the factor that Caffe divides by; then scale and shift."""
        x = self.values[bottom]
        channels, factor = x.shape[1], torch.tensor([999.982])
        variance, mean = torch.var_mean(x, (0, 2, 3))
        mean = mean + variance.sqrt() * self.random(channels, std=0.1)
        variance = variance * (0.75 + 0.5 * torch.rand(channels, generator=self.generator))
        settings = {"batch_norm": {"use_global_stats": 1}}
        self.add("BatchNorm", f"bn{name}", bottom, bottom, settings=settings, blobs=[mean * factor, variance * factor, factor])
        scale = [1 + self.random(channels, std=0.2), self.random(channels, std=0.1)]
        return self.add("Scale", f"scale{name}", bottom, bottom, settings={"scale": {"bias_term": 1}}, blobs=scale)

    def run(self, images: Tensor, top: str) -> Tensor:
        """Pictures [N, 3, S, S], as Caffe is fed -> the blob of that name."""
        values = {"data": images}
        for each in self.layers:
            if each.kind not in ("Data", "Softmax", "SoftmaxWithLoss", "Accuracy") and each.phase is None:
                values |= zip(each.tops, compute(each, [values[bottom] for bottom in each.bottoms]), strict=True)
        return values[top]

    def write(self, path: Path, *, old: bool = False, size: int) -> None:
        """As `Net::ToProto` saves a net in training, or as a file of before 2014 has it."""
        path.write_bytes(caffe_model([_written(each, old, size) for each in self.layers], old=old))


def _written(each: Layer, old: bool, size: int) -> bytes:
    messages = {}
    for message, values in each.settings.items():
        new_number, old_number, fields = FIELDS[message]
        content = b"".join((real if isinstance(value, float) else integer)(fields[name], value) for name, value in values.items())
        messages[message] = (old_number if old else new_number, content)
    if each.kind == "Data":
        messages["transform"] = (36 if old else 100, integer(2, 1) + integer(3, size) + b"".join(real(5, mean) for mean in (104, 117, 123)))
    bottoms, tops = " ".join(each.bottoms), " ".join(each.tops)
    blobs = [blob.numpy() for blob in each.blobs]
    if old:
        if each.phase is not None:
            messages["include"] = (32, integer(1, each.phase))
        return old_layer(OLD_TYPES[each.kind], each.name, bottoms, tops, blobs, **messages)
    return layer(each.kind, each.name, bottoms, tops, blobs, include=each.phase, **messages)


def alexnet(net: Net, classes: int, *, norm_first: bool) -> str:
    """bvlc_alexnet, and bvlc_reference_caffenet, which pools before it normalises."""

    def both(number: int, x: str) -> str:
        if norm_first:
            return net.pool(f"pool{number}", net.norm(f"norm{number}", x), 3, 2)
        return net.norm(f"norm{number}", net.pool(f"pool{number}", x, 3, 2))

    x = both(1, net.relu("relu1", net.conv("conv1", "data", 96, 11, stride=4)))
    x = both(2, net.relu("relu2", net.conv("conv2", x, 256, 5, pad=2, group=2)))
    x = net.relu("relu3", net.conv("conv3", x, 384, 3, pad=1))
    x = net.relu("relu4", net.conv("conv4", x, 384, 3, pad=1, group=2))
    x = net.pool("pool5", net.relu("relu5", net.conv("conv5", x, 256, 3, pad=1, group=2)), 3, 2)
    for number in (6, 7):
        x = net.dropout(f"drop{number}", net.relu(f"relu{number}", net.full(f"fc{number}", x, 4096)), 0.5)
    return _loss(net, net.full("fc8", x, classes), "loss")


def vgg16(net: Net, classes: int) -> str:
    """VGG_ILSVRC_16_layers."""
    x = "data"
    for stage, (layers, channels) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for number in range(1, layers + 1):
            x = net.relu(f"relu{stage}_{number}", net.conv(f"conv{stage}_{number}", x, channels, 3, pad=1))
        x = net.pool(f"pool{stage}", x, 2, 2)
    for number in (6, 7):
        x = net.dropout(f"drop{number}", net.relu(f"relu{number}", net.full(f"fc{number}", x, 4096)), 0.5)
    return net.full("fc8", x, classes)


MODULES = {
    "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128),
}  # fmt: skip


def googlenet(net: Net, classes: int, *, drop_in: int | None = None) -> str:
    """bvlc_googlenet in training: with both auxiliary classifiers and the splits that Caffe adds; dropout in one phase or in both."""

    def conv(name: str, bottom: str, out: int, kernel: int, **more) -> str:
        stem, _, last = name.rpartition("/")
        return net.relu(f"{stem}/relu_{last}", net.conv(name, bottom, out, kernel, **more))

    def module(name: str, x: str, one: int, reduce3: int, three: int, reduce5: int, five: int, project: int) -> str:
        here, a, b, c = f"inception_{name}", *net.split(x, 4)[:3]
        columns = [conv(f"{here}/1x1", a, one, 1), conv(f"{here}/3x3", conv(f"{here}/3x3_reduce", b, reduce3, 1), three, 3, pad=1)]
        columns.append(conv(f"{here}/5x5", conv(f"{here}/5x5_reduce", c, reduce5, 1), five, 5, pad=2))
        pooled = net.pool(f"{here}/pool", f"{x}_{x}_0_split_3", 3, 1, pad=1)
        columns.append(conv(f"{here}/pool_proj", pooled, project, 1))
        return net.add("Concat", f"{here}/output", columns)

    def auxiliary(name: str, x: str) -> None:
        y = conv(f"{name}/conv", net.pool(f"{name}/ave_pool", x, 5, 3, pool=AVERAGE), 128, 1)
        y = net.dropout(f"{name}/drop_fc", net.relu(f"{name}/relu_fc", net.full(f"{name}/fc", y, 1024)), 0.7, phase=drop_in)
        _loss(net, net.full(f"{name}/classifier", y, classes), f"{name}/loss1")

    x = net.pool("pool1/3x3_s2", conv("conv1/7x7_s2", "data", 64, 7, stride=2, pad=3), 3, 2)
    x = conv("conv2/3x3_reduce", net.norm("pool1/norm1", x), 64, 1)
    x = net.pool("pool2/3x3_s2", net.norm("conv2/norm2", conv("conv2/3x3", x, 192, 3, pad=1)), 3, 2)
    for name, widths in MODULES.items():
        if name in ("4b", "4e"):  # the auxiliary classifiers read what 4a and 4d give
            x, aside = net.split(x, 2)
            auxiliary("loss1" if name == "4b" else "loss2", aside)
        x = module(name, x, *widths)
        if name in ("3b", "4e"):
            x = net.pool(f"pool{3 if name == '3b' else 4}/3x3_s2", x, 3, 2)
    x = net.dropout("pool5/drop_7x7_s1", net.pool("pool5/7x7_s1", x, 7, 1, pool=AVERAGE), 0.4, phase=drop_in)
    return _loss(net, net.full("loss3/classifier", x, classes), "loss3/loss3")


def nin_imagenet(net: Net, classes: int) -> str:
    """The model of Lin, Chen and Yan in Caffe's zoo."""

    def block(conv: str, cccp: tuple[str, str], x: str, widths: tuple[int, int, int], kernel: int, **more) -> str:
        x = net.relu(f"relu_{conv}", net.conv(conv, x, widths[0], kernel, **more))
        for name, width in zip(cccp, widths[1:], strict=True):
            x = net.relu(f"relu_{name}", net.conv(name, x, width, 1))
        return x

    x = net.pool("pool0", block("conv1", ("cccp1", "cccp2"), "data", (96, 96, 96), 11, stride=4), 3, 2)
    x = net.pool("pool2", block("conv2", ("cccp3", "cccp4"), x, (256, 256, 256), 5, pad=2), 3, 2)
    x = net.pool("pool3", block("conv3", ("cccp5", "cccp6"), x, (384, 384, 384), 3, pad=1), 3, 2)
    x = block("conv4-1024", ("cccp7-1024", "cccp8-1024"), net.dropout("drop", x, 0.5), (1024, 1024, classes), 3, pad=1)
    return net.pool("pool4", x, net.values[x].shape[-1], 1, pool=AVERAGE)


def resnet50(net: Net, classes: int) -> str:
    """ResNet-50 of the authors: the stride in the first 1x1, and a bias in conv1 alone."""
    x = net.conv("conv1", "data", 64, 7, stride=2, pad=3)
    x = net.pool("pool1", net.relu("conv1_relu", net.batch_norm("_conv1", x)), 3, 2)
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 2):
        for letter in "abcdef"[:blocks]:
            name, stride = f"{stage}{letter}", 2 if letter == "a" and stage > 2 else 1
            short, x = net.split(x, 2)
            if letter == "a":
                short = net.batch_norm(f"{name}_branch1", net.conv(f"res{name}_branch1", short, 4 * width, 1, stride=stride, bias=False))
            for branch, out, kernel in (("2a", width, 1), ("2b", width, 3), ("2c", 4 * width, 1)):
                steps = {"stride": stride} if branch == "2a" else {}
                x = net.conv(f"res{name}_branch{branch}", x, out, kernel, pad=kernel // 2, bias=False, **steps)
                x = net.batch_norm(f"{name}_branch{branch}", x)
                if branch != "2c":
                    x = net.relu(f"res{name}_branch{branch}_relu", x)
            x = net.relu(f"res{name}_relu", net.add("Eltwise", f"res{name}", [short, x]))
    return net.full("fc1000", net.pool("pool5", x, 7, 1, pool=AVERAGE), classes)


def _loss(net: Net, logits: str, name: str) -> str:
    net.add("SoftmaxWithLoss", name, [logits, "label"], settings={"loss": {}})
    net.add("Accuracy", f"{name}/top-5", [logits, "label"], phase=TEST)
    return logits
