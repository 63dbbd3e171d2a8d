"""Run a network over pictures without training it. Evaluation and prediction both come through here."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from provenet.errors import NotNumbersError
from provenet.evaluation.temperature import with_calibrated
from provenet.metrics import Evaluation, Totals

BATCH_SIZE = 64
"""Pictures a batch wherever a network is only asked: two roads agree to the bit only with the same batches."""
MOST_KEPT_BYTES = 2**28
"""Of logits, to calibrate them."""

Run = Callable[[Tensor], Tensor]
"""Images [B, C, S, S] -> logits [B, K]: what runs a network, if not the network itself."""


def compute_logits(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], run: Run | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits float32 [B, K] and labels [B] of each batch, the network in evaluation mode meanwhile; `run` is an engine that runs it.

    Raises NotNumbersError for logits that are none.
    """
    was_training = net.training
    net.eval()
    try:
        for images, labels in batches:
            with torch.inference_mode():
                logits = (run or net)(images).float()
            check_numbers(logits)
            yield logits, labels
    finally:
        net.train(was_training)


def at_temperature(run: Run, temperature: float) -> Run:
    """The same, its logits divided by a temperature."""
    return run if temperature == 1 else lambda images: run(images) / temperature


def check_numbers(logits: Tensor) -> None:
    """Raise NotNumbersError for logits that are none."""
    if not logits.isfinite().all():
        raise NotNumbersError(
            "expected the network to answer with numbers, found NaN or infinity: its weights are damaged or its training went "
            "astray; use another bundle, or train with a lower --learning-rate"
        )


def evaluate(net: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], classes: Sequence[str], run: Run | None = None) -> Evaluation:
    """Count every image of `batches` once; `classes` names the network's outputs, and `run` is an engine that runs it."""
    totals = Totals(len(classes))
    kept: list[Tensor] = []
    num_bytes = 0
    for logits, labels in compute_logits(net, batches, run):
        totals.add(logits, labels)
        num_bytes += logits.nbytes
        if num_bytes <= MOST_KEPT_BYTES:
            kept.append(logits.cpu())
        else:
            kept.clear()
    evaluation = totals.result(classes)
    return with_calibrated(evaluation, torch.cat(kept)) if kept else evaluation
