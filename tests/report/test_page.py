"""What the page says, against what was computed by hand; hostile names, missing pieces, sizes."""

import re
from dataclasses import replace

import numpy as np
import pytest
from made import HOSTILE, SETTINGS, make_evaluation, make_events, make_facts, make_gallery, make_random_rows
from reading import Page, check_languages, embedded

from provenet.errors import SettingsError
from provenet.outcomes import wilson_interval
from provenet.report.chosen import MISTAKE_SIDE
from provenet.report.curves import LARGEST_POINTS, draw_curves, thin
from provenet.report.facts import EvaluatedPart
from provenet.report.findings import find, share
from provenet.report.gallery import MOST_BYTES
from provenet.report.page import render_report, write_report
from provenet.runs.evaluate import evaluate_bundle
from provenet.training.recorder import read_log
from provenet.weights.bundle import load_bundle, save_bundle


def test_the_numbers_of_the_scripts_are_those_computed_by_hand():
    found = embedded(render_report(make_facts()))
    (part,) = found["parts"]
    assert (part["split"], part["images"], part["correct"], part["top1"]) == ("test", 6, 3, 0.5)
    assert part["interval"] == pytest.approx(wilson_interval(3, 6))
    cells = [tuple(part["cells"][k : k + 3]) for k in range(0, len(part["cells"]), 3)]
    assert cells == [(0, 0, 2), (0, 1, 1), (1, 0, 1), (1, 1, 1), (2, 1, 1)]
    assert part["class_images"] == [3, 2, 1]
    # Each picture is alone in its bin of 1/15: the error is the mean distance of 0.9, 0.8, 0.7, 0.6, 0.95 and 0.5 from right or wrong.
    assert part["calibration_error"] == pytest.approx((0.1 + 0.2 + 0.7 + 0.4 + 0.95 + 0.5) / 6)
    curves = found["curves"]
    assert curves["epochs"]["epoch"] == [1, 2, 3, 4]
    assert curves["epochs"]["val_top1"] == [0.4, 0.65, pytest.approx(0.733333), 0.775]
    assert curves["best"] == 3
    assert curves["resumed"] == []
    assert found["classes"] == ["cat", "dog", "fox"]


def test_the_words_of_the_page():
    page = Page(render_report(make_facts()))
    for words in (
        "lenet5 on toys",
        "training ended",
        "50.0%",
        "top-1 accuracy on 6 test pictures",
        "95% interval 18.8% to 81.2%",
        "It is right on about 5 of 10 pictures (3 of 6).",
        "That is no better than always answering cat.",
        "Its most frequent confusion: cat taken for dog , 1 of 3 times.",
        "The validation pictures were held out of train",
        "1 min 40 s",
        "A fine one",
        "Expected calibration error",
        "epoch",
    ):
        assert words in page.text, words
    rows = re.findall(
        r'<tr><th scope="row">(\w+)</th><td class="examples">.*?</td><td class="n" data-v="(\d+)">.*?</tr>', render_report(make_facts())
    )
    assert rows == [("fox", "1"), ("dog", "2"), ("cat", "3")]  # the hardest first
    fox = next(line for line in render_report(make_facts()).splitlines() if '<th scope="row">fox</th><td class="examples">' in line)
    assert re.findall(r'data-v="([^"]*)"', fox) == ["1", "", "0.000000", "0.000000"]  # never predicted: no precision, which is not 0


def test_every_text_is_in_both_languages():
    for facts in (make_facts(), make_facts(state="running", parts=[], events=[]), make_facts(state="stopped")):
        check_languages(render_report(facts))


def test_hostile_names_are_text():
    classes = (HOSTILE, "-->", "{{ facts }}")
    facts = make_facts(
        classes=classes,
        title=HOSTILE,
        settings={HOSTILE: {HOSTILE: HOSTILE}},
        machine={HOSTILE: HOSTILE},
        versions={HOSTILE: HOSTILE},
        data={"images": {HOSTILE: 3}, "classes": {HOSTILE: {HOSTILE: 3}}, "fingerprints": {HOSTILE: HOSTILE}, "held_out_from": HOSTILE},
    )
    clean, text = render_report(make_facts()), render_report(facts)
    page = Page(text)
    assert HOSTILE in page.text
    names = [name for name, _ in page.elements]
    assert names.count("script") == len(page.scripts) == 4
    assert names.count("img") == 0
    assert names.count("image") == sum(shown.picture is not None for shown in facts.parts[0].gallery.pictures.values()) == 5
    assert HOSTILE in {attributes.get("title", "").removeprefix("folder/").partition(".png")[0] for _, attributes in page.elements}
    allowed = {"id", "href", "width", "height"}
    assert all(set(attributes) <= allowed for name, attributes in page.elements if name == "image")
    assert not [attributes for _, attributes in page.elements if any(name.startswith("on") for name in attributes)]
    assert embedded(text)["classes"] == list(classes)
    assert re.findall(r"<script.*?>", text) == re.findall(r"<script.*?>", clean)
    for name, attributes in page.elements:
        for target in (attributes.get("src"), attributes.get("href")):
            assert target is None or target.startswith(("data:image/", "#")), (name, target)
    assert "http" not in attributes_of_policy(page)


def attributes_of_policy(page):
    (policy,) = [a["content"] for name, a in page.elements if name == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy.split("style-src")[0]
    return policy


def test_before_the_first_evaluation():
    page = Page(render_report(make_facts(state="running", parts=[], events=make_events()[:3], seconds=None, finished=None)))
    assert "No evaluation yet" in page.text
    assert "training is running" in page.text
    assert "this page looks again every 30 seconds" in page.text
    assert "Epoch 0.5 of 4" in page.text
    nothing = Page(render_report(make_facts(state="running", parts=[], events=[], settings={}, data={}, machine={}, versions={})))
    assert "No step has been logged yet." in nothing.text
    assert "They are not known." in nothing.text


def test_a_run_that_goes_on_tells_the_time_left():
    page = Page(render_report(make_facts(state="running", events=make_events(num_epochs=2))))
    assert "Epoch 2 of 4 about 20 s left" in page.text
    assert "s left" not in Page(render_report(make_facts(state="stopped", events=make_events(num_epochs=2)))).text


def test_the_test_pictures_come_first_and_validation_is_said_to_be_kind():
    facts = make_facts()
    val = EvaluatedPart("val", make_evaluation(("cat", "dog", "fox"), [(0, 0, 0.9)] * 9))
    both = replace(facts, parts=[val, *facts.parts])
    assert [part["split"] for part in embedded(render_report(both))["parts"]] == ["test", "val"]
    assert "The validation pictures also chose" not in Page(render_report(both)).text
    alone = Page(render_report(replace(facts, parts=[val])))
    assert "The validation pictures also chose which epoch is kept" in alone.text
    assert "It recognised every one of 9 pictures." in alone.text
    assert "None: every picture was recognised." in alone.text


def test_pictures_that_were_trained_on_are_said_to_be():
    facts = make_facts()
    part = replace(facts.parts[0], num_trained_on=4)
    assert "The network was trained on 4 of these pictures" in Page(render_report(replace(facts, parts=[part]))).text


def test_two_classes_and_many():
    two = render_report(make_facts(("no", "yes"), [(0, 0, 0.9), (1, 0, 0.8), (1, 1, 0.7)]))
    assert "top-5" not in Page(two).text
    assert '<table class="matrix"' in two
    classes = tuple(f"class {k}" for k in range(120))
    rows = [*make_random_rows(120, 2_000), *[(7, 9, 0.9)] * 60]
    many = render_report(make_facts(classes, rows))
    assert '<table class="matrix"' not in many
    assert '<canvas data-map="test"' in many
    first = re.search(r'class="plain pairs".*?<tbody>\s*<tr><th scope="row">(.*?)</th><td>(.*?)</td><td class="n">(.*?)</td>', many, re.S)
    assert first.groups()[:2] == ("class 7", "class 9")
    assert int(first.groups()[2]) >= 60
    assert len(embedded(many)["parts"][0]["class_images"]) == 120


def test_what_is_missing_is_left_out():
    facts = make_facts()
    bare = replace(facts.parts[0].evaluation, outcomes=None)
    page = Page(render_report(replace(facts, parts=[EvaluatedPart("val", bare)], started=None, finished=None, seconds=None)))
    assert "50.0%" in page.text
    assert "What became of each picture was not kept." in page.text
    assert "the file is gone" in Page(render_report(facts)).text  # the first mistake has no picture


def test_tables_of_strangers_break_nothing():
    """Whatever a log or a bundle holds in place of what it should."""
    strange = [
        "word",
        7,
        None,
        True,
        [1],
        {"a": {"b": 1}},
        {"images": {"test": -1, "val": True, "train": 10**40}},
        {"classes": {"test": 3}},
    ]
    strange += [
        {"epochs": float("nan")},
        {"training": {"epochs": "many"}},
        {"training": {"epochs": 1e308}},
        {"x": "\ud800\x00"},
        {"x": 10**5_000},
    ]
    for value in strange:
        events = [{"event": "step", "step": value, "epoch": 1}, {"event": "epoch", "step": 1, "epoch": value, "val_top1": value}]
        events += [{"event": "epoch", "step": 2, "epoch": 1.0, "seconds": value, "val_top1": value}, {"event": "resume", "step": value}, {}]
        facts = make_facts(state="running", events=events, settings=value, data=value, trained_on=value, machine=value, versions=value)
        assert embedded(render_report(facts))["curves"]["epochs"]["epoch"] == ([7.0] if value == 7 else [1.0])


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = tmp_path / "report.html"
    write_report(path, make_facts())
    assert path.read_text(encoding="utf-8") == render_report(make_facts())
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(OSError, match="gone"):
        write_report(tmp_path / "gone" / "report.html", make_facts())
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        write_report(tmp_path / "folder", make_facts())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder", "report.html"]


def test_sizes():
    """10,000 pictures of 1,000 classes, two parts full of noisy photographs, 100,000 steps: the worst there is."""
    classes = tuple(f"class with a long name, number {k}" for k in range(1_000))
    evaluation = make_evaluation(classes, make_random_rows(1_000, 10_000))
    part = EvaluatedPart("test", evaluation, make_gallery(evaluation, side=MISTAKE_SIDE))
    events = make_events(num_epochs=100, steps_an_epoch=1_000, step_event_every=1)
    text = render_report(make_facts(classes, [(0, 0, 0.5)], events=events, parts=[part, replace(part, split="val")]))
    assert len(text.encode()) < 2 * MOST_BYTES + 2_000_000
    small = render_report(make_facts())
    assert len(small.encode()) < 200_000


def test_curves_are_thinned_and_keep_their_peaks():
    random = np.random.default_rng(0)
    noise = random.random(100_000).tolist()
    noise[54_321], noise[77_777] = 9.0, -9.0
    kept = thin([noise, list(range(100_000))], 100_000)
    assert len(kept) <= LARGEST_POINTS
    assert {0, 54_321, 77_777, 99_999} <= set(kept)
    assert kept == sorted(set(kept))
    stretches = [noise[k * 100_000 // 499 : (k + 1) * 100_000 // 499] for k in range(499)]
    there = {noise[k] for k in kept}
    assert all(max(stretch) in there and min(stretch) in there for stretch in stretches)
    assert thin([[1.0, 2.0]], 2) == [0, 1]
    events = make_events(num_epochs=3_000, steps_an_epoch=2, step_event_every=1)
    curves = draw_curves(events)
    assert len(curves.steps["epoch"]) <= LARGEST_POINTS
    assert len(curves.epochs["epoch"]) <= LARGEST_POINTS


def test_resuming_takes_back_what_was_undone():
    events = make_events(num_epochs=3)
    again = [event for event in events if event.get("step", 0) > 150]
    curves = draw_curves([*events, {"event": "resume", "step": 150}, *again])
    assert curves.resumed == [1.5]
    assert curves.epochs["epoch"] == [1, 2, 3]
    assert curves.steps["epoch"] == [0.01, 0.5, 1, 1.5, 2, 2.5, 3]
    halfway = draw_curves([*events, {"event": "resume", "step": 150}])
    assert halfway.epochs["epoch"] == [1]
    assert halfway.best == 1


def test_a_cut_log_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"event": "start"}\n[1]\n\xff\xfe\n{"event": "step", "step": 1, "epoch": 0.1}\n{"event": "st')
    assert [event["event"] for event in read_log(path)] == ["start", "step"]


def test_sure_and_unsure_networks():
    def verdict(confidence, right, of=1_000):
        return find(make_evaluation(("a", "b"), [(0, 0 if k < right else 1, confidence) for k in range(of)])).verdict

    assert verdict(0.9, 700) == "over"
    assert verdict(0.7, 900) == "under"
    assert verdict(0.8, 800) == "fair"
    assert verdict(0.8, 7, of=10) == "unclear"  # ten pictures cannot tell
    mixed = [(0, 0 if k % 10 < 9 else 1, 0.6) for k in range(500)] + [(0, 0 if k % 10 < 7 else 1, 0.999) for k in range(500)]
    assert find(make_evaluation(("a", "b"), mixed)).verdict == "mixed"


def test_fractions_as_people_say_them():
    assert [share(correct, 1_000) for correct in (0, 1, 50, 500, 883, 949, 995, 999, 1_000)] == [
        (0, 10),
        (1, 1000),
        (5, 100),
        (5, 10),
        (9, 10),
        (95, 100),
        (995, 1000),
        (999, 1000),
        (10, 10),
    ]


def test_the_report_of_an_evaluation(trained, tmp_path):
    path = tmp_path / "report.html"
    evaluation = evaluate_bundle(trained.folder, "fashion-mini", report=path)
    text = path.read_text(encoding="utf-8")
    (part,) = embedded(text)["parts"]
    assert (part["split"], part["top1"]) == ("test", evaluation.top1)
    assert embedded(text)["curves"]["epochs"]["val_top1"][-1] == pytest.approx(trained.val.top1)  # the log beside the bundle
    page = Page(text)
    assert "lenet5_softmax on fashion-mini" in page.text
    assert [name for name, _ in page.elements].count("image") > 48
    assert "views" not in [attributes.get("id") for _, attributes in page.elements]
    assert "4,800" in page.text
    assert str(tmp_path) not in text
    bundle = load_bundle(trained.folder)
    save_bundle(replace(bundle, provenance={}), tmp_path / "model.safetensors")
    (tmp_path / "log.jsonl").write_text((trained.folder / "log.jsonl").read_text())
    evaluate_bundle(tmp_path, "fashion-mini", report=path)
    assert embedded(path.read_text(encoding="utf-8"))["curves"]["epochs"]["epoch"] == []  # a log, but whose?


@pytest.mark.parametrize("provenance", [{"settings": 7, "data": "x"}, {"settings": {"run": {"data": [1]}}, "data": {"images": 7}}])
def test_a_bundle_that_remembers_nonsense_can_be_reported(trained, tmp_path, provenance):
    bundle = replace(load_bundle(trained.folder), provenance=provenance)
    evaluate_bundle(bundle, "fashion-mini", report=tmp_path / "report.html")
    assert (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("report", "message"), [("", "expected an HTML file"), (".", "found a folder"), ("no/where.html", "found none")])
def test_where_no_report_can_be_is_said_before_anything_is_done(report, message):
    with pytest.raises(SettingsError, match=message):
        evaluate_bundle("nowhere", "nothing", report=report)


def test_only_the_last_part_of_a_path_is_shown():
    settings = {**SETTINGS, "run": {"data": "/home/someone/pictures/cats/", "model": "lenet5"}}
    text = render_report(make_facts(settings=settings))
    assert "someone" not in text
    assert "cats" in Page(text).text
