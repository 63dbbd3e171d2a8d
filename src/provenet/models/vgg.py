"""VGG: depth from 3x3 convolutions alone.

Simonyan, Zisserman, "Very deep convolutional networks for large-scale image recognition", 2014 (arXiv:1409.1556), Table 1.

    column        A      A-LRN   B      C      D      E         output of the group
    conv1, 64     1      1+norm  2      2      2      2          64 @ 224x224, pooled to 112x112
    conv2, 128    1      1       2      2      2      2         128 @ 112x112,           56x56
    conv3, 256    2      2       2      2+1x1  3      4         256 @ 56x56,             28x28
    conv4, 512    2      2       2      2+1x1  3      4         512 @ 28x28,             14x14
    conv5, 512    2      2       2      2+1x1  3      4         512 @ 14x14,               7x7
    fc6, fc7      4096; ReLU; dropout 0.5
    fc8           1000
    our name      vgg11  _lrn    vgg13  vgg16_c vgg16 vgg19

All convolutions 3x3 (C has three 1x1), stride 1, padded to keep the size, ReLU after each; each group ends in a 2x2 max pool.

Initialisation. The paper prints weights from a normal distribution "with the zero mean and 10^-2 variance", biases 0, for A, whose layers
then initialise the deeper columns; a note after submission says that Glorot's rule trains them all without that. `published` is the
printed distribution, a deviation of 0.1, for every column: with it the signal grows by a factor of hundred thousands through A alone,
and with the deviation of 0.01 that many read instead it dies. `trainable` is He initialisation, which was made for networks like these.

Differences from the paper:
* the parameters of A-LRN's normalisation are those of AlexNet, as the paper says (section 2.1).

Relatives: `_bn` has batch norm after each convolution, which keeps its bias (the world's weights); `vgg16_gap` takes the mean over the
last 7x7 before the first fully connected layer, which then has 49 times fewer weights (a course's exercise).
"""

from collections import OrderedDict
from functools import partial
from typing import NamedTuple

from torch import nn

from provenet.models.blocks import GlobalAverage, ResponseNorm, hidden_layer
from provenet.models.classifier import Classifier, Initialisation, InputSpec, input_of_its_time
from provenet.models.initialisation import Rule, he_normal, he_normal_fan_out, initialise, linear_by, normal
from provenet.preprocessing import IMAGENET_PREPROCESSING


class Variant(NamedTuple):
    """One column of Table 1."""

    convolutions: tuple[int, ...]
    """Convolutions of each group."""
    last_is_1x1: bool = False
    """Whether the third convolution of groups 3 to 5 is 1x1 (column C)."""
    has_norm: bool = False
    has_batch_norm: bool = False
    has_global_average: bool = False
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    hidden: int = 4096


A, B, D, E = (1, 1, 2, 2, 2), (2, 2, 2, 2, 2), (2, 2, 3, 3, 3), (2, 2, 4, 4, 4)

VGGS = {
    "vgg11": Variant(A),
    "vgg11_lrn": Variant(A, has_norm=True),
    "vgg11_bn": Variant(A, has_batch_norm=True),
    "vgg13": Variant(B),
    "vgg13_bn": Variant(B, has_batch_norm=True),
    "vgg16_c": Variant(D, last_is_1x1=True),
    "vgg16": Variant(D),
    "vgg16_bn": Variant(D, has_batch_norm=True),
    "vgg16_gap": Variant(D, has_global_average=True),
    "vgg19": Variant(E),
    "vgg19_bn": Variant(E, has_batch_norm=True),
}

VGG_TOY = Variant(A, widths=(8, 8, 16, 16, 16), hidden=64)


def vgg(name: str, variant: Variant, *, num_classes: int = 1000, in_channels: int = 3, init: Initialisation = "published") -> Classifier:
    """A column of Table 1: images [N, C, H, W], at least 32x32, -> logits [N, K]."""
    convolution_rule, linear_rule, classifier_rule = _rules(variant, init)
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    authors_names: dict[str, str] = {}
    channels = in_channels
    for group, (width, num_convolutions) in enumerate(zip(variant.widths, variant.convolutions, strict=True), start=1):
        stage = nn.Sequential()
        for k in range(1, num_convolutions + 1):
            kernel_size = 1 if variant.last_is_1x1 and k == 3 else 3
            stage.add_module(f"conv{k}", nn.Conv2d(channels, width, kernel_size, padding=kernel_size // 2))
            if variant.has_batch_norm:
                stage.add_module(f"bn{k}", nn.BatchNorm2d(width))
            stage.add_module(f"relu{k}", nn.ReLU())
            if variant.has_norm and group == k == 1:
                stage.add_module("norm", ResponseNorm())
                authors_names["norm1"] = "conv1.norm"
            authors_names |= {
                f"{kind}{group}_{k}": f"conv{group}.{kind}{k}" for kind in ("conv", "bn", "relu") if hasattr(stage, f"{kind}{k}")
            }
            channels = width
        stage.add_module("pool", nn.MaxPool2d(kernel_size=2, stride=2))
        authors_names[f"pool{group}"] = f"conv{group}.pool"
        stages[f"conv{group}"] = stage
    if variant.has_global_average:
        stages["gap"] = GlobalAverage()
        stages["fc6"] = hidden_layer(channels, variant.hidden)
    else:
        stages["fc6"] = hidden_layer(channels * 7 * 7, variant.hidden, flattens=7)
    stages["fc7"] = hidden_layer(variant.hidden, variant.hidden)
    for k in (6, 7):
        authors_names |= {f"fc{k}": f"fc{k}.linear", f"relu{k}": f"fc{k}.relu", f"drop{k}": f"fc{k}.dropout"}

    make_classifier = partial(linear_by, classifier_rule, variant.hidden)
    stages["fc8"] = make_classifier(num_classes)
    if variant.has_batch_norm:
        input_spec = InputSpec(preprocessing=IMAGENET_PREPROCESSING.with_channels(in_channels), smallest=32)
    else:
        input_spec = input_of_its_time(init, channels=in_channels, smallest=32)
    net = Classifier(
        name=name,
        stages=stages,
        head="gap" if variant.has_global_average else "fc6",
        num_features=variant.hidden,
        num_classes=num_classes,
        make_classifier=make_classifier,
        input_spec=input_spec,
    )
    net.authors_names = authors_names
    initialise(net, convolution_rule, {"fc6.linear": linear_rule, "fc7.linear": linear_rule, "fc8": classifier_rule})
    if init == "trainable" and not variant.has_batch_norm:
        net.cure = "He initialisation; from the paper's normal distribution of variance 0.01 the network does not train by itself"
    return net


def _rules(variant: Variant, init: Initialisation) -> tuple[Rule, Rule, Rule]:
    """The rules for convolutions, for hidden layers and for the classifier."""
    if variant.has_batch_norm:  # as the world's weights began
        return he_normal_fan_out, normal(0.01), normal(0.01)
    if init == "published":
        return normal(0.1), normal(0.1), normal(0.1)
    return he_normal, he_normal, normal(0.01)
