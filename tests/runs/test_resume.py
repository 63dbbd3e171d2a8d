"""Runs that are stopped, killed, moved, changed and starved: they go on to the same weights, or say in one line why not."""

import ctypes
import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

import provenet as pn
from provenet.errors import BundleError, DataError, ModelError, SettingsError, SnapshotError, TrainingError
from provenet.runs.pages import RunPages
from provenet.runs.resume import resume
from provenet.runs.stop import Stopped
from provenet.runs.train import train
from provenet.training.recorder import read_log
from provenet.training.snapshot import SnapshotFolder
from provenet.training.state import TrainingState
from provenet.weights.bundle import load_bundle, save_bundle

COMPLETE = [".lock", "README.md", "log.jsonl", "model.safetensors", "report.html", "settings.toml"]
STEPS = 15  # five passes of three steps over the 24 of 30 pictures that are not held out


class Told:
    """A watcher that remembers what it was told, and does something after a step."""

    def __init__(self, after=None, do=None):
        self.after, self.do, self.notes = after, do, []

    def note(self, text):
        self.notes.append(text)

    def progress(self, what, done, total):
        pass

    def step(self, record):
        if record.step == self.after:
            self.do()

    def epoch(self, record, total_epochs):
        if record.is_best:
            self.best = record.epoch


def stop():
    os.kill(os.getpid(), signal.SIGTERM)


def begin(data, folder, after=7, do=stop, model="resnet8_cifar", **wishes):
    """A run that is stopped after some step."""
    with pytest.raises(Stopped) as stopped:
        train(data, model, output=folder, watcher=Told(after, do), **{"epochs": 5, "batch_size": 8, **wishes})
    return stopped.value


@pytest.fixture
def pictures(class_folders):
    return class_folders(per_class=10)


def whole(data, folder, **wishes):
    return train(data, "resnet8_cifar", output=folder, **{"epochs": 5, "batch_size": 8, **wishes})


@pytest.mark.parametrize("after", [1, 3, 7, 14, 15])
def test_a_stopped_run_goes_on_to_the_same_bytes(pictures, tmp_path, after):
    run = whole(pictures, tmp_path / "whole")
    stopped = begin(pictures, tmp_path / "run", after)
    assert str(stopped) == f"stopped after step {after} of {STEPS}; all of it is kept; go on: provenet resume {tmp_path / 'run'}"
    assert stopped.signal_number == signal.SIGTERM
    resumed = resume(tmp_path / "run", watcher=(told := Told()))
    assert any(f"goes on after step {after} of {STEPS}" in note for note in told.notes)
    assert (resumed.val, resumed.test, resumed.settings) == (run.val, run.test, run.settings)
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert not (tmp_path / "run/snapshot").exists()

    def events(folder):
        return [
            {key: value for key, value in event.items() if key not in ("seconds", "time")}
            for event in read_log(tmp_path / folder / "log.jsonl")
            if event["event"] != "resume"
        ]

    assert events("run") == events("whole")


def test_several_stops_and_snapshots_beside_the_training(pictures, tmp_path):
    whole(pictures, tmp_path / "whole")
    begin(pictures, tmp_path / "run", 4, snapshot_seconds=0)
    for after in (5, 9):
        with pytest.raises(Stopped):
            resume(tmp_path / "run", snapshot_seconds=0, watcher=Told(after, stop))
    resume(tmp_path / "run", snapshot_seconds=0)
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert [event["step"] for event in read_log(tmp_path / "run/log.jsonl") if event["event"] == "resume"] == [4, 5, 9]


def test_auxiliary_heads_go_on_too(class_folders, tmp_path):
    """They are in the snapshot, as whatever trains, and not in the bundle."""
    data, wishes = class_folders(per_class=5, classes=2), {"epochs": 2, "batch_size": 4, "size": 64}
    train(data, "googlenet_toy", output=tmp_path / "whole", **wishes)
    begin(data, tmp_path / "run", after=1, model="googlenet_toy", **wishes)
    resume(tmp_path / "run")
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_a_complete_run_is_left_as_it_is(pictures, tmp_path):
    run = whole(pictures, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in run.folder.iterdir()}
    again = resume(run.folder, watcher=(told := Told()))
    assert (again.val, again.test, again.settings) == (run.val, run.test, run.settings)
    assert told.notes == [f"{run.folder}: this run is complete, nothing is left to do"]
    assert {path.name: path.read_bytes() for path in run.folder.iterdir()} == before


@pytest.mark.parametrize(("what", "after"), [("validating", 3), ("validating", 6), ("testing", 6)])
def test_an_evaluation_is_stopped_between_two_batches(tmp_path, what, after):
    wishes = {"epochs": 2, "batch_size": 1_600}  # three steps a pass; 19 batches to validate, 16 to test
    run = train("fashion-mini", "lenet5_softmax", output=tmp_path / "whole", **wishes)
    told, seen = Told(), []

    def progress(work, done, total):
        if work == what and (tmp_path / "run/log.jsonl").read_text().count('"epoch", "step"') == (after - 1) // 3 + (what == "testing"):
            seen.append(done)
            if done == 64:
                stop()

    told.progress = progress
    with pytest.raises(Stopped, match=rf"stopped after step {after} of 6; all of it is kept"):
        train("fashion-mini", "lenet5_softmax", output=tmp_path / "run", watcher=told, **wishes)
    assert seen == [64]
    assert (tmp_path / "run/report.html").exists()
    resumed = resume(tmp_path / "run")
    assert (resumed.val, resumed.test) == (run.val, run.test)
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def command(*words, cwd):
    """The program itself, on one thread: two processes of two threads each would wait for one another."""
    return subprocess.Popen(
        [sys.executable, "-m", "provenet", *map(str, words)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def wait_for(condition, process=None):
    while not condition():
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.005)


TRAIN = ["train", "fashion-mini", "--model", "lenet5_softmax", "--epochs", "2", "-o", "run"]


@pytest.mark.slow
def test_signals_and_kills_from_outside(tmp_path):
    """Ctrl-C, then SIGTERM while it evaluates or nearly so, then two kills that nothing can catch; at last the same bytes."""
    reference = command(*TRAIN[:-1], "whole", cwd=tmp_path)
    process = command(*TRAIN, cwd=tmp_path)
    wait_for((tmp_path / "run/log.jsonl").exists, process)
    wait_for(lambda: '"step": 50' in (tmp_path / "run/log.jsonl").read_text(), process)
    process.send_signal(signal.SIGINT)
    complaint = process.communicate()[1]
    assert process.returncode == 130
    assert "all of it is kept; go on: provenet resume run\n" in complaint

    process = command("resume", "run", cwd=tmp_path)
    wait_for(lambda: '"event": "epoch"' in (tmp_path / "run/log.jsonl").read_text(), process)
    process.send_signal(signal.SIGTERM)
    complaint = process.communicate()[1]
    assert process.returncode == 143
    assert "provenet: stopped after step 7" in complaint

    for _ in range(2):
        process = command("resume", "run", "--snapshot-seconds", "0", cwd=tmp_path)
        newest = [path.name for path in SnapshotFolder(tmp_path / "run/snapshot").list()][-1]
        wait_for(lambda newest=newest: SnapshotFolder(tmp_path / "run/snapshot").list()[-1].name != newest, process)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    output = command("resume", "run", "--json", cwd=tmp_path).communicate()[0]
    reference.communicate()
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert json.loads(output)["test"]["top1"] > 0.5


def test_killed_before_its_first_snapshot_it_begins_again(pictures, tmp_path):
    whole(pictures, tmp_path / "whole")
    begin(pictures, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/snapshot")
    resume(tmp_path / "run", watcher=(told := Told()))
    assert "no snapshot is there; the run begins again" in told.notes[0]
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_a_damaged_snapshot_costs_a_line_and_a_few_steps(pictures, tmp_path):
    whole(pictures, tmp_path / "whole")
    begin(pictures, tmp_path / "run", 4)
    with pytest.raises(Stopped):
        resume(tmp_path / "run", watcher=Told(9, stop))
    _, newer = SnapshotFolder(tmp_path / "run/snapshot").list()
    os.truncate(newer, newer.stat().st_size // 2)
    resume(tmp_path / "run", watcher=(told := Told()))
    assert newer.name in told.notes[0]
    assert any("goes on after step 4" in note for note in told.notes)
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_two_runs_do_not_share_a_folder(tmp_path):
    long = [*TRAIN[:5], "500", *TRAIN[6:]]
    first = command(*long, cwd=tmp_path)
    wait_for((tmp_path / "run/.lock").exists, first)
    second = command(*long, cwd=tmp_path)
    wait_for((tmp_path / "run/log.jsonl").exists, first)
    third = command("resume", "run", cwd=tmp_path)
    for process in (second, third):
        complaint = process.communicate()[1]
        assert complaint.startswith("provenet: run: expected a folder for one run, found another process at work in it; wait for it")
        assert (complaint.count("\n"), process.returncode) == (1, 2)
    first.kill()
    first.communicate()
    with pytest.raises(SettingsError, match=r"found one in use; choose another --output; go on with it: provenet resume .*run"):
        train("fashion-mini", output=tmp_path / "run")
    with pytest.raises(Stopped):  # the lock of a killed process is nobody's
        resume(tmp_path / "run", watcher=Told(1, stop))


def test_killed_while_it_wrote_its_first_file(pictures, tmp_path):
    """Then there is no run yet, and the same command begins it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").touch()
    (tmp_path / "run/.settings.toml.k3_x9abc.part").mkdir()
    (tmp_path / "run/.settings.toml.k3_x9abc.part/settings.toml").write_bytes(b"[ru")
    with pytest.raises(SettingsError, match=r"expected the folder of a run, with its settings.toml, found no such file; begin one with tr"):
        resume(tmp_path / "run")
    whole(pictures, tmp_path / "run")
    assert sorted(os.listdir(tmp_path / "run")) == COMPLETE


def test_a_folder_that_is_no_run(tmp_path, pictures):
    for folder, found in ((tmp_path / "nothing", "no such folder"), (pictures, "no such file")):
        with pytest.raises(SettingsError, match=f"expected the folder of a run, with its settings.toml, found {found}"):
            resume(folder)


def test_the_settings_of_another_run(pictures, tmp_path):
    begin(pictures, tmp_path / "run")
    settings = tmp_path / "run/settings.toml"
    settings.write_text(settings.read_text().replace("batch_size = 8", "batch_size = 4"))
    with pytest.raises(SettingsError, match=r"expected training.batch_size = 8, with which the run began, found 4; put it back"):
        resume(tmp_path / "run")


def test_the_snapshot_of_another_network(pictures, tmp_path):
    begin(pictures, tmp_path / "run")
    begin(pictures, tmp_path / "other", model="lenet5_softmax")
    shutil.rmtree(tmp_path / "run/snapshot")
    shutil.copytree(tmp_path / "other/snapshot", tmp_path / "run/snapshot")
    with pytest.raises(SettingsError, match=r"expected run.model = 'lenet5_softmax', with which the run began, found 'resnet8_cifar'"):
        resume(tmp_path / "run")


def test_the_snapshot_of_a_network_of_another_shape(pictures, tmp_path, monkeypatch):
    begin(pictures, tmp_path / "run")
    monkeypatch.setattr("provenet.runs.resume._refuse_other_settings", lambda *_: None)
    settings = tmp_path / "run/settings.toml"
    settings.write_text(settings.read_text().replace("resnet8_cifar", "resnet20_cifar"))
    with pytest.raises(
        SnapshotError, match=r"snapshot: expected the tensors of this network, found .* only in it; give it the folder of its"
    ):
        resume(tmp_path / "run")


def repaint(path):
    """Other pixels, the same name and size."""
    size = path.stat().st_size
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    assert path.stat().st_size == size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: Image.new("L", (28, 28)).save(data / "Trouser/new.bmp"), r"the (train|val) pictures .* of 'Trouser', found \d+; put"),
        (lambda data: next((data / "Trouser").iterdir()).unlink(), r"the (train|val) pictures .* of 'Trouser', found \d+; put"),
        (
            lambda data: shutil.copytree(data / "Trouser", data / "More"),
            r"the 3 classes .* found 4, not the same \('More'\)",
        ),
        (
            lambda data: [path.rename(path.with_suffix(".dib.bmp")) for path in (data / "Trouser").iterdir()],
            "of another name or size|of 'Tr",
        ),
        (lambda data: [repaint(path) for path in (data / "Trouser").iterdir()], "files of the same names with other pixels; put them back"),
    ],
    ids=["one more", "one less", "a class more", "renamed", "repainted"],
)
def test_pictures_that_changed_since_the_snapshot(class_folders, tmp_path, change, message):
    data = class_folders(per_class=10, ending=".bmp")
    begin(data, tmp_path / "run")
    change(data)
    with pytest.raises(DataError, match=message):
        resume(tmp_path / "run")


def test_pictures_that_have_moved(pictures, tmp_path):
    whole(pictures, tmp_path / "whole")
    begin(pictures, tmp_path / "run")
    moved = pictures.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"if the pictures have moved, say where to: provenet resume .*run --data DATA"):
        resume(tmp_path / "run")
    resume(tmp_path / "run", data=moved)
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_other_threads_are_said(pictures, tmp_path):
    import torch

    begin(pictures, tmp_path / "run")
    torch.set_num_threads(1)
    try:
        resume(tmp_path / "run", watcher=(told := Told()))
    finally:
        torch.set_num_threads(2)
    assert "the run had threads 2, and goes on with 1: its weights will agree but for rounding" in told.notes


@pytest.mark.parametrize("is_kept_at_once", [True, False])
def test_a_loss_that_is_no_number_leaves_what_was_good(is_kept_at_once, pictures, tmp_path, monkeypatch):
    if not is_kept_at_once:  # as where a bundle is large and a pass is short
        monkeypatch.setattr("provenet.runs.recorder.QUICK_SECONDS", -1)
        monkeypatch.setattr("provenet.runs.recorder.LARGEST_KEEPING_SHARE", 1e-9)

    def poison():
        """A weight that is no number, from step 7 on."""
        for thing in gc.get_objects():
            if type(thing) is TrainingState:
                next(thing.net.parameters()).data.fill_(float("nan"))

    with pytest.raises(TrainingError, match=r"step 8 of 15: expected a finite loss, found nan at .*run keeps the best network before that"):
        train(pictures, "resnet8_cifar", output=tmp_path / "run", epochs=5, batch_size=8, watcher=(told := Told(7, poison)))
    assert load_bundle(tmp_path / "run").provenance["metrics"]["epoch"] == told.best
    assert told.best == 2  # else the test says nothing of what is kept later
    with pytest.raises((TrainingError, ModelError), match=r"hot (keeps the best network before that|has no network yet)"):
        whole(pictures, tmp_path / "hot", learning_rate=9e3)  # without any help


@pytest.fixture
def from_disk(monkeypatch):
    """Every picture is decoded when it is needed."""
    monkeypatch.setattr("provenet.data.squares.LARGEST_IN_MEMORY_BYTES", 0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_decoding_thread_that_dies(pictures, tmp_path, from_disk):
    whole(pictures, tmp_path / "whole")

    def kill_decoders():
        for thread in threading.enumerate():
            if thread.name.startswith("decode"):
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit))

    with pytest.raises(DataError, match=r"found one that died .*; all of it is kept; go on: provenet resume"):
        train(pictures, "resnet8_cifar", output=tmp_path / "run", watcher=Told(4, kill_decoders), epochs=5, batch_size=8)
    resume(tmp_path / "run")
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_a_picture_that_vanishes_while_it_trains(pictures, tmp_path, from_disk):
    whole(pictures, tmp_path / "whole")
    hidden = list(pictures.glob("*/*.png"))

    def hide():
        for path in hidden:
            path.rename(path.with_suffix(".away"))

    with pytest.raises(DataError, match=r"expected an image, found nothing readable .*; all of it is kept; go on: provenet resume"):
        train(pictures, "resnet8_cifar", output=tmp_path / "run", watcher=Told(4, hide), epochs=5, batch_size=8)
    for path in hidden:
        path.with_suffix(".away").rename(path)
    resume(tmp_path / "run")
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_a_mistake_of_ours_costs_no_work(pictures, tmp_path, from_disk):
    whole(pictures, tmp_path / "whole")
    mistake_made = pytest.MonkeyPatch()
    told = Told(4, lambda: mistake_made.setattr("provenet.data.squares.SquaresOnDisk._square", None))
    with pytest.raises(TypeError) as mistake:
        train(pictures, "resnet8_cifar", output=tmp_path / "run", watcher=told, epochs=5, batch_size=8)
    assert mistake.value.__notes__ == [f"all of it is kept; go on: provenet resume {tmp_path / 'run'}"]
    mistake_made.undo()
    resume(tmp_path / "run")
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


@pytest.fixture
def disk(make_disk):
    return make_disk("2m")


def fill(disk):
    with (disk / "filler").open("wb", buffering=0) as file:
        while file.write(bytes(4096)) == 4096:
            pass


def test_a_disk_that_is_full_for_a_while(pictures, tmp_path, disk):
    run = whole(pictures, tmp_path / "whole")
    told = Told()

    def step(record):
        if record.step == 4:
            with pytest.raises(OSError, match="No space left"):
                fill(disk)
        if record.step == 11:
            (disk / "filler").unlink()

    told.step = step
    starved = train(pictures, "resnet8_cifar", output=disk / "run", epochs=5, batch_size=8, snapshot_seconds=0, watcher=told)
    steps = [event["step"] for event in read_log(disk / "run/log.jsonl") if event["event"] == "step"]
    assert starved.val == run.val
    assert (disk / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert steps == list(range(1, STEPS + 1))  # every line, once, after the disk had room again
    complaints = [note for note in told.notes if "No space left" in note]
    assert any("expected to write a snapshot" in note for note in complaints)
    assert len(complaints) <= 5
    assert all("\n" not in note for note in complaints)


def test_a_disk_that_stays_full(pictures, tmp_path, disk):
    whole(pictures, tmp_path / "whole")

    def starve():
        with pytest.raises(OSError, match="No space left"):
            fill(disk)

    with pytest.raises((BundleError, SettingsError), match=r"No space left|os error 28|found no way to"):
        train(
            pictures,
            "resnet8_cifar",
            output=disk / "run",
            epochs=5,
            batch_size=8,
            snapshot_seconds=0,
            watcher=Told(8, starve),
        )
    assert not set(os.listdir(disk / "run")) - {*COMPLETE, "snapshot"}
    (disk / "filler").unlink()
    resume(disk / "run")
    assert (disk / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_at_the_end_the_network_has_room_where_a_snapshot_was(pictures, tmp_path, monkeypatch):
    whole(pictures, tmp_path / "whole")
    save, refused = save_bundle, []

    def save_where_there_is_room(bundle, path):
        if "epoch" not in bundle.provenance["metrics"] and len(SnapshotFolder(path.parent / "snapshot").list()) > 1:
            refused.append(path)
            raise BundleError("no room")
        save(bundle, path)

    monkeypatch.setattr("provenet.runs.recorder.save_bundle", save_where_there_is_room)
    run = whole(pictures, tmp_path / "run", snapshot_seconds=0)
    assert len(refused) == 1
    assert run.bundle_path.read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_a_folder_that_may_not_be_written(pictures, tmp_path, disk):
    begin(pictures, disk / "run")
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    try:
        for make in (
            lambda: resume(disk / "run"),
            lambda: train(pictures, output=disk / "new"),
            lambda: train(pictures, output=disk / "run"),
        ):
            with pytest.raises(SettingsError, match=r"Read-only file system|found one in use"):
                make()
    finally:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    resume(disk / "run")


def test_a_report_that_cannot_be_drawn_does_not_make_the_run_complete(pictures, tmp_path, monkeypatch):
    """A line of the log finds room where the report does not."""
    whole(pictures, tmp_path / "whole")
    prepared = RunPages.prepare

    def refuse():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RunPages, "prepare", lambda self, state, seconds: refuse if state == "ended" else prepared(self, state, seconds))
    with pytest.raises(SettingsError, match=r"report.html: expected to write it, found: No space .*; all of it is kept; go on"):
        whole(pictures, tmp_path / "run")
    monkeypatch.undo()
    resume(tmp_path / "run")
    assert "training ended" in (tmp_path / "run/report.html").read_text()
    assert sorted(os.listdir(tmp_path / "run")) == COMPLETE
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_a_report_that_is_our_mistake_costs_a_line(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(RunPages, "prepare", lambda *_: 1 / 0)
    train(pictures, "lenet5_softmax", output=tmp_path / "run", epochs=2, watcher=(told := Told()))
    complaint = f"{tmp_path / 'run/report.html'}: expected to draw it, found: ZeroDivisionError: division by zero; the run goes on without"
    assert told.notes.count(complaint) == 1
    assert read_log(tmp_path / "run/log.jsonl")[-1]["event"] == "end"


def test_lines_that_wait_for_room_are_not_lost_by_a_stop(pictures, tmp_path, monkeypatch):
    whole(pictures, tmp_path / "whole")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    def starve_and_stop():
        monkeypatch.setattr("provenet.training.recorder._write_all", refuse)

    told = Told(4, starve_and_stop)
    told.epoch = lambda record, total: stop() if record.step == 9 else None
    with pytest.raises(Stopped, match=r"stopped after step 9 of 15; all of it is kept"):
        train(pictures, "resnet8_cifar", output=tmp_path / "run", watcher=told, epochs=5, batch_size=8)
    monkeypatch.undo()
    resume(tmp_path / "run")

    def epochs(folder):
        return [event["step"] for event in read_log(tmp_path / folder / "log.jsonl") if event["event"] == "epoch"]

    assert epochs("run") == epochs("whole") == [3, 6, 9, 12, 15]


def test_a_second_signal_while_an_epoch_is_recorded_loses_nothing(pictures, tmp_path, monkeypatch):
    whole(pictures, tmp_path / "whole")
    stop_twice = lambda *_: (stop(), stop())  # noqa: E731
    monkeypatch.setattr("provenet.runs.recorder.save_bundle", stop_twice)
    with pytest.raises(Stopped, match=r"stopped after step 3 of 15; all of it is kept"):
        whole(pictures, tmp_path / "run")
    monkeypatch.undo()
    resume(tmp_path / "run")
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    assert [event["step"] for event in read_log(tmp_path / "run/log.jsonl") if event["event"] == "epoch"] == [3, 6, 9, 12, 15]


def test_a_stop_that_comes_too_late_is_heard_of(pictures, tmp_path, monkeypatch):
    clear = SnapshotFolder.clear
    monkeypatch.setattr(SnapshotFolder, "clear", lambda self: (clear(self), stop()))
    with pytest.raises(Stopped, match="asked to stop when the run was complete"):
        whole(pictures, tmp_path / "run")
    monkeypatch.undo()
    assert resume(tmp_path / "run").val.images == 6


def test_a_class_that_was_renamed(class_folders, tmp_path):
    for split in ("train", "val", "test"):
        class_folders(f"data/{split}", per_class=10)
    begin(tmp_path / "data", tmp_path / "run")
    for split in ("train", "val", "test"):
        (tmp_path / "data" / split / "Trouser").rename(tmp_path / "data" / split / "Trousers")
    with pytest.raises(DataError, match=r"data: expected the 3 classes that the run began with, found 3, not the same \('Trouser'\)"):
        resume(tmp_path / "run")


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_no_time_between_two_snapshots(pictures, tmp_path, seconds):
    for make in (lambda: train(pictures, snapshot_seconds=seconds), lambda: resume(tmp_path, snapshot_seconds=seconds)):
        with pytest.raises(SettingsError, match=r"--snapshot-seconds: expected a number of seconds, 0 or more, found"):
            make()


def test_a_kill_inside_the_writing_leaves_nothing_for_ever(tmp_path):
    """Safetensors writes beside the file it was given, under a name of its own."""
    words = [*TRAIN[:5], "500", *TRAIN[6:], "--snapshot-seconds", "0"]
    for _ in range(2):
        process = command(*words, cwd=tmp_path) if not (tmp_path / "run/settings.toml").exists() else command("resume", "run", cwd=tmp_path)
        wait_for(lambda: list(tmp_path.glob("run/snapshot/writing/.tmp*")), process)
        process.kill()
        process.communicate()
    told = Told()
    told.step = lambda _: stop()
    with pytest.raises(Stopped):
        resume(tmp_path / "run", watcher=told)
    assert set(os.listdir(tmp_path / "run")) <= {*COMPLETE, "snapshot"}
    assert all(path.suffix == ".safetensors" for path in (tmp_path / "run/snapshot").iterdir())


@pytest.mark.slow
def test_nobody_listens(tmp_path):
    """Standard error on a full disk, and a reader that has gone: the run goes on and ends well."""
    for output, redirect in (("full", "2> /dev/full"), ("gone", "2>&1 >/dev/null | head -c 1 > /dev/null; exit ${PIPESTATUS[0]}")):
        words = f"{sys.executable} -m provenet {' '.join(TRAIN[:-3])} 1 -o {output} {redirect}"
        done = subprocess.run(
            ["bash", "-c", words], cwd=tmp_path, capture_output=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        assert done.returncode == 0, done
        assert sorted(os.listdir(tmp_path / output)) == COMPLETE


def test_public_names():
    assert pn.resume is resume
