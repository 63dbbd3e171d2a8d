"""Whole runs that begin with weights: what learns, what does not, and that a stopped one goes on to the same bytes."""

import shutil
import tomllib

import pytest
import torch
from test_resume import Told, stop

from conftest import take, write_class_folders
from provenet.errors import SettingsError, TrainingError
from provenet.models.catalog import build_network
from provenet.runs.evaluate import evaluate_bundle
from provenet.runs.resume import resume
from provenet.runs.stop import Stopped
from provenet.runs.train import train
from provenet.weights.bundle import Bundle, load_bundle, save_bundle
from provenet.weights.export import export_weights

SOME = {"epochs": 2, "batch_size": 8}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network of ten classes that has seen nothing, but whose statistics are not those of a fresh one."""
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    torch.manual_seed(3)
    net = build_network("resnet8_cifar", in_channels=1).train()
    for _ in range(5):
        net(torch.randn(16, 1, 28, 28))
    net.input_spec = net.input_spec.with_preprocessing(net.input_spec.preprocessing.with_size(28))
    save_bundle(Bundle(net, tuple("0123456789"), net.input_spec.preprocessing), path)
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory, mini):
    """Three classes of ten pictures."""
    root = tmp_path_factory.mktemp("pictures") / "data"
    write_class_folders(root, take(mini["train"], 10, classes=3))
    return root


def frozen_part(net, stages):
    return {name: tensor for name, tensor in net.state_dict().items() if name.partition(".")[0] in stages}


@pytest.mark.parametrize(
    ("transfer", "frozen"),
    [
        ("head", ["conv1", "conv2_x", "conv3_x", "conv4_x"]),
        ("from:conv4_x", ["conv1", "conv2_x", "conv3_x"]),
        ("from:fc", ["conv1", "conv2_x", "conv3_x", "conv4_x"]),
        ("all", []),
    ],
)
def test_what_is_frozen_is_frozen_to_the_bit_and_the_rest_learns(transfer, frozen, weights, pictures, tmp_path):
    told = Told()
    run = train(pictures, weights=str(weights), transfer=transfer, output=tmp_path / "run", watcher=told, **SOME)
    before, after = load_bundle(weights).network, load_bundle(run.folder).network
    old, new = frozen_part(before, frozen), frozen_part(after, frozen)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)
    learning = [name for name in after.stages if name not in (*frozen, "pool")]
    for stage in learning[:-1]:
        pairs = [(before.get_parameter(name), after.get_parameter(name)) for name, _ in after.named_parameters() if name.startswith(stage)]
        assert pairs
        assert not any(torch.equal(a, b) for a, b in pairs)
    assert any(note.startswith("conv1") and note.endswith("eval" if frozen else "train") for note in told.notes)
    first = load_bundle(run.folder).provenance["transfer"]["stages"][0]
    assert first == {
        "stage": "conv1",
        "parameters": 176,
        "learns": not frozen,
        "rate": 0.0 if frozen else 1.0,
        "batch_norm": first["batch_norm"],
    }
    assert first["batch_norm"] == ("eval" if frozen else "train")
    assert run.settings.transfer.mode == transfer
    assert load_bundle(run.folder).preprocessing == load_bundle(weights).preprocessing
    assert evaluate_bundle(run.bundle_path, pictures, split="val").top1 == run.val.top1


@pytest.mark.parametrize("wishes", [{"transfer": "from:conv4_x", "depth_rate": 0.5}, {"transfer": "head", "head": "mlp:8"},
                                    {"transfer": "all", "ends_after": "conv3_x", "head": "mlp:8,4"}])  # fmt: skip
@pytest.mark.parametrize("after", [2, 5])
def test_a_stopped_transfer_goes_on_to_the_same_bytes_without_the_weights(wishes, after, weights, pictures, tmp_path):
    lent = shutil.copy(weights, tmp_path / "w.safetensors")
    whole = train(pictures, weights=str(lent), output=tmp_path / "whole", **SOME, **wishes)
    with pytest.raises(Stopped):
        train(pictures, weights=str(lent), output=tmp_path / "run", watcher=Told(after, stop), **SOME, **wishes)
    lent.unlink()  # a snapshot has all of them
    resumed = resume(tmp_path / "run")
    assert (resumed.val, resumed.settings) == (whole.val, whole.settings)
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_what_a_resumed_run_finds_frozen_must_be_what_it_left(weights, pictures, tmp_path, monkeypatch):
    with pytest.raises(Stopped):
        train(pictures, weights=str(weights), transfer="head", output=tmp_path / "run", watcher=Told(2, stop), **SOME)
    from provenet.training.state import TrainingState

    restore = TrainingState.restore

    def restore_otherwise(state, snapshot):
        restore(state, snapshot)
        with torch.no_grad():
            next(state.net.stages["conv1"].parameters()).mul_(1.001)

    monkeypatch.setattr(TrainingState, "restore", restore_otherwise)
    with pytest.raises(TrainingError, match="to the bit, found other numbers"):
        resume(tmp_path / "run")


def test_settings_repeat_a_transfer_unless_the_weights_are_others(weights, pictures, tmp_path):
    lent = shutil.copy(weights, tmp_path / "w.safetensors")
    run = train(pictures, weights=str(lent), transfer="from:conv4_x", output=tmp_path / "run", **SOME)
    section = tomllib.loads((run.folder / "settings.toml").read_text())["transfer"]
    assert (section["weights"], section["mode"], section["head"]) == (str(lent), "from:conv4_x", "linear")
    again = train(settings_file=run.folder / "settings.toml", output=tmp_path / "again")
    assert (again.folder / "model.safetensors").read_bytes() == run.bundle_path.read_bytes()
    with pytest.raises(SettingsError, match=r"--transfer all: expected nothing here, the file of --settings decides it"):
        train(settings_file=run.folder / "settings.toml", transfer="all", output=tmp_path / "no")
    bundle = load_bundle(lent)
    with torch.no_grad():
        next(bundle.network.parameters()).add_(1)
    save_bundle(bundle, lent)
    with pytest.raises(SettingsError, match=r"transfer.weights: expected in .* the numbers [0-9a-f]{16}, found others"):
        train(settings_file=run.folder / "settings.toml", output=tmp_path / "no")


def test_the_head_is_kept_where_the_classes_are_the_same(weights, pictures, tmp_path):
    first = train(pictures, weights=str(weights), transfer="head", output=tmp_path / "first", **SOME)
    told = Told()
    on = train(pictures, weights=str(first.folder), transfer="all", output=tmp_path / "on", watcher=told, learning_rate=1e-9, **SOME)
    assert "the classes are those of the weights, whose head is kept" in told.notes
    torch.testing.assert_close(load_bundle(on.folder).network.fc.weight, load_bundle(first.folder).network.fc.weight, atol=1e-6, rtol=0)
    new = train(pictures, weights=str(first.folder), transfer="all", head="linear", output=tmp_path / "new", learning_rate=1e-9, **SOME)
    assert not torch.allclose(load_bundle(new.folder).network.fc.weight, load_bundle(first.folder).network.fc.weight, atol=1e-3)


def test_weights_for_other_pictures_are_adapted_and_it_is_said(weights, pictures, tmp_path):
    told = Told()
    run = train(
        pictures, weights=str(weights), transfer="head", size=32, channels=3, mean="channel", output=tmp_path / "run", watcher=told, **SOME
    )
    assert [note for note in told.notes if "weights were made" in note or "first layer" in note] == [
        "the first layer reads 3 channels instead of 1: its kernels are summed, or shared out",
        "pictures are shown at 32x32, where the weights were made at 28x28",
        "pictures are normalised by a mean of their own, where the weights were made with another",
    ]
    bundle = load_bundle(run.folder)
    assert (bundle.preprocessing.size, bundle.preprocessing.channels) == (32, 3)
    torch.testing.assert_close(bundle.network.conv1.conv.weight.sum(1, keepdim=True), load_bundle(weights).network.conv1.conv.weight)


def test_auto_follows_the_rule_and_says_why(weights, pictures, tmp_path):
    told = Told()
    run = train(pictures, weights=str(weights), output=tmp_path / "run", watcher=told, **SOME)
    assert run.settings.transfer.mode == "cached"
    assert "--transfer cached: 'Pullover' has the fewest pictures, 8, and up to 20 a class train a new head only" in told.notes


def test_weights_of_another_library_are_transferred(pictures, tmp_path):
    torch.manual_seed(0)
    net = build_network("googlenet_bn", num_classes=12)
    path = tmp_path / "theirs.pth"
    export_weights(Bundle(net, tuple("abcdefghijkl"), net.input_spec.preprocessing), "torchvision", path)
    run = train(pictures, weights=str(path), transfer="from:inception_5b", size=32, epochs=1, batch_size=8, output=tmp_path / "run")
    trained = load_bundle(run.folder).network
    theirs, ours = net.inception_5a.state_dict(), trained.inception_5a.state_dict()
    assert len(theirs) > 20
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs if "num_batches" not in name)
    assert run.settings.transfer.weights == str(path)


def test_a_new_head_begins_as_cached_features_solve_it(weights, pictures, tmp_path):
    """Two roads to one head: solved at once on kept features, and where steps too small to matter begin."""
    solved = train(pictures, weights=str(weights), transfer="cached", output=tmp_path / "solved")
    told = Told()
    steps = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-12}
    begun = train(pictures, weights=str(weights), transfer="head", output=tmp_path / "begun", watcher=told, **steps)
    assert "the new head begins as solved on the features of the weights as they are" in told.notes
    ours, theirs = (load_bundle(run.folder) for run in (begun, solved))
    for name, parameter in ours.network.get_classifier().state_dict().items():
        torch.testing.assert_close(parameter, theirs.network.get_classifier().state_dict()[name], rtol=1e-4, atol=1e-4)
    assert ours.provenance["cross_validation"] == theirs.provenance["cross_validation"]
    assert (begun.settings.transfer.solves_head, solved.settings.transfer.solves_head) == (True, False)
    again = train(settings_file=begun.folder / "settings.toml", output=tmp_path / "again")
    assert (again.folder / "model.safetensors").read_bytes() == (begun.folder / "model.safetensors").read_bytes()


def test_features_too_small_to_solve_on_leave_a_random_head(pictures, tmp_path):
    torch.manual_seed(0)
    net = build_network("resnet8_cifar", in_channels=1)
    with torch.no_grad():  # norms that make next to nothing of what they are given
        for norm in [module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)]:
            norm.weight.mul_(1e-6)
    net.input_spec = net.input_spec.with_preprocessing(net.input_spec.preprocessing.with_size(28))
    save_bundle(Bundle(net, tuple("0123456789"), net.input_spec.preprocessing), tmp_path / "w.safetensors")
    told = Told()
    train(pictures, weights=str(tmp_path / "w.safetensors"), transfer="all", output=tmp_path / "run", watcher=told, **SOME)
    assert any(note.startswith("the new head begins at random: solved on features as small as these") for note in told.notes)


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"head": "mlp:4"}, "--head mlp:4: expected --weights beside it"),
        ({"weights": "W", "transfer": "from:conv9"}, "expected a stage of resnet8_cifar, found 'conv9'; did you mean"),
        ({"weights": "W", "ends_after": "pol"}, r"\(--ends-after\), found 'pol'; did you mean 'pool'"),
        ({"weights": "W", "channels": 2}, "--channels: expected 1"),
        ({"weights": "W", "size": 3}, "--size 3: resnet8_cifar needs at least 8 pixels"),
        ({"weights": "nowhere"}, "nowhere: expected the tag of a published set"),
    ],
)
def test_what_is_refused_before_anything_is_made(wishes, says, weights, pictures, tmp_path):
    asked = {name: str(weights) if value == "W" else value for name, value in wishes.items()}
    with pytest.raises(Exception, match=says) as caught:
        train(pictures, output=tmp_path / "run", **asked)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_head_that_is_fixed_is_not_trained_alone(pictures, tmp_path):
    net = build_network("lenet5")
    save_bundle(Bundle(net, tuple("0123456789"), net.input_spec.preprocessing), tmp_path / "w.safetensors")
    with pytest.raises(SettingsError, match="expected something that learns, and that of lenet5 is fixed; take --head linear"):
        train(pictures, weights=str(tmp_path / "w.safetensors"), transfer="head", head="own", output=tmp_path / "run")
    run = train(pictures, weights=str(tmp_path / "w.safetensors"), transfer="from:F6", output=tmp_path / "run", **SOME)
    assert (run.settings.training.loss, load_bundle(run.folder).network.title) == ("cross_entropy", "lenet5 with a head linear")
