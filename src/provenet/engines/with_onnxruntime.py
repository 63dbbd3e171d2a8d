"""Networks run by ONNX Runtime."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from provenet.engines.with_torch import Run

MODEL = "network.onnx"


def on_onnxruntime(net: nn.Module, example: Tensor, folder: Path) -> Run:
    """A session for images of the example's shape; the converted network is in `folder` meanwhile."""
    import onnxruntime

    path = folder / MODEL
    if not path.exists():
        write_onnx(net, example, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its idle threads would slow those that decode pictures
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.contiguous().numpy()})[0])

    return run


def write_onnx(net: nn.Module, example: Tensor, path: Path, for_any_batch: tuple[str, str] | None = None) -> None:
    """The network as an ONNX file, by torch's converter, its weights beside it, for images of the example's shape [N, C, S, S].

    `for_any_batch` are names of its input and its output: then it takes any number of images, and its weights are in the file.
    """
    form: dict[str, Any] = {"external_data": True}
    if for_any_batch:
        names = {"input_names": [for_any_batch[0]], "output_names": [for_any_batch[1]]}
        form = {"external_data": False, "dynamic_shapes": ({0: torch.export.Dim("batch")},), **names}
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it says that torchvision is not there
    try:
        with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(net, (example.contiguous(),), str(path), dynamo=True, verbose=False, **form)
    finally:
        logger.setLevel(level)
