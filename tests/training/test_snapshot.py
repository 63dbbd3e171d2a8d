"""Snapshots: a run in pieces is the run in one piece, and a file is whole or not there."""

import os
import threading

import pytest
import torch
from torch import nn

from provenet.errors import SnapshotError
from provenet.metrics import ClassScore, Evaluation
from provenet.runtime import seeded
from provenet.training.loop import fit
from provenet.training.settings import TrainingSettings
from provenet.training.snapshot import SnapshotFolder, SnapshotKeeper
from provenet.training.state import Snapshot, TrainingState

SETTINGS = TrainingSettings(epochs=3, batch_size=6, peak_learning_rate=0.1, weight_decay=0.01, seed=1)
NUM_IMAGES = 20  # ten steps; passes end inside batches


class Net(nn.Module):
    """Everything that a state can hold: batch norm's statistics, dropout's random numbers, a frozen weight."""

    def __init__(self, width=8):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, width, 3),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, 3, 2),  # in another memory layout than a snapshot's
            nn.Flatten(),
            nn.Dropout(),
            nn.Linear(75, 4),
        )
        self.body[0].bias.requires_grad_(False)
        self.to(memory_format=torch.channels_last)

    def forward(self, images):
        return self.body(images)

    def training_logits(self, images):
        return [(1.0, self(images))]


def make_state(width=8):
    with seeded(7):
        net = Net(width)
    return TrainingState(net, SETTINGS, num_images=NUM_IMAGES)


def batch(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(6, 1, 8, 8, generator=generator), torch.randint(0, 4, (6,), generator=generator)


class Pieces:
    """A recorder that keeps everything, and may stop the run before a step."""

    def __init__(self, stop_at=None):
        self.stop_at, self.losses, self.epochs, self.snapshot = stop_at, [], [], None

    def on_step(self, record):
        self.losses.append(record.loss)

    def on_epoch(self, record):
        self.epochs.append((record.step, record.train_loss, record.train_top1, record.val, record.is_best))

    def between_steps(self, state):
        if state.step == self.stop_at:
            self.snapshot = state.capture()
            raise InterruptedError


def run(state, recorder):
    def evaluate():
        images, labels = batch(999)
        with torch.inference_mode():
            logits = state.net(images)
        correct = int((logits.argmax(1) == labels).sum())
        loss = float(nn.functional.cross_entropy(logits, labels))
        return Evaluation(6, correct / 6, 1.0, loss, [ClassScore("all", 6, correct)])

    batches = (batch(step) for step in range(state.step, state.num_steps))
    return fit(state, batches, SETTINGS, evaluate=evaluate, recorder=recorder)


def weights(state):
    return {name: value.clone() for name, value in state.net.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("stop_at", range(11))
def test_in_two_pieces_is_in_one_piece(tmp_path, stop_at):
    whole, whole_recorder = make_state(), Pieces()
    with seeded(1):
        best = run(whole, whole_recorder)
    assert [step for step, *_ in whole_recorder.epochs] == [4, 7, 10]
    first, first_recorder = make_state(), Pieces(stop_at)
    with seeded(1), pytest.raises(InterruptedError):
        run(first, first_recorder)
    folder = SnapshotFolder(tmp_path / "snapshot")
    folder.write(first_recorder.snapshot)

    second, second_recorder = make_state(), Pieces()
    with seeded(123):  # what the first piece drew must come from the snapshot
        second.restore(folder.read_newest(pytest.fail))
        assert second.step == stop_at
        assert run(second, second_recorder) == best
    assert first_recorder.losses + second_recorder.losses == whole_recorder.losses
    assert first_recorder.epochs + second_recorder.epochs == whole_recorder.epochs
    assert same(weights(second), weights(whole))
    assert same(second.best.tensors, whole.best.tensors)


def test_an_evaluation_that_was_interrupted_is_made_again():
    whole, recorder = make_state(), Pieces()
    with seeded(1):
        best = run(whole, recorder)
    first = make_state()

    def interrupted():
        raise InterruptedError

    with seeded(1):
        with pytest.raises(InterruptedError):
            fit(first, (batch(step) for step in range(10)), SETTINGS, evaluate=interrupted, recorder=Pieces())
        snapshot = first.capture()
    assert (first.step, first.is_whole) == (4, True)
    second = make_state()
    with seeded(9):
        second.restore(snapshot)
        assert second.is_evaluation_due
        assert run(second, again := Pieces()) == best
    assert [step for step, *_ in again.epochs] == [4, 7, 10]


def test_a_capture_does_not_change_with_later_steps():
    state, recorder = make_state(), Pieces(5)
    with seeded(1), pytest.raises(InterruptedError):
        run(state, recorder)
    before = {name: tensor.clone() for name, tensor in recorder.snapshot.tensors.items()}
    assert {name.split(".")[0] for name in before} == {"net", "optimizer", "best", "random"}
    run(state, Pieces())
    assert same(recorder.snapshot.tensors, before)


def snapshot(step, size=100):
    return Snapshot({"net.x": torch.full((size,), float(step))}, {"step": step})


def steps(folder):
    return [int(path.name.split("-")[2]) for path in folder.list()]


def test_the_last_two_are_kept(tmp_path):
    folder = SnapshotFolder(tmp_path / "snapshot")
    assert folder.read_newest(pytest.fail) is None
    for step in (1, 2, 30, 4):
        folder.write(snapshot(step))
    assert steps(folder) == [30, 4]
    read = folder.read_newest(pytest.fail)
    assert read.facts == {"step": 4}
    assert torch.equal(read.tensors["net.x"], torch.full((100,), 4.0))
    assert len(list((tmp_path / "snapshot").iterdir())) == 2
    folder.clear()
    assert not (tmp_path / "snapshot").exists()


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda path: os.truncate(path, path.stat().st_size - 7),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(b"x" * 50),
    ],
    ids=["one bit", "cut off", "empty", "rubbish"],
)
def test_a_damaged_one_is_named_and_the_one_before_is_taken(tmp_path, damage):
    folder = SnapshotFolder(tmp_path)
    for step in (1, 2):
        folder.write(snapshot(step))
    newest = folder.list()[-1]
    damage(newest)
    told = []
    assert folder.read_newest(told.append).facts["step"] == 1
    assert len(told) == 1
    assert newest.name in told[0]
    assert "damaged" in told[0]
    assert steps(folder) == [1]  # a damaged one is not one of those that are kept
    folder.write(snapshot(3))
    for path in folder.list():
        damage(path)
    with pytest.raises(SnapshotError, match="expected a sound snapshot, found 2 damaged ones"):
        folder.read_newest(told.append)
    assert steps(folder) == [1, 3]  # nothing is removed before there is something better


def test_what_is_written_next_comes_after_a_damaged_one(tmp_path):
    folder = SnapshotFolder(tmp_path)
    folder.write(snapshot(5))
    folder.write(snapshot(9))
    flip(folder.list()[-1])
    folder.write(snapshot(6))  # the run goes on from step 5
    assert folder.read_newest(pytest.fail).facts["step"] == 6


def test_what_is_no_file_is_no_snapshot(tmp_path):
    folder = SnapshotFolder(tmp_path)
    folder.write(snapshot(1))
    names = [f"00099{number}-step-99-deadbeef.safetensors" for number in range(4)]
    os.mkfifo(tmp_path / names[0])
    (tmp_path / names[1]).mkdir()
    (tmp_path / names[2]).symlink_to("/dev/zero")
    (tmp_path / names[3]).touch()
    os.truncate(tmp_path / names[3], 200 * 2**30)  # of which nothing is on the disk
    told = []
    assert folder.read_newest(told.append).facts["step"] == 1
    assert len(told) == 1
    folder.clear()
    assert sorted(os.listdir(tmp_path)) == names[:3]


MOMENTUM = "optimizer.body.0.weight.momentum_buffer"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.tensors.pop("net.body.0.weight"), "found body.0.weight only in it"),
        (lambda s: s.tensors.update({"net.more": torch.zeros(1)}), "found more only in the snapshot"),
        (lambda s: s.tensors.update({"other.more": torch.zeros(1)}), "expected tensors of net, optimizer, .* found 'other.more'"),
        (
            lambda s: s.tensors.update({"net.body.0.weight": torch.zeros(9, 1, 3, 3)}),
            r"expected body.0.weight of the network as \[8, 1, 3, 3\]",
        ),
        (
            lambda s: s.tensors.update({"best.body.0.bias": torch.zeros(8).double()}),
            r"as \[8\] of torch.float32, found \[8\] of torch.float64",
        ),
        (lambda s: s.tensors.update({MOMENTUM: torch.zeros(9)}), r"momentum_buffer of the optimizer as \[8, 1, 3, 3\] .* found \[9\]"),
        (lambda s: s.tensors.pop(MOMENTUM), "only in it"),
        (lambda s: s.tensors.update({"optimizer.body.0.bias.momentum_buffer": torch.zeros(8)}), "only in the snapshot"),  # it is frozen
        (lambda s: s.tensors.pop("random.cpu"), "expected the state of the random generator, found none"),
        (lambda s: s.tensors.update({"random.cpu": torch.zeros(3)}), "cpu of the random generator"),
        (lambda s: s.tensors.update({"outcomes.labels": torch.zeros(6, dtype=torch.int64)}), "best evaluation"),
        (lambda s: s.tensors.update({"outcomes.temperature": torch.zeros(9)}), "best evaluation"),
        (lambda s: s.facts.update(num_steps=11), "a run of 10 steps, found format 1 and 11 steps"),
        (lambda s: s.facts.update(format_version=2), "found format 2"),
        (lambda s: s.facts.pop("seen"), "'seen' is missing"),
        (lambda s: s.facts.update(best={"images": "many"}), "missing or of another kind"),
        (lambda s: s.facts.update(best=[]), "missing or of another kind"),
        (lambda s: s.facts["best"].update(top1=float("nan")), "missing or of another kind"),
        (lambda s: s.facts["best"].update(images=float("inf")), "missing or of another kind"),
        (lambda s: s.facts.update(best=None), "expected the counts of a run of 10 steps"),
        *(
            (lambda s, name=name, value=value: s.facts.update({name: value}), "expected the counts of a run of 10 steps")
            for name, value in [
                *(("step", value) for value in (11, -1, 5.0, True, None, float("inf"), 10**400, "5", [])),
                ("evaluated_step", 6),
                ("correct", 10**30),
                ("seen", -1),
                ("loss_sum", float("nan")),
                ("seconds", float("inf")),
                ("seconds", -1.0),
            ]
        ),
    ],
)
def test_a_snapshot_of_something_else_changes_nothing(change, message):
    first, recorder = make_state(), Pieces(5)
    with seeded(1), pytest.raises(InterruptedError):
        run(first, recorder)
    facts = recorder.snapshot.facts
    foreign = Snapshot(dict(recorder.snapshot.tensors), {**facts, "best": dict(facts["best"])})
    change(foreign)
    state = make_state()
    before, random_before = weights(state), torch.get_rng_state()
    with pytest.raises(SnapshotError, match=message):
        state.restore(foreign)
    assert same(weights(state), before)
    assert torch.equal(torch.get_rng_state(), random_before)
    assert (state.step, state.best, len(state.optimizer.state)) == (0, None, 0)


def test_a_full_disk_leaves_the_snapshots_that_are_there(small_disk):
    folder = SnapshotFolder(small_disk / "snapshot")
    folder.write(snapshot(1, size=25_000))
    (small_disk / "filler").write_bytes(bytes(280_000))
    with pytest.raises(OSError, match="No space left"):
        folder.write(snapshot(2, size=25_000))
    assert [path.name[:13] for path in (small_disk / "snapshot").iterdir()] == ["000001-step-1"]
    told = []
    keeper = SnapshotKeeper(folder, seconds_between=0, on_trouble=told.append)
    assert not keeper.take_now(lambda: snapshot(2, size=25_000))
    assert not keeper.take_now(lambda: snapshot(3, size=25_000))
    assert len(told) == 1
    assert told[0].endswith("expected to write a snapshot, found: No space left on device; none is kept yet")
    (small_disk / "filler").unlink()
    assert keeper.take_now(lambda: snapshot(4, size=25_000))
    assert (steps(folder), keeper.kept_step) == ([1, 4], 4)


def test_a_disk_with_room_for_two_has_the_newest_two_or_one(small_disk):
    folder = SnapshotFolder(small_disk / "snapshot")
    for step in range(1, 6):
        folder.write(snapshot(step, size=40_000))  # 160 kB each
    assert steps(folder) == [4, 5]
    assert folder.read_newest(pytest.fail).facts["step"] == 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writing_thread_that_dies_is_heard_of(tmp_path):
    class Dying(SnapshotFolder):
        def write(self, snapshot):
            raise SystemExit

    told = []
    keeper = SnapshotKeeper(Dying(tmp_path), seconds_between=0, on_trouble=told.append)
    assert not keeper.take_now(lambda: snapshot(1))
    assert "the thread that writes it died" in told[0]


def test_it_is_written_beside_the_training_and_not_too_often(tmp_path):
    released, done = threading.Event(), []

    class Slow(SnapshotFolder):
        def write(self, snapshot):
            released.wait(30)
            done.append(snapshot.facts["step"])

    keeper = SnapshotKeeper(Slow(tmp_path), seconds_between=0, on_trouble=pytest.fail)
    assert keeper.is_due()
    keeper.take(lambda: snapshot(1))
    assert not done  # it came back before the file was written
    assert not keeper.is_due()  # one at a time
    released.set()
    keeper.wait()
    assert (done, keeper.is_due(), keeper.kept_step) == ([1], True, 1)

    patient = SnapshotKeeper(SnapshotFolder(tmp_path), seconds_between=1e-9, on_trouble=pytest.fail)
    patient.take_now(lambda: snapshot(2, size=2_000_000))
    assert not patient.is_due()  # fifty times what it took have not passed
    assert not SnapshotKeeper(SnapshotFolder(tmp_path), seconds_between=60, on_trouble=pytest.fail).is_due()
