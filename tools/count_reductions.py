"""What the 1x1 reductions of GoogLeNet's Inception modules save, in weights: `python tools/count_reductions.py`."""

import torch
from torch import nn

from provenet.models.blocks import Inception, NaiveInception
from provenet.models.googlenet import TABLE_1

MAPS_OF_THE_STEM = 192


def count_reductions() -> dict[str, tuple[int, int]]:
    """Weights of each module without reductions and with them, on the input that the paper gives it; biases are not counted."""
    weights, channels = {}, MAPS_OF_THE_STEM
    for name, columns in TABLE_1.items():
        with torch.device("meta"):
            reduced, naive = Inception(channels, columns), NaiveInception(channels, columns)
        weights[name] = (count_weights(naive), count_weights(reduced))
        channels = reduced.num_maps
    return weights


def count_weights(module: nn.Module) -> int:
    """Of its convolutions."""
    return sum(layer.weight.numel() for layer in module.modules() if isinstance(layer, nn.Conv2d))


if __name__ == "__main__":
    counts = count_reductions()
    counts["all"] = (sum(naive for naive, _ in counts.values()), sum(reduced for _, reduced in counts.values()))
    print(f"{'':4}{'without':>12}{'with':>12}{'times':>8}")
    for name, (naive, reduced) in counts.items():
        print(f"{name:4}{naive:>12,}{reduced:>12,}{naive / reduced:>8.2f}")
