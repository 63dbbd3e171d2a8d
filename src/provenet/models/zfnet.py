"""ZFNet, the network that came from looking inside AlexNet.

Zeiler, Fergus, "Visualizing and understanding convolutional networks", 2013 (arXiv:1311.2901), figure 3 and section 3.1.

    layer   what                                                         output
    conv1   7x7 stride 2, padding 1, 96; ReLU; max 3x3 stride 2; norm    96 @ 110x110, then 55x55
    conv2   5x5 stride 2, 256; ReLU; max 3x3 stride 2; norm             256 @ 26x26, then 13x13
    conv3   3x3, 384; ReLU                                              384 @ 13x13
    conv4   3x3, 384; ReLU                                              384 @ 13x13
    conv5   3x3, 256; ReLU; max 3x3 stride 2                            256 @ 13x13, then 6x6
    fc6     4096; ReLU; dropout 0.5                                    4096
    fc7     4096; ReLU; dropout 0.5                                    4096
    fc8     1000

The printed 55 and 13 need pools without padding that count a window hanging over the edge. Weights begin at "1e-2", which everybody
reads as a deviation, biases at 0.

`zfnet_big` has 512, 1024 and 512 maps in conv3, conv4 and conv5: the best single network of the paper's Table 2, and the one that
courses call ZFNet.

`zfnet_512` is what Caffe2's and ONNX's model zoos call ZFNet-512 (zfnet512/predict_net.pbtxt of caffe2/models): 512 maps in conv3, conv4
and conv5, 1024 units in fc7, no padding in conv1, norm before pool, pools that round down, 109-54-25-12-12, and a last pool of 2x2.
Its norm has AlexNet's constants (Caffe2 divides its 5e-4 by the five maps). How it began is not published: here as the paper's, with
the dropout of 0.5 that the file of a trained network leaves out.

Differences from the paper:
* it does not print the constants of its contrast normalisation; these are AlexNet's, whose network it began from;
* the mean image that the paper subtracts is here one mean a channel; `--mean pixel` trains with the image;
* the paper scales back filters whose root mean square exceeds 0.1 while it trains: that belongs to its training, not to the network.
"""

from provenet.models.alexnet import Convolution, Variant, assemble
from provenet.models.classifier import Classifier, Initialisation
from provenet.models.initialisation import he_normal, initialise, normal


def _table(conv3: int, conv4: int, conv5: int) -> tuple[Convolution, ...]:
    return (
        Convolution(96, 7, stride=2, padding=1, is_normed=True, pool=3),
        Convolution(256, 5, stride=2, is_normed=True, pool=3),
        Convolution(conv3, 3, padding=1),
        Convolution(conv4, 3, padding=1),
        Convolution(conv5, 3, padding=1, pool=3),
    )


ZFNET_512 = (
    Convolution(96, 7, stride=2, is_normed=True, pool=3),
    Convolution(256, 5, stride=2, is_normed=True, pool=3),
    Convolution(512, 3, padding=1),
    Convolution(512, 3, padding=1),
    Convolution(512, 3, padding=1, pool=2),
)

ZFNETS = {
    "zfnet": Variant(_table(384, 384, 256), size=224, smallest=47, after_relu="pool, norm"),
    "zfnet_big": Variant(_table(512, 1024, 512), size=224, smallest=47, after_relu="pool, norm"),
    "zfnet_512": Variant(ZFNET_512, size=224, smallest=59, rounds_down=(1, 2, 5), hidden=(4096, 1024)),
}


def zfnet(name: str, variant: Variant, *, num_classes: int = 1000, in_channels: int = 3, init: Initialisation = "published") -> Classifier:
    """A network of the table: images [N, C, H, W] -> logits [N, K]."""
    net = assemble(name, variant, num_classes=num_classes, in_channels=in_channels, init=init)
    initialise(net, normal(0.01) if init == "published" else he_normal, {"fc8": normal(0.01)})
    if init == "trainable":
        net.cure = "He initialisation; with the paper's deviation of 0.01 and biases of 0 the signal fades from layer to layer"
    return net
