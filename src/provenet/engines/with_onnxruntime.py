"""Networks run by ONNX Runtime."""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from provenet.engines.with_torch import Run

MODEL = "network.onnx"


def on_onnxruntime(net: nn.Module, example: Tensor, folder: Path) -> Run:
    """A session for images of the example's shape; the converted network is in `folder` meanwhile."""
    import onnxruntime

    path = folder / MODEL
    if not path.exists():
        _convert(net, example, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # its idle threads would slow those that decode pictures
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {name: images.contiguous().numpy()})[0])

    return run


def _convert(net: nn.Module, example: Tensor, path: Path) -> None:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it says that torchvision is not there
    try:
        with warnings.catch_warnings(), torch.no_grad(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            torch.onnx.export(net, (example.contiguous(),), str(path), dynamo=True, verbose=False, external_data=True)
    finally:
        logger.setLevel(level)
