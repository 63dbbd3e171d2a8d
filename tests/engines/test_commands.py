"""The commands that run a network, with every engine that is installed: the same answers, and what was used is said."""

import json

import numpy as np
import pytest
import torch

import provenet as pn
from conftest import take, write_class_folders
from provenet.cli import app
from provenet.engines import choose
from provenet.engines.ways import PART, REFERENCE
from provenet.errors import EngineError, SettingsError
from provenet.runs.evaluate import evaluate_bundle
from provenet.runs.features import extract_features
from provenet.runs.train import train
from provenet.runs.watcher import Silent
from provenet.transfer.caches import list_caches
from provenet.weights.bundle import load_bundle


class Told(Silent):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture(autouse=True)
def own_memory(monkeypatch, tmp_path):
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))


ENGINES = ["folded", "openvino", "onnxruntime"]


@pytest.mark.parametrize("engine", ENGINES)
def test_evaluation_counts_the_same_with_every_engine(engine, trained, tmp_path):
    told = Told()
    expected = evaluate_bundle(trained.bundle_path, "fashion-mini", engine="eager")
    found = evaluate_bundle(
        trained.bundle_path, "fashion-mini", engine=engine, precision="float32", report=tmp_path / "report.html", watcher=told
    )
    assert (found.images, found.top1, found.top5) == (expected.images, expected.top1, expected.top5)
    assert found.loss == pytest.approx(expected.loss, abs=1e-6)
    assert f"engine {engine} float32: " in "".join(told.notes)
    assert f"{engine} float32" in (tmp_path / "report.html").read_text()


def test_bfloat16_changes_few_labels(trained):
    expected = evaluate_bundle(trained.bundle_path, "fashion-mini")
    found = evaluate_bundle(trained.bundle_path, "fashion-mini", precision="bfloat16")
    assert found.top1 == pytest.approx(expected.top1, abs=0.005)
    assert found.loss == pytest.approx(expected.loss, rel=0.02)
    assert found.loss != expected.loss


def test_int8_is_used_where_its_labels_agree(trained):
    told = Told()
    expected = evaluate_bundle(trained.bundle_path, "fashion-mini")
    probed = pn.probe(trained.folder, "fashion-mini", precision="int8").trials
    if not any(trial.is_right for trial in probed if trial.way.precision == "int8"):
        with pytest.raises(EngineError, match="of 256 pictures get the same label, less than 99%"):
            evaluate_bundle(trained.bundle_path, "fashion-mini", precision="int8")
        return
    found = evaluate_bundle(trained.bundle_path, "fashion-mini", precision="int8", watcher=told)
    assert "of 256 pictures get the same label" in told.notes[-1]
    assert found.top1 == pytest.approx(expected.top1, abs=0.02)


@pytest.mark.parametrize("engine", ENGINES)
def test_predictions_are_the_same_with_every_engine(engine, trained, mini, tmp_path):
    write_class_folders(tmp_path / "some", take(mini["test"], 8))
    paths = sorted((tmp_path / "some").rglob("*.png"))
    expected = list(pn.Predictor.load(trained.folder)(paths))
    predictor = pn.Predictor.load(trained.folder, engine=engine, precision="float32")
    found = list(predictor(paths))
    assert [each.label for each in found] == [each.label for each in expected]
    np.testing.assert_allclose([each.probability for each in found], [each.probability for each in expected], atol=1e-5)
    (again,) = predictor(paths[3])  # one, with the engine that was opened
    assert again.probability == pytest.approx(found[3].probability, abs=1e-6)
    (only,) = pn.Predictor.load(trained.folder, engine=engine, precision="float32")(paths[3])
    assert only.label == expected[3].label


def test_a_first_picture_that_is_broken_does_not_stop_the_others(trained, mini, tmp_path):
    write_class_folders(tmp_path / "data", take(mini["test"], 8))
    paths = sorted((tmp_path / "data").rglob("*.png"))
    assert len(paths) > 64  # so many that an engine would be looked for
    paths[0].write_bytes(b"no picture")
    broken = []
    assert len(list(pn.Predictor.load(trained.folder)(paths, on_broken=broken.append))) == len(paths) - 1
    assert len(broken) == 1
    assert str(paths[0]) in str(broken[0])
    assert len(extract_features(trained.folder, tmp_path / "data", skip_broken=True).labels) == len(paths) - 1


def test_an_engine_asked_for_sees_pictures_before_they_stream(trained, mini, tmp_path):
    write_class_folders(tmp_path / "some", take(mini["test"], 1))
    paths = sorted((tmp_path / "some").rglob("*.png"))
    with pytest.raises(SettingsError, match="give them as a list"):
        list(pn.Predictor.load(trained.folder, engine="folded")(iter(paths)))
    assert len(list(pn.Predictor.load(trained.folder)(iter(paths)))) == 10


def test_long_work_is_measured_and_done_by_what_was_chosen(trained, mini, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(choose, "LONG_SECONDS", 0.0)
    monkeypatch.setattr("provenet.runtime.prepare_process", lambda: None)
    write_class_folders(tmp_path / "some", take(mini["test"], 10))
    app(["predict", str(trained.folder), str(tmp_path / "some"), "--json"])
    predictions = json.loads(capsys.readouterr().out)
    assert len(predictions) == 100
    expected = list(pn.Predictor.load(trained.folder, engine="eager")([each["path"] for each in predictions]))
    assert sum(each["label"] == other.label for each, other in zip(predictions, expected, strict=True)) >= 99


class TestProbe:
    def test_it_measures_everything_and_other_commands_choose_by_it(self, trained, monkeypatch, capsys):
        monkeypatch.setattr("provenet.runtime.prepare_process", lambda: None)
        app(["probe", str(trained.folder), "fashion-mini", "--engine", "openvino", "--json"])
        found = json.loads(capsys.readouterr().out)
        assert found["shape"] == [64, 1, 32, 32]
        ways = {tuple(trial["way"]) for trial in found["trials"]}
        assert ways == {REFERENCE, *(("openvino", precision, part) for precision in ("float32", "bfloat16") for part in (0, PART))}
        assert found["gain"] >= 1
        monkeypatch.setattr(choose, "measure", None)
        told = Told()
        evaluate_bundle(trained.bundle_path, "fashion-mini", engine="openvino", watcher=told)
        assert told.notes[-1].startswith("engine openvino ")

    def test_with_pictures_int8_too(self, trained):
        found = pn.probe(trained.folder, "fashion-mini", precision="int8")
        assert [int8.way.part for int8 in found.trials[-2:]] == [0, PART]
        for int8 in found.trials[-2:]:
            assert int8.way[:2] == ("openvino", "int8")
            assert int8.agreement_of == 256
            assert int8.agreement > 0.9

    def test_a_name_is_enough(self):
        found = pn.probe("resnet8_cifar", batch_size=2, engine="folded")
        assert {trial.way.engine for trial in found.trials} == {"eager", "folded"}
        assert all(trial.is_right for trial in found.trials)

    def test_bad_input(self, trained, class_folders):
        with pytest.raises(SettingsError, match="--batch-size: expected 1 to 4096, found 0"):
            pn.probe("lenet5", batch_size=0)
        with pytest.raises(pn.ProvenetError, match="lenet6"):
            pn.probe("lenet6")
        with pytest.raises(SettingsError, match="--engine: expected auto, eager or"):
            pn.probe("lenet5", engine="onxx")


class TestTransfer:
    @pytest.fixture
    def pictures(self, tmp_path, mini):
        write_class_folders(tmp_path / "data", take(mini["train"], 12, classes=3))
        return tmp_path / "data"

    def test_features_are_computed_and_kept_by_the_engine_that_was_asked_for(self, trained, pictures, tmp_path):
        wishes = {"weights": str(trained.folder), "transfer": "cached"}
        told = Told()
        run = train(pictures, output=tmp_path / "one", engine="folded", precision="bfloat16", watcher=told, **wishes)
        assert any(note.startswith("engine folded bfloat16") for note in told.notes)
        (cache,) = list_caches()
        assert (cache.about["engine"], cache.about["precision"]) == ("folded", "bfloat16")
        transfer = run.settings.transfer
        assert (transfer.engine, transfer.precision) == ("folded", "bfloat16")
        told = Told()
        again = train(pictures, output=tmp_path / "two", watcher=told, **wishes)  # nobody asks: those that are kept are taken
        assert "0 computed, 36 kept from before" in "".join(told.notes)
        assert not any(note.startswith("engine") for note in told.notes)
        assert again.settings.transfer.engine == "folded"
        ours, theirs = (load_bundle(each.folder).network.get_classifier().state_dict() for each in (run, again))
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)

    def test_more_pictures_go_the_way_of_those_that_are_kept(self, trained, pictures, mini, tmp_path):
        wishes = {"weights": str(trained.folder), "transfer": "cached"}
        train(pictures, output=tmp_path / "one", engine="folded", precision="float32", **wishes)
        write_class_folders(pictures, take(mini["test"], 2, classes=3), ".bmp")
        told = Told()
        run = train(pictures, output=tmp_path / "two", watcher=told, **wishes)
        assert "6 computed, 36 kept from before" in "".join(told.notes)
        assert run.settings.transfer.engine == "folded"
        (cache,) = list_caches()
        assert cache.rows == 42

    def test_nothing_asked_and_little_to_do_is_the_network_itself(self, trained, pictures, tmp_path):
        run = train(pictures, weights=str(trained.folder), transfer="cached", output=tmp_path / "one")
        assert (run.settings.transfer.engine, run.settings.transfer.precision) == ("eager", "float32")

    def test_a_run_is_repeated_with_its_engine_or_another(self, trained, pictures, tmp_path):
        first = train(
            pictures, weights=str(trained.folder), transfer="cached", output=tmp_path / "one", engine="folded", precision="float32"
        )
        settings = first.folder / "settings.toml"
        assert train(settings_file=settings, output=tmp_path / "two").settings.transfer.engine == "folded"
        assert train(settings_file=settings, output=tmp_path / "three", engine="openvino").settings.transfer.engine == "openvino"

    @pytest.mark.parametrize(
        ("wishes", "says"),
        [
            ({"transfer": "cached", "precision": "int8"}, "int8 is judged by labels, and they have none"),
            ({"transfer": "head", "engine": "openvino"}, "expected none of .* --engine with mode 'head'"),
            ({"transfer": "cached", "engine": "eager", "precision": "bfloat16"}, "--engine eager has, which are: float32"),
        ],
    )
    def test_what_does_not_go_together(self, wishes, says, trained, pictures, tmp_path):
        with pytest.raises(SettingsError, match=says):
            train(pictures, weights=str(trained.folder), output=tmp_path / "run", **wishes)
        assert not (tmp_path / "run").exists()

    def test_an_engine_without_weights(self, pictures, tmp_path):
        with pytest.raises(SettingsError, match="--engine folded: expected --weights beside it"):
            train(pictures, engine="folded", output=tmp_path / "run")
