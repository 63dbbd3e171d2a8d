"""The training loop, in the order things happen. It knows neither networks nor data: a module, batches, and what to do with results."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from provenet.errors import TrainingError
from provenet.metrics import Evaluation, count_correct
from provenet.training.losses import make_loss
from provenet.training.optimizers import learning_rate, make_optimizer
from provenet.training.settings import TrainingSettings


@dataclass(frozen=True)
class StepRecord:
    """What is known after a step."""

    step: int
    num_steps: int
    epoch: float
    images: int
    correct: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class EpochRecord:
    """What is known after an evaluation. `train_loss` is the loss trained on, `val.loss` always a cross-entropy."""

    step: int
    num_steps: int
    epoch: float
    seconds: float
    train_loss: float
    train_top1: float
    val: Evaluation
    is_best: bool


class Recorder(Protocol):
    """Who is told."""

    def on_step(self, record: StepRecord) -> None:
        """After each step."""
        ...

    def on_epoch(self, record: EpochRecord) -> None:
        """After each evaluation; `is_best` asks to keep the weights."""
        ...


def count_steps(settings: TrainingSettings, num_images: int) -> int:
    """Steps of a whole run over `num_images` training pictures."""
    return max(1, math.ceil(settings.epochs * num_images / settings.batch_size))


def fit(
    net: nn.Module,
    batches: Iterator[tuple[Tensor, Tensor]],
    settings: TrainingSettings,
    *,
    num_images: int,
    evaluate: Callable[[], Evaluation],
    recorder: Recorder,
) -> Evaluation:
    """Train `net` in place on `batches`, evaluate after each pass, and leave in it the weights that did best.

    `net` keeps the contract of models/classifier.py: `training_logits(images)` gives pairs of loss weight and logits.

    `batches` yields (images [B, C, H, W], labels [B]) for every step of the run. Best is the highest top-1, then the lowest loss.
    """
    loss_function = make_loss(settings)
    optimizer = make_optimizer(net, settings)
    num_steps = count_steps(settings, num_images)
    best: tuple[float, float] | None = None
    best_state: dict[str, Any] = {}
    best_evaluation: Evaluation | None = None
    started, loss_sum, correct, seen = time.perf_counter(), 0.0, 0, 0

    net.train()
    for step, (images, labels) in enumerate(batches):
        rate = learning_rate(step, num_steps, settings)
        for group in optimizer.param_groups:
            group["lr"] = rate

        step_loss, step_correct = accumulate_gradients(net, images, labels, loss_function, settings)
        if not math.isfinite(step_loss):
            raise TrainingError(
                f"step {step + 1} of {num_steps}: expected a finite loss, found {step_loss} at learning rate {rate:.3g}; "
                f"try --learning-rate {settings.peak_learning_rate / 10:.2g}"
            )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        epoch = (step + 1) * settings.batch_size / num_images
        loss_sum, correct, seen = loss_sum + step_loss * len(labels), correct + step_correct, seen + len(labels)
        recorder.on_step(StepRecord(step + 1, num_steps, epoch, len(labels), step_correct, step_loss, rate))

        is_end_of_epoch = math.floor(epoch) > math.floor(step * settings.batch_size / num_images)
        if is_end_of_epoch or step + 1 == num_steps:
            net.eval()
            val = evaluate()
            net.train()
            score = (val.top1, -val.loss)
            is_best = best is None or score > best
            if is_best:
                best, best_evaluation = score, val
                best_state = copy.deepcopy(net.state_dict())
            seconds = time.perf_counter() - started
            recorder.on_epoch(EpochRecord(step + 1, num_steps, epoch, seconds, loss_sum / seen, correct / seen, val, is_best))
            loss_sum, correct, seen = 0.0, 0, 0

    assert best_evaluation is not None  # every run has a step, and its last step evaluates
    net.load_state_dict(best_state)
    net.eval()
    return best_evaluation


def accumulate_gradients(
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    loss_function: Callable[[Tensor, Tensor], Tensor],
    settings: TrainingSettings,
) -> tuple[float, int]:
    """Add the gradient of the mean loss over one batch, part by part; return that loss and how many images were right.

    The gradient is that of the whole batch, except through batch norm, which sees one part at a time.
    """
    batch_loss, correct = torch.zeros((), device=images.device), 0
    for part, part_labels in zip(images.chunk(settings.micro_batches), labels.chunk(settings.micro_batches), strict=True):
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=settings.precision == "bfloat16"):
            outputs = _forward(net, part)
        losses = [weight * loss_function(logits.float(), part_labels) for weight, logits in outputs]
        part_loss = torch.stack(losses).sum() * (len(part) / len(images))
        part_loss.backward()  # type: ignore[no-untyped-call]
        batch_loss += part_loss.detach()
        correct += count_correct(outputs[0][1], part_labels)
    return float(batch_loss), correct


def _forward(net: nn.Module, images: Tensor) -> list[tuple[float, Tensor]]:
    try:
        return net.training_logits(images)  # type: ignore[operator, no-any-return]
    except ValueError as error:  # batch norm of one value a channel
        raise TrainingError(
            f"a part of {len(images)} images: {error}; take a larger --batch-size, --size, or fewer --micro-batches"
        ) from error
