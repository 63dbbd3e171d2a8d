"""What training measures and subtracts: by channel, by pixel or nothing; the same in evaluation, prediction and after a stop."""

import base64
import os
import signal
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import photo, take, write_class_folders
from provenet.__main__ import run as run_command
from provenet.data.distortion import Distortion
from provenet.data.holdout import divide
from provenet.data.index import ImageSet
from provenet.data.loader import Loader
from provenet.data.pictures import PixelArray
from provenet.data.sources import open_data
from provenet.data.squares import open_squares
from provenet.deploy.predictor import Predictor
from provenet.errors import SettingsError
from provenet.evaluation.evaluate import BATCH_SIZE
from provenet.models.lenet import INPUT_SPEC
from provenet.preprocessing import CIFAR_PREPROCESSING, MEAN_ONLY, Preprocessing
from provenet.runs.evaluate import evaluate_bundle
from provenet.runs.normalisation import measure
from provenet.runs.pictures import SPLIT_SEED
from provenet.runs.preview import preview, to_pictures
from provenet.runs.resume import resume
from provenet.runs.settings import read_settings
from provenet.runs.stop import Stopped
from provenet.runs.train import train
from provenet.runs.watcher import Silent
from provenet.training.recorder import read_log
from provenet.training.snapshot import SnapshotFolder
from provenet.weights.bundle import load_bundle, save_bundle

PLACES = np.indices((20, 20)).sum(0) * 5  # brighter to the lower right, so that the mean is another at each place


@pytest.fixture
def colours(tmp_path):
    """Forty-two pictures of two classes, 20 x 20 in colour, each channel with a mean of its own."""
    rng = np.random.default_rng(1)
    for number in range(42):
        pixels = (PLACES[..., None] * np.array([1.2, 0.7, 0.3]) + rng.integers(0, 20, (20, 20, 3))).clip(0, 255).astype(np.uint8)
        path = tmp_path / "colours" / ("near", "far")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels if number % 2 else 255 - pixels).save(path)
    return tmp_path / "colours"


def decode_all(images):
    return np.stack([np.asarray(Image.open(images.pictures.file(k)), np.float64) for k in range(len(images))])


def begin(data, folder, **wishes):
    """A short run; -> it, and its training pictures."""
    run = train(data, "resnet8_cifar", output=folder, **{"epochs": 1, "batch_size": 8, "precision": "float32", **wishes})
    return run, divide(open_data(data), val_fraction=run.settings.source.val_fraction, seed=SPLIT_SEED).train


def test_the_mean_image_is_that_of_the_training_pictures_alone(colours, tmp_path):
    run, images = begin(colours, tmp_path / "run", mean="pixel")
    preprocessing = run.settings.preprocessing
    assert len(images) == 34  # the other eight are validated on
    pixels = decode_all(images)
    assert np.abs(preprocessing.mean_image.levels() - pixels.mean(0)).max() <= 1 / 512 + 1e-9
    everything = decode_all(open_data(colours).splits["all"])
    assert np.abs(preprocessing.mean_image.levels() - everything.mean(0)).max() > 1 / 256
    assert preprocessing.mean == pytest.approx(pixels.mean((0, 1, 2)) / 255, abs=6e-5)
    assert preprocessing.std == pytest.approx((pixels / 255).std((0, 1, 2)), abs=6e-5)


def test_training_subtracts_it(colours, tmp_path):
    """The batches of a run's own settings: each pixel minus the mean of its place, over the deviation."""
    run, images = begin(colours, tmp_path / "run", mean="pixel")
    preprocessing = read_settings(run.folder / "settings.toml").preprocessing
    pixels, (squares, _) = decode_all(images), open_squares(images.pictures, preprocessing, num_threads=1, is_exact=False)
    means = np.rint(pixels.mean(0) * 256) / 256
    for distortion in (Distortion(), Distortion(brightness=1e-9)):  # the quick road, and that of colours
        loader = Loader(squares, np.arange(len(images)), preprocessing, batch_size=17, seed=3, distortion=distortion)
        batches = list(loader.training_batches(0, 2))
        assert sorted(torch.cat([batch.labels for batch in batches]).tolist()) == list(range(34))
        for batch in batches:
            by_hand = (pixels[batch.labels] - means) / 255 / np.array(preprocessing.std)
            np.testing.assert_allclose(batch.images.permute(0, 2, 3, 1).numpy(), by_hand, rtol=0, atol=1e-5)


def test_the_window_counts_as_evaluation_shows_it(tmp_path, mini):
    """Cropped from a larger square of oblong pictures, or with a black border: the mean of what evaluation shows."""
    for seed in range(12):
        photo(tmp_path / "oblong" / "ab"[seed % 2] / f"{seed}.png", seed, (50 + seed, 70 - 2 * seed))
        photo(tmp_path / "large" / "ab"[seed % 2] / f"{seed}.jpg", seed, (200 + seed, 170))  # which training decodes at a half
    oblong, large = (open_data(tmp_path / name).splits["all"] for name in ("oblong", "large"))
    clothes = mini["train"].select(np.arange(100))
    writeable = clothes.pictures.pixels.copy()
    writeable.flags.writeable = False
    read_only = ImageSet("read-only", clothes.classes, clothes.labels, PixelArray(writeable, "read-only"))
    cases = (
        (oblong, replace(MEAN_ONLY, size=24, resize=32)),
        (oblong, replace(MEAN_ONLY, size=24, resize=32, channel_order="BGR")),
        (large, replace(MEAN_ONLY, size=24, resize=32)),
        (clothes, INPUT_SPEC.preprocessing),
        (read_only, INPUT_SPEC.preprocessing),
    )
    for images, rule in cases:
        found = measure(rule, "nothing", "pixel", images)
        shown = replace(rule, mean=(0.0,) * rule.channels, std=(1.0,) * rule.channels, white=255.0, channel_order="RGB")
        squares, _ = open_squares(images.pictures, shown, num_threads=1)
        batches = Loader(squares, images.labels, shown, batch_size=5).evaluation_batches()
        mean = torch.cat([batch.images for batch in batches]).double().mean(0).permute(1, 2, 0).numpy()
        assert np.abs(found.mean_image.levels() - mean).max() <= 1 / 512 + 1e-4
        assert found.std == rule.std
    assert (found.mean_image.levels()[0] == 0).all()  # the border


def test_no_order_and_no_number_of_threads_changes_it(colours, monkeypatch):
    images = open_data(colours).splits["all"]
    rule = CIFAR_PREPROCESSING.with_size(20)
    found = [measure(rule, "nothing", "pixel", some) for some in (images, images.select(np.arange(len(images))[::-1]))]
    monkeypatch.setattr("provenet.runs.normalisation.BYTES_AT_ONCE", 5 * 20 * 20 * 3)
    monkeypatch.setattr("provenet.runs.normalisation.count_cores", lambda: 7)
    told = []
    found.append(measure(rule, "nothing", "pixel", images, lambda what, done, total: told.append((what, done, total))))
    assert found[0].mean_image == found[1].mean_image == found[2].mean_image
    assert told == [("measuring the mean image", done, 42) for done in (5, 10, 15, 20, 25, 30, 35, 40, 42)]


def test_broken_pictures_do_not_count(colours):
    images = open_data(colours).splits["all"]
    rule = CIFAR_PREPROCESSING.with_size(20)
    expected = decode_all(images)[1:].mean(0)
    images.pictures.file(0).write_bytes(b"no picture")
    found = measure(rule, "nothing", "pixel", images)
    assert np.abs(found.mean_image.levels() - expected).max() <= 1 / 512 + 1e-9
    for index in range(len(images)):
        images.pictures.file(index).write_bytes(b"no picture")
    assert measure(rule, "mean and deviation", "pixel", images) == rule  # they are named when they are read


@pytest.mark.parametrize("measured", ["nothing", "mean", "mean and deviation"])
def test_only_the_mean_depends_on_what_is_asked(colours, measured):
    images = open_data(colours).splits["all"]
    pixels = decode_all(images) / 255
    rule = replace(CIFAR_PREPROCESSING.with_size(20), channel_order="BGR", std=(0.1, 0.2, 0.3))
    found = {mean: measure(rule, measured, mean, images) for mean in (None, "channel", "pixel", "none")}
    of_blue_first = pixels.mean((0, 1, 2))[::-1]
    assert found[None].mean == (rule.mean if measured == "nothing" else pytest.approx(of_blue_first, abs=6e-5))
    assert found["channel"].mean == found["pixel"].mean == pytest.approx(of_blue_first, abs=6e-5)
    assert found["none"].mean == (0, 0, 0)
    assert {mean for mean, rule in found.items() if rule.mean_image} == {"pixel"}
    std = pytest.approx(pixels.std((0, 1, 2))[::-1], abs=6e-5) if measured == "mean and deviation" else rule.std
    assert all(rule.std == std for rule in found.values())
    seen = found["channel"].normalise(torch.from_numpy(decode_all(images).astype(np.uint8)))
    assert seen.mean((0, 2, 3)).abs().max() < 2e-3  # red loses the mean of red


def test_nothing_is_subtracted_if_nothing_is_asked(colours, tmp_path):
    run, images = begin(colours, tmp_path / "run", mean="none")
    preprocessing = load_bundle(run.folder).preprocessing
    assert preprocessing.mean == (0, 0, 0)
    black = preprocessing.normalise(torch.zeros(1, 20, 20, 3, dtype=torch.uint8))
    assert (black == 0).all()
    assert preprocessing.std == pytest.approx((decode_all(images) / 255).std((0, 1, 2)), abs=6e-5)


def test_validation_evaluation_and_prediction_see_the_same_to_the_bit(tmp_path, mini):
    images = take(mini["train"], per_class=30, classes=3)
    write_class_folders(tmp_path / "clothes" / "train", images)
    write_class_folders(tmp_path / "clothes" / "val", take(mini["test"], per_class=13, classes=3))
    run = train(tmp_path / "clothes", "lenet5_softmax", output=tmp_path / "run", epochs=2, mean="pixel", precision="float32")
    assert evaluate_bundle(run.folder, tmp_path / "clothes", split="val") == run.val
    predictor = Predictor.load(run.folder, device="cpu")
    val = open_data(tmp_path / "clothes").splits["val"]
    files = [val.pictures.file(index) for index in range(len(val))]
    preprocessing = predictor.bundle.preprocessing
    squares, _ = open_squares(val.pictures, preprocessing, num_threads=1)
    batches = list(Loader(squares, val.labels, preprocessing, batch_size=BATCH_SIZE).evaluation_batches())
    assert torch.equal(torch.cat([predictor.see(file) for file in files]), torch.cat([batch.images for batch in batches]))
    predictions = list(predictor(files))
    right = sum(prediction.label == val.classes[label] for prediction, label in zip(predictions, val.labels, strict=True))
    assert right / len(files) == run.val.top1


class Stop(Silent):
    """A watcher that stops after a step."""

    def step(self, record):
        if record.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_stopped_run_goes_on_to_the_same_bytes_and_its_settings_train_it_again(colours, tmp_path):
    whole, _ = begin(colours, tmp_path / "whole", mean="pixel", epochs=3)
    with pytest.raises(Stopped):
        begin(colours, tmp_path / "run", mean="pixel", epochs=3, watcher=Stop())
    snapshot = SnapshotFolder(tmp_path / "run" / "snapshot").read_newest(print)
    assert snapshot.facts["run"]["settings"]["preprocessing"]["mean_image"] == whole.settings.preprocessing.mean_image.fingerprint()
    resumed = resume(tmp_path / "run")
    assert resumed.settings == whole.settings
    assert resumed.bundle_path.read_bytes() == whole.bundle_path.read_bytes()
    again = train(settings_file=whole.folder / "settings.toml", output=tmp_path / "again")
    assert again.bundle_path.read_bytes() == whole.bundle_path.read_bytes()


def test_another_mean_image_is_another_run(colours, tmp_path):
    with pytest.raises(Stopped):
        begin(colours, tmp_path / "run", mean="pixel", epochs=3, watcher=Stop())
    path = tmp_path / "run" / "settings.toml"
    settings = path.read_text()
    image = read_settings(path).preprocessing.mean_image
    other = replace(image, content=image.content[::-1])
    for changed in (settings.replace(image.to_text(), other.to_text()), settings.replace(f'mean_image = "{image.to_text()}"\n', "")):
        path.write_text(changed)
        with pytest.raises(SettingsError, match=r"expected preprocessing.mean_image = '20x20x3 [0-9a-f]{16}', with which the run began"):
            resume(tmp_path / "run")
    path.write_text(settings)
    resume(tmp_path / "run")


def test_the_bundle_carries_it_and_shows_its_fingerprint_only(colours, tmp_path):
    run, _ = begin(colours, tmp_path / "run", mean="pixel")
    bundle, image = load_bundle(run.folder), run.settings.preprocessing.mean_image
    assert bundle.preprocessing == run.settings.preprocessing == bundle.network.input_spec.preprocessing
    save_bundle(bundle, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == run.bundle_path.read_bytes()
    told = bundle.provenance["settings"]["preprocessing"]["mean_image"]
    start = next(read_log(run.folder / "log.jsonl").__iter__())
    assert told == image.fingerprint() == start["settings"]["preprocessing"]["mean_image"]
    assert told.startswith("20x20x3 ")
    for page in ("report.html", "README.md", "log.jsonl"):
        text = (run.folder / page).read_text()
        assert image.to_text()[:40] not in text
        assert told in text


def refused(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        run_command([str(word) for word in words])
    out, err = capsys.readouterr()
    assert ended.value.code == 2
    assert not out
    assert err.count("\n") == 1
    return err


def test_tampered_settings_are_one_line_and_status_2(colours, tmp_path, capsys):
    run, _ = begin(colours, tmp_path / "run", mean="pixel")
    image = run.settings.preprocessing.mean_image
    settings = (run.folder / "settings.toml").read_text()
    bomb = base64.b64encode(zlib.compress(bytes(2**20))).decode()
    capsys.readouterr()
    for text, message in (
        ("not base64", "preprocessing.mean_image: expected means as base64 of zlib, found something else"),
        (bomb, "preprocessing.mean_image: expected 20x20x3 means, 2,400 bytes, found more"),
        (replace(image, side=10, content=image.content[:600]).to_text(), "expected 20x20x3 means, 2,400 bytes, found 600"),
    ):
        (tmp_path / "tampered.toml").write_text(settings.replace(image.to_text(), text))
        err = refused(capsys, "train", "--settings", tmp_path / "tampered.toml", "-o", tmp_path / "never")
        assert message in err
    assert not (tmp_path / "never").exists()


def test_what_cannot_be_asked_is_one_line_and_status_2(colours, tmp_path, capsys):
    assert "--mean" in refused(capsys, "train", colours, "--mean", "median")
    with pytest.raises(SettingsError, match="--mean: expected channel, pixel or none, found 'median'"):
        train(colours, mean="median")
    err = refused(capsys, "train", colours, "--model", "resnet18", "--mean", "pixel", "--size", "640", "-o", tmp_path / "never")
    assert "expected a window of 1 to 512 pixels, found 640; choose a smaller --size or --mean channel" in err
    (tmp_path / "some.toml").write_text("")
    err = refused(capsys, "train", "--settings", tmp_path / "some.toml", "--mean", "none")
    assert "--mean none: expected nothing here, the file of --settings decides it" in err


def test_a_preview_shows_pictures_as_they_are(colours, tmp_path):
    """What is subtracted is put back before it is drawn."""
    settings = preview(colours, "resnet8_cifar", output=tmp_path / "sheet.png", num_pictures=2, mean="pixel")
    preprocessing = settings.preprocessing
    assert preprocessing.mean_image is not None
    images = open_data(colours).splits["all"]
    pixels = decode_all(images).astype(np.uint8)
    for rule in (preprocessing, replace(preprocessing, channel_order="BGR"), replace(preprocessing, white=255.0, std=(60.0, 50.0, 40.0))):
        shown = np.stack([np.asarray(picture) for picture in to_pictures(rule.normalise(torch.from_numpy(pixels)), rule)])
        assert (shown == pixels).all()


def test_old_settings_and_bundles_have_no_mean_image(trained):
    assert trained.settings.preprocessing.mean_image is None
    assert "mean_image" not in (trained.folder / "settings.toml").read_text()
    assert isinstance(load_bundle(trained.folder).preprocessing, Preprocessing)
    assert b"mean_image" not in trained.bundle_path.read_bytes()
