"""Whole runs on real pictures: what they leave, and that two roads to one number agree."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import provenet as pn
from conftest import take, write_class_folders
from provenet.data.holdout import divide, hold_out
from provenet.data.loader import Loader
from provenet.data.sources import open_data
from provenet.data.squares import open_squares
from provenet.deploy.predictor import Predictor
from provenet.errors import DataError, SettingsError
from provenet.evaluation.evaluate import BATCH_SIZE, compute_logits
from provenet.runs.evaluate import evaluate_bundle
from provenet.runs.pictures import SPLIT_SEED
from provenet.runs.plan import choose_model, choose_preprocessing
from provenet.runs.settings import Source, read_settings
from provenet.runs.train import train
from provenet.runs.watcher import Silent
from provenet.runs.wishes import Wishes
from provenet.weights.bundle import load_bundle


class Heard:
    """A watcher that remembers its notes."""

    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)

    def progress(self, what, done, total):
        pass

    def step(self, record):
        pass

    def epoch(self, record, total_epochs):
        pass


def weights(run):
    return load_bundle(run.folder).network.state_dict()


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_what_a_run_leaves_behind(trained):
    assert sorted(path.name for path in trained.folder.iterdir()) == [
        ".lock",
        "README.md",
        "log.jsonl",
        "model.safetensors",
        "report.html",
        "settings.toml",
    ]
    events = [json.loads(line) for line in (trained.folder / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events if event["event"] != "step"] == ["start", "epoch", "epoch", "end"]
    assert events[-1]["test"]["top1"] == trained.test.top1
    bundle = load_bundle(trained.folder)
    assert bundle.classes[0] == "T-shirt/top"
    assert bundle.provenance["settings"] == trained.settings.to_dict() == tomllib.loads((trained.folder / "settings.toml").read_text())
    assert bundle.provenance["metrics"]["test"]["top1"] == trained.test.top1
    assert bundle.provenance["data"]["images"] == {"train": 4_800, "val": 1_200, "test": 1_000}
    assert set(bundle.provenance["versions"]) == {"provenet", "torch", "python"}


def test_it_learns(trained):
    assert trained.val.top1 > 0.7  # chance is 0.1


def test_evaluate_finds_what_the_run_found(trained):
    again = evaluate_bundle(trained.bundle_path, "fashion-mini")
    assert again == trained.test


def test_predict_sees_what_validation_saw_to_the_bit(trained, tmp_path, mini):
    images = take(mini["test"], per_class=13)  # 130 pictures: two whole batches and a rest
    write_class_folders(tmp_path / "test", images)
    files = sorted((tmp_path / "test").glob("*/*.png"), key=lambda path: path.name)
    order = np.argsort([int(path.stem) for path in files])
    bundle = load_bundle(trained.folder)
    squares, _ = open_squares(images.pictures, bundle.preprocessing, num_threads=1)
    batches = list(Loader(squares, images.labels, bundle.preprocessing, batch_size=BATCH_SIZE).evaluation_batches())
    predictor = Predictor(bundle, device="cpu")
    seen = torch.cat([predictor.see(files[k]) for k in order])
    assert torch.equal(seen, torch.cat([batch.images for batch in batches]))

    probabilities = torch.cat([logits.double().softmax(1) for logits, _ in compute_logits(bundle.network, batches)])
    predictions = list(predictor(files[k] for k in order))
    assert [prediction.probability for prediction in predictions] == probabilities.max(1).values.tolist()
    assert [bundle.classes.index(prediction.label) for prediction in predictions] == probabilities.argmax(1).tolist()
    right = sum(prediction.label.replace("/", "-") == files[k].parent.name for prediction, k in zip(predictions, order, strict=True))
    folder_evaluation = evaluate_bundle(
        replace(bundle, classes=tuple(name.replace("/", "-") for name in bundle.classes)), tmp_path / "test"
    )
    assert right / 130 == folder_evaluation.top1


def test_top_predictions_add_up(trained, tmp_path):
    Image.new("L", (28, 28), 90).save(tmp_path / "a.png")
    (prediction,) = Predictor.load(trained.folder)([Image.open(tmp_path / "a.png")])
    assert len(prediction.top) == 5
    assert prediction.top[0] == (prediction.label, prediction.probability)
    assert 0.2 <= sum(probability for _, probability in prediction.top) <= 1 + 1e-9


def test_the_same_seed_trains_the_same_weights_and_its_settings_file_too(class_folders, tmp_path):
    data = class_folders(per_class=12)
    runs = [train(data, "resnet8_cifar", output=tmp_path / name, epochs=2, seed=5) for name in ("a", "b")]
    assert same(weights(runs[0]), weights(runs[1]))
    again = train(settings_file=tmp_path / "a" / "settings.toml", output=tmp_path / "c")
    assert again.settings == runs[0].settings
    assert same(weights(again), weights(runs[0]))
    other = train(settings_file=tmp_path / "a" / "settings.toml", output=tmp_path / "d", seed=6)
    assert not same(weights(other), weights(runs[0]))


def test_decoding_ahead_trains_the_same_weights(class_folders, tmp_path, monkeypatch):
    data = class_folders(per_class=12)
    in_memory = train(data, "resnet8_cifar", output=tmp_path / "a", epochs=2)
    monkeypatch.setattr("provenet.data.squares.LARGEST_IN_MEMORY_BYTES", 0)
    on_disk = train(data, "resnet8_cifar", output=tmp_path / "b", epochs=2)
    assert same(weights(in_memory), weights(on_disk))


def test_a_broken_picture_of_a_set_too_large_for_memory(class_folders, tmp_path, monkeypatch):
    """It is not looked for at the start: met, it is an error, or gives its turn to the next and is counted."""
    data = class_folders(per_class=12)
    monkeypatch.setattr("provenet.data.squares.LARGEST_IN_MEMORY_BYTES", 0)
    kept = open_data(data).splits["all"]
    train_part, _ = hold_out(kept, val_fraction=0.2, seed=SPLIT_SEED)
    path = train_part.pictures.file(7)
    path.write_bytes(b"no picture")
    with pytest.raises(pn.ProvenetError, match=rf"{path.name}: expected an image, found .* go on: provenet resume"):
        train(data, "resnet8_cifar", output=tmp_path / "a", epochs=1, val_fraction=0.2)
    heard = Heard()
    train(data, "resnet8_cifar", output=tmp_path / "b", epochs=2, val_fraction=0.2, skip_broken=True, watcher=heard)
    assert sum(path.name in note for note in heard.notes) == 1
    assert any(note.endswith("skipped 1 broken of 30 pictures") for note in heard.notes)


def test_the_folder_trained_on_is_evaluated_on_its_held_out_part(class_folders, tmp_path):
    data = class_folders(per_class=10)
    run = train(data, "lenet5_softmax", output=tmp_path / "run", epochs=1)
    heard = Heard()
    assert evaluate_bundle(run.folder, data, watcher=heard) == evaluate_bundle(run.folder, data, split="val") == run.val
    assert any("24 of the 30 pictures" in note and "do not count" in note for note in heard.notes)
    heard = Heard()
    assert evaluate_bundle(run.folder, data, split="all", watcher=heard).images == 30
    assert any("this is no measure" in note for note in heard.notes)
    with pytest.raises(DataError, match=r"--split test: expected a split that .* has, which are: all"):
        evaluate_bundle(run.folder, data, split="test")
    Image.new("L", (28, 28)).save(data / "Trouser" / "new.png")  # the folder grows: still nothing that was trained on
    assert evaluate_bundle(run.folder, data).images in (6, 7)
    for path in sorted((data / "Pullover").iterdir())[:3]:
        path.unlink()
    assert evaluate_bundle(run.folder, data).images <= 7


def test_other_folders_count_whole(class_folders, tmp_path):
    run = train(class_folders(per_class=10), "lenet5_softmax", output=tmp_path / "run", epochs=1)
    assert evaluate_bundle(run.folder, class_folders("other", per_class=5, split="test")).images == 15
    assert evaluate_bundle(run.folder, class_folders("one", per_class=1, classes=1, split="test")).images == 1
    with pytest.raises(DataError, match="--split val: expected a split of its own or what was held out"):
        evaluate_bundle(run.folder, tmp_path / "one", split="val")


def test_the_held_out_part_of_a_built_in_set(trained):
    assert evaluate_bundle(trained.bundle_path, "fashion-mini", split="val") == trained.val


def test_colour_photographs_train_a_resnet18_of_their_own_size(tmp_path):
    generator = np.random.default_rng(0)
    for name, hue in (("red", 0), ("blue", 2)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(6):
            pixels = generator.integers(0, 80, (50, 70, 3), dtype=np.uint8)
            pixels[..., hue] += 150
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{k}.jpg")
    run = train(tmp_path / "data", output=tmp_path / "run", epochs=1, size=32, batch_size=4)
    assert run.settings.source.model == "resnet18"
    assert (run.settings.preprocessing.size, run.settings.preprocessing.resize, run.settings.preprocessing.channels) == (32, 37, 3)
    assert run.settings.preprocessing.mean[1] == pytest.approx(40 / 255, abs=0.02)


def test_a_settings_file_may_squash_pictures_into_the_square(tmp_path):
    """What says the class stands at the picture's edge, which the middle alone never shows."""
    random = np.random.default_rng(0)
    for name, edge in (("dark", 20), ("light", 230)):
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(8):
            pixels = random.integers(90, 160, (32, 96), dtype=np.uint8)
            pixels[:, :20] = pixels[:, -20:] = edge
            Image.fromarray(pixels).save(tmp_path / "data" / name / f"{k}.png")
    usual = train(tmp_path / "data", "resnet8_cifar", output=tmp_path / "usual", epochs=8, size=32, batch_size=4, mirror=False)
    text = (tmp_path / "usual" / "settings.toml").read_text()
    assert "fit" not in text
    (tmp_path / "settings.toml").write_text(text.replace("[preprocessing]\n", '[preprocessing]\nfit = "squash"\n'))
    run = train(settings_file=tmp_path / "settings.toml", output=tmp_path / "run")
    assert run.settings.preprocessing.fit == load_bundle(run.folder).preprocessing.fit == "squash"
    assert 'fit = "squash"' in (tmp_path / "run" / "settings.toml").read_text()
    assert "the whole of it squashed to 32 x 32 pixels" in (tmp_path / "run" / "README.md").read_text()
    assert evaluate_bundle(run.folder, tmp_path / "data").top1 == 1.0
    predictions = list(Predictor.load(run.folder)(sorted((tmp_path / "data").glob("*/*.png"))))
    assert [prediction.label for prediction in predictions] == ["dark"] * 8 + ["light"] * 8
    assert evaluate_bundle(usual.folder, tmp_path / "data").top1 < 1.0


def test_broken_pictures_stop_a_run_before_it_begins_unless_asked(class_folders, tmp_path):
    data = class_folders(per_class=8)
    (data / "Trouser" / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    (data / "Dress").mkdir(exist_ok=True)
    (data / "Dress").rmdir()
    (data / "Pullover" / "none.jpg").touch()
    with pytest.raises(DataError, match=r"(bad.png|none.jpg): expected an image.*; or go on without with --skip-broken"):
        train(data, "lenet5_softmax", output=tmp_path / "run", epochs=1)
    assert not (tmp_path / "run").exists()  # it never began
    heard = Heard()
    run = train(data, "lenet5_softmax", output=tmp_path / "run", epochs=1, skip_broken=True, watcher=heard)
    skipped = [note for note in heard.notes if note.startswith("skipped: ")]
    assert len(skipped) == 2
    assert run.val.images + load_bundle(run.folder).provenance["data"]["images"]["train"] == 24


def test_skipping_never_empties_a_class(class_folders, tmp_path):
    data = class_folders(per_class=4, classes=2)
    for path in (data / "Trouser").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="expected a picture that can be decoded in class 'Trouser', found none"):
        train(data, "lenet5_softmax", output=tmp_path / "run", skip_broken=True)


def test_a_broken_picture_does_not_take_a_small_class_out_of_validation(class_folders, tmp_path):
    data = class_folders(per_class=5, classes=2)
    held_out = divide(open_data(data), val_fraction=0.2, seed=0).val
    (data / held_out.pictures.paths[0]).write_bytes(b"")
    run = train(data, "lenet5_softmax", output=tmp_path / "run", epochs=1, skip_broken=True)
    assert run.val.images == 1


def test_a_training_that_goes_astray_says_so_and_keeps_nothing_bad(class_folders, tmp_path):
    data = class_folders(per_class=10)
    with pytest.raises(pn.ProvenetError, match=r"lower --learning-rate|try --learning-rate"):
        train(data, "resnet8_cifar", output=tmp_path / "run", epochs=1, learning_rate=1e4)
    assert not (tmp_path / "run" / "model.safetensors").exists()
    with pytest.raises(SettingsError, match=r"peak_learning_rate .--learning-rate.: expected a number above 0 and up to 10000, found 0"):
        train(data, "resnet8_cifar", output=tmp_path / "run2", learning_rate=0, batch_size=4)
    with pytest.raises(pn.ProvenetError, match=r"a part of 1 images: Expected more than 1 value.*take a larger --batch-size"):
        train(data, "resnet18", output=tmp_path / "run3", epochs=1, size=32, batch_size=1)


def test_an_empty_folder_of_ones_own_is_not_removed(class_folders, tmp_path):
    (tmp_path / "mine").mkdir()
    data = class_folders(per_class=4, classes=2)
    next(data.glob("*/*.png")).write_bytes(b"")
    with pytest.raises(DataError):
        train(data, "lenet5_softmax", output=tmp_path / "mine")
    assert (tmp_path / "mine").exists()


def test_a_rotated_photograph_is_upright_by_path_and_as_a_picture(trained, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.tile(np.arange(0, 224, 8, dtype=np.uint8), (28, 1))).save(tmp_path / "turned.png", exif=exif)
    predictor = Predictor.load(trained.folder)
    assert torch.equal(predictor.see(tmp_path / "turned.png"), predictor.see(Image.open(tmp_path / "turned.png")))
    Image.effect_noise((64, 64), 90).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:900])
    broken = []
    with Image.open(tmp_path / "cut.png") as cut:
        assert not list(predictor([tmp_path / "cut.png", cut], on_broken=broken.append))
    assert len(broken) == 2


def test_run_folders_are_never_overwritten(class_folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = class_folders("my pictures", per_class=4, classes=2)
    names = [train(data, "lenet5_softmax", epochs=1).folder.as_posix() for _ in range(2)]
    assert names == ["runs/my-pictures-lenet5_softmax", "runs/my-pictures-lenet5_softmax-2"]
    with pytest.raises(SettingsError, match="expected a new or empty folder, found one in use"):
        train(data, "lenet5_softmax", output=names[0])
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="found one in use"):
        train(data, "lenet5_softmax", output=tmp_path / "file")
    with pytest.raises(SettingsError, match="expected to make a run folder"):
        train(data, "lenet5_softmax", output=tmp_path / "file" / "below")


def test_what_the_network_sees_is_chosen_by_network_and_data(mini):
    def choose(model, init="trainable", size=None, channels=None):
        return choose_preprocessing(Source(data="fashion-mini", model=model, init=init), mini["train"], size=size, channels=channels)

    lenet = choose("lenet5")
    assert (lenet.size, lenet.resize, lenet.channels) == (32, 28, 1)
    resnet = choose("resnet20_cifar")
    assert (resnet.size, resnet.resize, resnet.channels) == (28, 28, 1)
    pixels = mini["train"].pictures.pixels / 255
    assert (resnet.mean[0], resnet.std[0]) == pytest.approx((pixels.mean(), pixels.std()), abs=0.01)
    assert choose("resnet20_cifar", size=40, channels=3).channels == 3
    alexnet = choose("alexnet", init="published")  # its paper subtracts a mean from 0 to 255, and its layers have one size
    assert (alexnet.size, alexnet.white, alexnet.std) == (227, 255.0, (1.0,))
    assert alexnet.mean[0] == pytest.approx(pixels.mean() * 255, abs=2)
    cured = choose("alexnet", size=67)
    assert (cured.size, cured.resize, cured.white) == (67, 76, 1.0)
    assert (alexnet.resize, choose("googlenet").size) == (256, 224)
    assert (cured.mean[0], cured.std[0]) == pytest.approx((pixels.mean(), pixels.std()), abs=0.02)
    with pytest.raises(SettingsError, match="lenet5 needs at least 32 pixels"):
        choose("lenet5", size=28)
    with pytest.raises(SettingsError, match="resnet18 needs at least 32 pixels"):
        choose("resnet18", size=20)
    with pytest.raises(SettingsError, match=r"expected 1 .grey. or 3"):
        choose("resnet18", size=32, channels=4)


def test_a_network_with_auxiliary_heads_trains_and_leaves_them(class_folders, tmp_path, capsys):
    """From the first step to the bundle, which has none of them."""
    data = class_folders(per_class=8, classes=2)
    told = []

    class Listener(Silent):
        def note(self, message):
            told.append(message)

    run = train(data, "googlenet_toy", output=tmp_path / "run", epochs=1, size=64, batch_size=4, watcher=Listener())
    assert any("googlenet_toy begins with He initialisation" in note and "(--init published for that)" in note for note in told)
    bundle = load_bundle(run.folder)
    assert len(bundle.network.training_logits(torch.zeros(1, 1, 64, 64))) == 1
    assert not [name for name in bundle.network.state_dict() if name.startswith("auxiliary")]
    assert len(list(Predictor.load(run.folder)([Image.new("L", (64, 64), 90)]))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("epochs = 1.0", "epochs = " + "9" * 5000), "expected TOML, found something else"),
        (("seed = 0", "seed = 0x" + "f" * 5000), "training.seed: expected a number of reasonable size"),
        (("peak_learning_rate = ", "peak_learning_rate = 9999999"), "a number above 0 and up to 10000"),
        (("[run]", "a = " + "[" * 20_000 + "[run]"), "expected TOML, found something else"),
        (("epochs = 1.0", "epochs = 'many'"), "training.epochs: expected a number, found 'many'"),
        (("batch_size = 8", "batch_size = 8.5"), "training.batch_size: expected a whole number, found 8.5"),
        (("momentum = 0.9", "momentun = 0.9"), "training.momentun: no such setting; did you mean 'momentum'"),
        (("momentum = 0.9\n", ""), "training.momentum: expected a value, found none"),
        (("mirror = false", "mirror = 1"), "distortion.mirror: expected true or false, found 1"),
        (("[distortion]", "[distortions]"), r"expected a section \[distortion\], found none"),
        (("[run]", "[run"), "expected TOML, found something else"),
        (('model = "lenet5_softmax"', 'model = "lenet7"'), "unknown network 'lenet7'"),
        (("size = 32", "size = 31"), "expected at least 32 pixels"),
        (('init = "trainable"', 'init = "random"'), r"run.init \(--init\): expected published or trainable, found 'random'"),
    ],
)
def test_settings_files_that_cannot_be_used(class_folders, tmp_path, change, message):
    data = class_folders(per_class=4, classes=2)
    run = train(data, "lenet5_softmax", output=tmp_path / "run", epochs=1)
    path = run.folder / "settings.toml"
    text = path.read_text()
    assert change[0] in text
    path.write_text(text.replace(change[0], change[1], 1))
    with pytest.raises(pn.ProvenetError, match=message) as caught:
        train(settings_file=path, output=tmp_path / "again")
    assert "\n" not in str(caught.value)


def test_what_the_settings_file_decides_cannot_be_given_too(trained):
    assert read_settings(trained.folder / "settings.toml") == trained.settings
    with pytest.raises(SettingsError, match="--model lenet5: expected nothing here"):
        train(settings_file=trained.folder / "settings.toml", model="lenet5")
    with pytest.raises(SettingsError, match="expected a settings file, found nothing readable"):
        train(settings_file=trained.folder / "nowhere.toml")
    with pytest.raises(SettingsError, match="found something that is no file"):
        train(settings_file="/dev/null")
    with pytest.raises(SettingsError, match="number of reasonable size for 'batch_size'"):
        train("fashion-mini", batch_size=10**400)
    with pytest.raises(SettingsError, match="expected DATA"):
        train()


def test_the_network_is_chosen_by_the_pictures(class_folders, mini):
    assert choose_model(mini["train"]) == "lenet5"
    folder = class_folders(per_class=4)
    assert choose_model(open_data(folder).splits["all"]) == "lenet5"
    for path in folder.glob("*/*.png"):
        Image.open(path).convert("RGB").resize((30, 40)).save(path)
    images = open_data(folder).splits["all"]
    assert (choose_model(images), images.pictures.native_side()) == ("resnet20_cifar", None)
    for path in folder.glob("*/*.png"):
        Image.open(path).resize((90, 70)).save(path)
    assert choose_model(open_data(folder).splits["all"]) == "resnet18"


def test_one_picture_need_not_be_a_list(trained, tmp_path):
    Image.new("L", (28, 28), 90).save(tmp_path / "a.png")
    predictor = Predictor.load(trained.folder)
    assert list(predictor(str(tmp_path / "a.png"))) == list(predictor([tmp_path / "a.png"]))


def test_wishes_are_a_fixed_list():
    with pytest.raises(SettingsError, match="no such setting 'epoch'; did you mean 'epochs'"):
        train("fashion-mini", epoch=3)
    assert set(Wishes.__dataclass_fields__) == {
        "weights", "transfer", "head", "ends_after", "views", "feature_type", "engine", "depth_rate",
        "epochs", "batch_size", "micro_batches", "learning_rate", "weight_decay", "cycles", "class_weights", "init", "seed", "precision",
        "size", "channels", "mean", "augment", "colours", "shift_pixels", "mirror",
    }  # fmt: skip


def test_a_run_does_not_lie_among_the_pictures(class_folders, tmp_path, monkeypatch):
    data = class_folders()
    monkeypatch.chdir(data)
    for output in (None, "here", data / "deep" / "er"):
        with pytest.raises(SettingsError, match=r"expected a folder outside of the pictures, .* found one inside; choose another --output"):
            train(".", "lenet5_softmax", output=output, epochs=1)
    assert sorted(path.name for path in data.iterdir()) == ["Pullover", "T-shirt-top", "Trouser"]
