"""Facts of runs that never were, small enough to compute by hand."""

from dataclasses import replace

import numpy as np
import torch

from provenet.data.index import ImageSet
from provenet.data.pictures import PixelArray
from provenet.evaluation.temperature import with_calibrated
from provenet.metrics import Totals
from provenet.report.facts import EvaluatedPart, RunFacts
from provenet.report.gallery import gather_pictures

HOSTILE = "</script><img src=x onerror=\"document.title='broken'\"><b>{{7*7}}</b>"
SETTINGS = {"run": {"data": "toys", "model": "lenet5"}, "training": {"epochs": 4.0, "loss": "cross_entropy"}}


def make_evaluation(classes, rows):
    """Of (true class, predicted class, probability of the prediction) for each picture; the rest is spread over the other classes."""
    num_classes = len(classes)
    true, taken = (torch.tensor([row[k] for row in rows]) for k in (0, 1))
    sure = torch.tensor([row[2] for row in rows], dtype=torch.float64)
    probabilities = ((1 - sure) / (num_classes - 1))[:, None].repeat(1, num_classes)
    probabilities[torch.arange(len(rows)), taken] = sure
    return evaluate_probabilities(classes, true, probabilities)


def evaluate_probabilities(classes, true, probabilities):
    """Of the probability of each class for each picture; calibrated too, where there are enough of them."""
    true, logits = torch.as_tensor(true), torch.as_tensor(probabilities, dtype=torch.float64).log()
    totals = Totals(len(classes))
    totals.add(logits, true)
    return with_calibrated(totals.result(classes), logits)


def make_images(evaluation, side=28):
    """As many pictures of noise as were evaluated, none like another."""
    outcomes = evaluation.outcomes
    pixels = np.random.default_rng(0).integers(0, 255, (len(outcomes), side, side, 3), dtype=np.uint8)
    return ImageSet("folder", tuple(score.name for score in evaluation.classes), outcomes.labels.numpy(), PixelArray(pixels, "folder"))


def make_gallery(evaluation, side=28, gone=()):
    """The pictures of an evaluation, without a data set: files that are named after their class, of which some have gone."""
    gallery = gather_pictures(evaluation, make_images(evaluation, side))
    found = {
        place: replace(shown, name=f"folder/{shown.true}.png", picture=None if place in gone else shown.picture)
        for place, shown in gallery.pictures.items()
    }
    return replace(gallery, pictures=found)


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


def make_facts(classes=("cat", "dog", "fox"), rows=SIX_ROWS, state="ended", gone=(2,), **changes):
    """A run over three classes and six pictures, half of them right; the file of one has gone."""
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
        parts=[EvaluatedPart("test", evaluation, make_gallery(evaluation, gone=gone))],
    )
    return replace(facts, **changes)


def make_random_rows(num_classes, num_images, seed=0):
    """Two of three right, at random."""
    random = np.random.default_rng(seed)
    true = random.integers(0, num_classes, num_images)
    taken = np.where(random.random(num_images) < 2 / 3, true, random.integers(0, num_classes, num_images))
    return list(zip(true.tolist(), taken.tolist(), (0.35 + 0.64 * random.random(num_images)).tolist(), strict=True))
