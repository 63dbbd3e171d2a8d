"""The weights that lie in the package: there without a network, as good as they say, and what a transfer begins with by itself."""

import numpy as np
import pytest
import torch

from conftest import write_class_folders
from provenet.errors import SettingsError
from provenet.outcomes import wilson_interval
from provenet.runs.evaluate import evaluate_bundle
from provenet.runs.survey import survey
from provenet.runs.train import train
from provenet.runs.watcher import Silent
from provenet.weights.bundle import load_bundle
from provenet.weights.create import create_model, open_weights
from provenet.weights.sources import EMBEDDED_TAG, find_set
from provenet.weights.store import fetch_set


class Told(Silent):
    """A watcher that remembers."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No folder of weights has any, and every way out is shut."""
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PROVENET_WEIGHTS", "")
    monkeypatch.setenv("PROVENET_PROXY", "http://127.0.0.1:9")


@pytest.fixture(scope="module")
def others(tmp_path_factory, mini):
    """The four classes of clothes that the embedded weights have not seen, ten pictures of each."""
    root = tmp_path_factory.mktemp("others") / "data"
    train_set = mini["train"]
    write_class_folders(root, train_set.select(np.concatenate([np.flatnonzero(train_set.labels == k)[:10] for k in (2, 6, 8, 9)])))
    return root


def test_they_are_there_without_a_network_and_checked(offline):
    found = find_set(EMBEDDED_TAG)
    bundle = open_weights(fetch_set(found))
    assert bundle.network.name == found.network
    assert bundle.preprocessing == found.preprocessing
    again = create_model(found.network, weights="fashion6")
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(bundle.network.parameters(), again.parameters(), strict=True))
    assert bundle.provenance["settings"]["run"]["model"] == "resnet20_cifar"
    assert str(bundle.provenance["machine"]).find("/") < 0


def test_they_are_as_good_as_they_say(offline, tmp_path, mini):
    test = mini["test"]
    names = [test.classes[number] for number in (0, 1, 3, 4, 5, 7)]
    write_class_folders(tmp_path / "six", test.select(np.flatnonzero(np.isin(test.labels, [0, 1, 3, 4, 5, 7]))))
    assert {name.replace("/", "-") for name in names} == set(open_weights(EMBEDDED_TAG).classes)
    found = evaluate_bundle(open_weights(EMBEDDED_TAG), tmp_path / "six")
    low, high = wilson_interval(round(found.top1 * found.images), found.images)
    assert found.images == 600
    assert low <= find_set(EMBEDDED_TAG).top1 / 100 <= high


def test_a_transfer_begins_with_them_where_no_others_are_named(offline, others, tmp_path):
    told = Told()
    run = train(others, transfer="cached", output=tmp_path / "run", watcher=told)
    assert any(note.startswith(f"--weights {EMBEDDED_TAG}: they know six kinds of clothes") for note in told.notes)
    assert run.settings.transfer.weights == EMBEDDED_TAG
    fresh = train(others, "resnet20_cifar", epochs=2, output=tmp_path / "fresh")
    assert fresh.settings.transfer is None
    assert run.val.top1 > 0.5 > fresh.val.top1  # a quarter is chance
    with pytest.raises(SettingsError, match="--transfer cached: expected --weights beside it"):
        train(others, "lenet5", transfer="cached", output=tmp_path / "none")
    again = train(settings_file=run.folder / "settings.toml", output=tmp_path / "again")
    ours, theirs = (load_bundle(each.folder).network.state_dict() for each in (run, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_survey_tries_them_by_itself_and_says_how_to_have_more(offline, others, tmp_path):
    told = Told()
    found, _ = survey(others, output=tmp_path / "survey", watcher=told)
    assert [each.weights for each in found.backbones] == [EMBEDDED_TAG]
    assert any(note.startswith(f"{EMBEDDED_TAG} alone, which is in the package") for note in told.notes)
