"""Our measures against scikit-learn's, on random answers with classes that nobody has and classes that nobody predicts."""

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from provenet.evaluation.measures import Answers, measure
from provenet.outcomes import confusion_matrix as our_confusion
from provenet.outcomes import judge, measure_classes


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
@pytest.mark.parametrize("seed", range(20))
def test_as_scikit_learn(seed):
    generator = torch.Generator().manual_seed(seed)
    num_classes = int(torch.randint(3, 30, (1,), generator=generator))
    num_images = int(torch.randint(20, 2_000, (1,), generator=generator))
    logits = 3 * torch.randn(num_images, num_classes, generator=generator, dtype=torch.float64)
    logits[:, 0] -= 20 * (seed % 2)  # of half of them one class is never predicted
    labels = torch.randint(1 if seed % 3 == 0 else 0, num_classes, (num_images,), generator=generator)  # or has no pictures
    true, predicted, probabilities = labels.numpy(), logits.argmax(1).numpy(), logits.softmax(1).numpy()
    names = np.arange(num_classes)
    present = np.unique(true)
    answers = Answers(logits, labels)
    found = {name: number.value for name, number in measure(answers).items()}
    assert found["top1"] == pytest.approx(accuracy_score(true, predicted))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(true, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(true, predicted, labels=present, average="macro", zero_division=0))
    assert found["loss"] == pytest.approx(log_loss(true, probabilities, labels=names))
    for k in range(1, num_classes):
        assert answers.top(k) == pytest.approx(top_k_accuracy_score(true, logits.numpy(), k=k, labels=names))
    outcomes = judge(logits, labels)
    assert np.array_equal(our_confusion(outcomes, num_classes).numpy(), confusion_matrix(true, predicted, labels=names))
    theirs = precision_recall_fscore_support(true, predicted, labels=names, zero_division=0)
    for row, precision, recall, f1, images in zip(measure_classes(outcomes, num_classes), *theirs, strict=True):
        assert (row.precision or 0, row.recall or 0, row.f1 or 0, row.images) == pytest.approx((precision, recall, f1, images))


def test_reliability_as_scikit_learn():
    """Of two classes scikit-learn's calibration curve has bins of equal width too, of the probability of one class."""
    from sklearn.calibration import calibration_curve

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5_000, 2, generator=generator, dtype=torch.float64)
    labels = torch.randint(2, (5_000,), generator=generator)
    answers = Answers(logits, labels)
    right, claimed = calibration_curve(answers.is_right.astype(int), answers.confidence, n_bins=15)
    counts = np.histogram(answers.confidence, bins=np.linspace(0, 1, 16))[0]
    expected = float((np.abs(right - claimed) * counts[counts > 0]).sum() / 5_000)
    assert measure(answers)["calibration_error"].value == pytest.approx(expected)
