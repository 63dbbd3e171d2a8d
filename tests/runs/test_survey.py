"""A survey: real features, real heads, its ranking, and what it says when it is cut short."""

import json
import re
import shlex
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from test_resume import Told

import provenet as pn
from conftest import take, write_class_folders
from provenet.cli import app
from provenet.errors import DataError, SettingsError
from provenet.models.catalog import build_network
from provenet.runs.survey import survey
from provenet.runs.train import train
from provenet.runs.watcher import Silent
from provenet.surveying.found import Backbone, Survey, draw_chart, show_survey
from provenet.surveying.page import render_page
from provenet.weights.bundle import Bundle, load_bundle, save_bundle


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("PROVENET_WEIGHTS", raising=False)
    monkeypatch.setattr("provenet.runtime.prepare_process", lambda: None)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pictures(tmp_path, mini):
    """Five classes of thirty, and a test split that nobody may look at: it is broken."""
    write_class_folders(tmp_path / "data" / "train", take(mini["train"], 30, classes=5))
    for folder in list((tmp_path / "data" / "train").iterdir()):
        broken = tmp_path / "data" / "test" / folder.name / "broken.png"
        broken.parent.mkdir(parents=True)
        broken.write_bytes(b"no picture")
    return tmp_path / "data"


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A network that has seen nothing."""
    torch.manual_seed(3)
    net = build_network("resnet8_cifar", in_channels=1).train()
    for _ in range(3):
        net(torch.randn(16, 1, 28, 28))
    net.input_spec = net.input_spec.with_preprocessing(net.input_spec.preprocessing.with_size(28))
    path = tmp_path_factory.mktemp("weights") / "noise.safetensors"
    save_bundle(Bundle(net, tuple("0123456789"), net.input_spec.preprocessing), path)
    return path


def test_the_network_that_learned_comes_first_and_is_what_to_train(trained, noise, pictures, tmp_path):
    found, folder = survey("data", [str(noise), str(trained.folder)])
    assert [each.network for each in found.backbones] == ["lenet5_softmax", "resnet8_cifar"]
    assert (found.num_images, found.num_classes, found.left_out) == (150, 5, ())
    for each in found.backbones:
        low, high = each.interval
        assert 0 < low < each.top1 < high <= 1
        assert each.num_computed == 150
        assert each.milliseconds > 0
    lenet = found.backbones[0]
    assert (lenet.cut, lenet.num_features) == ("F6", 84)
    net = load_bundle(trained.folder).network
    body = sum(parameter.numel() for name, parameter in net.named_parameters() if not name.startswith(list(net.stages)[-1]))
    assert lenet.megabytes == pytest.approx((body + 84 * 5 + 5) * 4 / 1e6)
    assert folder.resolve() == tmp_path / "surveys" / "data"
    words = shlex.split(found.command(lenet))
    assert words == ["provenet", "train", "data", "--weights", str(trained.folder)]
    again, _ = survey("data", [str(noise), str(trained.folder)])
    assert [each.num_computed for each in again.backbones] == [0, 0]
    assert [(each.network, each.top1) for each in again.backbones] == [(each.network, each.top1) for each in found.backbones]


def test_a_head_that_is_trained_afterwards_finds_its_features(trained, pictures, tmp_path):
    survey("data", [str(trained.folder)])
    notes = []

    class Hears(Silent):
        def note(self, text):
            notes.append(text)

    shutil.rmtree(tmp_path / "data" / "test")
    train("data", weights=str(trained.folder), transfer="cached", output=tmp_path / "run", watcher=Hears())
    assert "0 computed, 150 kept from before" in "".join(notes)


def test_cuts_are_tried_and_said(trained, pictures):
    found, _ = survey("data", [str(trained.folder)], cuts=3)
    assert {(each.cut, each.ends_after) for each in found.backbones} == {("F6", ""), ("C5", "C5"), ("C3", "C3")}
    by_cut = {each.cut: each for each in found.backbones}
    assert "--ends-after C5" in found.command(by_cut["C5"])
    assert "--ends-after" not in found.command(by_cut["F6"])


def test_the_command_says_and_writes_it(trained, noise, pictures, tmp_path, capsys):
    app(["survey", "data", "--weights", str(trained.folder), str(noise), "-o", "here"])
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0].split() == ["network", "up", "to", "weights", "right", "95", "%", "interval", "ms/image", "MB", "spent"]
    assert lines[1].startswith("* lenet5_softmax")
    assert "provenet train data --weights" in said
    page, facts = (tmp_path / "here" / name for name in ("survey.html", "survey.json"))
    written = json.loads(facts.read_text())
    assert [each["network"] for each in written["backbones"]] == ["lenet5_softmax", "resnet8_cifar"]
    html = page.read_text()
    assert "<script" not in html
    assert not re.findall(r"""(?:src|href)=["'][^"'#]""", html)
    assert html.count("<circle") == 2
    app(["survey", "data", "--weights", str(trained.folder), "--json"])
    assert json.loads(capsys.readouterr().out)["command"] == f"provenet train data --weights {shlex.quote(str(trained.folder))}"


def test_when_the_budget_is_spent_what_was_found_is_the_answer(trained, noise, pictures):
    found, folder = survey("data", [str(trained.folder), str(noise)], budget_minutes=1e-6)
    assert found.backbones == ()
    assert {why for _, why in found.left_out} == {"the budget was spent; what was computed is kept"}
    assert "nothing was tried" in show_survey(found)
    assert (folder / "survey.html").exists()
    whole, _ = survey("data", [str(trained.folder), str(noise)], budget_minutes=60)
    assert len(whole.backbones) == 2


def test_interrupted_it_shows_what_there_is(trained, noise, pictures):
    class Impatient(Silent):
        def note(self, text):
            if text.startswith("2 of 2"):
                self.is_over = True

        def progress(self, what, done, total):
            if getattr(self, "is_over", False):
                raise KeyboardInterrupt

    found, folder = survey("data", [str(trained.folder), str(noise)], watcher=Impatient())
    assert [each.network for each in found.backbones] == ["lenet5_softmax"]
    assert found.left_out == ((str(noise), "interrupted; what was computed is kept"),)
    assert len(json.loads((folder / "survey.json").read_text())["backbones"]) == 1


def test_what_cannot_be_tried_is_named_and_the_rest_goes_on(trained, pictures, tmp_path):
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"nothing")
    found, _ = survey("data", [str(bad), str(trained.folder)])
    assert len(found.backbones) == 1
    ((name, why),) = found.left_out
    assert name == str(bad)
    assert f"{bad}: left out: {why}" in show_survey(found)
    with pytest.raises(SettingsError, match=r"--weights: expected one that can be tried, found none: .*bad\.safetensors"):
        survey("data", [str(bad)])


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"cuts": 0}, "--cuts: expected 1 to 8, found 0"),
        ({"budget_minutes": 0}, "--budget: expected minutes above 0, found 0"),
        ({"budget_minutes": float("nan")}, "--budget: expected minutes above 0, found nan"),
        ({"engine": "tpu"}, "--engine: expected auto"),
        ({"output": "data/train/here"}, "outside of the pictures"),
        ({"output": "file"}, "file: expected a folder to write to, found: File exists; choose another --output"),
    ],
)
def test_bad_wishes(wishes, says, trained, pictures, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=says):
        survey("data", **({"weights": [str(trained.folder)]} | wishes))


def test_bad_data(trained, pictures, tmp_path, mini):
    write_class_folders(tmp_path / "one", take(mini["train"], 5, classes=1))
    with pytest.raises(DataError, match=r"two classes or more|at least two"):
        survey("one", [str(trained.folder)])
    broken = next((pictures / "train").rglob("*.png"))
    broken.write_bytes(b"")
    with pytest.raises(DataError, match="or go on without with --skip-broken"):
        survey("data", [str(trained.folder)])
    told = Told()
    found, _ = survey("data", [str(trained.folder), str(trained.folder)], skip_broken=True, watcher=told)
    assert len(found.backbones) == 2
    assert found.num_images == 149
    assert sum(note.startswith("skipped: ") for note in told.notes) == 1  # once, not for each network
    command = found.command(found.backbones[0])
    assert command.endswith(" --skip-broken")
    shutil.rmtree(pictures / "test")  # of which no picture can be decoded
    app(shlex.split(command)[1:], result_action="return_value")


def test_networks_that_cannot_be_tried_are_an_error_in_the_end(noise, pictures):
    bundle = load_bundle(noise)
    with torch.no_grad():
        bundle.network.stages["conv4_x"][0].bn1.weight.fill_(3e38)
    save_bundle(bundle, Path("wild.safetensors"))
    with pytest.raises(SettingsError, match=r"expected one that can be tried, found none: .*the weights are damaged, use others"):
        survey("data", ["wild.safetensors"])
    assert "the weights are damaged" in json.loads(Path("surveys/data/survey.json").read_text())["left_out"][0]["why"]


def backbone(name, top1, interval, milliseconds, megabytes=1.0):
    return Backbone(name, name, "pool", "", 64, top1, interval, milliseconds, megabytes, 1.0, 10)


SURVEY = Survey(
    "data", "data", 100, 2, 10,
    (
        backbone("slow", 0.90, (0.83, 0.95), 50.0, 100.0),
        backbone("quick", 0.88, (0.80, 0.93), 5.0),
        backbone("bad <b>", 0.60, (0.50, 0.69), 1.0),
    ),
)  # fmt: skip


class TestWhatFollows:
    def test_networks_within_each_others_interval_are_not_told_apart(self):
        assert [SURVEY.is_as_good(each) for each in SURVEY.backbones] == [True, True, False]
        assert SURVEY.suggested.network == "quick"
        said = show_survey(SURVEY)
        assert "100 pictures of 2 classes do not tell the 2 marked * apart" in said
        assert "quick up to pool is 10.0 times as fast as the first: provenet train data --weights quick" in said
        assert said.splitlines()[-1] == "provenet train data --weights slow"

    def test_a_clear_winner_is_the_only_advice(self):
        clear = replace(SURVEY, backbones=(SURVEY.backbones[0], SURVEY.backbones[2]))
        assert "slow is the best on 100 pictures of 2 classes" in show_survey(clear)
        assert clear.suggested == clear.best

    def test_the_picture_has_everything_in_its_place(self):
        chart = draw_chart(SURVEY)
        slow, quick, bad = chart.marks
        assert slow.x > quick.x > bad.x
        assert slow.y < quick.y < bad.y
        assert slow.radius > quick.radius == bad.radius
        for mark in chart.marks:
            assert chart.left <= mark.x <= chart.right
            assert chart.top <= mark.top < mark.y < mark.bottom <= chart.bottom
        assert [label for _, label in chart.x_ticks] == ["1", "2", "5", "10", "20", "50"]

    def test_labels_do_not_lie_on_each_other(self):
        same = tuple(backbone(f"n{number}", 0.8, (0.7, 0.9), 2.0) for number in range(5))
        heights = sorted(mark.label_y for mark in draw_chart(replace(SURVEY, backbones=same)).marks)
        assert all(after - before >= 15 for before, after in pairwise(heights))

    def test_strangers_names_are_escaped(self):
        html = render_page(SURVEY)
        assert "bad &lt;b&gt;" in html
        assert "bad <b>" not in html


def test_the_public_name(trained, pictures):
    found, _ = pn.survey("data", [str(trained.folder)])
    assert found.best.network == "lenet5_softmax"
