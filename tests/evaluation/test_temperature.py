"""The temperature is where the loss is least, whatever logits it is fitted to; and what an evaluation keeps of it."""

import numpy as np
import pytest
import torch
from torch import nn

from provenet.evaluation.evaluate import evaluate
from provenet.evaluation.temperature import LEAST, LEAST_TO_CALIBRATE, MOST, cross_fitted, fit_temperature, temperatures_of_others
from provenet.outcomes import calibration
from provenet.training.settings import TrainingSettings
from provenet.training.state import TrainingState


def drawn(scale, num_pictures=400, num_classes=7, seed=5):
    """Logits that claim `scale` times what they should, and labels."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_pictures, num_classes, generator=generator, dtype=torch.float64)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    return scale * logits, labels


def loss(logits, labels, temperature):
    return float(torch.nn.functional.cross_entropy(logits / temperature, labels))


@pytest.mark.parametrize("scale", [0.05, 0.3, 1.0, 3.0, 20.0])
def test_no_other_temperature_has_a_lower_loss(scale):
    logits, labels = drawn(scale)
    found = fit_temperature(logits, labels)
    least = loss(logits, labels, found)
    assert LEAST < found < MOST
    assert all(loss(logits, labels, float(other)) >= least for other in np.geomspace(LEAST, MOST, 2_001))
    assert all(loss(logits, labels, found * factor) > least for factor in (0.999, 1.001))


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_what_no_temperature_mends_ends_at_the_bound(scale):
    logits, labels = drawn(scale)
    assert fit_temperature(logits, labels) == (MOST if scale > 1 else LEAST)


def test_logits_far_from_any_probability_are_fitted_too():
    """Squared distances of LeNet-5: hundreds. Newton's steps alone would leave the bracket."""
    logits, labels = drawn(15.0)
    shifted = logits - 500
    assert fit_temperature(shifted, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-9)


def evaluated(num_pictures):
    """A network of one linear layer on pictures of one pixel a class."""
    logits, labels = drawn(5.0, num_pictures)
    batches = list(zip(logits.float().split(64), labels.split(64), strict=True))
    return evaluate(nn.Identity(), batches, [str(k) for k in range(7)]), logits.float(), labels


def test_an_evaluation_keeps_how_sure_its_answers_are_when_calibrated():
    evaluation, logits, labels = evaluated(400)
    outcomes = evaluation.outcomes
    expected = cross_fitted(logits, labels).softmax(1).amax(1)
    assert torch.allclose(outcomes.calibrated.double(), expected, atol=1e-6)
    assert torch.equal(outcomes.when_calibrated.predicted, outcomes.predicted)
    assert calibration(outcomes.when_calibrated).error < calibration(outcomes).error / 2
    even, odd = fit_temperature(logits[0::2], labels[0::2]), fit_temperature(logits[1::2], labels[1::2])
    assert outcomes.temperature.tolist() == pytest.approx([odd, even] * 200)  # of the others
    assert torch.equal(temperatures_of_others(logits, labels).float(), outcomes.temperature)


def test_few_pictures_tell_nothing_of_a_temperature():
    outcomes = evaluated(LEAST_TO_CALIBRATE - 1)[0].outcomes
    assert outcomes.calibrated is None
    assert outcomes.when_calibrated is None
    assert evaluated(LEAST_TO_CALIBRATE)[0].outcomes.calibrated is not None


@pytest.mark.parametrize("num_pictures", [LEAST_TO_CALIBRATE - 1, 200])
def test_a_snapshot_brings_it_back(num_pictures):
    evaluation = evaluated(num_pictures)[0]
    settings = TrainingSettings(epochs=1, batch_size=1, peak_learning_rate=0.1)
    states = [TrainingState(nn.Linear(1, 7), settings, num_images=4) for _ in range(2)]
    states[0].net(torch.zeros(1, 1)).sum().backward()
    states[0].optimizer.step()
    states[0].count(images=1, loss=1.0, correct=0)
    states[0].accept(evaluation, is_best=True)
    states[1].restore(states[0].capture())
    before, after = (state.best.evaluation.outcomes for state in states)
    for name, column in vars(before).items():
        assert (column is None and getattr(after, name) is None) or torch.equal(column, getattr(after, name)), name
