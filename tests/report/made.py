"""Facts of runs that never were, small enough to compute by hand."""

from dataclasses import replace

import numpy as np
import torch
from PIL import Image

from provenet.metrics import Totals
from provenet.report.facts import EvaluatedPart, Mistake, RunFacts

HOSTILE = "</script><img src=x onerror=\"document.title='broken'\"><b>{{7*7}}</b>"
SETTINGS = {"run": {"data": "toys", "model": "lenet5"}, "training": {"epochs": 4.0, "loss": "cross_entropy"}}


def make_evaluation(classes, rows):
    """Of (true class, predicted class, probability of the prediction) for each picture; the rest is spread over the other classes."""
    num_classes = len(classes)
    true, taken = (torch.tensor([row[k] for row in rows]) for k in (0, 1))
    sure = torch.tensor([row[2] for row in rows], dtype=torch.float64)
    probabilities = ((1 - sure) / (num_classes - 1))[:, None].repeat(1, num_classes)
    probabilities[torch.arange(len(rows)), taken] = sure
    totals = Totals(num_classes)
    totals.add(probabilities.log(), true)
    return totals.result(classes)


def make_mistakes(evaluation, count=4, side=28):
    """Mistakes with pictures, without a data set."""
    outcomes = evaluation.outcomes
    wrong = (outcomes.predicted != outcomes.labels).nonzero()[:, 0].tolist()[:count]
    return [
        Mistake(
            place=place,
            name=f"folder/{evaluation.classes[outcomes.labels[place]].name}.png",
            true=evaluation.classes[outcomes.labels[place]].name,
            predicted=evaluation.classes[outcomes.predicted[place]].name,
            confidence=float(outcomes.confidence[place]),
            own=float(outcomes.own[place]),
            picture=Image.fromarray(np.random.default_rng(place).integers(0, 255, (side, side, 3), dtype=np.uint8)) if number else None,
        )
        for number, place in enumerate(wrong)
    ]


def make_events(num_epochs=4, steps_an_epoch=100, step_event_every=50):
    """The log of a run."""
    events = [{"event": "start", "settings": SETTINGS}]
    for step in range(1, num_epochs * steps_an_epoch + 1):
        epoch = step / steps_an_epoch
        if step == 1 or step % step_event_every == 0:
            events.append({"event": "step", "step": step, "epoch": epoch, "loss": 2 / epoch**0.5, "learning_rate": 0.1 / epoch})
        if step % steps_an_epoch == 0:
            top1 = 1 - 0.5 / epoch
            scores = {"train_loss": 1 / epoch, "train_top1": top1, "val_loss": 2 / epoch, "val_top1": top1 - 0.1, "val_top5": 1.0}
            events.append({"event": "epoch", "step": step, "epoch": epoch, "seconds": 10 * epoch, **scores, "is_best": epoch <= 3})
    return events


SIX_ROWS = [(0, 0, 0.9), (0, 0, 0.8), (0, 1, 0.7), (1, 1, 0.6), (1, 0, 0.95), (2, 1, 0.5)]


def make_facts(classes=("cat", "dog", "fox"), rows=SIX_ROWS, state="ended", **changes):
    """A run over three classes and six pictures, half of them right."""
    evaluation = make_evaluation(classes, rows)
    counts = {name: sum(true == k for true, _, _ in rows) for k, name in enumerate(classes)}
    facts = RunFacts(
        title="lenet5 on toys",
        model="lenet5",
        num_parameters=60_000,
        classes=classes,
        state=state,
        events=make_events(),
        settings=SETTINGS,
        data={"images": {"test": len(rows), "train": 50}, "classes": {"test": counts}, "held_out_from": "train"},
        machine={"processor": "A fine one", "cores": 2},
        versions={"provenet": "0"},
        started="2026-01-02T03:04:05+00:00",
        finished="2026-01-02T03:05:45+00:00",
        seconds=100.0,
        parts=[EvaluatedPart("test", evaluation, make_mistakes(evaluation))],
    )
    return replace(facts, **changes)


def make_random_rows(num_classes, num_images, seed=0):
    """Two of three right, at random."""
    random = np.random.default_rng(seed)
    true = random.integers(0, num_classes, num_images)
    taken = np.where(random.random(num_images) < 2 / 3, true, random.integers(0, num_classes, num_images))
    return list(zip(true.tolist(), taken.tolist(), (0.35 + 0.64 * random.random(num_images)).tolist(), strict=True))
