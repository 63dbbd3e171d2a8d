"""The engine for some work: asked for, or chosen by what was measured, and never one whose answers are others."""

import os
from dataclasses import replace

import pytest
import torch
from odd_networks import Odd

from provenet.engines import choose
from provenet.engines.choose import Work, make_wish, of_sound_ones, open_engine
from provenet.engines.findings import Probe, Trial
from provenet.engines.memory import answers_folder, recall, remember, what_it_depends_on
from provenet.engines.ways import AUTO, PART, REFERENCE, WAYS, EngineWish, Way
from provenet.errors import EngineError, ImageError, SettingsError

OPENVINO, FOLDED = Way("openvino", "float32"), Way("folded", "float32")
IMAGES = torch.randn(400, 3, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def own_memory(monkeypatch, tmp_path, request):
    monkeypatch.setenv("PYTHONPATH", str(request.path.parent), prepend=os.pathsep)
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))


def opened(net, wish=None, num_images=1000, images=IMAGES):
    """The engine for so many images in batches of four, and what was said."""
    notes = []
    work = Work(num_images=num_images, batch_size=4, sample=lambda count: images[:count])
    return open_engine(net.eval(), work, wish or EngineWish(), note=notes.append), notes


def known(net, **seconds):
    """As if it had been measured: openvino=0.1 is the seconds of a batch in float32."""
    trials = [Trial(Way(engine, "float32"), (value,), start_seconds=1.0, error=0.0) for engine, value in seconds.items()]
    remember(Probe((4, 3, 4, 4), tuple(trials), what_it_depends_on(net, IMAGES[:4])))


def test_short_work_is_done_by_the_network_itself_and_nothing_is_measured():
    engine, notes = opened(Odd("crashes"))
    assert (engine.way, notes) == (REFERENCE, [])
    assert not answers_folder().exists()


def test_long_work_is_measured_once_and_done_by_the_fastest(monkeypatch):
    monkeypatch.setattr(choose, "LONG_SECONDS", 0.0)
    net = Odd()
    engine, _ = opened(net, num_images=10**9)
    found = recall(what_it_depends_on(net, IMAGES[:4]))
    assert {str(trial.way) for trial in found.trials if trial.seconds} >= {"eager float32", "folded float32", "openvino float32"}
    assert engine.way == found.chosen.way
    monkeypatch.setattr(choose, "measure", None)  # not again
    again, notes = opened(net, num_images=10**9)
    assert again.way == engine.way
    if engine.way != REFERENCE:
        assert f"engine {engine.way}: {found.gain(engine.way):.1f} times as fast as eager float32" in notes[0]
    torch.testing.assert_close(again(IMAGES[:7]), net(IMAGES[:7]), atol=3e-2, rtol=3e-2)


def test_what_was_measured_decides_also_by_how_much_there_is_to_do():
    net = Odd()
    known(net, eager=0.1, folded=0.01, openvino=0.001)
    everything = {way for way in WAYS if way.engine != "compiled" and AUTO.allows(way)}
    whole = recall(what_it_depends_on(net, IMAGES[:4]))
    missing = everything - {trial.way for trial in whole.trials}
    remember(Probe(whole.shape, (*whole.trials, *(Trial(way, why_not="out of order") for way in missing)), whole.facts))
    assert opened(net, num_images=20)[0].way == REFERENCE
    engine, notes = opened(net, num_images=4_000)
    assert engine.way == OPENVINO
    assert notes[0].startswith("engine openvino float32: 100.0 times as fast as eager float32, measured on this machine in batches of 4; ")


@pytest.mark.parametrize("batch_size", [4, 5])
def test_parts_are_chosen_where_they_are_faster_and_the_batch_can_be_cut(batch_size):
    net, parts = Odd().eval(), Way("openvino", "float32", PART)
    work = Work(num_images=100, batch_size=batch_size, sample=lambda count: IMAGES[:count])
    remembered = open_engine(net, work, EngineWish(engine="openvino", precision="float32"))
    facts = what_it_depends_on(net, IMAGES[:batch_size])
    trials = {trial.way: trial for trial in recall(facts).trials}
    assert trials[parts].is_absent == (batch_size == 5)
    if batch_size == 5:
        assert remembered.way == OPENVINO
        return
    for chosen, seconds in ((parts, 1e-6), (OPENVINO, 1e6)):
        remember(Probe((4, 3, 4, 4), (replace(trials[parts], seconds=(seconds,)),), facts))
        engine = open_engine(net, work, EngineWish(engine="openvino", precision="float32"))
        assert engine.way == chosen
        torch.testing.assert_close(engine(IMAGES[:11]), net(IMAGES[:11]))


@pytest.mark.parametrize("how", ["refuses", "lies"])
def test_what_goes_wrong_by_now_is_named_and_the_next_one_is_used(how):
    net = Odd(how)
    trials = [Trial(way, (seconds,), 1.0, 0.0) for way, seconds in ((REFERENCE, 1.0), (FOLDED, 0.5), (OPENVINO, 0.1))]
    others = set(WAYS) - {REFERENCE, FOLDED, OPENVINO}
    rest = [Trial(way, why_not="out of order") for way in others]
    remember(Probe((4, 3, 4, 4), (*trials, *rest), what_it_depends_on(net, IMAGES[:4])))
    engine, notes = opened(net)
    assert engine.way == FOLDED
    assert notes[0].startswith("engine openvino float32: ")
    assert notes[0].endswith("; the next one is used")
    assert ("differ by 1.0e+00 of their length" if how == "lies" else "no such layer") in notes[0]


def test_a_crash_while_measuring_is_named_and_the_work_is_done(monkeypatch):
    monkeypatch.setattr(choose, "LONG_SECONDS", 0.0)
    engine, notes = opened(Odd("crashes"))
    assert engine.way.engine in ("eager", "folded")
    assert "engine openvino float32: crashed with SIGFPE" in notes


def test_a_crash_is_told_again_for_as_long_as_it_is_remembered(monkeypatch):
    monkeypatch.setattr(choose, "LONG_SECONDS", 0.0)
    opened(Odd("crashes"))
    monkeypatch.setattr(choose, "measure", None)  # not again
    _, notes = opened(Odd("crashes"))
    assert "engine openvino float32: crashed with SIGFPE, when it was tried; `provenet probe` tries again" in notes
    assert not any("no such" in note for note in notes)


def test_a_network_that_no_other_process_can_have_is_run_as_it_is(monkeypatch):
    class Local(Odd):
        """Cannot be pickled."""

    monkeypatch.setattr(choose, "LONG_SECONDS", 0.0)
    engine, notes = opened(Local())
    assert engine.way == REFERENCE
    assert notes[0].startswith("engine: probe: this network cannot be handed to another process: ")
    assert notes[0].endswith("; eager float32 is used")
    with pytest.raises(EngineError, match="cannot be handed to another process"):
        opened(Local(), EngineWish(engine="openvino"))


def test_no_room_to_measure_in_is_no_reason_not_to_work(monkeypatch, tmp_path):
    monkeypatch.setattr(choose, "LONG_SECONDS", 0.0)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    engine, notes = opened(Odd())
    assert engine.way == REFERENCE
    assert "No such file or directory" in notes[0]


def test_pictures_to_try_on_are_sound_ones():
    tried = []

    def decode(number):
        tried.append(number)
        if number < 7 or number == 50:
            raise ImageError("broken")
        return number

    assert of_sound_ones(100, 1, decode) == [7]
    assert tried == list(range(8))
    assert of_sound_ones(101, 3, decode) == [100]
    assert of_sound_ones(5, 5, decode) == []
    assert of_sound_ones(8, 100, decode) == [7]


@pytest.mark.parametrize("wish", [EngineWish(engine="openvino"), EngineWish(engine="openvino", precision="float32")])
def test_an_engine_that_is_asked_for_is_used_or_is_an_error(wish, monkeypatch):
    engine, _ = opened(Odd(), wish, num_images=1)
    assert engine.way.engine == "openvino"
    with pytest.raises(EngineError, match=f"^--engine openvino --precision {wish.precision}: openvino .*: crashed with SIGFPE"):
        opened(Odd("crashes"), wish)
    with pytest.raises(EngineError, match=f"--precision {wish.precision}: openvino .*: its answers differ by 1.0e\\+00 of their length"):
        opened(Odd("lies"), wish)
    monkeypatch.setattr("provenet.engines.ways._is_there", lambda module: False)
    with pytest.raises(EngineError, match=r"openvino is not installed: pip install 'provenet\[openvino\]'"):
        opened(Odd(), wish)


def test_int8_is_fitted_and_compared_on_the_pictures_themselves():
    wish = EngineWish(precision="int8")
    with pytest.raises(EngineError, match=r"expected at least 150 pictures, .* found 100; take --precision bfloat16"):
        opened(Odd(), wish, images=IMAGES[:100])
    torch.manual_seed(0)
    net = Odd()
    with torch.no_grad():
        net.fc.weight[:, 0], net.fc.bias[:] = torch.linspace(-50, 50, 5), 0  # one pixel decides, clearly
        net.fc.weight[:, 1:] *= 0.01
    images = IMAGES.clone()
    images[:, 0, 0, 0] = torch.where(images[:, 0, 0, 0] < 0, -1.0, 1.0)
    engine, notes = opened(net, wish, images=images)
    assert engine.way[:2] == ("openvino", "int8")
    assert notes[0].endswith(", and 100.0% of 256 pictures get the same label")
    with torch.no_grad():
        net.fc.weight.normal_()
        net.fc.weight[1:] = net.fc.weight[0] + 1e-3 * torch.randn(4, 48)  # now a thousandth decides
    with pytest.raises(EngineError, match=r"openvino int8: \d\d\.\d% of 256 pictures get the same label, less than 99%"):
        opened(net, wish)


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        (EngineWish(engine="tensorrt"), "--engine: expected auto, eager or folded or .*, found 'tensorrt'"),
        (EngineWish(precision="float8"), "--precision: expected auto, float32 or bfloat16 or int8, found 'float8'"),
        (
            EngineWish(engine="onnxruntime", precision="bfloat16"),
            "expected one that --engine onnxruntime has, which are: float32",
        ),
    ],
)
def test_wishes_that_cannot_be_granted(wish, says):
    with pytest.raises(SettingsError, match=says):
        make_wish(**vars(wish))


def test_nobody_gets_int8_unasked():
    assert not EngineWish().allows(Way("openvino", "int8"))
    assert not EngineWish(engine="openvino").allows(Way("openvino", "int8"))
    assert EngineWish(precision="int8").allows(Way("openvino", "int8"))
