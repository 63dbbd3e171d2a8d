"""The training loop, in the order things happen. It knows neither networks nor data: a module, batches, and what to do with results."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from provenet.errors import TrainingError
from provenet.metrics import Evaluation, count_correct
from provenet.training.losses import LossFunction, make_loss
from provenet.training.optimizers import learning_rate
from provenet.training.settings import TrainingSettings
from provenet.training.state import TrainingState, score


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


TakeStep = Callable[[TrainingState, Tensor, Tensor, float], tuple[float, int]]
"""State, images [B, …], labels [B] and the learning rate -> the mean loss over them, and how many were right."""


class Recorder(Protocol):
    """Who is told."""

    def on_step(self, record: StepRecord) -> None:
        """After each step."""
        ...

    def on_epoch(self, record: EpochRecord) -> None:
        """After each evaluation, before the state counts it as done; `is_best` asks to keep the weights."""
        ...

    def between_steps(self, state: TrainingState) -> None:
        """Before each step and after the last: the state is whole, and whoever wants to keep it copies it now."""
        ...


def fit(
    state: TrainingState,
    batches: Iterator[tuple[Tensor, Tensor]],
    settings: TrainingSettings,
    *,
    evaluate: Callable[[], Evaluation],
    recorder: Recorder,
    class_weights: Tensor | None = None,
    take_step: TakeStep | None = None,
) -> Evaluation:
    """Train `state.net` in place from `state.step` on, evaluate after each pass, and leave in it the weights that did best.

    The network keeps the contract of models/classifier.py: `training_logits(images)` gives pairs of loss weight and logits.

    `batches` yields (images [B, C, H, W], labels [B], or probabilities of classes [B, K]) for every step that is left; `class_weights` [K]
    say how much a picture of each class counts. A step is one of gradient descent, or what `take_step` makes of it. Best is the highest
    top-1, then the lowest loss.
    """
    net = state.net
    take_step = take_step or partial(descend, settings=settings, loss_function=make_loss(settings, class_weights))

    net.train()
    while True:
        if state.is_evaluation_due:
            net.eval()
            val = evaluate()
            net.train()
            record = _judge(state, val)
            recorder.on_epoch(record)
            state.accept(val, is_best=record.is_best)
        recorder.between_steps(state)
        if state.is_over:
            break

        images, labels = next(batches)
        state.is_whole = False
        rate = learning_rate(state.step, state.num_steps, settings)
        loss, correct = take_step(state, images, labels, rate)
        state.count(len(labels), loss, correct)
        recorder.on_step(StepRecord(state.step, state.num_steps, state.epoch, len(labels), correct, loss, rate))

    assert state.best is not None  # every run has a step, and its last step evaluates
    net.load_state_dict(state.best.tensors)
    net.eval()
    return state.best.evaluation


def _judge(state: TrainingState, val: Evaluation) -> EpochRecord:
    """An evaluation beside the best so far."""
    is_best = state.best is None or score(val) > score(state.best.evaluation)
    train_loss, train_top1 = state.loss_sum / state.seen, state.correct / state.seen
    return EpochRecord(state.step, state.num_steps, state.epoch, state.seconds, train_loss, train_top1, val, is_best)


def descend(
    state: TrainingState, images: Tensor, labels: Tensor, rate: float, *, settings: TrainingSettings, loss_function: LossFunction
) -> tuple[float, int]:
    """One step of gradient descent; -> the mean loss before it, and how many images were right.

    Raises TrainingError, the weights as they were, where the loss is no number.
    """
    for group in state.optimizer.param_groups:
        group["lr"] = rate * group["rate"]
    loss, correct = accumulate_gradients(state.net, images, labels, loss_function, settings)
    if not math.isfinite(loss):
        raise TrainingError(
            f"step {state.step + 1} of {state.num_steps}: expected a finite loss, found {loss} at learning rate {rate:.3g}; "
            f"try --learning-rate {settings.peak_learning_rate / 10:.2g}"
        )
    state.optimizer.step()
    state.optimizer.zero_grad(set_to_none=True)
    return loss, correct


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
