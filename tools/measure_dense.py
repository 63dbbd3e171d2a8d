"""By how much dense evaluation differs from the mean of crops at the network's stride, of the same square of each picture.

    python tools/measure_dense.py MODEL DATA [--stride 32] [--sides 256 288] [--pictures 100]

MODEL is a bundle, a run folder, or a name of the catalog, whose weights are then as they begin. Dense: the network fully convolutional
over the whole square, its scores averaged over the map. Crops: the network on every window at its stride, by itself, averaged. Without
padding the two are equal; with it a window sees zeros beyond its edge, where dense evaluation sees what is there.
"""

import argparse
import os

import numpy as np
import torch
from torch import Tensor

from provenet.data.loader import Loader
from provenet.data.sources import open_data
from provenet.data.squares import open_squares
from provenet.models.catalog import build_network
from provenet.models.classifier import Classifier
from provenet.preprocessing import Preprocessing
from provenet.runtime import count_cores, prepare_process
from provenet.weights.bundle import load_bundle

AT_ONCE = 8


def main() -> None:
    """A row for each side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("--stride", type=int, default=32, help="of the network, in pixels")
    parser.add_argument("--sides", type=int, nargs="+", default=[256, 288], help="of the squares, in pixels")
    parser.add_argument("--pictures", type=int, default=100)
    asked = parser.parse_args()
    prepare_process()
    net, rule = open_model(asked.model)
    splits = open_data(asked.data).splits
    images = next(splits[name] for name in ("test", "val", "all", "train") if name in splits)
    chosen = images.select(np.random.default_rng(0).permutation(len(images))[: asked.pictures])
    print(f"{net.title}, {len(chosen)} pictures of {chosen.name}, stride {asked.stride}")
    print("| side | map | scores differ by, of their size | probabilities differ by: mean, most | other label |\n|---|---|---|---|---|")
    for side in asked.sides:
        whole = rule.with_size(side).stored_at(side)
        squares, broken = open_squares(chosen.pictures, whole, num_threads=count_cores())
        assert not broken
        batches = Loader(squares, chosen.labels, whole, batch_size=AT_ONCE, device="cpu").evaluation_batches()
        found = [both_ways(net, images, rule.size, asked.stride) for images, _ in batches]
        dense, crops = (torch.cat(parts) for parts in zip(*found, strict=True))
        scores = float((dense - crops).norm() / crops.norm())
        differ = (dense.softmax(1) - crops.softmax(1)).abs().amax(1)
        others = int((dense.argmax(1) != crops.argmax(1)).sum())
        places = (side - rule.size) // asked.stride + 1
        print(f"| {side} | {places} x {places} | {scores:.2g} | {differ.mean():.2g}, {differ.max():.2g} | {others} of {len(chosen)} |")


def open_model(model: str) -> tuple[Classifier, Preprocessing]:
    """A trained network, or one as it begins."""
    if os.path.exists(model):
        bundle = load_bundle(model)
        return bundle.network.eval(), bundle.preprocessing
    net = build_network(model, init="trainable").eval()
    return net, net.input_spec.preprocessing


def both_ways(net: Classifier, images: Tensor, size: int, stride: int) -> tuple[Tensor, Tensor]:
    """Mean scores [N, K] of images [N, C, Q, Q]: over the map, and over windows of `size` pixels at the stride."""
    side = images.shape[2]
    starts = range(0, side - size + 1, stride)
    with torch.inference_mode():
        dense = net.as_fully_convolutional()(images).mean((2, 3))
        windows = [net(images[:, :, top : top + size, left : left + size]) for top in starts for left in starts]
    return dense.double(), torch.stack(windows).mean(0).double()


if __name__ == "__main__":
    main()
