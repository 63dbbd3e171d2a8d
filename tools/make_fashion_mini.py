"""Make the embedded pictures from the full set: the first 600 training and 100 test pictures of each class, in their order.

python tools/make_fashion_mini.py
"""

import numpy as np

from provenet.data.builtin import DEBIAN_FOLDER, EMBEDDED
from provenet.data.idx import NAMES, find_idx, read_idx, write_idx

PICTURES_A_CLASS = {"train": 600, "test": 100}


def main() -> None:
    """Write the four files."""
    EMBEDDED.mkdir(parents=True, exist_ok=True)
    for split, paths in find_idx(DEBIAN_FOLDER).items():
        images, labels = read_idx(paths[0], 3), read_idx(paths[1], 1)
        chosen = np.sort(np.concatenate([np.flatnonzero(labels == number)[: PICTURES_A_CLASS[split]] for number in range(10)]))
        for name, array in zip(NAMES[split], (images[chosen], labels[chosen]), strict=True):
            write_idx(EMBEDDED / f"{name}.gz", array)


if __name__ == "__main__":
    main()
