"""The usual counts of the numbers that a network makes of one picture: `python tools/count_activations.py vgg16`."""

import sys
from collections import Counter
from math import prod

import provenet as pn

FLOAT_BYTES = 4


def count_activations(network: str) -> dict[str, int]:
    """What is counted, and how many numbers that makes, each of four bytes."""
    summary = pn.summarize(network)
    made: Counter[str] = Counter()
    for row in summary.rows:
        made[row.kind] += row.activation_bytes // FLOAT_BYTES  # 0 for another look at the same numbers, as flatten is
    picture = prod(summary.input[0])
    convolutions, pools, linears = made["convolution"], made["max_pool"] + made["average_pool"], made["linear"]
    layers = convolutions + pools + linears
    return {
        "most alive at once, nothing kept": summary.inference_bytes // FLOAT_BYTES,
        "convolutions": convolutions,
        "convolutions and pools": convolutions + pools,
        "convolutions, pools, fully connected": layers,
        "the same and the picture": layers + picture,
        "kept for the backward pass by PyTorch, bytes / 4": summary.training_bytes // FLOAT_BYTES,
        "all outputs, those of ReLU too": made.total(),
        "all outputs and the picture": made.total() + picture,
        "all but ReLU, and a gradient of each": 2 * layers,
        "all outputs, and a gradient of each": 2 * made.total(),
    }


if __name__ == "__main__":
    print(f"{'numbers':>12}{'MB':>8}{'MiB':>8}")
    for what, count in count_activations(sys.argv[1]).items():
        size = FLOAT_BYTES * count
        print(f"{count:>12,}{size / 1e6:>8.1f}{size / 2**20:>8.1f}  {what}")
