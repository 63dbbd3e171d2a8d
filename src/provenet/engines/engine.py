"""A network ready to run forward, one way."""

from pathlib import Path

import torch
from torch import Tensor, nn

from provenet.engines.ways import REFERENCE, Way
from provenet.engines.with_torch import Run, as_it_is, compiled, folded


class Engine:
    """Images float32 [N, C, S, S] -> what the network gives of them, float32, for any N.

    All ways but the reference see batches of one size: the last one is filled up with its last image.
    """

    def __init__(self, way: Way, run: Run, batch_size: int | None) -> None:
        self.way = way
        self._run = run
        self._batch_size = batch_size

    def __call__(self, images: Tensor) -> Tensor:
        """Images [N, C, S, S] -> [N, ...]."""
        with torch.inference_mode():
            if self._batch_size is None:
                return self._run(images)
            return torch.cat([self._filled_up(some) for some in torch.split(images, self._batch_size)])

    def _filled_up(self, images: Tensor) -> Tensor:
        assert self._batch_size is not None
        num_empty = self._batch_size - len(images)
        if not num_empty:
            return self._run(images)
        return self._run(torch.cat([images, images[-1:].expand(num_empty, -1, -1, -1)]))[: len(images)]


def reference(net: nn.Module) -> Engine:
    """The network as it is, which must be in evaluation mode."""
    return Engine(REFERENCE, as_it_is(net), None)


def build(way: Way, net: nn.Module, example: Tensor, folder: Path, calibration: Tensor | None = None) -> Engine:
    """The network, in evaluation mode, run in this way for batches of the example's shape [B, C, S, S].

    What it is converted to is written to `folder`, or read where it is there from before; nothing of it is needed afterwards. int8 is
    fitted to `calibration` [M, C, S, S]. Raises whatever the engine's library does.
    """
    if way == REFERENCE:
        return reference(net)
    if way.engine == "folded":
        run = folded(net, example.device, way.precision)
    elif way.engine == "compiled":
        run = compiled(net, example.device, way.precision)
    elif way.engine == "onnxruntime":
        from provenet.engines.with_onnxruntime import on_onnxruntime

        run = on_onnxruntime(net, example, folder)
    else:
        from provenet.engines.with_openvino import on_openvino

        run = on_openvino(net, example, folder, way, calibration)
    return Engine(way, run, len(example))


def relative_error(found: Tensor, expected: Tensor) -> float:
    """How far answers are from the reference's, as a part of their length; infinite for what is no number."""
    error = float((found.double() - expected.double()).norm() / expected.double().norm().clamp_min(1e-300))
    return error if error == error else float("inf")
