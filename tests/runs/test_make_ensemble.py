"""Ensembles of real networks: what they answer together, which are chosen, what is written, and members that do not fit."""

import json
import shutil

import numpy as np
import pytest
import torch

from provenet.errors import BundleError, DataError, ModelError, SettingsError
from provenet.evaluation.combine import Joined, average, fit_weights, join, select
from provenet.evaluation.predictions import Predictions, load_predictions
from provenet.runs.ensemble import make_ensemble, show_ensemble
from provenet.runs.evaluate import evaluate_bundle
from provenet.runs.train import train
from provenet.weights.bundle import load_bundle, save_bundle


class Heard:
    """A watcher that remembers its notes."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    def progress(self, *_):
        pass

    step = epoch = progress


@pytest.fixture(scope="module")
def runs(trained, tmp_path_factory):
    """Three networks of the embedded pictures: one of the session, one of another seed, one that sees 32 pixels in colour."""
    folder = tmp_path_factory.mktemp("members")
    options = {"precision": "float32"}
    other = train("fashion-mini", "lenet5_softmax", output=folder / "other", epochs=2, seed=1, **options)
    small = train("fashion-mini", "resnet8_cifar", output=folder / "small", epochs=0.5, **options)
    return [trained.folder, other.folder, small.folder]


def test_what_they_say_together_is_the_mean_of_what_they_say(runs, tmp_path):
    found = make_ensemble(runs, "fashion-mini", output=tmp_path / "e.safetensors", engine="eager")
    tables = []
    for number, run in enumerate(runs):
        evaluate_bundle(run, "fashion-mini", predictions=tmp_path / f"{number}.csv", engine="eager")
        tables.append(load_predictions(tmp_path / f"{number}.csv")[0])
    labels = torch.from_numpy(tables[0].labels)
    probabilities = torch.stack([table.probabilities for table in tables])

    def right(logits):
        return float((logits.argmax(1) == labels).double().mean())

    assert found.top1 == right(probabilities.mean(0))
    assert [member.top1 for member in found.members] == [right(each) for each in probabilities]
    assert found.members[0].without_top1 == right(probabilities[1:].mean(0))
    assert found.best_top1 == max(member.top1 for member in found.members)
    # As one model: nearly to the bit, since all see the same squares.
    assert found.num_changed == 0
    assert found.bundle_top1 == found.top1
    assert evaluate_bundle(tmp_path / "e.safetensors", "fashion-mini", engine="eager").top1 == found.top1
    shown = show_ensemble(found)
    assert "3 together: top-1" in shown
    assert "0 of 1,000 pictures named otherwise" in shown
    assert json.loads(json.dumps(found.to_dict()))["members"][1]["share"] == pytest.approx(1 / 3)


@pytest.mark.parametrize("choose", ["weights", "greedy"])
def test_weights_are_fitted_to_held_out_pictures(runs, choose, tmp_path):
    found = make_ensemble(runs, "fashion-mini", choose=choose, output=tmp_path / "e.safetensors")
    assert found.chosen_on == "1,200 other pictures, held out"
    assert sum(member.share for member in found.members) == pytest.approx(1)
    alike = make_ensemble(runs, "fashion-mini", choose="all")
    assert found.loss < alike.loss  # one of the three is much worse than the others
    kept = sum(member.share > 0 for member in found.members)
    assert len(load_bundle(tmp_path / "e.safetensors").network.members) == kept


def test_without_other_pictures_each_half_is_judged_with_the_others_weights(runs):
    found = make_ensemble(runs, "fashion-mini", choose="weights", split="val")
    assert found.chosen_on == "each half of the pictures for the other"


def test_an_ensemble_that_does_not_help_says_so(runs, tmp_path):
    shutil.copytree(runs[0], tmp_path / "again")
    found = make_ensemble([runs[0], tmp_path / "again"], "fashion-mini")
    assert not found.helps
    assert "it does not help" in show_ensemble(found)


def test_a_member_that_answers_with_no_numbers_is_named_and_left_out_on_request(runs, tmp_path):
    bundle = load_bundle(runs[1])
    for parameter in bundle.network.parameters():
        parameter.data.fill_(3e38)  # finite, as a file must be, and nothing that follows is
    save_bundle(bundle, tmp_path / "bad.safetensors")
    models = [runs[0], tmp_path / "bad.safetensors", runs[1]]
    with pytest.raises(ModelError, match=r"bad\.safetensors: expected the network to answer with numbers"):
        make_ensemble(models, "fashion-mini")
    heard = Heard()
    found = make_ensemble(models, "fashion-mini", skip_broken=True, watcher=heard)
    assert len(found.members) == 2
    assert any("left out" in note and "bad.safetensors" in note for note in heard.notes)
    (tmp_path / "damaged.safetensors").write_bytes(b"no bundle at all")
    models[1] = tmp_path / "damaged.safetensors"
    with pytest.raises(BundleError, match=r"damaged\.safetensors"):
        make_ensemble(models, "fashion-mini")
    heard = Heard()
    assert len(make_ensemble(models, "fashion-mini", skip_broken=True, watcher=heard).members) == 2
    assert any("left out" in note and "damaged.safetensors" in note for note in heard.notes)


def test_wishes_that_cannot_be(runs, tmp_path):
    with pytest.raises(SettingsError, match="at least two networks"):
        make_ensemble(runs[:1], "fashion-mini")
    with pytest.raises(SettingsError, match="--choose: expected all, weights, greedy"):
        make_ensemble(runs, "fashion-mini", choose="best")
    with pytest.raises(SettingsError, match="found logits"):
        make_ensemble(runs, "fashion-mini", choose="greedy", combine="logits")
    with pytest.raises(SettingsError, match=r"ends in \.safetensors"):
        make_ensemble(runs, "fashion-mini", output=tmp_path / "e.bin")
    with pytest.raises(SettingsError, match="found none; make it first"):
        make_ensemble(runs, "fashion-mini", output=tmp_path / "no" / "e.safetensors")


def predictions(name, classes, paths, labels, probabilities):
    numbers = np.array([classes.index(label) if label else -1 for label in labels])
    return Predictions(name, tuple(classes), paths, numbers, torch.tensor(probabilities, dtype=torch.float64).log())


def test_classes_are_joined_by_name_and_pictures_by_path():
    one = predictions("one", ["cat", "dog"], ["a", "b"], ["cat", "dog"], [[0.9, 0.1], [0.2, 0.8]])
    two = predictions("two", ["fish", "dog", "cat"], ["b", "a"], ["dog", None], [[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    joined = join([one, two])
    assert (joined.classes, list(joined.paths), joined.labels.tolist()) == (("cat", "dog", "fish"), ["a", "b"], [0, 1])
    assert torch.allclose(joined.probabilities[0], torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]], dtype=torch.float64))
    assert torch.allclose(joined.probabilities[1], torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.25, 0.5]], dtype=torch.float64))
    mean = average(joined.probabilities).exp()
    assert torch.allclose(mean, torch.tensor([[0.8, 0.15, 0.05], [0.225, 0.525, 0.25]], dtype=torch.float64))
    with pytest.raises(DataError, match="'c' instead of one"):
        join([one, predictions("two", ["cat"], ["a", "c"], ["cat", "cat"], [[1.0], [1.0]])])
    with pytest.raises(DataError, match="expected the labels of one"):
        join([one, predictions("two", ["cat", "dog"], ["a", "b"], ["dog", "dog"], [[0.5, 0.5], [0.5, 0.5]])])


def made(num_members=5, num_images=400, seed=0):
    """Members of different worth, each wrong in its own way."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (num_images,), generator=generator)
    own = torch.nn.functional.one_hot(labels, 4).double()
    logits = torch.stack([own * strength + torch.randn(num_images, 4, generator=generator) for strength in range(num_members)])
    return Joined(("a", "b", "c", "d"), [str(k) for k in range(num_images)], labels.numpy(), logits.softmax(2))


def loss(joined, weights):
    labels = torch.from_numpy(joined.labels)
    return float(-average(joined.probabilities, weights).gather(1, labels[:, None]).mean())


def test_fitted_weights_are_the_best_there_are():
    """No division nearby, and none of a thousand drawn at random, has a lower loss."""
    joined = made()
    weights = fit_weights(joined)
    assert float(weights.sum()) == pytest.approx(1)
    best = loss(joined, weights)
    generator = torch.Generator().manual_seed(1)
    for number in range(1_000):
        drawn = torch.rand(5, generator=generator, dtype=torch.float64) ** 3
        other = drawn / drawn.sum() if number % 2 else weights * (0.9 + 0.2 * drawn)
        assert loss(joined, other) >= best - 1e-6


def test_greedy_selection_by_hand():
    """Its first is the best alone; each step is the best of all steps there are; losses are those of the mean."""
    joined = made()
    found = select(joined, most=12)
    alone = [loss(joined, torch.eye(5, dtype=torch.float64)[k]) for k in range(5)]
    assert found.order[0] == alone.index(min(alone))
    counts = torch.zeros(5, dtype=torch.float64)
    for chosen, said in zip(found.order, found.losses, strict=True):
        steps = [loss(joined, counts + torch.eye(5, dtype=torch.float64)[k]) for k in range(5)]
        assert chosen == steps.index(min(steps))
        assert said == pytest.approx(min(steps))
        counts[chosen] += 1
    assert torch.equal(found.weights(5), counts)
    assert found.losses[-1] == min(found.losses)
