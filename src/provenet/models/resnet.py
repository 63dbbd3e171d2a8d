"""ResNet and its plain twins, for ImageNet and for CIFAR.

He, Zhang, Ren, Sun, "Deep residual learning for image recognition", 2015 (arXiv:1512.03385).

ImageNet (Table 1), 224x224:                          CIFAR (section 4.2), 32x32, depth 6n+2:
    conv1    7x7 stride 2, 64              112x112        conv1    3x3, 16                 32x32
    conv2_x  max 3x3 stride 2, then blocks   56x56        conv2_x  n blocks of 16          32x32
    conv3_x  blocks of 128                   28x28        conv3_x  n blocks of 32          16x16
    conv4_x  blocks of 256                   14x14        conv4_x  n blocks of 64            8x8
    conv5_x  blocks of 512                     7x7        pool     mean over all pixels
    pool     mean over all pixels                         fc       10
    fc       1000

Batch norm after each convolution, before the ReLU; no dropout; weights from He initialisation (section 3.4), biases 0.

Differences from the paper:
* `resnet18` and `resnet34` carry shortcut option B, as everybody's weights do; Table 2 of the paper has option A: `resnet18_a`,
  `resnet34_a`. Option C is `resnet34_c`.
* the pooling of conv2_x pads by one pixel, as everybody's does; the authors' Caffe release pads none and rounds up, which gives the same
  56x56 of other windows: `_caffe`, the network of their published weights.
* `_v1_5` puts the stride of a bottleneck in its 3x3 convolution. It is the world's ResNet-50, not the paper's.
* the paper prints He initialisation for convolutions and says nothing of the last layer: here it has it too.
* the CIFAR networks' paper input is 32x32x3; any side from 8 pixels works.
"""

from collections import Counter, OrderedDict
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from torch import nn

from provenet.models.blocks import BasicBlock, BlockFactory, Bottleneck, ConvolutionUnit, GlobalAverage, Shortcut
from provenet.models.classifier import Classifier, Initialisation, InputSpec
from provenet.models.initialisation import he_normal, initialise, linear_by
from provenet.preprocessing import CIFAR_PREPROCESSING, IMAGENET_PREPROCESSING


class Variant(NamedTuple):
    """One row of a table."""

    block: BlockFactory
    blocks: tuple[int, ...]
    """Blocks of each stage."""
    shortcut: Shortcut
    pool_padding: int = 1
    """Of the first pool; without any it rounds up to the same size."""


BottleneckV15 = partial(Bottleneck, stride_in="3x3")

IMAGENET = {
    "resnet18": Variant(BasicBlock, (2, 2, 2, 2), "B"),
    "resnet18_a": Variant(BasicBlock, (2, 2, 2, 2), "A"),
    "resnet34": Variant(BasicBlock, (3, 4, 6, 3), "B"),
    "resnet34_a": Variant(BasicBlock, (3, 4, 6, 3), "A"),
    "resnet34_c": Variant(BasicBlock, (3, 4, 6, 3), "C"),
    "resnet50": Variant(Bottleneck, (3, 4, 6, 3), "B"),
    "resnet101": Variant(Bottleneck, (3, 4, 23, 3), "B"),
    "resnet152": Variant(Bottleneck, (3, 8, 36, 3), "B"),
    "resnet50_caffe": Variant(Bottleneck, (3, 4, 6, 3), "B", pool_padding=0),
    "resnet101_caffe": Variant(Bottleneck, (3, 4, 23, 3), "B", pool_padding=0),
    "resnet152_caffe": Variant(Bottleneck, (3, 8, 36, 3), "B", pool_padding=0),
    "resnet50_v1_5": Variant(BottleneckV15, (3, 4, 6, 3), "B"),
    "resnet101_v1_5": Variant(BottleneckV15, (3, 4, 23, 3), "B"),
    "resnet152_v1_5": Variant(BottleneckV15, (3, 8, 36, 3), "B"),
    "plain18": Variant(BasicBlock, (2, 2, 2, 2), "none"),
    "plain34": Variant(BasicBlock, (3, 4, 6, 3), "none"),
}

CIFAR = {
    "resnet8_cifar": Variant(BasicBlock, (1, 1, 1), "A"),  # not in the paper: the smallest of its rule, for tests and first steps
    "resnet20_cifar": Variant(BasicBlock, (3, 3, 3), "A"),
    "resnet20_cifar_b": Variant(BasicBlock, (3, 3, 3), "B"),
    "resnet32_cifar": Variant(BasicBlock, (5, 5, 5), "A"),
    "resnet44_cifar": Variant(BasicBlock, (7, 7, 7), "A"),
    "resnet56_cifar": Variant(BasicBlock, (9, 9, 9), "A"),
    "resnet110_cifar": Variant(BasicBlock, (18, 18, 18), "A"),
    "resnet1202_cifar": Variant(BasicBlock, (200, 200, 200), "A"),
    "plain20_cifar": Variant(BasicBlock, (3, 3, 3), "none"),
    "plain32_cifar": Variant(BasicBlock, (5, 5, 5), "none"),
    "plain44_cifar": Variant(BasicBlock, (7, 7, 7), "none"),
    "plain56_cifar": Variant(BasicBlock, (9, 9, 9), "none"),
    "plain110_cifar": Variant(BasicBlock, (18, 18, 18), "none"),
}
RESNET_TOY = Variant(Bottleneck, (1, 1, 1, 1), "B")


def resnet_imagenet(
    name: str, variant: Variant, *, num_classes: int = 1000, in_channels: int = 3, init: Initialisation = "published"
) -> Classifier:
    """A network of Table 1: images [N, C, H, W], at least 32x32, -> logits [N, K]."""
    stem = ConvolutionUnit(in_channels, 64, kernel_size=7, stride=2)
    spec = InputSpec(preprocessing=IMAGENET_PREPROCESSING.with_channels(in_channels), smallest=32)
    del init  # He initialisation is the paper's and trains every depth here
    net = _build(name, variant, stem, widths=(64, 128, 256, 512), pools_first=True, num_classes=num_classes, input_spec=spec)
    net.authors_names = dict(_authors_names(net))
    net.authors_operations = dict(_authors_operations(net))
    return net


def resnet_cifar(
    name: str, variant: Variant, *, num_classes: int = 10, in_channels: int = 3, init: Initialisation = "published"
) -> Classifier:
    """A network of section 4.2: images [N, C, H, W], at least 8x8, -> logits [N, K]."""
    stem = ConvolutionUnit(in_channels, 16, kernel_size=3)
    spec = InputSpec(preprocessing=CIFAR_PREPROCESSING.with_channels(in_channels), smallest=8)
    del init
    net = _build(name, variant, stem, widths=(16, 32, 64), pools_first=False, num_classes=num_classes, input_spec=spec)
    net.authors_names = {"conv1": "conv1.conv", "bn_conv1": "conv1.bn", "conv1_relu": "conv1.relu", "pool4": "pool", "fc10": "fc"}
    return net


def _build(
    name: str,
    variant: Variant,
    stem: ConvolutionUnit,
    *,
    widths: tuple[int, ...],
    pools_first: bool,
    num_classes: int,
    input_spec: InputSpec,
) -> Classifier:
    stages: OrderedDict[str, nn.Module] = OrderedDict(conv1=stem)
    channels = stem.conv.out_channels
    for k, (width, num_blocks) in enumerate(zip(widths, variant.blocks, strict=True)):
        stage = nn.Sequential()
        if k == 0 and pools_first:
            padding = variant.pool_padding
            stage.add_module("pool", nn.MaxPool2d(kernel_size=3, stride=2, padding=padding, ceil_mode=not padding))
        for b in range(num_blocks):
            block = variant.block(channels, width, stride=2 if k > 0 and b == 0 else 1, shortcut=variant.shortcut)
            stage.add_module(f"block{b + 1}", block)
            channels = width * _expansion(variant.block)
        stages[f"conv{k + 2}_x"] = stage
    make_classifier = partial(linear_by, he_normal, channels)
    stages["pool"] = GlobalAverage()
    stages["fc"] = nn.Linear(channels, num_classes)
    net = Classifier(
        name=name,
        stages=stages,
        head="pool",
        num_features=channels,
        num_classes=num_classes,
        make_classifier=make_classifier,
        input_spec=input_spec,
    )
    initialise(net, he_normal)
    return net


def _expansion(block: BlockFactory) -> int:
    return Bottleneck.expansion if block in (Bottleneck, BottleneckV15) else BasicBlock.expansion


def _authors_names(net: Classifier) -> Iterator[tuple[str, str]]:
    """Names of the authors' Caffe release -> ours: conv1, bn_conv1, res2a_branch1, res2a_branch2a, bn2a_branch2a, …, fc1000.

    Blocks of a stage are a, b, c …; in conv3_x and conv4_x of ResNet-101 and 152 they are a, b1, b2 …
    """
    yield from {"conv1": "conv1.conv", "bn_conv1": "conv1.bn", "scale_conv1": "conv1.bn", "conv1_relu": "conv1.relu"}.items()
    yield from {"pool1": "conv2_x.pool", "pool5": "pool", "fc1000": "fc"}.items()
    blocks_of = {
        name: [block_name for block_name, _ in stage.named_children() if block_name.startswith("block")]
        for name, stage in net.stages.items()
        if name.endswith("_x")
    }
    is_deep = max(map(len, blocks_of.values())) > 6
    for stage_name, block_names in blocks_of.items():
        for b, block_name in enumerate(block_names):
            is_numbered = is_deep and stage_name in ("conv3_x", "conv4_x") and b > 0
            place = stage_name[4] + (f"b{b}" if is_numbered else "abcdef"[b])  # 4b22, 2a
            path = f"{stage_name}.{block_name}"
            layers = dict(net.get_submodule(path).named_modules())
            branches = {"2a": ("conv1", "bn1"), "2b": ("conv2", "bn2"), "2c": ("conv3", "bn3"), "1": ("shortcut.conv", "shortcut.bn")}
            for branch, (conv, bn) in branches.items():
                if conv in layers:
                    yield f"res{place}_branch{branch}", f"{path}.{conv}"
                    yield f"bn{place}_branch{branch}", f"{path}.{bn}"
                    yield f"scale{place}_branch{branch}", f"{path}.{bn}"


def _authors_operations(net: Classifier) -> Iterator[tuple[str, str]]:
    """The additions and ReLUs of that release: res2a, res2a_relu, res2a_branch2a_relu, …, which are no layers of ours."""
    relus: Counter[str] = Counter()
    for name, path in net.authors_names.items():
        block, _, layer = path.rpartition(".")
        is_last = f"{name.removesuffix(name[-1])}{chr(ord(name[-1]) + 1)}" not in net.authors_names
        if not name.startswith("res") or not layer.startswith("conv") or block.endswith("shortcut"):
            continue
        relus[block] += 1
        number = f"_{relus[block]}" if relus[block] > 1 else ""
        if is_last:
            whole = name.partition("_")[0]
            yield from {whole: f"{block}.add", f"{whole}_relu": f"{block}.relu{number}"}.items()
        else:
            yield f"{name}_relu", f"{block}.relu{number}"
