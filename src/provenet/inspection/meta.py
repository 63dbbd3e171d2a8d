"""Operations without numbers, on the meta device: only the memory for their results.

The library's own answer there is the same, but for the commonest operations it begins by importing its compiler, which takes two seconds
and eighty megabytes; and for batch norm it takes milliseconds each time.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

KEEPS_SHAPE = {
    "relu", "relu_", "add", "add_", "sub", "mul", "mul_", "div", "div_", "pow", "square", "sqrt", "rsqrt", "reciprocal", "neg", "tanh",
    "sigmoid", "gelu", "silu", "bernoulli_",
}  # fmt: skip


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in arguments or results, however they are nested."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors_in(part)


def window_of(operation: str, args: tuple[Any, ...], sides: int) -> tuple[list[int], list[int], list[int], list[int], bool]:
    """Kernel, stride, padding and dilation along each side of a convolution or pool, and whether its size rounds up."""
    if operation == "convolution":
        kernel, stride, padding, dilation, rounds_up = args[1].shape[2:], args[3], args[4], args[5], False
    elif operation.startswith("max_pool"):
        given = list(args[1:6])
        kernel, stride, padding, dilation, rounds_up = given + [None, None, 0, 1, False][len(given) :]
    else:
        given = list(args[1:5])
        kernel, stride, padding, rounds_up = given + [None, None, 0, False][len(given) :]
        dilation = 1
    kernels = _each(kernel, sides)
    return kernels, _each(stride, sides) or kernels, _each(padding, sides), _each(dilation, sides), bool(rounds_up)


def run_operation(function: Any, operation: str, args: tuple[Any, ...], kwargs: Any) -> Any:
    """The operation, or on the meta device the memory for its result alone."""
    first = next(tensors_in(args), None)
    if first is None or not first.is_meta or not _is_in_order(first):
        return function(*args, **(kwargs or {}))
    if operation == "empty_like":
        return torch.empty(first.shape, dtype=(kwargs or {}).get("dtype") or first.dtype, device="meta")
    if kwargs:
        return function(*args, **kwargs)
    shape = _shape_of_result(operation, args, first)
    if shape is None:
        return function(*args)
    if operation in KEEPS_SHAPE and operation.endswith("_"):
        return first
    result = torch.empty(shape, dtype=first.dtype, device="meta")
    if operation == "max_pool2d_with_indices":
        return result, torch.empty(shape, dtype=torch.int64, device="meta")
    if operation == "native_batch_norm":
        statistics = [torch.empty(first.shape[1] if args[5] else 0, dtype=first.dtype, device="meta") for _ in range(2)]
        return result, *statistics
    return result


def _shape_of_result(operation: str, args: tuple[Any, ...], first: Tensor) -> tuple[int, ...] | None:
    """None where the library should say: of numbers that are no floats, and of maps in another order."""
    if not first.is_floating_point():
        return None
    if operation == "native_batch_norm":
        return tuple(first.shape)
    if operation in KEEPS_SHAPE:
        shapes, dtypes = [tensor.shape for tensor in tensors_in(args)], {tensor.dtype for tensor in tensors_in(args)}
        is_plain = len(dtypes) == 1 and all(map(_is_in_order, tensors_in(args)))
        return _broadcast(shapes) if is_plain else None
    if operation == "addmm":
        return (args[1].shape[0], args[2].shape[1]) if args[1].shape[1] == args[2].shape[0] else None
    if operation == "convolution" and not args[6] and args[1].shape[1] * args[8] == first.shape[1]:
        sides = _places(first, *window_of(operation, args, first.ndim - 2))
        return (first.shape[0], args[1].shape[0], *sides) if min(sides) > 0 else None
    if operation in ("max_pool2d_with_indices", "avg_pool2d") and first.ndim == 4:
        sides = _places(first, *window_of(operation, args, 2))
        return (*first.shape[:2], *sides) if min(sides) > 0 else None
    if operation == "_adaptive_avg_pool2d" and first.ndim == 4:
        return (*first.shape[:2], *_each(args[1], 2))
    if operation in ("mean", "sum") and len(args) > 1 and args[1]:
        keeps, reduced = len(args) > 2 and args[2], {dim % first.ndim for dim in args[1]}
        return tuple(1 if k in reduced else side for k, side in enumerate(first.shape) if keeps or k not in reduced)
    if operation == "cat":
        dim = (args[1] if len(args) > 1 else 0) % first.ndim
        if len({(part.dtype, *part.shape[:dim], *part.shape[dim + 1 :]) for part in args[0]}) == 1:
            return (*first.shape[:dim], sum(part.shape[dim] for part in args[0]), *first.shape[dim + 1 :])
    return None


def _places(
    maps: Tensor, kernels: list[int], strides: list[int], paddings: list[int], dilations: list[int], rounds_up: bool
) -> tuple[int, ...]:
    """Places of a window along each side; where sizes round up, one that hangs over the far edge counts if it begins before that edge."""
    sides = []
    for side, kernel, stride, padding, dilation in zip(maps.shape[2:], kernels, strides, paddings, dilations, strict=True):
        last = side + 2 * padding - dilation * (kernel - 1) - 1
        places = -(-last // stride) + 1 if rounds_up else last // stride + 1
        sides.append(places - 1 if rounds_up and (places - 1) * stride >= side + padding else places)
    return tuple(sides)


def _is_in_order(tensor: Tensor) -> bool:
    """Whether its numbers lie in memory in the order of its sides, gaps or not: then so do those of results."""
    strides = [stride for side, stride in zip(tensor.shape, tensor.stride(), strict=True) if side > 1]
    return strides == sorted(strides, reverse=True) and 0 not in strides


def _broadcast(shapes: list[torch.Size]) -> tuple[int, ...] | None:
    """The shape that all of these stretch to."""
    length = max(map(len, shapes))
    sides = [{shape[k - length] for shape in shapes if k - length >= -len(shape)} - {1} for k in range(length)]
    return tuple(max(side, default=1) for side in sides) if all(len(side) <= 1 for side in sides) else None


def _each(value: Any, sides: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value or [])
    return values * sides if len(values) == 1 else values
