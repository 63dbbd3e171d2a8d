"""AlexNet, as published, and the relatives that go by its name.

Krizhevsky, Sutskever, Hinton, "ImageNet classification with deep convolutional neural networks", NIPS 2012, sections 3 and 4.

    layer   what                                                    output
    conv1   11x11 stride 4, 96; ReLU; norm; max 3x3 stride 2        96 @ 55x55, then 27x27
    conv2   5x5, 256 in 2 groups; ReLU; norm; max 3x3 stride 2     256 @ 27x27, then 13x13
    conv3   3x3, 384; ReLU                                         384 @ 13x13
    conv4   3x3, 384 in 2 groups; ReLU                             384 @ 13x13
    conv5   3x3, 256 in 2 groups; ReLU; max 3x3 stride 2           256 @ 13x13, then 6x6
    fc6     4096; ReLU; dropout 0.5                               4096
    fc7     4096; ReLU; dropout 0.5                               4096
    fc8     1000

The two groups are the two GPUs of 2012: each half reads only its own half of the maps. Weights begin normal with deviation 0.01; biases
begin at 1 in conv2, conv4, conv5, fc6 and fc7, which gives the ReLUs something positive to learn from, and at 0 elsewhere (section 5).

Differences from the paper:
* the input is 227x227: the printed 224 gives no whole number of 11x11 windows at stride 4, the printed 55x55 maps need 227;
* the mean image that the paper subtracts is here one mean a channel; `--mean pixel` trains with the image.

Relatives, each a row of the table below:
* `alexnet_one_tower`: one tower without groups, as courses draw it, which also pool before they normalise.
* `alexnet_bvlc`: the Caffe model zoo's AlexNet: the paper's order and groups, but k = 1 and a fifth of the paper's alpha (Caffe divides
  it by the five maps of the neighbourhood); biases begin at 0.1, fc6 and fc7 at 0.005 (models/bvlc_alexnet/train_val.prototxt of
  BVLC/caffe). Trained weights that are called AlexNet and have groups are of this one.
* `alexnet_floor`: the same weights as Caffe2 and the ONNX zoo ("bvlcalexnet") run them: 224x224, and the first two pools leave out a
  window that hangs over the edge, so that maps are 54-26-12-6 (bvlc_alexnet/predict_net.pbtxt of caffe2/models). At 227 both agree.
* `caffenet`: the Caffe model zoo's: pools first, then normalises, with the constants of `alexnet_bvlc`.
* `caffenet_floor`: the same as `alexnet_floor` is to `alexnet_bvlc`: the ONNX zoo's caffenet takes 224x224 too. That its pools round down
  is inferred from its sister, which the same program wrote; a file that rounds up is found to be `caffenet` at 224.
* `alexnet_owt`: Krizhevsky, "One weird trick for parallelizing convolutional neural networks", 2014: 64-192-384-256-256 maps, one tower,
  no normalisation, 224x224. Most public weights called AlexNet are of this one. The world's code drops out before fc6 and fc7; here, as
  in 2012, after their ReLUs.
"""

from collections import OrderedDict
from functools import partial
from typing import Literal, NamedTuple

from torch import nn

from provenet.models.blocks import ResponseNorm, hidden_layer, sequence
from provenet.models.classifier import Classifier, Initialisation, input_of_its_time
from provenet.models.initialisation import he_normal, initialise, linear_by, normal


class Convolution(NamedTuple):
    """One row of the layer table; each is followed by ReLU."""

    maps: int
    kernel_size: int
    stride: int = 1
    padding: int = 0
    groups: int = 1
    is_normed: bool = False
    pool: int = 0
    """Kernel of the max pool of stride 2 that follows; 0 for none."""


class Variant(NamedTuple):
    """One network."""

    convolutions: tuple[Convolution, ...]
    size: int = 227
    smallest: int = 39
    after_relu: Literal["norm, pool", "pool, norm"] = "norm, pool"
    norm: partial[ResponseNorm] = partial(ResponseNorm, 5, alpha=1e-4, beta=0.75, k=2.0)
    rounds_down: tuple[int, ...] = ()
    """Layers whose pools leave out a window that hangs over the edge; the authors' software counts it. No size at 227 depends on it."""
    hidden: tuple[int, int] = (4096, 4096)
    """Widths of fc6 and fc7."""
    hidden_deviation: float = 0.01
    """Of the initial weights of fc6 and fc7; 0.01 everywhere else."""
    initial_bias: float = 1.0
    """Of the layers of `BIASES_OF_ONE`; 0 everywhere else."""


def _table(*, groups: int) -> tuple[Convolution, ...]:
    return (
        Convolution(96, 11, stride=4, is_normed=True, pool=3),
        Convolution(256, 5, padding=2, groups=groups, is_normed=True, pool=3),
        Convolution(384, 3, padding=1),
        Convolution(384, 3, padding=1, groups=groups),
        Convolution(256, 3, padding=1, groups=groups, pool=3),
    )


ONE_WEIRD_TRICK = (
    Convolution(64, 11, stride=4, padding=2, pool=3),
    Convolution(192, 5, padding=2, pool=3),
    Convolution(384, 3, padding=1),
    Convolution(256, 3, padding=1),
    Convolution(256, 3, padding=1, pool=3),
)

CAFFE_NORM = partial(ResponseNorm, 5, alpha=2e-5, beta=0.75, k=1.0)

BVLC = Variant(_table(groups=2), norm=CAFFE_NORM, hidden_deviation=0.005, initial_bias=0.1)

CAFFENET = Variant(_table(groups=2), after_relu="pool, norm", norm=CAFFE_NORM, hidden_deviation=0.005)

ALEXNETS = {
    "alexnet": Variant(_table(groups=2)),
    "alexnet_bvlc": BVLC,
    "alexnet_floor": BVLC._replace(size=224, smallest=51, rounds_down=(1, 2)),
    "alexnet_one_tower": Variant(_table(groups=1), after_relu="pool, norm"),
    "alexnet_owt": Variant(ONE_WEIRD_TRICK, size=224, smallest=63, rounds_down=(1, 2, 5)),
    "caffenet": CAFFENET,
    "caffenet_floor": CAFFENET._replace(size=224, smallest=51, rounds_down=(1, 2)),
}

ALEXNET_TOY = Variant(tuple(row._replace(maps=row.maps // 8) for row in _table(groups=2)), hidden=(64, 64))

BIASES_OF_ONE = ("conv2.conv", "conv4.conv", "conv5.conv", "fc6.linear", "fc7.linear")


def alexnet(
    name: str, variant: Variant, *, num_classes: int = 1000, in_channels: int = 3, init: Initialisation = "published"
) -> Classifier:
    """A network of the table: images [N, C, H, W] -> logits [N, K]."""
    net = assemble(name, variant, num_classes=num_classes, in_channels=in_channels, init=init)
    if init == "trainable":
        initialise(net, he_normal, {"fc8": normal(0.01)})
        net.cure = (
            "He initialisation; the paper's, whose biases of 1 make large logits, takes many passes over very many pictures to settle"
        )
        return net
    deviations = {"fc6.linear": variant.hidden_deviation, "fc7.linear": variant.hidden_deviation}
    initialise(net, normal(0.01), {path: normal(deviations.get(path, 0.01), bias=variant.initial_bias) for path in BIASES_OF_ONE})
    return net


def assemble(name: str, variant: Variant, *, num_classes: int, in_channels: int, init: Initialisation) -> Classifier:
    """Five convolutions and three fully connected layers by the table, for AlexNet and for ZFNet, which is its child."""
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    authors_names: dict[str, str] = {}
    channels = in_channels
    for k, row in enumerate(variant.convolutions, start=1):
        conv = nn.Conv2d(channels, row.maps, row.kernel_size, stride=row.stride, padding=row.padding, groups=row.groups)
        norm = variant.norm() if row.is_normed else None
        pool = nn.MaxPool2d(row.pool, stride=2, ceil_mode=k not in variant.rounds_down) if row.pool else None
        if variant.after_relu == "norm, pool":
            stages[f"conv{k}"] = sequence(conv=conv, relu=nn.ReLU(), norm=norm, pool=pool)
        else:
            stages[f"conv{k}"] = sequence(conv=conv, relu=nn.ReLU(), pool=pool, norm=norm)
        authors_names |= {f"{kind}{k}": f"conv{k}.{kind}" for kind, _ in stages[f"conv{k}"].named_children()}
        channels = row.maps
    fc6, fc7 = variant.hidden
    stages["fc6"] = hidden_layer(channels * 6 * 6, fc6, flattens=6)
    stages["fc7"] = hidden_layer(fc6, fc7)
    for k in (6, 7):
        authors_names |= {f"fc{k}": f"fc{k}.linear", f"relu{k}": f"fc{k}.relu", f"drop{k}": f"fc{k}.dropout"}

    make_classifier = partial(linear_by, normal(0.01), fc7)
    stages["fc8"] = make_classifier(num_classes)
    net = Classifier(
        name=name,
        stages=stages,
        head="fc6",
        num_features=fc7,
        num_classes=num_classes,
        make_classifier=make_classifier,
        input_spec=input_of_its_time(init, channels=in_channels, size=variant.size, smallest=variant.smallest),
    )
    net.authors_names = authors_names
    return net
