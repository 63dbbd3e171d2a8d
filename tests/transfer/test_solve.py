"""A head solved at once: at a minimum, the same by another road, and its regularisation chosen by what is held out."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from provenet.errors import TrainingError
from provenet.models.heads import make_head
from provenet.training.losses import balanced_weights
from provenet.transfer.solve import DECAYS, cross_validate, folds_of, minimise, solve
from provenet.transfer.standardised import Standardised


def made(num_pictures, num_features, num_classes, distance, seed=0):
    """Features as networks give them: not negative, of very different sizes, some of them always 0."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_pictures) % num_classes
    centres = distance * torch.randn(num_classes, num_features, generator=generator)
    features = torch.relu(torch.randn(num_pictures, num_features, generator=generator) + centres[labels])
    features *= 10 ** torch.linspace(-2, 2, num_features)
    features[:, 0] = 0
    return features, labels


def loss_by_hand(weight, bias, features, labels, decay, weights=None):
    deviation = features.std(0, correction=0)
    deviation[deviation == 0] = 1
    scaled = (features - features.mean(0)) / deviation
    loss = F.cross_entropy(scaled @ (weight * deviation).T + bias + weight @ features.mean(0), labels, weight=weights)
    return loss + decay / 2 * (weight * deviation).square().sum()


@pytest.mark.parametrize("decay", [1.0, 0.01, 1e-4])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_solution_is_a_minimum_wherever_it_began(decay, weighted):
    features, labels = made(120, 40, 4, distance=0.5)
    features, labels = features[:100], labels[:100]
    weights = balanced_weights(labels, 4) if weighted else None
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        head = nn.Linear(40, 4)
        loss = solve(head, features, labels, decay=decay, weights=weights)
        weight, bias = head.weight.detach().double().requires_grad_(), head.bias.detach().double().requires_grad_()
        again = loss_by_hand(weight, bias, features.double(), labels, decay, None if weights is None else weights.double())
        assert float(again.detach()) == pytest.approx(loss, rel=1e-4)
        gradients = torch.autograd.grad(again, (weight, bias))
        deviation = features.double().std(0, correction=0)
        deviation[deviation == 0] = 1
        assert float((gradients[0] / deviation).abs().max()) < 2e-4
        assert float(gradients[1].abs().max()) < 2e-4
        found.append(head(features).softmax(1))
    torch.testing.assert_close(found[0], found[1], atol=5e-3, rtol=0)


def test_another_minimiser_finds_the_same():
    features, labels = made(60, 5, 3, distance=0.7)
    features = features[:, 1:]
    head = nn.Linear(4, 3)
    loss = solve(head, features, labels, decay=0.1)
    weight, bias = torch.zeros(3, 4, dtype=torch.float64, requires_grad=True), torch.zeros(3, dtype=torch.float64, requires_grad=True)
    deviation = features.double().std(0, correction=0)
    scaled = (features.double() - features.double().mean(0)) / deviation
    for _ in range(5_000):  # plain gradient descent
        by_hand = F.cross_entropy(scaled @ weight.T + bias, labels) + 0.05 * weight.square().sum()
        gradients = torch.autograd.grad(by_hand, (weight, bias))
        with torch.no_grad():
            weight -= 0.5 * gradients[0]
            bias -= 0.5 * gradients[1]
    assert loss == pytest.approx(float(by_hand.detach()), rel=1e-5)
    torch.testing.assert_close((scaled @ weight.T + bias).softmax(1).float(), head(features).softmax(1), atol=1e-3, rtol=0)


@pytest.mark.parametrize("hidden", [(), (16,), (16, 8)])
def test_every_head_in_words_is_solved(hidden):
    torch.manual_seed(0)
    features, labels = made(90, 30, 3, distance=1.0)
    head = make_head(hidden, 30, reads_maps=False, num_classes=3)
    before = float(F.cross_entropy(head(features), labels).detach())
    loss = solve(head, features, labels, decay=1e-3)
    assert loss < min(before, 0.3)
    assert float((head(features).argmax(1) == labels).float().mean()) > 0.97


def test_folding_changes_no_answer():
    """What the head says of standardised features it says of features as they come."""
    features, _ = made(50, 20, 3, distance=0.5)
    torch.manual_seed(2)
    for head in (nn.Linear(20, 3), make_head((8,), 20, reads_maps=False, num_classes=3)):
        standardised = Standardised(features)
        before = head(standardised.scaled).detach().clone()
        standardised.fold_into(next(layer for layer in head.modules() if isinstance(layer, nn.Linear)))
        torch.testing.assert_close(head(features).detach(), before, rtol=1e-4, atol=1e-4)


def test_weights_make_classes_count_alike():
    labels = torch.tensor([0] * 90 + [1] * 10)
    weights = balanced_weights(labels, 3)
    assert weights.tolist()[:2] == pytest.approx([100 / 180, 100 / 20])
    assert float(weights[labels].mean()) == pytest.approx(1.0)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(100, 2, generator=generator) + labels[:, None]
    recalls = []
    for chosen in (None, weights[:2]):
        head = nn.Linear(2, 2)
        solve(head, features, labels, decay=0.01, weights=chosen)
        recalls.append(float((head(features[90:]).argmax(1) == 1).float().mean()))
    assert recalls[1] > recalls[0]


@pytest.mark.parametrize("seed", [0, 7])
def test_folds_hold_as_many_of_each_class(seed):
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2, 3], [5, 17, 40, 1]))
    folds = folds_of(labels, 5, seed)
    for label, count in enumerate((5, 17, 40, 1)):
        inside = np.bincount(folds[labels == label], minlength=5)
        assert inside.max() - inside.min() <= 1
        assert inside.sum() == count
    assert np.array_equal(folds, folds_of(labels, 5, seed))
    assert not np.array_equal(folds, folds_of(labels, 5, seed + 1))


def test_the_decay_is_chosen_by_what_is_held_out():
    noisy = cross_validate(lambda: nn.Linear(200, 4), *made(80, 200, 4, distance=0.1))
    clear = cross_validate(lambda: nn.Linear(40, 4), *made(900, 40, 4, distance=0.6))
    assert noisy.decay > clear.decay
    assert noisy.decay == noisy.decays[noisy.losses.index(min(noisy.losses))]
    assert clear.folds == noisy.folds == 5
    assert (noisy.images, clear.images) == (80, 900)
    low, high = clear.interval
    assert low < clear.chosen_top1 < high
    assert high - low < 0.08


def learn_alone(head, scaled, labels, decay, weights=None):
    """By L-BFGS, which knows nothing of components."""
    return minimise(list(head.parameters()), lambda: F.cross_entropy(head(scaled), labels, weight=weights), decay=decay)


@pytest.mark.parametrize("shape", [(60, 200), (200, 60)], ids=["more features than pictures", "more pictures than features"])
@pytest.mark.parametrize("decay", [1.0, 0.01, 1e-4])
def test_newton_ends_at_the_minimum(shape, decay):
    """No slope is left there, and so by convexity no other weights do better; those of L-BFGS, which stops a little before, do not."""
    features, labels = made(*shape, 4, distance=0.3)
    features[7] = features[11]  # two pictures that are one
    weights = torch.tensor([0.5, 1.0, 2.0, 1.0]).double()
    standardised = Standardised(features.double())
    scaled = standardised.scaled
    newton, other = (zero(nn.Linear(shape[1], 4, dtype=torch.float64)) for _ in range(2))
    loss = solve(newton, standardised, labels, decay=decay, weights=weights)
    assert standardised.components.rows.shape[1] <= 60
    weight = (newton.weight.detach() * standardised.deviation).requires_grad_()
    bias = (newton.bias + newton.weight @ standardised.mean).detach().requires_grad_()
    again = F.cross_entropy(scaled @ weight.T + bias, labels, weight=weights) + decay / 2 * weight.square().sum()
    slopes = torch.cat([slope.flatten() for slope in torch.autograd.grad(again, (weight, bias))])
    assert float(again.detach()) == pytest.approx(loss, rel=1e-9)
    assert float(slopes.norm()) / decay < 1e-5  # which is how far away the minimum can be
    assert loss - 1e-12 <= learn_alone(other, scaled, labels, decay, weights) < loss * 1.001


def test_many_features_of_many_pictures_go_by_another_way(monkeypatch):
    features, labels = made(90, 30, 3, distance=1.0)
    heads = [zero(nn.Linear(30, 3)) for _ in range(2)]
    solve(heads[0], features, labels, decay=0.1)
    monkeypatch.setattr("provenet.transfer.standardised.MOST_COMPONENTS", 29)
    assert Standardised(features).components is None
    solve(heads[1], features, labels, decay=0.1)
    torch.testing.assert_close(heads[0](features).softmax(1), heads[1](features).softmax(1), rtol=0, atol=5e-3)


def test_a_class_that_nobody_has_keeps_no_head_from_ending():
    features, labels = made(60, 10, 3, distance=0.5)
    head = nn.Linear(10, 4)
    assert np.isfinite(solve(head, features, labels, decay=0.1))
    assert head(features).softmax(1)[:, 3].max() < 1e-6
    found = cross_validate(lambda: nn.Linear(10, 4), features, torch.where(torch.arange(60) == 5, 3, labels))
    assert np.isfinite(found.losses).all()


@pytest.mark.parametrize("hidden", [(), (8,)])
@pytest.mark.parametrize("weighted", [False, True])
def test_heads_side_by_side_are_judged_as_heads_alone(hidden, weighted):
    features, labels = made(120, 12, 3, distance=0.5)
    weights = torch.tensor([0.5, 1.0, 2.0]) if weighted else None
    torch.manual_seed(1)
    fresh = make_head(hidden, 12, reads_maps=False, num_classes=3)
    found = cross_validate(lambda: copy.deepcopy(fresh), features, labels, weights=weights, decays=(1.0,))
    folds, scaled = torch.from_numpy(folds_of(labels.numpy(), 5)), Standardised(features).scaled
    loss, right = 0.0, 0
    for fold in range(5):
        held_out = folds == fold
        head = copy.deepcopy(fresh)
        learn_alone(head, scaled[~held_out], labels[~held_out], 1.0, weights)
        logits = head(scaled[held_out]).detach()
        loss += float(F.cross_entropy(logits, labels[held_out], weight=weights, reduction="sum"))
        right += int((logits.argmax(1) == labels[held_out]).sum())
    assert found.losses[0] == pytest.approx(loss / 120, rel=2e-3)
    assert found.top1[0] == pytest.approx(right / 120, abs=1.5 / 120)


def test_chance_is_not_overestimated():
    """Labels that have nothing to do with the features."""
    features, _ = made(400, 50, 4, distance=0.0)
    labels = torch.from_numpy(np.random.default_rng(1).permutation(np.arange(400) % 4))
    found = cross_validate(lambda: nn.Linear(50, 4), features, labels)
    assert found.interval[0] < 0.25 + 0.05
    assert found.chosen_top1 < 0.33


def test_it_is_the_same_every_time_and_looks_at_a_part_of_many():
    features, labels = made(9_000, 8, 3, distance=0.5)
    torch.manual_seed(0)
    heads = [nn.Linear(8, 3) for _ in range(20)]
    first = cross_validate(iter(heads[:10]).__next__, features, labels)
    for a, b in zip(heads[:10], heads[10:], strict=True):
        b.load_state_dict(a.state_dict())
    torch.manual_seed(0)
    again = [cross_validate(lambda: zero(nn.Linear(8, 3)), features, labels) for _ in range(2)]
    assert again[0] == again[1]
    assert first.images == 3_000
    assert first.folds == 3
    assert first.decays == DECAYS[: len(first.decays)]


def zero(layer):
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    return layer


def test_too_few_pictures_to_hold_any_out():
    assert cross_validate(lambda: nn.Linear(4, 3), torch.randn(3, 4), torch.arange(3)) is None


def test_features_that_are_no_numbers():
    features, labels = made(20, 5, 2, distance=1.0)
    features[3, 2] = float("inf")
    with pytest.raises(TrainingError, match="expected features that are numbers, found NaN or infinity"):
        solve(nn.Linear(5, 2), features, labels, decay=0.1)


def test_minimise_leaves_no_gradients():
    features, labels = made(20, 5, 2, distance=1.0)
    head = nn.Linear(5, 2)
    minimise(list(head.parameters()), lambda: F.cross_entropy(head(features), labels), decay=0.1)
    assert all(parameter.grad is None for parameter in head.parameters())
