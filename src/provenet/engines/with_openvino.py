"""Networks run by OpenVINO, in float32, bfloat16, or int8 as fitted by NNCF.

Both send statistics of use home unless told otherwise, and nobody here asked for that: OpenVINO is imported as if the package that sends
them were not installed, which it is made for, and NNCF as in its makers' own tests.
"""

import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from provenet.engines.openvino_requests import core, run_in_parts, run_whole
from provenet.engines.ways import Way
from provenet.engines.with_torch import Run

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

CALIBRATION_BATCH = 16


def on_openvino(net: nn.Module, example: Tensor, folder: Path, way: Way, calibration: Tensor | None = None) -> Run:
    """The network compiled for images of the example's shape; int8 is read from `folder`, or fitted to `calibration` [M, C, S, S].

    Raises RuntimeError where the processor has not got the precision.
    """
    import openvino

    kept = folder / f"openvino-{'int8' if way.precision == 'int8' else 'float'}.xml"
    if kept.exists():
        model = core().read_model(kept)
    else:
        model = _convert(net, example)
        if way.precision == "int8":
            if calibration is None:
                raise RuntimeError("int8 is fitted to pictures, and none are given")
            model = _quantise(model, calibration)
        openvino.save_model(model, kept, compress_to_fp16=False)
    if not way.part:
        return run_whole(model, example.shape, way.precision)
    if way.precision != "int8" and not _takes(model, [way.part, *example.shape[1:]]):
        model = _convert(net, example[: way.part])
    return run_in_parts(model, example.shape, way.precision, way.part)


def _takes(model: Any, shape: list[int]) -> bool:
    """Whether the model takes batches of this shape: LeNet-5's subsampling is converted with the size of the batch in it."""
    try:
        model.clone().reshape(shape)
    except RuntimeError:
        return False
    return True


def _convert(net: nn.Module, example: Tensor) -> Any:
    import openvino

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        exported = torch.export.export(net, (example.contiguous(),))
        model = openvino.convert_model(exported)
    _pool_without_places(model)
    return model


def _pool_without_places(model: Any) -> None:
    """Let pools that also say where each largest value was, which nobody reads, give the values alone.

    Only those pass int8 on: after the others, a convolution of int8 would run in float32, as thirteen in GoogLeNet do.
    """
    from openvino import opset1

    for pool in model.get_ordered_ops():
        if pool.get_type_name() != "MaxPool" or any(places.get_target_inputs() for places in pool.outputs()[1:]):
            continue
        like = pool.get_attributes()
        if any(step != 1 for step in like.get("dilations", ())) or not _rounds_alike(like):
            continue
        rounding = like["rounding_type"].removesuffix("_torch")
        values = opset1.max_pool(pool.input_value(0), like["strides"], like["pads_begin"], like["pads_end"], like["kernel"], rounding)
        values.set_friendly_name(pool.get_friendly_name())
        for reader in pool.output(0).get_target_inputs():
            reader.replace_source_output(values.output(0))


def _rounds_alike(pool: dict[str, Any]) -> bool:
    """Whether the older pool has as many windows: torch leaves out a last one that would begin beyond the image, which takes padding."""
    within = all(step <= side for step, side in zip(pool["strides"], pool["kernel"], strict=True))
    return pool["rounding_type"] != "ceil_torch" or (not any(pool["pads_begin"]) and within)


def _quantise(model: Any, calibration: Tensor) -> Any:
    """The model with weights and activations of 8 bits, fitted to pictures [M, C, S, S].

    Images keep a zero point of their own, and biases are corrected layer after layer: so GoogLeNet's logits change by 0.8 % of their
    length, where NNCF's quick way, which corrects all at once by means over whole batches, changes them by 4.9 %.
    """
    os.environ["NNCF_CI"] = "1"
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    batches = [batch.contiguous().numpy() for batch in torch.split(calibration, CALIBRATION_BATCH)]
    model.reshape([-1, *calibration.shape[1:]])
    data = nncf.Dataset(batches)
    return nncf.quantize(model, data, preset=nncf.QuantizationPreset.MIXED, subset_size=len(batches), fast_bias_correction=False)
