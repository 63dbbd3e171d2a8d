"""Windows of ONNX's convolutions and pools, and the padding of a node of its own."""

from typing import Any

from provenet.weights.formats.onnx_nodes import Node

LARGEST_WINDOW_PIXELS = 2**15

Settings = dict[str, Any]


def window_of(node: Node, kernel: tuple[int, ...]) -> Settings | None:
    """Kernel, stride, dilation and pads of a node, None where they are not those of a window."""
    stride, dilation = node.integers("strides") or (1, 1), node.integers("dilations") or (1, 1)
    written, auto_pad = node.integers("kernel_shape") or kernel, node.text("auto_pad", "NOTSET")
    pads = node.integers("pads") or (0, 0, 0, 0)
    if not len(written) == len(stride) == len(dilation) == 2 or len(pads) != 4:
        return None
    if not all(0 < side <= LARGEST_WINDOW_PIXELS for side in (*written, *stride, *dilation)):
        return None
    if not all(0 <= side <= LARGEST_WINDOW_PIXELS for side in pads):
        return None
    settings: Settings = {"kernel": tuple(written), "stride": stride, "dilation": dilation}
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return {**settings, "auto_pad": auto_pad.lower()}
    if auto_pad not in ("NOTSET", "VALID", ""):
        return None
    return {**settings, "pads": pads if auto_pad != "VALID" else (0, 0, 0, 0)}


def all_axes(widths: tuple[int, ...], axes: tuple[int, ...] | None) -> tuple[int, ...] | None:
    """Widths of some axes, as (before, after) of all four."""
    if axes is None or len(widths) != 2 * len(axes) or not all(-4 <= axis < 4 for axis in axes):
        return None
    whole = [0] * 8
    for place, axis in enumerate(axes):
        whole[axis % 4], whole[4 + axis % 4] = widths[place], widths[len(axes) + place]
    return tuple(whole)
