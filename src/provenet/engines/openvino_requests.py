"""Models of OpenVINO run on batches: each layer by all threads, or a few images by each thread.

With few images at a time, what is between two layers stays in a core's own cache, and no thread waits for another at the end of each layer,
of which GoogLeNet has many small ones. Fully connected layers are the other way about: their weights are read from memory once for all
images that go through together, so the last ones see the whole batch.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from provenet.engines.with_torch import Run

_HINTS = {"float32": "f32", "bfloat16": "bf16", "int8": "f32"}
"""Of int8: the precision of what is left in floating point; bfloat16 there costs conversions and gains nothing."""


@cache
def core() -> Any:
    """The one core of OpenVINO in this process, kept to its end.

    Each core gives its thread a signal stack of its own, and when it goes puts back the one that it found. Of two that go in the order they
    came, the second puts back the stack of the first, which is no more, and the next signal, be it Ctrl-C, ends the process with a fault.
    """
    import openvino

    return openvino.Core()


def run_whole(model: Any, shape: Sequence[int], precision: str) -> Run:
    """The model on batches of this shape [B, C, S, S], each layer by all threads.

    Raises RuntimeError where the processor has not got the precision.
    """
    request = _compile(model, shape, precision, num_streams=1).create_infer_request()

    def run(images: Tensor) -> Tensor:
        request.infer([images.contiguous().numpy()], share_inputs=True, share_outputs=True)
        return torch.from_numpy(request.get_output_tensor(0).data.copy())

    return run


def run_in_parts(model: Any, shape: Sequence[int], precision: str, part: int) -> Run:
    """The model on batches of this shape [B, C, S, S], `part` images a thread, up to its first fully connected layer; the rest as a whole.

    `part` divides B. Raises RuntimeError where the processor has not got the precision.
    """
    import openvino

    body, head = split(model)
    slices = [slice(start, start + part) for start in range(0, shape[0], part)]
    num_streams = min(len(slices), torch.get_num_threads())
    compiled = _compile(body, [part, *shape[1:]], precision, num_streams)
    between = np.empty([shape[0], *compiled.output(0).shape[1:]], np.float32)
    requests = [compiled.create_infer_request() for _ in slices]
    for request, its_own in zip(requests, slices, strict=True):
        request.set_output_tensor(0, openvino.Tensor(between[its_own], shared_memory=True))
    run_head = run_whole(head, between.shape, precision) if head else torch.clone

    def run(images: Tensor) -> Tensor:
        given = images.contiguous().numpy()
        for request, its_own in zip(requests, slices, strict=True):
            request.start_async([given[its_own]], share_inputs=True)
        for request in requests:
            request.wait()
        return run_head(torch.from_numpy(between))

    return run


def split(model: Any) -> tuple[Any, Any]:
    """The model, which is changed, in two: up to its last fully connected layers, and from there; or whole, and None."""
    from openvino import Model, opset1

    cut = _where_to_cut(model)
    if cut is None:
        return model, None
    results, parameter = model.get_results(), opset1.parameter(cut.get_partial_shape(), np.float32)
    for reader in cut.get_target_inputs():
        reader.replace_source_output(parameter.output(0))
    return Model([opset1.result(cut)], model.get_parameters()), Model(results, [parameter])


def _where_to_cut(model: Any) -> Any:
    """What goes into the first matrix product of the chain that the model ends with, as an output of a node; None where there is none.

    Where that was rounded to int8, what was rounded: the product is in int8 only where it sees the rounding.
    """
    chain, cut = _last_chain(model), None
    for node, given in chain:
        kind = node.get_type_name()
        if kind == "MatMul" or (kind == "FakeQuantize" and cut is not None):
            cut = given
        elif kind in ("Convolution", "GroupConvolution"):
            break
    return cut


def _last_chain(model: Any) -> list[tuple[Any, Any]]:
    """Nodes from the result backwards, with what each is given of the images, up to one that is given two such things or none."""
    moving: set[str] = set()  # what changes with the images, unlike weights and what is made of them
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Parameter" or any(value.get_node().get_friendly_name() in moving for value in node.input_values()):
            moving.add(node.get_friendly_name())
    chain, node = [], model.get_results()[0]
    while len(inputs := [value for value in node.input_values() if value.get_node().get_friendly_name() in moving]) == 1:
        chain.append((node, inputs[0]))
        node = inputs[0].get_node()
    return chain


def _compile(model: Any, shape: Sequence[int], precision: str, num_streams: int) -> Any:
    model.reshape(list(shape))
    settings = {
        "INFERENCE_PRECISION_HINT": _HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY" if num_streams == 1 else "THROUGHPUT",
        "NUM_STREAMS": num_streams,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # other threads decode pictures meanwhile
    }
    compiled = core().compile_model(model, "CPU", settings)
    in_use = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if in_use != _HINTS[precision]:
        raise RuntimeError(f"this processor has no {precision} for OpenVINO, which takes {in_use}")
    return compiled
