"""GoogLeNet, the first Inception network, and its relatives.

Szegedy, Liu, Jia, Sermanet, Reed, Anguelov, Erhan, Vanhoucke, Rabinovich, "Going deeper with
convolutions", 2014 (arXiv:1409.4842), Table 1.

    stage   what                                                         output
    conv1   7x7 stride 2, 64; max 3x3 stride 2; norm                     64 @ 56x56
    conv2   1x1 64; 3x3 192; norm; max 3x3 stride 2                     192 @ 28x28
            Inception   1x1   3x3 reduce, 3x3   5x5 reduce, 5x5   pool
            3a           64       96      128       16       32     32  256 @ 28x28
            3b          128      128      192       32       96     64  480 @ 28x28
    pool3   max 3x3 stride 2
            4a          192       96      208       16       48     64  512 @ 14x14   (first auxiliary head)
            4b          160      112      224       24       64     64  512
            4c          128      128      256       24       64     64  512
            4d          112      144      288       32       64     64  528           (second auxiliary head)
            4e          256      160      320       32      128    128  832
    pool4   max 3x3 stride 2
            5a          256      160      320       32      128    128  832 @ 7x7
            5b          384      192      384       48      128    128 1024
    pool    mean over 7x7; dropout 0.4
    fc      1000

ReLU after every convolution; no batch norm, which was not there yet. While training, two more classifiers on 4a and 4d send gradients into
the middle: mean 5x5 stride 3, 1x1 128, 1024, dropout 0.7, 1000; their losses count 0.3. They are no part of the trained network: a bundle
leaves them out, and so does its number of parameters.

Differences from the paper:
* pools of stride 2 count a window that hangs over the edge, as the authors' software did: the printed 112-56-28-14-7 needs it;
* it prints neither an initialisation nor the constants of its normalisation. `published` is that of BVLC's definition, whose weights
  everybody has: uniform with variance 1 / fan_in, biases 0.2, Caffe's normalisation (k = 1, alpha = 1e-4 divided by the five maps).

Relatives:
* `googlenet_floor`: the paper's table with pools that round down, 112-55-27-13-6, as Caffe2's and the ONNX zoo's "inception_v1" run it
  (inception_v1/predict_net.pbtxt of caffe2/models); their last 7x7 mean has the 6x6 that are left. They publish no auxiliary heads: these
  are the paper's.
* `googlenet_bn`: the world's. Batch norm, no norm layers, 3x3 where the paper has 5x5 (a mistake that its public weights made permanent),
  last pool 2x2, dropout 0.2, auxiliary heads that average to 4x4.
* `googlenet_naive`: the modules of figure 2a, without reductions: the same outputs of the same convolutions at four times the weights;
  chained, each pool hands on all its maps, and the network grows to 97 million parameters.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from provenet.models.blocks import (
    Columns,
    ConvolutionReLU,
    ConvolutionUnit,
    GlobalAverage,
    Inception,
    NaiveInception,
    ResponseNorm,
    hidden_layer,
    sequence,
)
from provenet.models.classifier import Classifier, Initialisation, InputSpec, input_of_its_time, like
from provenet.models.initialisation import Rule, caffe_xavier, he_normal, initialise, linear_by, normal
from provenet.preprocessing import IMAGENET_PREPROCESSING

TABLE_1 = {
    "3a": Columns(64, 96, 128, 16, 32, 32),
    "3b": Columns(128, 128, 192, 32, 96, 64),
    "4a": Columns(192, 96, 208, 16, 48, 64),
    "4b": Columns(160, 112, 224, 24, 64, 64),
    "4c": Columns(128, 128, 256, 24, 64, 64),
    "4d": Columns(112, 144, 288, 32, 64, 64),
    "4e": Columns(256, 160, 320, 32, 128, 128),
    "5a": Columns(256, 160, 320, 32, 128, 128),
    "5b": Columns(384, 192, 384, 48, 128, 128),
}

BatchNormUnit = partial(ConvolutionUnit, eps=1e-3)

GOOGLENET_TOY = {key: Columns(*(maps // 8 for maps in columns)) for key, columns in TABLE_1.items()}


class Variant(NamedTuple):
    """One network."""

    module: Callable[..., nn.Module]
    unit: Callable[..., nn.Module] = ConvolutionReLU
    norm: Callable[[], nn.Module] | None = partial(ResponseNorm, 5, alpha=2e-5, beta=0.75, k=1.0)
    last_pool: int = 3
    """Kernel of the pool after 4e."""
    dropout: float = 0.4
    has_heads: bool = True
    rounds_up: bool = True
    """Whether pools of stride 2 count a window that hangs over the edge."""
    table: Mapping[str, Columns] = TABLE_1
    smallest: int = 47


GOOGLENETS = {
    "googlenet": Variant(Inception),
    "googlenet_floor": Variant(Inception, rounds_up=False, smallest=61),
    "googlenet_bn": Variant(
        partial(Inception, unit=BatchNormUnit, kernel5=3), unit=BatchNormUnit, norm=None, last_pool=2, dropout=0.2, smallest=32
    ),
    "googlenet_naive": Variant(NaiveInception, has_heads=False, smallest=32),
}


class AuxiliaryHead(nn.Module):
    """A small classifier in the middle of the network: maps [N, C, H, W] -> logits [N, K]."""

    def __init__(
        self,
        in_channels: int,
        *,
        pool: nn.Module,
        unit: Callable[..., nn.Module],
        make_classifier: Callable[[int], nn.Module],
        num_classes: int,
    ) -> None:
        super().__init__()
        self._make_classifier = make_classifier
        self.pool = pool
        self.conv = unit(in_channels, 128, kernel_size=1)
        self.fc = hidden_layer(128 * 4 * 4, 1024, flattens=4, dropout=0.7)
        self.classifier = make_classifier(num_classes)

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W] -> logits [N, K]."""
        logits: Tensor = self.classifier(self.fc(self.conv(self.pool(maps))))
        return logits

    def reset_classifier(self, num_classes: int) -> None:
        """A fresh last layer."""
        self.classifier = like(next(self.parameters()), self._make_classifier(num_classes)).train(self.training)


class GoogLeNet(Classifier):
    """A classifier whose auxiliary heads train with it, and vanish afterwards (`discard_training_parts`)."""

    auxiliary: nn.ModuleDict
    auxiliary_weight = 0.3

    def training_logits(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """The network's own logits with weight 1, then those of the auxiliary heads with 0.3."""
        self._check_input(images)
        x, heads = images, []
        for name, stage in self.stages.items():
            x = stage(x)
            if name in self.auxiliary:
                heads.append((self.auxiliary_weight, self.auxiliary[name](x)))
        return [(1.0, x), *heads]

    def reset_classifier(self, num_classes: int) -> None:
        """Fresh classifiers everywhere, in the auxiliary heads too; 0 leaves the features, and no heads."""
        super().reset_classifier(num_classes)
        if not num_classes:
            self.discard_training_parts()
        for head in self.auxiliary.values():
            assert isinstance(head, AuxiliaryHead)
            head.reset_classifier(num_classes)


def googlenet(
    name: str, variant: Variant, *, num_classes: int = 1000, in_channels: int = 3, init: Initialisation = "published"
) -> Classifier:
    """A network of the table: images [N, C, H, W] -> logits [N, K]."""
    rule, classifier_rule = _rules(variant, init)
    unit = variant.unit
    norm: Callable[[], nn.Module | None] = variant.norm or (lambda: None)
    max_pool = partial(nn.MaxPool2d, stride=2, ceil_mode=variant.rounds_up)
    stages: OrderedDict[str, nn.Module] = OrderedDict(
        conv1=sequence(conv=unit(in_channels, 64, kernel_size=7, stride=2), pool=max_pool(3), norm=norm()),
        conv2=sequence(reduce=unit(64, 64, kernel_size=1), conv=unit(64, 192, kernel_size=3), norm=norm(), pool=max_pool(3)),
    )
    authors_names = _names_of_stem(has_norm=variant.norm is not None)
    channels = 192
    widths: dict[str, int] = {}
    for key, columns in variant.table.items():
        if key == "4a":
            stages["pool3"], authors_names["pool3/3x3_s2"] = max_pool(3), "pool3"
        if key == "5a":
            stages["pool4"], authors_names["pool4/3x3_s2"] = max_pool(variant.last_pool), "pool4"
        module = variant.module(channels, columns)
        stages[f"inception_{key}"] = module
        authors_names |= _names_of_module(f"inception_{key}", module)
        channels = widths[key] = int(module.num_maps)  # type: ignore[arg-type]  # every module has it
    stages["pool"] = sequence(average=GlobalAverage(), dropout=nn.Dropout(variant.dropout))
    make_classifier = partial(linear_by, classifier_rule, channels)
    stages["fc"] = make_classifier(num_classes)
    authors_names |= {"pool5/7x7_s1": "pool.average", "pool5/drop_7x7_s1": "pool.dropout", "loss3/classifier": "fc"}
    if unit is ConvolutionReLU:
        input_spec = input_of_its_time(init, channels=in_channels, smallest=variant.smallest)
    else:
        input_spec = InputSpec(preprocessing=IMAGENET_PREPROCESSING.with_channels(in_channels), smallest=variant.smallest)
    net = GoogLeNet(
        name=name,
        stages=stages,
        head="pool",
        num_features=channels,
        num_classes=num_classes,
        make_classifier=make_classifier,
        input_spec=input_spec,
        training_parts=("auxiliary",),
    )
    pool = partial(nn.AvgPool2d, kernel_size=5, stride=3, ceil_mode=True) if unit is ConvolutionReLU else partial(nn.AdaptiveAvgPool2d, 4)
    net.auxiliary = nn.ModuleDict()
    for number, key in enumerate(("4a", "4d") if variant.has_heads else (), start=1):
        net.auxiliary[f"inception_{key}"] = AuxiliaryHead(
            widths[key], pool=pool(), unit=unit, make_classifier=partial(linear_by, classifier_rule, 1024), num_classes=num_classes
        )
        authors_names |= _names_of_head(f"loss{number}", f"auxiliary.inception_{key}")
    net.authors_names = authors_names
    net.authors_operations = {f"inception_{key}/output": f"inception_{key}.concatenate" for key in variant.table}
    classifiers = ["fc", *(f"auxiliary.{stage}.classifier" for stage in net.auxiliary)]
    initialise(net, rule, dict.fromkeys(classifiers, classifier_rule))
    if init == "trainable" and unit is ConvolutionReLU:
        net.cure = (
            "He initialisation; the paper prints none, and with that of the public definition it trains only at its own learning rates"
        )
    return net


def _rules(variant: Variant, init: Initialisation) -> tuple[Rule, Rule]:
    """The rules for all layers, and for classifiers."""
    if variant.unit is not ConvolutionReLU:
        return normal(0.01), normal(0.01)  # as the world's weights began
    return (he_normal, normal(0.01)) if init == "trainable" else (partial(caffe_xavier, bias=0.2), caffe_xavier)


def _names_of_stem(*, has_norm: bool) -> dict[str, str]:
    names = {"pool1/3x3_s2": "conv1.pool", "pool2/3x3_s2": "conv2.pool"}
    for theirs, relu, path in (
        ("conv1/7x7_s2", "conv1/relu_7x7", "conv1.conv"),
        ("conv2/3x3_reduce", "conv2/relu_3x3_reduce", "conv2.reduce"),
        ("conv2/3x3", "conv2/relu_3x3", "conv2.conv"),
    ):
        names |= {theirs: f"{path}.conv", relu: f"{path}.relu"} | ({} if has_norm else {f"{theirs}/bn": f"{path}.bn"})
    return names | ({"pool1/norm1": "conv1.norm", "conv2/norm2": "conv2.norm"} if has_norm else {})


def _names_of_module(stage: str, module: nn.Module) -> dict[str, str]:
    """BVLC's names: inception_3a/1x1, /3x3_reduce, /3x3, /5x5_reduce, /5x5, /pool, /pool_proj, and /relu_ before each."""
    theirs = {
        "column1.conv": "1x1",
        "column3.reduce": "3x3_reduce",
        "column3.conv": "3x3",
        "column5.reduce": "5x5_reduce",
        "column5.conv": "5x5",
        "column_pool.project": "pool_proj",
    }
    names = {f"{stage}/pool": f"{stage}.column_pool.pool"}
    layers = dict(module.named_modules())
    for path, name in theirs.items():
        if path in layers:
            names |= {f"{stage}/{name}": f"{stage}.{path}.conv", f"{stage}/relu_{name}": f"{stage}.{path}.relu"}
            if f"{path}.bn" in layers:
                names[f"{stage}/{name}/bn"] = f"{stage}.{path}.bn"
    return names


def _names_of_head(name: str, path: str) -> dict[str, str]:
    return {
        f"{name}/ave_pool": f"{path}.pool",
        f"{name}/conv": f"{path}.conv.conv",
        f"{name}/relu_conv": f"{path}.conv.relu",
        f"{name}/fc": f"{path}.fc.linear",
        f"{name}/relu_fc": f"{path}.fc.relu",
        f"{name}/drop_fc": f"{path}.fc.dropout",
        f"{name}/classifier": f"{path}.classifier",
    }
