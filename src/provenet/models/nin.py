"""Network in Network: where the 1x1 convolution and the global average come from.

Lin, Chen, Yan, "Network in network", 2013 (arXiv:1312.4400). A layer is a convolution followed by two 1x1 convolutions, which are a
small perceptron sliding over the maps; the last one makes one map a class, and the mean of each map is its logit: no fully connected
layer at all. ReLU after every convolution, the last too.

    CIFAR, 32x32 (the authors' release)                     ImageNet, 224x224 (the Caffe model zoo's; not in the paper)
    conv1  5x5 192, 1x1 160, 1x1 96; max 3x3 stride 2       conv1  11x11 stride 4 96, 1x1 96, 1x1 96; max 3x3 stride 2
    conv2  5x5 192, 1x1 192, 1x1 192; mean 3x3 stride 2     conv2  5x5 256, 1x1 256, 1x1 256; max 3x3 stride 2
    conv3  3x3 192, 1x1 192, 1x1 K                          conv3  3x3 384, 1x1 384, 1x1 384; max 3x3 stride 2
    pool   mean of each map                                 conv4  3x3 1024, 1x1 1024, 1x1 K
                                                            pool   mean of each map
Dropout 0.5 after the pools of conv1 and conv2 (CIFAR), of conv3 (ImageNet). Pools count a window that hangs over the edge.

Differences from the paper:
* it prints neither layer sizes nor an initialisation; sizes are those of the two releases. `published` weights begin normal with
  deviation 0.05 (but 0.01 in conv1, conv3 and the last of ImageNet's), biases at 0, as the releases' definition files have it.

The authors call the 1x1 convolutions cccp1, cccp2 and so on: cascaded cross channel parametric pooling.
"""

from collections import OrderedDict
from functools import partial
from typing import Literal, NamedTuple

from torch import Tensor, nn

from provenet.models.blocks import GlobalAverage
from provenet.models.classifier import Classifier, Initialisation, InputSpec, input_of_its_time
from provenet.models.initialisation import Rule, fill, he_normal, initialise, normal
from provenet.preprocessing import CIFAR_PREPROCESSING


class Layer(NamedTuple):
    """A convolution, its two 1x1 convolutions, and what follows them; None maps are the classes."""

    kernel_size: int
    maps: tuple[int, int, int | None]
    stride: int = 1
    padding: int = 0
    pool: Literal["max", "average"] | None = None
    names: tuple[str, ...] = ()
    """The authors' names: of the three convolutions, the pool, and, where there is one, the dropout."""


class Variant(NamedTuple):
    """One network."""

    layers: tuple[Layer, ...]
    begin_at_001: tuple[str, ...]
    """Layers whose weights begin with a deviation of 0.01; the others with 0.05."""
    num_classes: int
    size: int
    smallest: int


NINS = {
    "nin_cifar": Variant(
        (
            Layer(5, (192, 160, 96), padding=2, pool="max", names=("conv1", "cccp1", "cccp2", "pool1", "drop3")),
            Layer(5, (192, 192, 192), padding=2, pool="average", names=("conv2", "cccp3", "cccp4", "pool2", "drop6")),
            Layer(3, (192, 192, None), padding=1, names=("conv3", "cccp5", "cccp6", "pool3")),
        ),
        begin_at_001=(),
        num_classes=10,
        size=32,
        smallest=8,
    ),
    "nin_imagenet": Variant(
        (
            Layer(11, (96, 96, 96), stride=4, pool="max", names=("conv1", "cccp1", "cccp2", "pool0")),
            Layer(5, (256, 256, 256), padding=2, pool="max", names=("conv2", "cccp3", "cccp4", "pool2")),
            Layer(3, (384, 384, 384), padding=1, pool="max", names=("conv3", "cccp5", "cccp6", "pool3", "drop")),
            Layer(3, (1024, 1024, None), padding=1, names=("conv4-1024", "cccp7-1024", "cccp8-1024", "pool4")),
        ),
        begin_at_001=("conv1.conv1", "conv3.conv1", "classifier.conv"),
        num_classes=1000,
        size=224,
        smallest=39,
    ),
}


class ClassMaps(nn.Module):
    """The last 1x1 convolution, its ReLU and the mean of each map: features [N, F, H, W] -> logits [N, K]."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_classes, kernel_size=1)
        self.relu = nn.ReLU()
        self.pool = GlobalAverage()

    def forward(self, maps: Tensor) -> Tensor:
        """Features [N, F, H, W] -> logits [N, K], none below 0."""
        logits: Tensor = self.pool(self.relu(self.conv(maps)))
        return logits


def _class_maps(rule: Rule, in_channels: int, num_classes: int) -> ClassMaps:
    layer = ClassMaps(in_channels, num_classes)
    fill(layer.conv, rule)
    return layer


def nin(
    name: str, variant: Variant, *, num_classes: int | None = None, in_channels: int = 3, init: Initialisation = "published"
) -> Classifier:
    """A network of the table: images [N, C, H, W] -> logits [N, K]."""
    num_classes = variant.num_classes if num_classes is None else num_classes
    # While its maps are above 0 a class has a gradient: begun around 0, the last ReLU soon closes for most of them.
    deviation = 0.01 if "classifier.conv" in variant.begin_at_001 else 0.05
    classifier_rule = normal(deviation) if init == "published" else normal(0.01, bias=1.0)
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    authors_names: dict[str, str] = {}
    channels = in_channels
    for k, row in enumerate(variant.layers, start=1):
        stage = nn.Sequential()
        for i, (maps, theirs) in enumerate(zip(row.maps, row.names, strict=False), start=1):
            if maps is None:
                continue  # the classifier, below
            if i == 1:
                conv = nn.Conv2d(channels, maps, row.kernel_size, stride=row.stride, padding=row.padding)
            else:
                conv = nn.Conv2d(channels, maps, kernel_size=1)
            stage.add_module(f"conv{i}", conv)
            stage.add_module(f"relu{i}", nn.ReLU())
            authors_names |= {theirs: f"conv{k}.conv{i}", f"relu_{theirs}": f"conv{k}.relu{i}"}
            channels = maps
        if row.pool:
            kind = nn.MaxPool2d if row.pool == "max" else nn.AvgPool2d
            stage.add_module("pool", kind(kernel_size=3, stride=2, ceil_mode=True))
            authors_names[row.names[3]] = f"conv{k}.pool"
        if len(row.names) > 4:
            stage.add_module("dropout", nn.Dropout(0.5))
            authors_names[row.names[4]] = f"conv{k}.dropout"
        stages[f"conv{k}"] = stage
    make_classifier = partial(_class_maps, classifier_rule, channels)
    stages["classifier"] = make_classifier(num_classes)
    last, average = variant.layers[-1].names[2:]
    authors_names |= {last: "classifier.conv", f"relu_{last}": "classifier.relu", average: "classifier.pool"}
    if variant.size == CIFAR_PREPROCESSING.size:
        input_spec = InputSpec(preprocessing=CIFAR_PREPROCESSING.with_channels(in_channels), smallest=variant.smallest)
    else:
        input_spec = input_of_its_time(init, channels=in_channels, smallest=variant.smallest)
    net = Classifier(
        name=name,
        stages=stages,
        head="classifier",
        num_features=channels,
        num_classes=num_classes,
        make_classifier=make_classifier,
        no_classifier=GlobalAverage,
        input_spec=input_spec,
    )
    net.authors_names = authors_names
    if init == "published":
        initialise(net, normal(0.05), {path: normal(0.01) for path in variant.begin_at_001})
    else:
        initialise(net, he_normal, {"classifier.conv": classifier_rule})
        net.cure = "He initialisation and class maps around 1; the paper prints none, and from its releases' the last ReLU soon closes"
    return net
