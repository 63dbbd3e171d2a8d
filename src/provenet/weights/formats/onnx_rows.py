"""Constants of an ONNX graph as weights: of one number for each channel, transposed, or times a number."""

import numpy as np

from provenet.weights.foreign import Array, ForeignTensor


def row_of(tensor: ForeignTensor, axes: int) -> ForeignTensor | None:
    """A constant that is added to or multiplied with a value of so many axes, as [C] or [1], if it is the same for all pixels."""
    if tensor.num_values == 1:
        return tensor.arranged((1,), lambda values: values.reshape(1))
    if len(tensor.shape) > axes:
        return None
    shape = (1,) * (axes - len(tensor.shape)) + tensor.shape
    num_channels = shape[1]
    is_row = tensor.num_values == num_channels
    return tensor.arranged((num_channels,), lambda values: values.reshape(num_channels)) if is_row else None


def repeated(row: ForeignTensor, num_channels: int) -> ForeignTensor:
    """[1] -> [C]."""
    return (
        row
        if row.shape[0] == num_channels
        else row.arranged((num_channels,), lambda values: np.full(num_channels, values[0], values.dtype))
    )


def transposed(weight: ForeignTensor) -> ForeignTensor:
    """[I, O] -> [O, I]."""
    return weight.arranged((weight.shape[1], weight.shape[0]), lambda values: values.T)


def times(tensor: ForeignTensor, factor: float) -> ForeignTensor:
    """All of it times a number."""

    def multiplied(values: Array) -> Array:
        return values * np.float32(factor)

    return tensor if factor == 1 else tensor.arranged(tensor.shape, multiplied)
