"""The mean colour of pictures and the principal components of their colours (Krizhevsky, Sutskever, Hinton 2012, section 4.1)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Three = tuple[float, float, float]
Nine = tuple[float, float, float, float, float, float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class Colours:
    """Of pixels of 0 to 1, red, green and blue."""

    pictures: int
    """How many were measured."""
    mean: Three
    pca_eigenvalues: Three
    """Of the covariance of all pixels, the largest first."""
    pca_eigenvectors: Nine
    """As columns, row by row: red, green, blue. The first number of each that is not nothing is positive."""


def measure_colours(batches: Iterable[Tensor]) -> Colours:
    """Of uint8 pixels [B, height, width, 3] in batches. Sums are exact, so neither batches nor threads change the result."""
    num_pictures, num_pixels, sums, products = 0, 0, torch.zeros(3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    for pixels in batches:
        values = pixels.reshape(-1, 3).double()
        num_pictures, num_pixels = num_pictures + len(pixels), num_pixels + len(values)
        sums += values.sum(0)
        products += values.T @ values  # whole numbers up to 2^53, of 10^11 pixels: exact in any order
    whole_sums, whole_products = [int(value) for value in sums], [[int(value) for value in row] for row in products]
    covariance = [
        [(num_pixels * whole_products[i][j] - whole_sums[i] * whole_sums[j]) / (num_pixels * 255) ** 2 for j in range(3)] for i in range(3)
    ]
    eigenvalues, eigenvectors = np.linalg.eigh(np.array(covariance))
    columns = [_with_a_sign(eigenvectors[:, k]) for k in (2, 1, 0)]
    red, green, blue = (_three([column[row] for column in columns]) for row in range(3))
    return Colours(
        pictures=num_pictures,
        mean=_three([total / (num_pixels * 255) for total in whole_sums]),
        pca_eigenvalues=_three([max(0.0, float(value)) for value in eigenvalues[::-1]]),
        pca_eigenvectors=(*red, *green, *blue),
    )


def _with_a_sign(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """An eigenvector and its opposite are as good: one of the two."""
    first = next(value for value in vector if abs(value) > 1e-6)
    return vector if first > 0 else -vector


def _three(values: Iterable[float]) -> Three:
    """To six decimals, which is more than a few thousand pictures know."""
    red, green, blue = (round(float(value), 6) + 0.0 for value in values)
    return red, green, blue
