"""What is said of few pictures and of rare classes, and what weights change."""

import numpy as np
from test_resume import Told

from conftest import take, write_class_folders
from provenet.runs.train import train
from provenet.weights.bundle import load_bundle


def test_a_rare_class_is_told_and_can_count_alike(mini, tmp_path):
    images = take(mini["train"], 40, classes=2)
    uneven = images.select(np.concatenate([np.flatnonzero(images.labels == 0), np.flatnonzero(images.labels == 1)[:8]]))
    write_class_folders(tmp_path / "data", uneven)
    told, quiet = Told(), Told()
    options = {"epochs": 2, "batch_size": 8}
    plain = train(tmp_path / "data", "lenet5_softmax", output=tmp_path / "plain", watcher=told, **options)
    even = train(tmp_path / "data", "lenet5_softmax", output=tmp_path / "even", watcher=quiet, class_weights="balanced", **options)
    line = "'T-shirt-top' has 32 pictures to train on and 'Trouser' has 6: --class-weights balanced makes them count alike"
    assert line in told.notes
    assert line not in quiet.notes
    assert even.settings.training.class_weights == "balanced"
    a, b = (load_bundle(run.folder).network.state_dict() for run in (plain, even))
    assert any(not np.array_equal(a[name].numpy(), b[name].numpy()) for name in a)
    few = [note for note in told.notes if "validation pictures tell little" in note]
    assert len(few) == 1
    assert few[0].startswith("10 validation pictures tell little: ")


def test_nothing_is_said_of_many(tmp_path):
    told = Told()
    train("fashion-mini", "lenet5_softmax", output=tmp_path / "run", epochs=0.1, watcher=told)
    assert told.notes
    assert not [note for note in told.notes if "tell little" in note or "--class-weights" in note]
