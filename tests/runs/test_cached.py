"""Heads trained on features that are computed once: the same as on pictures, and nothing computed twice."""

import errno
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image
from test_resume import Told, stop
from torch import nn

from conftest import take, write_class_folders
from provenet.data.distortion import Distortion
from provenet.data.sources import open_data
from provenet.errors import BundleError, DataError, ProvenetError, SettingsError
from provenet.models.catalog import build_network
from provenet.runs.evaluate import evaluate_bundle
from provenet.runs.resume import resume
from provenet.runs.stop import Stopped
from provenet.runs.train import train
from provenet.runtime import place
from provenet.transfer.batches import FeatureLoader
from provenet.transfer.features import BATCH_SIZE, Views, Wanted, compute_features
from provenet.transfer.parts import FrozenPart, HeadPart
from provenet.weights.bundle import Bundle, load_bundle, save_bundle
from provenet.weights.epsilon import set_batch_norm_eps

STEPS = {"epochs": 3, "batch_size": 8, "learning_rate": 0.05, "weight_decay": 1e-3, "precision": "float32"}
"""Trained in steps, as pictures are."""


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "features"


def network(path, name="resnet8_cifar", seed=3, size=28):
    torch.manual_seed(seed)
    net = build_network(name, in_channels=1).train()
    for _ in range(5):
        net(torch.randn(16, 1, size, size))
    net.input_spec = net.input_spec.with_preprocessing(net.input_spec.preprocessing.with_size(size))
    save_bundle(Bundle(net, tuple("0123456789"), net.input_spec.preprocessing), path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network of ten classes that has seen noise only."""
    return network(tmp_path_factory.mktemp("weights") / "w.safetensors")


@pytest.fixture
def pictures(tmp_path, mini):
    """Three classes of ten pictures."""
    write_class_folders(tmp_path / "data", take(mini["train"], 10, classes=3))
    return tmp_path / "data"


def cached(pictures, weights, output, **wishes):
    """The run, and what was said of its features."""
    told = Told()
    run = train(pictures, weights=str(weights), transfer="cached", output=output, watcher=told, **wishes)
    return run, "\n".join(told.notes)


@pytest.mark.parametrize("head", ["linear", "mlp:8", "own"])
def test_the_head_is_the_one_that_is_trained_by_running_the_frozen_part_again(head, weights, pictures, tmp_path):
    slow = train(
        pictures, weights=str(weights), transfer="head", head=head, output=tmp_path / "slow", shift_pixels=0, mirror=False,
        augment="none", **STEPS,
    )  # fmt: skip
    fast, _ = cached(pictures, weights, tmp_path / "fast", head=head, **STEPS)
    ours, theirs = load_bundle(fast.folder).network, load_bundle(slow.folder).network
    fresh = load_bundle(weights).network.fc.weight
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    for name, parameter in ours.state_dict().items():
        torch.testing.assert_close(parameter, theirs.state_dict()[name], atol=1e-5, rtol=1e-5)
    if head == "own":
        assert ours.fc.weight.shape[1] == fresh.shape[1]
    assert fast.val.loss == pytest.approx(slow.val.loss, abs=1e-5)


def filled(rows):
    """As many as the frozen part sees at once."""
    return torch.cat([rows, rows[-1:].expand(BATCH_SIZE - len(rows), *rows.shape[1:])])


@pytest.mark.parametrize("wishes", [{}, STEPS, {"head": "mlp:8", "ends_after": "conv3_x"}])
def test_the_bundle_says_of_pictures_what_the_head_says_of_features(wishes, weights, pictures, tmp_path):
    run, _ = cached(pictures, weights, tmp_path / "run", **wishes)
    bundle = load_bundle(run.folder)
    place(bundle.network, torch.device("cpu"))
    images = open_data(pictures).splits["all"]
    features = compute_features(FrozenPart(bundle.network), images, bundle.preprocessing)
    kept = FeatureLoader(features, images, batch_size=8).undistorted().images
    head, net = HeadPart(bundle.network).eval(), bundle.network.eval()
    squares = torch.stack([torch.tensor(images.pictures.square(number, bundle.preprocessing)) for number in range(len(images))])
    shown = filled(bundle.preprocessing.normalise(squares))
    with torch.inference_mode():
        assert torch.equal(head(filled(kept)), net(shown))
        torch.testing.assert_close(head(kept), net(shown[: len(kept)]), atol=1e-5, rtol=1e-5)
    evaluation = evaluate_bundle(run.bundle_path, pictures, split="val")
    assert evaluation.top1 == run.val.top1
    assert evaluation.loss == pytest.approx(run.val.loss, abs=1e-5)


def test_of_more_pictures_only_the_new_ones_are_computed(weights, pictures, mini, tmp_path):
    _, notes = cached(pictures, weights, tmp_path / "one")
    assert "features up to pool, 256 bytes a picture: 30 computed, 0 kept from before" in notes
    write_class_folders(pictures, take(mini["test"], 4, classes=3), ".bmp")
    _, notes = cached(pictures, weights, tmp_path / "two")
    assert "12 computed, 30 kept from before" in notes
    (pictures / "Trouser").rename(pictures / "Legs")
    assert "0 computed, 42 kept from before" in cached(pictures, weights, tmp_path / "three")[1]


def test_a_photograph_that_changes_in_place_is_computed_again_whatever_its_date_says(weights, pictures, tmp_path):
    first, _ = cached(pictures, weights, tmp_path / "one")
    path = sorted((pictures / "Trouser").iterdir())[0]
    stat = path.stat()
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    _, notes = cached(pictures, weights, tmp_path / "two")
    assert "1 computed, 29 kept from before" in notes
    os.utime(path)
    assert "0 computed, 30 kept from before" in cached(pictures, weights, tmp_path / "three")[1]
    assert first.folder.exists()


def test_other_weights_preprocessing_cut_type_and_views_have_features_of_their_own(weights, pictures, tmp_path, empty_cache):
    cached(pictures, weights, tmp_path / "run")
    other = network(tmp_path / "other.safetensors", seed=4)
    for number, (path, wishes) in enumerate([
        (other, {}), (weights, {"size": 32}), (weights, {"ends_after": "conv3_x"}), (weights, {"feature_type": "float16"}),
    ]):  # fmt: skip
        _, notes = cached(pictures, path, tmp_path / f"{number}", **wishes)
        assert "30 computed, 0 kept from before" in notes
    assert len(list(empty_cache.iterdir())) == 5
    _, notes = cached(pictures, weights, tmp_path / "views", views=2)
    assert "48 computed, 30 kept from before" in notes  # of the 24 that are trained on
    assert "0 computed, 78 kept from before" in cached(pictures, weights, tmp_path / "again", views=2, head="mlp:4")[1]
    _, notes = cached(pictures, weights, tmp_path / "more", views=3)
    assert "24 computed, 78 kept from before" in notes
    _, notes = cached(pictures, weights, tmp_path / "seed", views=2, seed=5)
    assert "48 computed, 30 kept from before" in notes


def test_no_page_says_that_a_run_has_ended_before_its_bundle_is_there(weights, pictures, tmp_path, monkeypatch):
    """The pages are drawn while the bundle is written, and written after it."""
    output, seen = tmp_path / "run", []

    def full(bundle, path):
        time.sleep(0.5)
        seen.extend(sorted(output.iterdir()))
        raise BundleError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr("provenet.runs.recorder.save_bundle", full)
        with pytest.raises(BundleError, match="the disk is full; all of it is kept; go on: provenet resume"):
            cached(pictures, weights, output)
    assert seen
    assert not {"report.html", "model.safetensors"} & {path.name for path in seen}
    assert '"state": "stopped"' in (output / "report.html").read_text().replace('":"', '": "')
    assert resume(output).bundle_path.exists()
    assert '"state": "ended"' in (output / "report.html").read_text().replace('":"', '": "')


def test_the_head_alone_differs_where_only_the_head_is_another(weights, pictures, tmp_path):
    cached(pictures, weights, tmp_path / "one")
    first, _ = cached(pictures, weights, tmp_path / "first")
    _, notes = cached(pictures, first.folder, tmp_path / "on")  # the same frozen part, though another file
    assert "0 computed, 30 kept from before" in notes


def test_float16_says_what_it_changes(weights, pictures, tmp_path):
    full, _ = cached(pictures, weights, tmp_path / "full")
    half, notes = cached(pictures, weights, tmp_path / "half", feature_type="float16")
    said = next(line for line in notes.splitlines() if line.startswith("features up to"))
    assert "128 bytes a picture" in said
    error = float(said.split("float16 changes them by ")[1].split(" of their length")[0])
    assert 1e-5 < error < 5e-4  # half of 2**-11, on average
    assert half.val.loss == pytest.approx(full.val.loss, abs=0.01)


@pytest.mark.parametrize(("wishes", "after"), [(STEPS, 2), (STEPS, 8), ({}, 1), ({"views": 2, **STEPS}, 4)])
def test_a_stopped_run_goes_on_to_the_same_bytes(wishes, after, weights, pictures, tmp_path):
    whole, _ = cached(pictures, weights, tmp_path / "whole", **wishes)
    with pytest.raises(Stopped):
        train(pictures, weights=str(weights), transfer="cached", output=tmp_path / "run", watcher=Told(after, stop), **wishes)
    resumed = resume(tmp_path / "run")
    assert (resumed.val, resumed.settings) == (whole.val, whole.settings)
    assert (tmp_path / "run/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()


def test_settings_repeat_it_without_choosing_again(weights, pictures, tmp_path):
    run, notes = cached(pictures, weights, tmp_path / "run")
    assert "cross-validation in 5 folds of 24 pictures" in notes
    again = train(settings_file=run.folder / "settings.toml", output=tmp_path / "again")
    ours, theirs = (load_bundle(folder).network.state_dict() for folder in (run.folder, again.folder))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert load_bundle(run.folder).provenance["cross_validation"]["folds"] == 5
    assert len(load_bundle(run.folder).provenance["cross_validation"]["decays"]) > 1
    assert load_bundle(again.folder).provenance["cross_validation"]["decays"] == [run.settings.training.weight_decay]


def test_a_cache_that_cannot_be_used_costs_a_line_and_nothing_else(weights, pictures, tmp_path, monkeypatch, empty_cache):
    whole, _ = cached(pictures, weights, tmp_path / "whole")
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "file"))
    run, notes = cached(pictures, weights, tmp_path / "run")
    assert "features are not kept" in notes
    assert "set PROVENET_CACHE to another folder" in notes
    assert run.bundle_path.read_bytes() == whole.bundle_path.read_bytes()


def test_a_disk_that_fills_keeps_what_it_has_and_the_run_goes_on(weights, pictures, tmp_path, empty_cache):
    for folder in sorted(pictures.iterdir()):
        shutil.copy(sorted(folder.iterdir())[0], folder / "copy.png")
    whole, _ = cached(pictures, weights, tmp_path / "whole")
    shutil.rmtree(empty_cache)
    code = f"""
import resource, signal
from provenet.transfer import features
from provenet.transfer.store import FeatureStore
append = FeatureStore.append
def short(store, contents, rows, view=0):
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * store.key.row_bytes, resource.RLIM_INFINITY))
    try:
        return append(store, contents, rows, view)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
FeatureStore.append = short
import torch
torch.set_num_threads(2)
from provenet.runs.train import train
from test_resume import Told
told = Told()
train({str(pictures)!r}, weights={str(weights)!r}, transfer="cached", output={str(tmp_path / "run")!r}, watcher=told)
print("\\n".join(told.notes))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="tests/runs", timeout=100)
    assert ran.returncode == 0, ran.stderr
    assert "File too large" in ran.stdout
    assert "what comes now is not kept" in ran.stdout
    ours, theirs = (load_bundle(folder).network.state_dict() for folder in (tmp_path / "run", whole.folder))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_broken_pictures_are_named_or_left_out(weights, pictures, tmp_path):
    path = sorted((pictures / "Trouser").iterdir())[3]
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(DataError, match=path.name):
        cached(pictures, weights, tmp_path / "no")
    run, notes = cached(pictures, weights, tmp_path / "run", skip_broken=True, views=1)
    assert f"skipped: {path}" in notes
    assert "skipped 1 broken of" in notes
    assert "0 computed" in cached(pictures, weights, tmp_path / "again", skip_broken=True, views=1)[1]
    assert run.val.images + sum(load_bundle(run.folder).provenance["data"]["classes"]["train"].values()) == 29


def test_equal_broken_pictures_are_each_named_or_left_out(weights, pictures, tmp_path):
    first, second, _ = sorted(pictures.iterdir())
    for number, path in enumerate(sorted(first.iterdir())[:4]):
        shutil.copy(path, second / f"copy{number}.png")
    twins = [first / "a.png", second / "b.png", first / "c.png"]
    for path in twins:
        path.write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a\.png|b\.png|c\.png"):
        cached(pictures, weights, tmp_path / "no")
    run, notes = cached(pictures, weights, tmp_path / "run", skip_broken=True)
    assert all(f"skipped: {path}" in notes for path in twins)
    assert run.val.images + sum(load_bundle(run.folder).provenance["data"]["classes"]["train"].values()) == 34


def test_what_there_is_no_room_for_is_computed_and_what_is_kept_is_not(weights, pictures, mini, tmp_path, monkeypatch, empty_cache):
    cached(pictures, weights, tmp_path / "one")
    write_class_folders(pictures, take(mini["test"], 4, classes=3), ".bmp")
    before = {path: path.read_bytes() for path in sorted(empty_cache.rglob("*.bin"))}
    monkeypatch.setenv("PROVENET_CACHE_GB", "0.000001")
    short, notes = cached(pictures, weights, tmp_path / "short")
    assert "those that are computed now are not kept" in notes
    assert "12 computed, 30 kept from before" in notes
    assert {path: path.read_bytes() for path in sorted(empty_cache.rglob("*.bin"))} == before
    monkeypatch.delenv("PROVENET_CACHE_GB")
    whole, notes = cached(pictures, weights, tmp_path / "whole")
    assert "12 computed, 30 kept from before" in notes
    assert short.bundle_path.read_bytes() == whole.bundle_path.read_bytes()


def test_rows_in_memory_and_on_the_disk_are_one(weights, pictures, monkeypatch):
    """Where many are mapped and some could not be kept."""
    bundle, images = load_bundle(weights), open_data(pictures).splits["all"]
    part = FrozenPart(bundle.network)
    some = images.select(np.arange(0, 30, 2))
    compute_features(part, some, bundle.preprocessing)
    whole = compute_features(part, images, bundle.preprocessing, keeps=False).rows[0]
    monkeypatch.setenv("PROVENET_CACHE_GB", "0")
    for largest in (2**30, 0):
        monkeypatch.setattr("provenet.transfer.features.LARGEST_IN_MEMORY_BYTES", largest)
        found = compute_features(part, images, bundle.preprocessing)
        assert found.num_computed == 15
        assert found.rows[0].shape == whole.shape
        assert isinstance(found.rows[0], np.ndarray) == bool(largest)
        order = np.random.default_rng(0).permutation(30)
        np.testing.assert_array_equal(found.rows[0][order], whole[order])


def test_a_picture_that_changes_while_it_is_read_is_not_kept_as_what_it_was(weights, pictures):
    bundle, images = load_bundle(weights), open_data(pictures).splits["all"]
    part, views = FrozenPart(bundle.network), Views(count=1, distortion=Distortion(mirror=True))
    looked_at = Wanted.look_at(images)
    path = images.pictures.file(7)
    before = path.read_bytes()
    Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    found = compute_features(part, images, bundle.preprocessing, looked_at=looked_at)
    assert list(found.broken) == [7]
    assert str(found.broken[7]).startswith(f"{path}: expected the picture that was there before, found it changed meanwhile")
    path.write_bytes(before)
    again = compute_features(part, images, bundle.preprocessing, views=views)
    assert again.num_computed == 31
    fresh = compute_features(part, images, bundle.preprocessing, keeps=False)
    np.testing.assert_array_equal(again.rows[0], fresh.rows[0])
    looked_at = Wanted.look_at(images)
    path.write_bytes(images.pictures.file(8).read_bytes())
    other = Views(count=1, distortion=Distortion(mirror=True), seed=1)
    found = compute_features(part, images, bundle.preprocessing, looked_at=looked_at, views=other)  # the plain ones are kept already
    assert list(found.broken) == [7]
    assert len(found.rows[1]) == 29


def test_numbers_that_float16_cannot_hold_are_refused(weights, pictures, tmp_path):
    bundle = load_bundle(weights)
    last = [module for module in FrozenPart(bundle.network).modules() if isinstance(module, nn.BatchNorm2d)][-1]
    last.weight.data *= 1e7
    save_bundle(bundle, tmp_path / "large.safetensors")
    with pytest.raises(SettingsError, match=r"expected numbers that float16 can hold, found .*; take --feature-type float32"):
        cached(pictures, tmp_path / "large.safetensors", tmp_path / "run", feature_type="float16")
    assert cached(pictures, tmp_path / "large.safetensors", tmp_path / "run")[0].val.images == 6


def test_features_of_another_epsilon_are_others(weights):
    part = FrozenPart(load_bundle(weights).network)
    before = part.fingerprint
    other = FrozenPart(load_bundle(weights).network)
    for module in other.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 1e-3
    assert other.fingerprint != before
    assert FrozenPart(load_bundle(weights).network).fingerprint == before


def test_weights_of_another_epsilon_are_other_weights(pictures, tmp_path):
    path = network(tmp_path / "w.safetensors")
    run, _ = cached(pictures, path, tmp_path / "run")
    bundle = load_bundle(path)
    set_batch_norm_eps(bundle.network, 1e-3)
    save_bundle(bundle, path)
    with pytest.raises(SettingsError, match=r"expected in .*w\.safetensors batch norms that add 0 to the variance .*, found 0\.001; put"):
        train(settings_file=run.folder / "settings.toml", output=tmp_path / "again")


def test_kept_features_of_an_engine_that_is_gone_are_used_but_not_added_to(weights, pictures, tmp_path, monkeypatch):
    _, notes = cached(pictures, weights, tmp_path / "one", engine="openvino")
    assert "30 computed" in notes
    monkeypatch.setattr("provenet.engines.ways._is_there", lambda module: module != "openvino")
    _, notes = cached(pictures, weights, tmp_path / "two")
    assert "0 computed, 30 kept from before" in notes
    _, notes = cached(pictures, weights, tmp_path / "three", views=1)
    assert "54 computed, 0 kept from before" in notes


def test_a_kept_row_that_is_damaged_and_an_engine_that_is_gone_cost_the_work_and_no_more(
    weights, pictures, tmp_path, monkeypatch, empty_cache
):
    cached(pictures, weights, tmp_path / "one", engine="openvino")
    (rows,) = empty_cache.rglob("rows.bin")
    content = bytearray(rows.read_bytes())
    content[100] ^= 255
    rows.write_bytes(content)
    monkeypatch.setattr("provenet.engines.ways._is_there", lambda module: module != "openvino")
    _, notes = cached(pictures, weights, tmp_path / "two")
    assert "openvino is not installed" in notes
    assert "and features are computed by another" in notes
    assert "30 computed, 0 kept from before" in notes


def test_no_engine_is_opened_for_a_picture_that_cannot_be_decoded(weights, pictures, tmp_path, monkeypatch):
    sorted(pictures.rglob("*.png"))[0].write_bytes(b"no picture")
    cached(pictures, weights, tmp_path / "one", skip_broken=True)
    monkeypatch.setattr("provenet.runs.features.open_engine", None)
    assert "0 computed, 29 kept from before" in cached(pictures, weights, tmp_path / "two", skip_broken=True)[1]


def test_nothing_goes_for_a_store_that_cannot_be_written(weights, pictures, tmp_path, monkeypatch, mini):
    cached(pictures, weights, tmp_path / "one")
    write_class_folders(pictures, take(mini["test"], 4, classes=3), ".bmp")
    monkeypatch.setattr("provenet.transfer.store._claim", refuse)
    monkeypatch.setattr("provenet.transfer.features.make_room", None)
    _, notes = cached(pictures, weights, tmp_path / "two")
    assert "found: Read-only file system; set PROVENET_CACHE to another folder; those that are computed now are not kept" in notes
    assert "12 computed, 30 kept from before" in notes


def refuse(_):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS))


def test_distortions_that_are_asked_for_are_not_passed_over(weights, pictures, tmp_path):
    told = Told()
    run = train(pictures, weights=str(weights), augment="cifar", output=tmp_path / "run", watcher=told, epochs=1)
    assert run.settings.transfer.mode == "head"
    assert "train a new head only, here on pictures that are distorted anew in each pass" in "\n".join(told.notes)
    assert run.settings.distortion.shift_pixels or run.settings.distortion.mirror


def test_a_head_that_is_code_is_refused_with_what_to_do(weights, pictures, tmp_path):
    with pytest.raises(SettingsError, match=r"--head: expected linear, mlp:UNITS or own, found a Sequential: .*models\.heads\.adapt"):
        train(pictures, weights=str(weights), head=nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_runs_at_once_on_one_cache(weights, pictures, tmp_path, empty_cache):
    command = [sys.executable, "-m", "provenet", "train", str(pictures), "--weights", str(weights), "--transfer", "cached", "-o"]
    runs = [subprocess.Popen([*command, str(tmp_path / name)], stderr=subprocess.PIPE, text=True) for name in ("one", "two")]
    errors = [run.communicate(timeout=200)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], errors
    assert (tmp_path / "one/model.safetensors").read_bytes() == (tmp_path / "two/model.safetensors").read_bytes()
    assert "0 computed, 30 kept from before" in cached(pictures, weights, tmp_path / "three")[1]


def test_equal_pictures_are_computed_once(weights, pictures, tmp_path):
    for number, path in enumerate(sorted((pictures / "Trouser").iterdir())[:3]):
        shutil.copy(path, pictures / "Trouser" / f"copy{number}.png")
    run, notes = cached(pictures, weights, tmp_path / "run")
    computed = int(notes.split("bytes a picture: ")[1].split(" computed")[0])
    assert computed == 30
    assert run.val.images + sum(load_bundle(run.folder).provenance["data"]["classes"]["train"].values()) == 33


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"augment": "cifar"}, r"--transfer cached: expected no distortion without --views"),
        ({"mirror": True}, r"--transfer cached: expected no distortion without --views"),
        ({"views": 2000}, r"--views\): expected 0 to 1000, found 2000"),
        ({"views": 2, "augment": "modern"}, r"whose features are of one picture each"),
        ({"feature_type": "int8"}, r"--feature-type\): expected float32 or float16, found 'int8'"),
        ({"transfer": "head", "views": 2}, r"they are of 'cached'"),
        ({"ends_after": "conv5_x"}, r"\(--ends-after\), found 'conv5_x'; did you mean"),
    ],
)
def test_what_is_refused(wishes, says, weights, pictures, tmp_path):
    with pytest.raises(ProvenetError, match=says) as caught:
        train(pictures, weights=str(weights), output=tmp_path / "run", **{"transfer": "cached", **wishes})
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_head_of_convolutions_is_refused_with_what_to_take(pictures, tmp_path):
    path = network(tmp_path / "nin.safetensors", "nin_cifar", size=32)
    with pytest.raises(SettingsError, match=r"a head that begins with a fully connected layer, .* take --head linear"):
        cached(pictures, path, tmp_path / "run", head="own")
    assert cached(pictures, path, tmp_path / "run")[0].val.images == 6
