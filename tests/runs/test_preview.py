"""What is shown before training is what training computes; colours are measured as NumPy would."""

import json
import re
import shutil
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import take, write_class_folders
from provenet.data.components import measure_colours
from provenet.data.distortion import IMAGENET_EIGENVALUES, Distortion
from provenet.data.holdout import divide
from provenet.data.presets import PRESETS, preset_distortion
from provenet.data.sources import open_data
from provenet.errors import DataError, SettingsError
from provenet.preprocessing import IMAGENET_PREPROCESSING, MEAN_ONLY
from provenet.recipes import default_training
from provenet.runs.colours import find_colours, read_colours
from provenet.runs.pictures import SPLIT_SEED
from provenet.runs.plan import make_settings
from provenet.runs.preview import choose_pictures, make_rows, preview, to_pictures
from provenet.runs.settings import RunSettings, Source
from provenet.runs.train import train
from provenet.runs.watcher import Silent
from provenet.runs.wishes import make_wishes


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, mini):
    """Real pictures in real colours: clothes with their shades taken for hues, 3 classes of 12, 40 x 48 pixels."""
    folder = tmp_path_factory.mktemp("photographs")
    images = take(mini["train"], per_class=12, classes=3)
    write_class_folders(folder / "grey", images)
    for path in sorted((folder / "grey").glob("*/*")):
        shades = Image.open(path).convert("L").resize((40, 48))
        other = folder / "colour" / path.parent.name / f"{path.stem}.png"
        other.parent.mkdir(parents=True, exist_ok=True)
        Image.merge("RGB", [shades, shades.point(lambda v: v * 2 // 3 + 40), shades.rotate(90).resize((40, 48))]).save(other)
    return folder / "colour"


class Heard(Silent):
    """A watcher that remembers its notes."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def settings_for(images, distortion, preprocessing=None):
    preprocessing = preprocessing or replace(IMAGENET_PREPROCESSING, size=32, resize=36)
    training = default_training("resnet18", len(images))
    return RunSettings(source=Source(data="d", model="resnet18"), preprocessing=preprocessing, distortion=distortion, training=training)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_drawn(name, photographs, tmp_path):
    path = tmp_path / "sheet.png"
    settings = preview(photographs, "resnet18", output=path, num_pictures=3, augment=name, size=32)
    assert settings.distortion == preset_distortion(name, settings.preprocessing, can_mirror=True)
    with Image.open(path) as sheet:
        assert sheet.size == (2 * 24 + 9 * 144 + 8 * 14 + 20, 66 + 24 + 3 * (144 + 18 + 14) - 14 + 24)
        colours = sheet.getcolors(10**6)
    assert len(colours) > 500


def test_without_distortion_every_variant_is_what_evaluation_sees(photographs):
    images = choose_pictures(open_data(photographs).splits["all"], 5)
    assert images.labels.tolist() == [0, 1, 2, 0, 1]
    for preprocessing in (replace(IMAGENET_PREPROCESSING, size=32, resize=32), replace(MEAN_ONLY, size=32, resize=32, channel_order="BGR")):
        rows = make_rows(images, settings_for(images, Distortion(), preprocessing))
        assert [row.label for row in rows] == [0, 1, 2, 0, 1]
        for number, row in enumerate(rows):
            assert len(row.variants) == 8
            square = np.asarray(images.pictures.square(number, preprocessing)).astype(int)
            assert np.abs(np.asarray(row.plain).astype(int) - square).max() <= 1
            for variant in row.variants:
                assert variant.parts == []
                difference = np.abs(np.asarray(variant.image).astype(int) - np.asarray(row.plain).astype(int))
                assert (difference.max() <= 16, difference.mean() < 0.5) == (True, True)  # training resizes by torch, evaluation by Pillow


def test_mixtures_are_named_with_their_parts(photographs):
    images = choose_pictures(open_data(photographs).splits["all"], 6)
    rows = make_rows(images, settings_for(images, Distortion(cutmix=1.0, mixup=0.4)))
    mixed = [variant.parts for row in rows for variant in row.variants if variant.parts]
    assert len(mixed) > 30
    assert all(sum(part for _, part in parts) == pytest.approx(1, abs=0.011) for parts in mixed)
    assert all(parts[0][0] == row.label for row in rows for parts in [v.parts for v in row.variants] if len(parts) == 2)


def test_images_come_back_as_they_were():
    windows = torch.randint(0, 256, (3, 8, 8, 3), dtype=torch.uint8)
    for preprocessing in (replace(IMAGENET_PREPROCESSING, size=8), replace(MEAN_ONLY, size=8, channel_order="BGR")):
        for window, image in zip(windows, to_pictures(preprocessing.normalise(windows), preprocessing), strict=True):
            assert np.array_equal(np.asarray(image), window.numpy())


@pytest.mark.parametrize("find", ["preview", "colours"])
def test_broken_and_missing_pictures_are_an_error_unless_they_are_to_be_skipped(photographs, tmp_path, find):
    """As for training: in class folders a broken picture, in a manifest one that is missing too."""
    folder = shutil.copytree(photographs, tmp_path / "clothes")
    first = divide(open_data(folder), val_fraction=0.2, seed=SPLIT_SEED).train.pictures.paths[0]
    (folder / first).write_bytes(b"nothing")
    rows = [f"{path.relative_to(folder)},{path.parent.name}\n" for path in sorted(folder.glob("*/*"))]
    (folder / "list.csv").write_text("path,label\n" + "".join(rows) + "gone.png,Trouser\n")
    broken, missing = f"{first}: expected an image.*with --skip-broken", "found 1 of them missing.*--skip-broken"
    for data, message in ((folder, broken), (folder / "list.csv", missing)):
        heard = Heard()

        def run(data=data, heard=heard, **options):
            if find == "colours":
                return find_colours(data, watcher=heard, **options)
            return preview(data, "lenet5_softmax", output=tmp_path / "sheet.png", num_pictures=40, watcher=heard, **options)

        with pytest.raises(DataError, match=message):
            run()
        assert not (tmp_path / "sheet.png").exists()
        run(skip_broken=True)
        (tmp_path / "sheet.png").unlink(missing_ok=True)
        assert sum(first in note for note in heard.notes) == 1
        assert any(re.search(r"skipped [12] broken of \d+ pictures", note) for note in heard.notes)


def test_what_no_preview_can_be(photographs, tmp_path):
    for arguments, message in (
        ({"output": "a.jpg"}, r"a.jpg: expected a file that ends in .png, found .jpg"),
        ({"output": "a.png", "num_pictures": 0}, "--pictures: expected 1 to 64, found 0"),
        ({"output": tmp_path / "no" / "a.png"}, "expected to write there, found: no folder of that name"),
        ({"output": "a.png", "augment": "heavy"}, "no such preset 'heavy'"),
        ({"output": "a.png", "colours": tmp_path / "none.toml"}, "none.toml: expected a file of colours, found nothing readable"),
    ):
        with pytest.raises(SettingsError, match=message):
            preview(photographs, "resnet18", **arguments)


def test_colours_are_those_of_numpy(photographs, tmp_path):
    images = open_data(photographs).splits["all"]
    paths = sorted(photographs.glob("*/*"))
    pixels = np.concatenate([np.asarray(Image.open(path).crop((0, 4, 40, 44))) for path in paths]).reshape(-1, 3) / 255
    parts = [torch.from_numpy(np.asarray(Image.open(path).crop((0, 4, 40, 44)))[None].copy()) for path in paths]
    found = measure_colours(parts)
    assert found == measure_colours([torch.cat(parts)]) == measure_colours([torch.cat(parts[:7]), torch.cat(parts[7:])])
    assert found.pictures == len(images) == 36
    vectors = np.array(found.pca_eigenvectors).reshape(3, 3)
    rebuilt = (vectors * found.pca_eigenvalues) @ vectors.T
    np.testing.assert_allclose(rebuilt, np.cov(pixels.T, bias=True), atol=2e-6)
    np.testing.assert_allclose(found.mean, pixels.mean(0), atol=1e-6)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=5e-6)
    assert (vectors[0] > 0).all()
    assert list(found.pca_eigenvalues) == sorted(found.pca_eigenvalues, reverse=True)
    whole = find_colours(photographs, output=tmp_path / "colours.toml")
    assert whole.pictures == 30  # of 36, of which 2 a class are held out to validate
    assert read_colours(tmp_path / "colours.toml") == whole
    assert tomllib.loads((tmp_path / "colours.toml").read_text()) == json.loads(json.dumps(vars(whole)))


def test_colours_that_cannot_be(tmp_path, mini):
    with pytest.raises(DataError, match="fashion-mini: expected pictures in colour, found grey ones"):
        find_colours("fashion-mini")
    with pytest.raises(SettingsError, match=r"c.txt: expected a file that ends in .toml, found .txt"):
        find_colours("fashion-mini", output="c.txt")
    path = tmp_path / "colours.toml"
    for text, message in (
        ("pictures = 3", "colours.toml: colours.mean: expected a value, found none"),
        ("pictures = ", "colours.toml: expected TOML"),
        ("pictures = 3\nmean = [0.1, 0.2]", "colours.toml: colours.mean: expected a list of 3 numbers"),
    ):
        path.write_text(text)
        with pytest.raises(SettingsError, match=message) as caught:
            read_colours(path)
        assert str(caught.value).count("colours.toml") == 1


def test_wishes_for_distortions(photographs, tmp_path):
    train_images = open_data(photographs).splits["all"]
    colours = find_colours(photographs, output=tmp_path / "colours.toml")

    def planned(can_mirror=True, **asked):
        source = Source(data="d", model="resnet18")
        return make_settings(source, train_images, make_wishes(asked), can_mirror=can_mirror).distortion

    assert planned() == Distortion(shift_pixels=16, mirror=True)
    alexnet = Distortion(shift_pixels=16, mirror=True, pca_colour=0.1)
    assert planned(augment="alexnet") == alexnet
    assert planned(augment="alexnet", can_mirror=False) == replace(alexnet, mirror=False)
    assert planned(augment="alexnet", can_mirror=False, mirror=True, shift_pixels=3) == replace(alexnet, shift_pixels=3)
    measured = planned(augment="alexnet", colours=tmp_path / "colours.toml")
    assert measured.pca_eigenvalues == colours.pca_eigenvalues != IMAGENET_EIGENVALUES
    assert planned(augment="none") == Distortion()


def test_a_run_with_mixed_pictures_repeats_itself(tmp_path):
    """Training with probabilities as labels, its settings in full, and the same weights from them."""
    run = train("fashion-mini", "lenet5_softmax", output=tmp_path / "one", augment="modern", epochs=0.2, seed=4)
    assert run.settings.distortion.mixup == 0.2
    again = train(settings_file=tmp_path / "one" / "settings.toml", output=tmp_path / "two")
    assert again.val == run.val
    assert again.settings.distortion == run.settings.distortion
    other = train(settings_file=tmp_path / "one" / "settings.toml", output=tmp_path / "three", augment="light")
    assert other.settings.distortion.erase == 0
    with pytest.raises(SettingsError, match="it has no mixed labels"):
        train("fashion-mini", "lenet5", output=tmp_path / "four", augment="modern")
    assert not (tmp_path / "four").exists()
