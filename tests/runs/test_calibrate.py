"""A temperature that is fitted to held-out pictures, judged on others and stored; and what it is refused for."""

import json

import numpy as np
import pytest
import torch
from filelock import FileLock

import provenet as pn
from conftest import write_class_folders
from provenet.errors import DataError, SettingsError
from provenet.evaluation.measures import Answers, measure
from provenet.evaluation.predictions import load_predictions
from provenet.runs.calibrate import calibrate, show_calibrated
from provenet.runs.ensemble import make_ensemble
from provenet.runs.evaluate import evaluate_bundle
from provenet.weights.bundle import load_bundle, save_bundle


@pytest.fixture(scope="module")
def oversure(trained, tmp_path_factory):
    """The network of the session with its logits made four times as large: the labels stay, it is far too sure."""
    bundle = load_bundle(trained.folder)
    last = [module for module in bundle.network.modules() if isinstance(module, torch.nn.Linear)][-1]
    with torch.no_grad():
        last.weight.mul_(4)
        last.bias.mul_(4)
    path = tmp_path_factory.mktemp("oversure") / "model.safetensors"
    save_bundle(bundle, path)
    return path


def table(bundle, path, **options):
    evaluate_bundle(bundle, "fashion-mini", predictions=path, engine="eager", **options)
    return load_predictions(path)[0]


def test_it_is_stored_and_used_by_whatever_asks_the_network(oversure, tmp_path):
    target = tmp_path / "calibrated.safetensors"
    found = calibrate(oversure, "fashion-mini", output=target, engine="eager")
    assert (found.num_images, found.was, found.bundle) == (1_200, 1.0, target)  # a fifth of the 6,000 was held out
    assert found.helps
    assert load_bundle(oversure).temperature == 1
    bundle = load_bundle(target)
    assert bundle.temperature == found.temperature
    assert bundle.provenance["calibration"]["num_images"] == 1_200
    before, after = table(oversure, tmp_path / "before.csv"), table(target, tmp_path / "after.csv")  # of the test pictures
    assert torch.allclose((before.logits / found.temperature).softmax(1), after.probabilities, atol=1e-5)
    assert torch.equal(before.logits.argmax(1), after.logits.argmax(1))
    errors = [measure(Answers(each.logits, torch.from_numpy(each.labels)))["calibration_error"].value for each in (before, after)]
    assert errors[1] < errors[0] / 3
    picture = pn.open_data("fashion-mini").splits["test"].pictures.picture(0)
    prediction = next(iter(pn.Predictor.load(target)([picture])))
    assert prediction.probability == pytest.approx(float(after.probabilities[0].max()), abs=1e-5)


def test_the_temperature_is_that_of_least_loss_on_the_held_out_pictures(oversure, tmp_path):
    found = calibrate(oversure, "fashion-mini", output=tmp_path / "c.safetensors", engine="eager")
    said = table(oversure, tmp_path / "val.csv", split="val")
    labels = torch.from_numpy(said.labels)
    losses = {t: float(torch.nn.functional.cross_entropy(said.logits / t, labels)) for t in np.geomspace(0.2, 20, 1_001)}
    assert found.temperature == pytest.approx(min(losses, key=losses.get), rel=0.01)
    assert found.loss_before == pytest.approx(float(torch.nn.functional.cross_entropy(said.logits, labels)), rel=1e-5)


def test_a_second_time_it_is_the_same(oversure, tmp_path):
    target = tmp_path / "c.safetensors"
    first = calibrate(oversure, "fashion-mini", output=target, engine="eager")
    kept = target.read_bytes()
    again = calibrate(target, "fashion-mini", engine="eager")
    assert (again.was, again.temperature) == (first.temperature, first.temperature)
    assert not again.helps  # half of the pictures know less than all of them
    assert target.read_bytes() == kept
    assert show_calibrated(again).endswith(f"it would not help: {target} has the temperature that it had")
    calibrate(target, "fashion-mini", output=tmp_path / "other.safetensors", engine="eager")
    assert load_bundle(tmp_path / "other.safetensors").temperature == first.temperature
    assert json.loads(json.dumps(again.to_dict()))["helps"] is False


def test_in_its_own_place_while_nobody_else_is_at_work_there(oversure, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(oversure.read_bytes())
    lock = FileLock(folder / ".lock")
    with lock, pytest.raises(SettingsError, match="found another process at work in it"):
        calibrate(folder, "fashion-mini")
    found = calibrate(folder, "fashion-mini")
    assert load_bundle(folder).temperature == found.temperature
    with FileLock(folder / ".lock", timeout=0):
        pass


def test_an_ensemble_has_one_too(oversure, trained, tmp_path):
    path = tmp_path / "both.safetensors"
    make_ensemble([oversure, trained.folder], "fashion-mini", output=path)
    found = calibrate(path, "fashion-mini", split="test")
    assert found.num_images == 1_000
    if found.helps:
        assert load_bundle(path).temperature == found.temperature
    bundle = load_bundle(path)
    save_bundle(type(bundle)(bundle.network, bundle.classes, bundle.preprocessing, {}, 2.5), path)
    assert load_bundle(path).temperature == 2.5


def test_what_cannot_be_fitted(oversure, mini, tmp_path):
    few = tmp_path / "few"
    named = np.flatnonzero(mini["test"].labels > 0)  # the name of the first class, T-shirt/top, cannot be that of a folder
    write_class_folders(few, mini["test"].select(named[:30]))
    with pytest.raises(DataError, match="expected at least 100 pictures with labels to fit a temperature to, found 30"):
        calibrate(oversure, few)
    said = table(oversure, tmp_path / "test.csv")
    right = np.flatnonzero((said.logits.argmax(1).numpy() == said.labels) & (said.labels > 0))[:200]
    write_class_folders(tmp_path / "right", mini["test"].select(right))
    with pytest.raises(DataError, match=r"found that no temperature is best \(200 of 200 are recognised\)"):
        calibrate(oversure, tmp_path / "right")
    with pytest.raises(SettingsError, match=r"expected a file that ends in .safetensors"):
        calibrate(oversure, "fashion-mini", output=tmp_path / "c.bin")
    kept = oversure.read_bytes()
    with pytest.raises(DataError):
        calibrate(oversure, few)
    assert oversure.read_bytes() == kept
