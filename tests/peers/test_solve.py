"""A head solved at once against scikit-learn's logistic regression on the same standardised features."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import nn

from provenet.transfer.solve import solve


@pytest.mark.parametrize("decay", [1.0, 0.1, 0.01, 1e-3])
@pytest.mark.parametrize("weighting", [None, "balanced"])
def test_the_same_minimum_as_scikit_learn(decay, weighting):
    digits, labels = load_digits(return_X_y=True)
    keep = np.flatnonzero((labels != 3) | (np.arange(len(labels)) % 7 == 0))  # fewer threes
    features, labels = digits[keep].astype(np.float32), labels[keep]
    scaler = StandardScaler()
    scaled = scaler.fit_transform(features.astype(np.float64))
    theirs = LogisticRegression(C=1 / (decay * len(labels)), class_weight=weighting, tol=1e-9, max_iter=10_000).fit(scaled, labels)
    weights = None
    if weighting:
        weights = torch.tensor(len(labels) / (10 * np.bincount(labels)), dtype=torch.float32)
    head = nn.Linear(64, 10)
    solve(head, torch.from_numpy(features), torch.from_numpy(labels), decay=decay, weights=weights)
    ours = head(torch.from_numpy(features)).softmax(1).detach().numpy()
    expected = theirs.predict_proba(scaled)
    assert np.abs(ours - expected).max() < 1e-5
    clear = np.sort(expected, 1)[:, -1] - np.sort(expected, 1)[:, -2] > 2e-5
    assert (ours.argmax(1) == theirs.predict(scaled))[clear].all()
