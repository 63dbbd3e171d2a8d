"""A run whose learning rate falls several times keeps a network of each: members for an ensemble, the same after any stop."""

import os
import shutil
import signal
import tomllib

import pytest
import tomli_w
import torch

from provenet.errors import SettingsError
from provenet.runs.ensemble import make_ensemble
from provenet.runs.resume import resume
from provenet.runs.stop import Stopped
from provenet.runs.train import train
from provenet.training.optimizers import cycle_end, find_cycle, learning_rate
from provenet.training.recorder import read_log
from provenet.training.settings import TrainingSettings
from provenet.weights.bundle import load_bundle

STEPS = 9  # three passes of three steps over the 24 of 30 pictures that are not held out


class Stopping:
    """A watcher that asks to stop after some step, as a person does."""

    def __init__(self, after):
        self.after, self.notes = after, []

    def step(self, record):
        if record.step == self.after:
            os.kill(os.getpid(), signal.SIGTERM)

    def note(self, text):
        self.notes.append(text)

    def progress(self, *_):
        pass

    epoch = progress


def run_of(data, folder, **wishes):
    return train(data, "resnet8_cifar", output=folder, **{"epochs": 3, "batch_size": 8, "cycles": 3, **wishes})


def kept(folder):
    return {path.name: path.read_bytes() for path in (folder / "cycles").iterdir()}


@pytest.mark.parametrize("num_steps", [1, 7, 30])
def test_every_step_is_in_one_cycle(num_steps):
    for cycles in range(1, num_steps + 1):
        ends = [cycle_end(number, num_steps, cycles) for number in range(cycles + 1)]
        assert (ends[0], ends[-1]) == (0, num_steps)
        for step in range(num_steps):
            number = find_cycle(step, num_steps, cycles)
            assert ends[number] <= step < ends[number + 1]
        assert find_cycle(num_steps, num_steps, cycles) == cycles


def test_each_cycle_rises_and_falls_as_a_run_of_its_length_does():
    once, thrice = (TrainingSettings(epochs=1, batch_size=1, peak_learning_rate=0.5, cycles=cycles) for cycles in (1, 3))
    alone = [learning_rate(step, 50, once) for step in range(50)]
    assert [learning_rate(step, 150, thrice) for step in range(150)] == 3 * alone


def test_the_network_of_each_cycle_is_kept(class_folders, tmp_path):
    data = class_folders(per_class=10)
    run = run_of(data, tmp_path / "run")
    assert [path.name for path in run.cycle_paths] == ["1.safetensors", "2.safetensors", "3.safetensors"]
    bundles = [load_bundle(path) for path in run.cycle_paths]
    assert [bundle.provenance["cycle"] for bundle in bundles] == [{"number": n, "of": 3, "epoch": float(n)} for n in (1, 2, 3)]
    states = [bundle.network.state_dict() for bundle in bundles]
    assert not torch.equal(states[0]["conv1.conv.weight"], states[1]["conv1.conv.weight"])
    best = load_bundle(run.folder)
    chosen = next(int(event["step"]) // 3 for event in reversed(read_log(run.folder / "log.jsonl")) if event.get("is_best"))
    for name, tensor in states[chosen - 1].items():
        assert torch.equal(tensor, best.network.state_dict()[name]), name
    found = make_ensemble([str(path) for path in run.cycle_paths], data)
    assert (found.num_members, found.num_images) == (3, 6)  # what was held out
    assert [member.name for member in found.members] == [str(path) for path in run.cycle_paths]


@pytest.mark.parametrize("after", [2, 3, 6, 8])
def test_a_stopped_run_keeps_the_same_ones(class_folders, tmp_path, after):
    data = class_folders(per_class=10)
    run_of(data, tmp_path / "whole")
    with pytest.raises(Stopped):
        run_of(data, tmp_path / "run", watcher=Stopping(after))
    (tmp_path / "run/cycles").mkdir(exist_ok=True)
    (tmp_path / "run/cycles/.1.safetensors.abcdefgh.part").mkdir()  # as a kill leaves it
    resume(tmp_path / "run")
    assert kept(tmp_path / "run") == kept(tmp_path / "whole")


def test_one_cycle_keeps_none(class_folders, tmp_path):
    run = run_of(class_folders(per_class=10), tmp_path / "run", cycles=1)
    assert run.cycle_paths == []
    assert not (tmp_path / "run/cycles").exists()


def test_more_cycles_than_steps(class_folders, tmp_path):
    with pytest.raises(
        SettingsError, match=r"training.cycles \(--cycles\): expected at most 9, a cycle for each step of this run, found 10"
    ):
        run_of(class_folders(per_class=10), tmp_path / "run", cycles=10)


def test_settings_from_before_there_were_cycles(class_folders, tmp_path):
    data = class_folders(per_class=10)
    with pytest.raises(Stopped):
        run_of(data, tmp_path / "run", cycles=1, watcher=Stopping(4))
    path = tmp_path / "run/settings.toml"
    settings = tomllib.loads(path.read_text())
    assert settings["training"].pop("cycles") == 1
    path.write_text(tomli_w.dumps(settings))
    shutil.rmtree(tmp_path / "run/snapshot")  # then the log tells what the run began with
    log = tmp_path / "run/log.jsonl"
    text = log.read_text()
    assert text.count(', "cycles": 1') == 1
    log.write_text(text.replace(', "cycles": 1', ""))
    assert resume(tmp_path / "run").settings.training.cycles == 1
    assert train(settings_file=path, output=tmp_path / "again").settings.training.cycles == 1


def test_a_full_disk_costs_a_line(class_folders, tmp_path):
    """A file where the folder would be: nothing can be kept there, and the run goes on."""
    data, watcher = class_folders(per_class=10), Stopping(None)
    with pytest.raises(Stopped):
        run_of(data, tmp_path / "run", watcher=Stopping(1))
    (tmp_path / "run/cycles").write_text("in the way")
    run = resume(tmp_path / "run", watcher=watcher)
    assert run.val.images == 6
    assert sum("could not be kept" in note for note in watcher.notes) == 3
