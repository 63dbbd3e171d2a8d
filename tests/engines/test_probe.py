"""Engines are tried for real, in a process of their own, and what they do wrong is found."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from odd_networks import Deaf, Odd, is_here

from provenet.engines import memory
from provenet.engines import probe as probes
from provenet.engines.engine import build, reference, relative_error
from provenet.engines.findings import Probe, Trial
from provenet.engines.memory import recall, remember, what_it_depends_on
from provenet.engines.probe import Pictures, measure
from provenet.engines.shown import conclude, show_probe
from provenet.engines.ways import REFERENCE, WAYS, Way
from provenet.errors import EngineError
from provenet.models.catalog import TOYS, build_network

OPENVINO, FOLDED = Way("openvino", "float32"), Way("folded", "float32")
QUICK = tuple(way for way in WAYS if way.engine != "compiled" and way.precision != "int8")


@pytest.fixture(autouse=True)
def here_too(monkeypatch, tmp_path):
    """The odd networks' module is found by the process that tries them, and every test remembers for itself."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))


def settled(name, size=32, batch=4):
    """A network whose batch norms have statistics of their own, and images for it."""
    torch.manual_seed(0)
    net = build_network(name, init="trainable")
    images = torch.randn(batch, net.input_spec.channels, size, size)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval(), images


@pytest.fixture(scope="module")
def resnet():
    return settled("resnet8_cifar")


@pytest.mark.parametrize("way", QUICK, ids=str)
def test_each_way_answers_as_the_network_does(way, resnet, tmp_path):
    if not is_here(way):
        pytest.skip(f"this processor has no {way}")
    net, images = resnet
    engine = build(way, net, images, tmp_path)
    expected = reference(net)(images)
    largest = {"float32": 1e-5, "bfloat16": 3e-2}[way.precision]
    assert relative_error(engine(images), expected) < largest
    assert relative_error(engine(images[:3]), expected[:3]) < largest  # filled up
    assert relative_error(engine(torch.cat([images, images[:1]])), torch.cat([expected, expected[:1]])) < largest
    assert engine(images).dtype == torch.float32
    first = engine(images)
    kept = first.clone()
    engine(images.flip(0))
    assert torch.equal(first, kept)  # answers are not overwritten by the next ones


@pytest.mark.parametrize("name", [name for name in sorted(TOYS) if any("bn" in key for key in build_network(name).state_dict())])
def test_folding_leaves_no_batch_norm_and_the_answers(name, tmp_path):
    net, images = settled(name, size=64)
    before = {key: tensor.clone() for key, tensor in net.state_dict().items()}
    engine = build(FOLDED, net, images, tmp_path)
    assert relative_error(engine(images), reference(net)(images)) < 1e-5
    copied = next(cell.cell_contents for cell in engine._run.__closure__ if isinstance(cell.cell_contents, torch.nn.Module))
    in_stages = [path for path, module in copied.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert not [path for path in in_stages if not path.startswith(tuple(net.training_parts) or ("-",))]
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())


def test_all_ways_are_measured_in_turns_and_shown(resnet):
    net, images = resnet
    found = measure(net, Pictures(images=images), QUICK)
    assert [trial.way for trial in found.trials] == list(QUICK)
    assert all(bool(trial.seconds) == trial.is_right == is_here(trial.way) for trial in found.trials), found
    assert found.gain(REFERENCE) == 1
    best = found.ranking()[0]
    assert best.usual_seconds == min(trial.usual_seconds for trial in found.trials if trial.seconds)
    table = show_probe(found)
    assert table.splitlines()[1].startswith(str(best.way))
    assert f"{found.gain(best.way):.1f} times as fast" in table or "nothing else is faster" in table


def test_int8_is_told_of_and_not_chosen():
    eager, floats = Trial(REFERENCE, (1.0,), 1.0, 0.0), Trial(OPENVINO, (0.5,), 1.0, 1e-6)
    int8 = Trial(Way("openvino", "int8"), (0.25,), 1.0, 1e-2, agreement=0.996, agreement_of=256)
    batch = "in batches of 4 images of 3x8x8"
    chosen = f"engine openvino float32: 2.0 times as fast as eager float32 {batch}; its answers differ by 1.0e-06 of their length"
    small = (
        f"with --precision int8, engine openvino int8: 4.0 times as fast as eager float32 {batch}; 99.6% of 256 pictures get the same label"
    )
    wrong = replace(int8, agreement=0.9).judged()
    for trials, lines in (
        ((eager, floats, int8), [chosen, small]),
        ((eager, int8), [small]),
        ((eager, floats, replace(int8, seconds=(0.6,))), [chosen]),
        ((eager, floats, wrong), [chosen]),
        ((eager, wrong), [f"engine eager float32: int8 is not faster and right, {batch}"]),
        ((eager, replace(floats, seconds=(2.0,))), [f"engine eager float32: nothing else is faster and right, {batch}"]),
    ):
        assert conclude(Probe((4, 3, 8, 8), trials)).splitlines() == lines


def test_a_way_that_starts_slowly_is_not_the_soonest_done_of_little_work():
    slow_start = Trial(OPENVINO, (0.1,), start_seconds=10.0, error=0.0)
    found = Probe((4, 3, 8, 8), (Trial(REFERENCE, (1.0,), 1.0, 0.0), slow_start))
    assert [trial.way for trial in found.ranking(5)] == [REFERENCE, OPENVINO]
    assert [trial.way for trial in found.ranking(50)] == [OPENVINO, REFERENCE]


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("crashes", "crashed with SIGFPE"),
        ("hangs", "hung for 20 seconds"),
        ("refuses", "no such layer in that library"),
        ("lies", "its answers differ by 1.0e+00 of their length, more than 0.0001"),
    ],
)
def test_a_way_that_goes_wrong_is_named_and_the_others_go_on(how, says, monkeypatch):
    monkeypatch.setattr(probes, "STEP_SECONDS", 20.0)
    net, images = Odd(how).eval(), torch.randn(4, 3, 4, 4)
    found = {trial.way: trial for trial in measure(net, Pictures(images=images), [FOLDED, OPENVINO]).trials}
    assert says in found[OPENVINO].why_not
    assert found[FOLDED].is_right
    assert found[FOLDED].seconds
    assert found[REFERENCE].is_right
    text = show_probe(Probe((4, 3, 4, 4), tuple(found.values())))
    assert f"not to be used: {found[OPENVINO].why_not}" in text


def test_a_network_that_cannot_leave_the_process_is_an_error():
    with pytest.raises(EngineError, match="cannot be handed to another process: stays where it is"):
        measure(Deaf().eval(), Pictures(images=torch.randn(4, 3, 4, 4)), [FOLDED])


def test_a_network_that_fails_by_itself_is_an_error():
    net = torch.nn.Linear(5, 5)
    with pytest.raises(EngineError, match=r"ended with status 1: RuntimeError: .*; nothing can be compared with it"):
        measure(net, Pictures(images=torch.randn(4, 3, 4, 4)), [FOLDED])


def test_what_is_not_installed_is_not_tried(monkeypatch):
    monkeypatch.setattr("provenet.engines.ways._is_there", lambda module: False)
    found = measure(Odd().eval(), Pictures(images=torch.randn(4, 3, 4, 4)), [FOLDED, OPENVINO, Way("onnxruntime", "float32")])
    whys = {str(trial.way): trial.why_not for trial in found.trials if trial.is_absent}
    assert whys == {
        "openvino float32": "openvino is not installed: pip install 'provenet[openvino]'",
        "onnxruntime float32": "onnxruntime is not installed: pip install 'provenet[onnx]'",
    }


class TestMemory:
    def test_what_was_found_is_recalled_and_joined(self):
        net, images = Odd().eval(), torch.randn(4, 3, 4, 4)
        facts = what_it_depends_on(net, images)
        assert recall(facts) is None
        first = Probe((4, 3, 4, 4), (Trial(REFERENCE, (1.0,), 1.0, 0.0), Trial(FOLDED, (0.5,), 1.0, 1e-7)), facts)
        remember(first)
        assert recall(facts) == first
        second = Probe((4, 3, 4, 4), (Trial(REFERENCE, (2.0,), 1.0, 0.0), Trial(OPENVINO, (0.2,), 1.0, 1e-7)), facts)
        remember(second)
        assert {trial.way: trial.seconds for trial in recall(facts).trials} == {REFERENCE: (2.0,), FOLDED: (0.5,), OPENVINO: (0.2,)}

    def test_other_networks_shapes_threads_and_versions_are_others(self, monkeypatch):
        net, images = Odd().eval(), torch.randn(4, 3, 4, 4)
        facts = [what_it_depends_on(net, images), what_it_depends_on(net, images[:2]), what_it_depends_on(torch.nn.Flatten(), images)]
        torch.set_num_threads(1)
        facts.append(what_it_depends_on(net, images))
        torch.set_num_threads(2)
        monkeypatch.setattr(memory, "versions", lambda: {"openvino": "2030.1"})
        facts.append(what_it_depends_on(net, images))
        assert len({json.dumps(each, sort_keys=True) for each in facts}) == 5

    def test_what_an_earlier_version_found_is_measured_anew(self):
        facts = what_it_depends_on(Odd(), torch.randn(4, 3, 4, 4))
        parts = Trial(Way("openvino", "bfloat16", 2), (0.5,), 1.0, 0.0)
        remember(Probe((4, 3, 4, 4), (Trial(REFERENCE, (1.0,), 1.0, 0.0), parts), facts))
        assert recall(facts).trials[1] == parts
        (path,) = memory.answers_folder().iterdir()
        values = json.loads(path.read_text())
        path.write_text(json.dumps({**values, "format_version": 1}))
        assert recall(facts) is None

    @pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"format_version": 1}', b'{"format_version": 1, "facts": 3}', b"\xff" * 99])
    def test_a_damaged_file_is_measured_anew(self, damage):
        facts = what_it_depends_on(Odd(), torch.randn(4, 3, 4, 4))
        remember(Probe((4, 3, 4, 4), (Trial(REFERENCE, (1.0,), 1.0, 0.0),), facts))
        (path,) = memory.answers_folder().iterdir()
        path.write_bytes(damage)
        assert recall(facts) is None

    def test_where_nothing_can_be_written_nothing_is_remembered(self, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "file"))
        facts = what_it_depends_on(Odd(), torch.randn(4, 3, 4, 4))
        remember(Probe((4, 3, 4, 4), (Trial(REFERENCE, (1.0,), 1.0, 0.0),), facts))
        assert recall(facts) is None


def test_nothing_is_sent_home(tmp_path):
    """Converting and quantising, with every connection refused and counted, and the package that sends statistics never imported."""
    script = f"""
import socket, sys
calls = []
class Refusing(socket.socket):
    def connect(self, address):
        calls.append(address)
        raise OSError("refused")
    connect_ex = connect
socket.socket = Refusing
socket.getaddrinfo = lambda *a, **k: calls.append(a) or []
from pathlib import Path
import torch
from odd_networks import Odd
from provenet.engines.engine import build
from provenet.engines.ways import Way
images = torch.randn(8, 3, 4, 4)
for precision in ("float32", "int8"):
    build(Way("openvino", precision), Odd().eval(), images, Path({str(tmp_path)!r}), images)
assert not calls, calls
assert not [name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module]
print("quiet")
"""
    home = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=home, check=False)
    assert done.stdout.strip().endswith("quiet"), done.stderr[-2000:]
    assert not (tmp_path / "intel").exists()


def test_int8_needs_its_labels_to_be_the_same():
    trial = Trial(Way("openvino", "int8"), (0.1,), 1.0, error=0.02, agreement=0.985, agreement_of=200)
    assert trial.judged().why_not == "98.5% of 200 pictures get the same label, less than 99%"
    assert replace(trial, agreement=0.99).judged().is_right
    assert replace(trial, agreement=None).judged().why_not == "no labels were compared, less than 99%"
    assert not replace(trial, agreement=1.0, error=float("nan")).judged().is_right
