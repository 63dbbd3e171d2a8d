"""Distortions as settings: what they may be, how they are written down, and the papers' numbers."""

import re
from dataclasses import fields, replace
from typing import get_args

import pytest
import tomli_w

from provenet.data.distortion import Distortion
from provenet.data.preset_names import PRESET_NAMES, Augment
from provenet.data.presets import PRESETS, preset_distortion
from provenet.errors import SettingsError
from provenet.papers.paper import read_papers
from provenet.preprocessing import CIFAR_PREPROCESSING, IMAGENET_PREPROCESSING, Preprocessing
from provenet.recipes import default_distortion, default_training
from provenet.runs.settings import RunSettings, Source, read_settings, write_settings

FASHION = Preprocessing(size=28, resize=28, channels=1, mean=(0.3,), std=(0.4,))
LENET = Preprocessing(size=32, resize=28, channels=1, mean=(0.1,), std=(0.8,))


def preset(name, preprocessing=IMAGENET_PREPROCESSING, *, can_mirror=True):
    return preset_distortion(name, preprocessing, can_mirror=can_mirror)


def settings_with(distortion, model="resnet18"):
    preprocessing = IMAGENET_PREPROCESSING
    return RunSettings(
        source=Source(data="d", model=model), preprocessing=preprocessing, distortion=distortion, training=default_training(model, 1000)
    )


def test_presets_are_what_the_papers_print():
    training = {name: paper.training for name, paper in read_papers().items()}
    alexnet, vgg, resnet, googlenet = (preset(name) for name in ("alexnet", "vgg", "resnet", "googlenet"))
    assert alexnet == Distortion(shift_pixels=16, mirror=True, pca_colour=training["alexnet"]["colour_deviation"])
    assert 2 * alexnet.shift_pixels + training["alexnet"]["crop_pixels"] == 256
    assert preset("zfnet") == replace(alexnet, pca_colour=0.0)
    assert vgg.short_sides == (training["vgg"]["scale_least_pixels"], training["vgg"]["scale_most_pixels"])
    assert resnet.short_sides == (training["resnet"]["scale_least_pixels"], training["resnet"]["scale_most_pixels"])
    assert {(d.crop, d.mirror, d.pca_colour) for d in (vgg, resnet)} == {("scale", True, 0.1)}
    assert googlenet.area == (training["googlenet"]["crop_least_area"], training["googlenet"]["crop_most_area"])
    assert googlenet.aspect == (3 / 4, 4 / 3)
    assert preset("cifar", CIFAR_PREPROCESSING) == Distortion(shift_pixels=training["resnet"]["cifar_padding_pixels"], mirror=True)
    assert preset("nin", CIFAR_PREPROCESSING) == preset("cifar", CIFAR_PREPROCESSING)
    assert (preset("modern").mixup, preset("modern").cutmix, preset("modern").erase) == (0.2, 1.0, 0.25)
    assert preset("none") == Distortion()


def test_lengths_grow_with_the_window():
    large = IMAGENET_PREPROCESSING.with_size(448)
    assert preset("alexnet", large).shift_pixels == 32
    assert preset("vgg", large).short_sides == (512, 1024)
    assert preset("lenet5", LENET) == Distortion(shift_pixels=2, scale_fraction=0.15, squeeze_fraction=0.1, shear_degrees=15.0)


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize(
    "preprocessing", [IMAGENET_PREPROCESSING, CIFAR_PREPROCESSING, FASHION, LENET], ids=["224", "32", "28", "28 in 32"]
)
def test_every_preset_fits_every_size(name, preprocessing):
    distortion = preset(name, preprocessing)
    distortion.check_with(preprocessing)
    assert preset(name, preprocessing, can_mirror=False) == replace(distortion, mirror=False)
    assert distortion.mirror == (name not in ("none", "lenet5"))
    if preprocessing.size <= 64 and name in ("light", "standard", "strong", "modern"):
        assert distortion.crop == "window"
        assert distortion.shift_pixels <= preprocessing.size / 7


def test_strengths_that_no_paper_prints_are_said_to_be_ours():
    ours = {name for name, make in PRESETS.items() if re.search(r"\bours\b", make.__doc__)}
    assert ours == {"light", "standard", "strong", "lenet5", "googlenet"}
    training = read_papers()["googlenet"].training
    assert not [name for name in training if "colour" in name or "bright" in name]  # so none of its colours is the paper's


def test_names_are_in_one_list():
    assert tuple(PRESETS) == tuple(PRESET_NAMES) == get_args(Augment)
    with pytest.raises(SettingsError, match=r"no such preset 'heavy'. none \(the pictures as they are\); light .*cifar"):
        preset("heavy")


def test_the_default_is_what_it_was():
    assert default_distortion("resnet18", IMAGENET_PREPROCESSING, can_mirror=True) == Distortion(shift_pixels=16, mirror=True)
    assert default_distortion("lenet5", LENET, can_mirror=True) == Distortion()


@pytest.mark.parametrize("name", PRESETS)
def test_settings_are_written_and_read(name, tmp_path):
    settings = settings_with(preset(name))
    write_settings(settings, tmp_path / "settings.toml")
    assert read_settings(tmp_path / "settings.toml") == settings
    assert set(settings.to_dict()["distortion"]) == {field.name for field in fields(Distortion)}


def test_what_a_file_leaves_out_of_distortions_does_nothing():
    values = settings_with(Distortion()).to_dict()
    values["distortion"] = {"shift_pixels": 3, "erase": 1}
    read = RunSettings.from_dict(values).distortion
    assert read == Distortion(shift_pixels=3, erase=1.0)
    assert type(read.erase) is float


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop": "middle"}, "distortion.crop: expected one of window, scale, area, found 'middle'"),
        ({"shift_pixels": -1}, r"distortion.shift_pixels \(--shift-pixels\): expected 0 to 512 pixels, found -1"),
        (
            {"short_sides": (300, 200)},
            "distortion.short_sides: expected two lengths of 1 to 4096 pixels, the smaller first, found 300, 200",
        ),
        ({"area": (0.0, 1.0)}, "distortion.area: expected two parts of 0.001 to 1, the smaller first, found 0, 1"),
        ({"area": (0.5,)}, "distortion.area"),
        ({"aspect": (0.75, 100.0)}, "distortion.aspect: expected two numbers of 0.1 to 10"),
        ({"rotation_degrees": 181.0}, "distortion.rotation_degrees: expected 0 to 180 degrees, found 181"),
        ({"scale_fraction": 1.0}, "distortion.scale_fraction"),
        ({"squeeze_fraction": 0.95}, "distortion.squeeze_fraction"),
        ({"shear_degrees": 90.0}, "distortion.shear_degrees"),
        ({"warp_pixels": float("nan")}, "distortion.warp_pixels: expected 0 to 512 pixels, found nan"),
        ({"brightness": 1.5}, "distortion.brightness: expected 0 to 1, found 1.5"),
        ({"contrast": -0.1}, "distortion.contrast"),
        ({"saturation": 2.0}, "distortion.saturation"),
        ({"hue_degrees": float("inf")}, "distortion.hue_degrees"),
        ({"pca_colour": -1.0}, "distortion.pca_colour"),
        ({"pca_eigenvalues": (1.0, 1.0)}, "distortion.pca_eigenvalues: expected 3 numbers of 0 to 3, found 1, 1"),
        ({"pca_eigenvectors": (2.0,) * 9}, "distortion.pca_eigenvectors: expected 9 numbers of -1 to 1"),
        ({"noise": 2.0}, "distortion.noise"),
        ({"erase": 1.01}, "distortion.erase: expected 0 to 1"),
        ({"erase_area": (0.5, 0.2)}, "distortion.erase_area"),
        ({"mixup": 0.001}, "distortion.mixup: expected 0, or 0.01 to 100, found 0.001"),
        ({"cutmix": -1.0}, "distortion.cutmix"),
    ],
    ids=lambda values: next(iter(values)) if isinstance(values, dict) else "",
)
def test_what_no_distortion_can_be(values, message):
    with pytest.raises(SettingsError, match=f"^{message}") as caught:
        Distortion(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("area", 0.5, "distortion.area: expected a list of 2 numbers, found 0.5"),
        ("area", [0.5], r"distortion.area: expected a list of 2 numbers, found \[0.5\]"),
        ("area", [0.5, "1"], "distortion.area: expected a number, found '1'"),
        ("area", [0.5, True], "distortion.area: expected a number, found True"),
        ("short_sides", [256.0, 300], "distortion.short_sides: expected a whole number, found 256.0"),
        ("short_sides", [10**30, 300], "distortion.short_sides: expected a number of reasonable size"),
        ("pca_eigenvectors", [0.0] * 8, "distortion.pca_eigenvectors: expected a list of 9 numbers"),
        ("crop", 1, "distortion.crop: expected a word in quotes, found 1"),
        ("crops", "area", "distortion.crops: no such setting; did you mean 'crop'"),
        ("mirror", 1, "distortion.mirror: expected true or false, found 1"),
    ],
)
def test_files_of_strangers(name, value, message, tmp_path):
    values = settings_with(Distortion()).to_dict()
    values["distortion"][name] = value
    path = tmp_path / "settings.toml"
    with pytest.raises(SettingsError, match=message):
        RunSettings.from_dict(values)
    if value != [10**30, 300]:
        path.write_text(tomli_w.dumps(values))
        with pytest.raises(SettingsError, match=message):
            read_settings(path)


def test_settings_that_do_not_go_together_are_refused_at_once():
    with pytest.raises(SettingsError, match=r"expected 0 with training.loss 'map' \(lenet5\), found 0.2 and 1; it has no mixed labels"):
        settings_with(preset("modern"), "lenet5")
    with pytest.raises(
        SettingsError, match=r"distortion.short_sides: expected at least the 224 pixels of preprocessing.size, found 200, 300"
    ):
        settings_with(Distortion(crop="scale", short_sides=(200, 300)))
    settings_with(Distortion(short_sides=(200, 300)))  # of a crop that is not asked for nothing is asked
