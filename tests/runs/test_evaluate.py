"""Evaluations as people ask for them: views, comparisons, tables of predictions, pictures without labels."""

import csv
import json
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from provenet.errors import DataError, EngineError, SettingsError
from provenet.evaluation.predictions import load_predictions
from provenet.report.compared import Compared, Entry, draw_chart, show_compared
from provenet.report.compared_page import render_comparison
from provenet.runs.compare import compare
from provenet.runs.evaluate import evaluate_bundle, score_models
from provenet.runs.results import result_of, result_of_file, show_result
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


def test_center_is_what_it_always_was(trained):
    assert evaluate_bundle(trained.bundle_path, "fashion-mini", views="center") == trained.test
    assert evaluate_bundle(trained.bundle_path, "fashion-mini", views="center:28/32").top1 == trained.test.top1


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_predictions_give_the_same_sums_again(trained, tmp_path, ending):
    path = tmp_path / f"p{ending}"
    scored = score_models([trained.bundle_path], "fashion-mini", views=["mirror"], predictions=path)[0]
    first, again = result_of(scored), result_of_file(path)
    assert first.evaluation.classes == again.evaluation.classes
    assert first.evaluation.loss == pytest.approx(again.evaluation.loss, rel=1e-9)
    assert {name: m.value for name, m in first.measures.items()} == pytest.approx({name: m.value for name, m in again.measures.items()})
    assert first.predicted == again.predicted
    assert show_result(first) == show_result(again)
    assert json.loads(json.dumps(again.to_dict()))["measures"]["top1"]["value"] == first.evaluation.top1


def test_classes_by_themselves_and_what_they_are_taken_for(trained, tmp_path):
    """By hand from the table of predictions: precision, recall and F1 of each class, and every confusion."""
    evaluate_bundle(trained.folder, "fashion-mini", predictions=tmp_path / "p.csv")
    said = load_predictions(tmp_path / "p.csv")[0]
    result = result_of_file(tmp_path / "p.csv")
    found, taken = result.to_dict(), said.logits.argmax(1).numpy()
    for number, name in enumerate(said.classes):
        right = int(((taken == number) & (said.labels == number)).sum())
        named, there = int((taken == number).sum()), int((said.labels == number).sum())
        expected = {"precision": right / named if named else None, "recall": right / there, "f1": 2 * right / (named + there)}
        assert found["by_class"][name] == pytest.approx(expected), name
    mistakes = Counter((said.classes[a], said.classes[b]) for a, b in zip(said.labels, taken, strict=True) if a != b)
    assert {(true, other): images for true, other, images in found["confusions"]} == dict(mistakes)
    table = show_result(result).splitlines()[1:11]
    assert [line.split()[-3] for line in table] == [f"{found['by_class'][name]['recall']:.2%}" for name in said.classes]


def test_people_can_do_their_own_sums(trained, tmp_path):
    evaluation = evaluate_bundle(trained.bundle_path, "fashion-mini", predictions=tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1_000
    assert sum(row["label"] == row["predicted"] for row in rows) / 1_000 == evaluation.top1
    loss = -np.mean([np.log(float(row[f"p({row['label']})"])) for row in rows])
    assert loss == pytest.approx(evaluation.loss)


def test_a_folder_without_classes_is_predicted_and_not_counted(trained, class_folders, tmp_path):
    for number, path in enumerate(sorted(class_folders(per_class=4).rglob("*.png"))):
        (tmp_path / "flat").mkdir(exist_ok=True)
        path.rename(tmp_path / "flat" / f"{number}.png")
    with pytest.raises(DataError, match="12 pictures without labels: --predictions"):
        evaluate_bundle(trained.bundle_path, tmp_path / "flat")
    heard = Heard()
    scored = score_models([trained.bundle_path], tmp_path / "flat", predictions=tmp_path / "p.csv", watcher=heard)[0]
    assert scored.evaluation is None
    assert any("without labels" in note for note in heard.notes)
    assert "12 pictures without labels" in show_result(result_of(scored))
    assert result_of(scored).to_dict()["images"] == 12
    found, _ = load_predictions(tmp_path / "p.csv")
    assert (found.labels == -1).all()
    assert "12 pictures without labels" in show_result(result_of_file(tmp_path / "p.csv"))


def test_labels_with_holes_count_where_they_are(trained, tmp_path):
    evaluate_bundle(trained.bundle_path, "fashion-mini", predictions=tmp_path / "p.csv")
    lines = (tmp_path / "p.csv").read_text(encoding="utf-8").splitlines()
    holed = [line if number % 2 else ",".join([line.split(",")[0], "", *line.split(",")[2:]]) for number, line in enumerate(lines[1:])]
    (tmp_path / "holed.csv").write_text("\n".join([lines[0], *holed]) + "\n", encoding="utf-8")
    heard = Heard()
    result = result_of_file(tmp_path / "holed.csv", watcher=heard)
    assert result.evaluation.images == 500
    assert heard.notes == ["500 of 1,000 pictures have no label and do not count"]


def test_one_picture_is_enough_and_small_ones_are_enlarged(trained, tmp_path):
    folder = tmp_path / "one" / "Trouser"
    folder.mkdir(parents=True)
    Image.new("L", (3, 2), 128).save(folder / "a.png")
    for views in ("center", "ten", "144", "150", "dense", "dense+crops", "multiscale"):
        scored = score_models([trained.bundle_path], tmp_path / "one", views=[views])[0]
        assert scored.evaluation.images == 1
        assert "1 images" in show_result(result_of(scored))


def test_broken_pictures_in_views(trained, class_folders):
    folder = class_folders(per_class=3, classes=4)
    shutil.rmtree(folder / "T-shirt-top")  # a name that no folder can have
    broken = next(folder.rglob("*.png"))
    broken.write_bytes(b"none")
    with pytest.raises(DataError, match=r"--skip-broken"):
        evaluate_bundle(trained.bundle_path, folder, views="ten")
    heard = Heard()
    assert evaluate_bundle(trained.bundle_path, folder, views="ten", skip_broken=True, watcher=heard).images == 8
    assert any("skipped 1 broken of 9" in note for note in heard.notes)


def test_networks_and_views_side_by_side(trained, tmp_path):
    bundle = load_bundle(trained.bundle_path)
    bundle.network.get_classifier().weight.data.mul_(0.5)
    save_bundle(bundle, tmp_path / "softer.safetensors")
    compared = compare(
        [trained.folder, tmp_path / "softer.safetensors"], "fashion-mini", views=["center", "ten"], report=tmp_path / "c.html"
    )
    assert [(entry.network.rpartition("/")[2], entry.views) for entry in compared.entries] == [
        ("trained", "center"),
        ("trained", "ten"),
        ("softer.safetensors", "center"),
        ("softer.safetensors", "ten"),
        ("all 2 averaged", "center"),
        ("all 2 averaged", "ten"),
    ]
    first, ten, softer, _, average, _ = compared.entries
    assert first.top1 == trained.test.top1
    assert first.chance is None
    assert 0 <= ten.chance <= 1
    assert [entry.passes for entry in compared.entries] == [1, 10, 1, 10, 2, 20]
    assert average.milliseconds == first.milliseconds + softer.milliseconds
    # The average, worked out from what each says by itself.
    both = []
    for number, path in enumerate((trained.bundle_path, tmp_path / "softer.safetensors")):
        evaluate_bundle(path, "fashion-mini", predictions=tmp_path / f"{number}.csv")
        both.append(load_predictions(tmp_path / f"{number}.csv")[0])
    mean = (both[0].probabilities + both[1].probabilities) / 2
    assert average.top1 == float((mean.argmax(1) == torch.from_numpy(both[0].labels)).double().mean())
    assert "all 2 averaged" in show_compared(compared)
    assert "softer.safetensors" in (tmp_path / "c.html").read_text(encoding="utf-8")


def entry(network, views, top1, milliseconds, chance=0.01):
    interval = (max(0, top1 - 0.02), min(1, top1 + 0.02))
    return Entry(network=network, views=views, top1=top1, top5=top1, interval=interval, passes=1, milliseconds=milliseconds, chance=chance)


def test_what_a_comparison_says():
    first, better, unsure = entry("a", "center", 0.80, 1, None), entry("a", "144", 0.85, 10), entry("b", "center", 0.83, 2, 0.3)

    def said(*entries):
        return show_compared(Compared(data_name="d", num_images=100, num_classes=10, entries=entries)).splitlines()[-1]

    assert said(first, better, unsure) == "a, 144 is wrong least often: 15.00% instead of 20.00%, at 10.0 times the time"
    assert "do not tell it from the first row" in said(first, unsure)
    assert "nothing is better" in said(first, entry("a", "ten", 0.7, 10))
    assert said(first).startswith("nothing is better")


@pytest.mark.parametrize(
    "entries", [[entry("a", "center", 0.8, 1.0, None)], [entry("a", "dense:" + ",".join(["256"] * 10), 1.0, 0.001)] * 30]
)
def test_pictures_of_few_and_of_many(entries):
    compared = Compared(data_name="<b>&", num_images=100, num_classes=10, entries=tuple(entries))
    chart = draw_chart(compared)
    assert all(chart.top <= mark.y <= chart.bottom and chart.left <= mark.x <= chart.right for mark in chart.marks)
    assert all(chart.top <= y <= chart.bottom for y, _ in chart.y_ticks)
    assert "<b>&" not in render_comparison(compared)


def test_the_frontier_by_hand():
    cheap, dear, better = entry("a", "center", 0.80, 1), entry("a", "ten", 0.78, 10), entry("a", "144", 0.90, 40)
    compared = Compared(data_name="d", num_images=100, num_classes=10, entries=(cheap, dear, better))
    assert [compared.is_frontier(each) for each in compared.entries] == [True, False, True]


def test_wishes_that_cannot_be(trained, tmp_path):
    with pytest.raises(SettingsError, match="one network and one kind of views"):
        score_models([trained.bundle_path], "fashion-mini", views=["center", "ten"], predictions=tmp_path / "p.csv")
    with pytest.raises(SettingsError, match="did you mean 'ten'"):
        evaluate_bundle(trained.bundle_path, "fashion-mini", views="tenn")
    with pytest.raises(EngineError, match="any size"):
        evaluate_bundle(trained.bundle_path, "fashion-mini", views="dense", engine="onnxruntime")
    with pytest.raises(SettingsError, match="ends in"):
        evaluate_bundle(trained.bundle_path, "fashion-mini", predictions=tmp_path / "p.txt")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_engines_for_maps_give_the_same_answers(trained, precision):
    expected = evaluate_bundle(trained.bundle_path, "fashion-mini", views="dense", engine="eager")
    found = evaluate_bundle(trained.bundle_path, "fashion-mini", views="dense", engine="folded", precision=precision)
    assert abs(found.top1 - expected.top1) <= (0 if precision == "float32" else 0.01)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5 if precision == "float32" else 2e-2)


def test_a_temperature_travels_with_the_bundle(trained, tmp_path):
    from dataclasses import replace

    from provenet.deploy.predictor import Predictor

    bundle = load_bundle(trained.bundle_path)
    save_bundle(replace(bundle, temperature=2.0), tmp_path / "warm.safetensors")
    assert load_bundle(tmp_path / "warm.safetensors").temperature == 2
    paths = (trained.bundle_path, tmp_path / "warm.safetensors")
    cold, warm = (score_models([path], "fashion-mini", views=["center"])[0].predictions for path in paths)
    assert torch.allclose(warm.logits, cold.logits / 2)
    picture = Image.new("L", (28, 28), 99)
    one, other = (next(Predictor.load(path)(picture)) for path in paths)
    assert one.label == other.label
    assert one.probability > other.probability
