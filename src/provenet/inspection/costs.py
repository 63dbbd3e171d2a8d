"""What one operation of the library costs: multiply-adds of convolutions and matrix products, and element-wise work beside them."""

from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from provenet.inspection.meta import window_of

NAMES = {
    "addmm": "linear",
    "mm": "matrix_product",
    "bmm": "matrix_product",
    "baddbmm": "matrix_product",
    "max_pool2d_with_indices": "max_pool",
    "max_pool3d_with_indices": "max_pool",
    "avg_pool2d": "average_pool",
    "avg_pool3d": "average_pool",
    "_adaptive_avg_pool2d": "adaptive_average_pool",
    "_adaptive_avg_pool3d": "adaptive_average_pool",
    "native_batch_norm": "batch_norm",
    "_native_batch_norm_legit_no_training": "batch_norm",
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "constant_pad_nd": "padding",
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "cat": "concatenate",
}
"""Operations whose name in the library is not what they are called."""

MOVES_NOTHING = {
    "view", "_unsafe_view", "reshape", "t", "transpose", "permute", "slice", "select", "detach", "alias", "unsqueeze", "squeeze", "expand",
    "split", "split_with_sizes", "chunk", "unbind", "as_strided", "movedim", "view_as_real", "unfold", "diagonal", "narrow",
    "_reshape_alias",
}  # fmt: skip
"""Another look at the same numbers."""

COMPUTES_NOTHING = MOVES_NOTHING | {
    "empty", "empty_like", "empty_strided", "new_empty", "new_zeros", "zeros", "zeros_like", "ones", "ones_like", "full", "arange",
    "scalar_tensor", "clone", "copy_", "_to_copy", "contiguous", "lift_fresh", "fill_", "zero_", "new_full", "new_ones", "full_like",
}  # fmt: skip
"""Nor do copies and memory that is only asked for."""

COPIES = {"cat", "stack", "constant_pad_nd", "index_select", "gather", "index_copy", "embedding", "index", "roll", "flip"}
"""Operations that run and count, but do no arithmetic."""

POOLS = {"max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool1d", "avg_pool2d", "avg_pool3d"}

WHOLE_PICTURE = {"_adaptive_avg_pool2d", "_adaptive_avg_pool3d"}


@cache
def operation_of(function: Any) -> str:
    """The library's name of an operation."""
    return str(function.overloadpacket.__name__)


@cache
def is_pointwise(function: Any) -> bool:
    """Whether each output number depends on the input numbers of its own place alone."""
    return torch.Tag.pointwise in function.tags or operation_of(function) in ("native_batch_norm", "native_dropout", "clone", "_to_copy")


def count_macs(operation: str, args: tuple[Any, ...], output: Tensor) -> int:
    """Multiply-adds of a convolution or matrix product; 0 for everything else. Biases are not counted, as in the papers."""
    count = _MACS.get(operation)
    return count(args, output) if count else 0


def count_elementwise(operation: str, function: Any, args: tuple[Any, ...], output: Tensor) -> int:
    """One for each number written; of windows and of sums over many numbers, one for each number read; 0 for products, views, copies."""
    if operation in _MACS or operation in COMPUTES_NOTHING or operation in COPIES:
        return 0
    if operation in POOLS:
        return prod(window_of(operation, args, int(operation.partition("pool")[2][0]))[0]) * output.numel()
    if operation in WHOLE_PICTURE or torch.Tag.reduction in function.tags:
        return int(args[0].numel())
    return output.numel()


def _convolution(args: tuple[Any, ...], output: Tensor) -> int:
    images, weight, is_transposed = args[0], args[1], args[6]
    places = images.shape if is_transposed else output.shape
    return int(places[0] * prod(places[2:]) * weight.numel())


def _product(first: int) -> Callable[[tuple[Any, ...], Tensor], int]:
    return lambda args, output: int(output.numel() * args[first].shape[-1])


def _attention(args: tuple[Any, ...], _: Tensor) -> int:
    query, key, value = args[:3]
    return int(query.numel() * key.shape[-2] + prod(query.shape[:-1]) * key.shape[-2] * value.shape[-1])


_MACS: dict[str, Callable[[tuple[Any, ...], Tensor], int]] = {
    "convolution": _convolution,
    "addmm": _product(1),
    "addmv": _product(1),
    "mm": _product(0),
    "mv": _product(0),
    "bmm": _product(0),
    "baddbmm": _product(1),
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
}
