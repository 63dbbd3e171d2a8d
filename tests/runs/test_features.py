"""Features as a file: the same numbers as the network gives, with their pictures' names, for whoever learns from them."""

import json
import shutil

import numpy as np
import pytest
import torch

import provenet as pn
from conftest import take, write_class_folders
from provenet.cli import app
from provenet.data.sources import open_data
from provenet.engines.ways import REFERENCE
from provenet.errors import DataError, ProvenetError, SettingsError
from provenet.models.catalog import build_network
from provenet.preprocessing import window
from provenet.runs.features import extract_features
from provenet.runs.train import train
from provenet.runs.watcher import Silent
from provenet.weights.bundle import Bundle, load_bundle, save_bundle


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PROVENET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("provenet.runtime.prepare_process", lambda: None)


@pytest.fixture
def pictures(tmp_path, mini):
    for split in ("train", "test"):
        write_class_folders(tmp_path / "data" / split, take(mini[split], 10, classes=3))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def residual(tmp_path_factory):
    """A residual network with statistics of noise, in a bundle."""
    torch.manual_seed(3)
    net = build_network("resnet8_cifar", in_channels=1).train()
    for _ in range(5):
        net(torch.randn(16, 1, 28, 28))
    net.input_spec = net.input_spec.with_preprocessing(net.input_spec.preprocessing.with_size(28))
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_bundle(Bundle(net, tuple("0123456789"), net.input_spec.preprocessing), path)
    return path


def shown(bundle, data, split):
    """The pictures as the network sees them."""
    images = open_data(data).splits[split]
    squares = torch.stack([torch.tensor(images.pictures.square(number, bundle.preprocessing)) for number in range(len(images))])
    return bundle.preprocessing.normalise(window(squares, bundle.preprocessing.size))


@pytest.mark.parametrize("ends_after", ["", "conv3_x"])
def test_features_are_what_the_stages_give(ends_after, residual, pictures):
    found = extract_features(residual, pictures, ends_after=ends_after)
    bundle = load_bundle(residual)
    net = bundle.network.eval()
    for split in ("train", "test"):
        maps = shown(bundle, pictures, split)
        for name, stage in net.stages.items():
            with torch.inference_mode():
                maps = stage(maps)
            if name == (ends_after or list(net.stages)[-2]):
                break
        expected = maps.mean((2, 3)) if maps.ndim == 4 else maps
        np.testing.assert_allclose(found.features[found.splits == split], expected.numpy(), atol=1e-5)
    assert found.way == REFERENCE
    assert found.num_computed == 60


def test_the_names_labels_and_splits_are_those_of_the_data(residual, pictures):
    found = extract_features(residual, pictures)
    data = open_data(pictures)
    assert found.classes == data.splits["train"].classes
    for split, images in data.splits.items():
        of_split = found.splits == split
        assert found.paths[of_split].tolist() == images.pictures.keys()
        assert found.labels[of_split].tolist() == images.labels.tolist()
    only = extract_features(residual, pictures, split="test")
    assert set(only.splits) == {"test"}
    assert only.num_computed == 0
    np.testing.assert_array_equal(only.features, found.features[found.splits == "test"])


def test_the_files_say_the_same_and_hold_no_code(residual, pictures, tmp_path, capsys):
    arrays, table = tmp_path / "f.npz", tmp_path / "f.parquet"
    app(["features", str(residual), str(pictures), "-o", str(arrays)])
    assert (
        "64 features of 60 pictures, by resnet8_cifar up to pool, eager float32; 60 computed, 0 kept from before" in capsys.readouterr().out
    )
    app(["features", str(residual), str(pictures), "-o", str(table), "--json"])
    facts = json.loads(capsys.readouterr().out)
    assert facts == {
        "file": str(table), "network": "resnet8_cifar", "cut": "pool", "engine": "eager", "precision": "float32",
        "images": 60, "features": 64, "computed": 0,
    }  # fmt: skip
    read = np.load(arrays, allow_pickle=False)
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = parquet.read_table(table)
    np.testing.assert_array_equal(np.stack(rows["features"].to_numpy()), read["features"])
    assert rows["label"].to_pylist() == read["classes"][read["labels"]].tolist()
    assert rows["path"].to_pylist() == read["paths"].tolist()
    assert rows["split"].to_pylist() == read["splits"].tolist()
    assert (str(read["network"]), str(read["cut"]), str(read["way"])) == ("resnet8_cifar", "pool", "eager float32")


def test_a_head_of_scikit_learn_learns_from_the_file(trained, tmp_path, mini):
    linear = pytest.importorskip("sklearn.linear_model")
    write_class_folders(tmp_path / "data" / "train", take(mini["train"], 40))
    write_class_folders(tmp_path / "data" / "test", take(mini["test"], 20))
    found = pn.extract_features(trained.folder, tmp_path / "data")
    is_train = found.splits == "train"
    head = linear.LogisticRegression(max_iter=2000).fit(found.features[is_train], found.labels[is_train])
    assert head.score(found.features[~is_train], found.labels[~is_train]) > 0.7


def test_train_and_features_share_what_is_kept(residual, pictures, tmp_path):
    extract_features(residual, pictures)
    notes = []

    class Hears(Silent):
        def note(self, text):
            notes.append(text)

    train(pictures, weights=str(residual), transfer="cached", output=tmp_path / "run", watcher=Hears())
    assert "0 computed, 60 kept from before" in "".join(notes)


@pytest.mark.parametrize("engine", ["folded", "openvino", "onnxruntime"])
def test_every_engine_gives_them(engine, residual, pictures):
    expected = extract_features(residual, pictures)
    found = extract_features(residual, pictures, engine=engine, precision="float32")
    assert found.way[:2] == (engine, "float32")
    assert found.num_computed == 60  # its own key
    np.testing.assert_allclose(found.features, expected.features, atol=1e-4)


def test_broken_pictures(residual, pictures):
    broken = next((pictures / "train").rglob("*.png"))
    broken.write_bytes(b"no picture")
    with pytest.raises(DataError, match="or go on without with --skip-broken"):
        extract_features(residual, pictures)
    found = extract_features(residual, pictures, skip_broken=True)
    assert len(found.features) == len(found.labels) == len(found.paths) == 59
    there = set(zip(found.splits.tolist(), found.paths.tolist(), strict=True))
    assert ("train", f"{broken.parent.name}/{broken.name}") not in there
    assert ("test", f"{broken.parent.name}/{broken.name}") in there


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "f.csv"], "f.csv: expected a file that ends in .npz or .parquet, found another; name one (-o)"),
        (["-o", "no/where/f.npz"], "no/where: expected a folder to write f.npz to, found none"),
        (["-o", "f.npz", "--split", "val"], "--split val: expected a split that data has, which are: test, train"),
        (
            ["-o", "f.npz", "--ends-after", "conv9_x"],
            "before the last to end after (--ends-after), found 'conv9_x'",
        ),
        (["-o", "f.npz", "--precision", "int8"], "int8 is judged by labels, and they have none"),
    ],
)
def test_bad_input_is_a_line(words, says, residual, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProvenetError) as error:
        app(["features", str(residual), str(pictures), *words])
    assert says in str(error.value)
    assert not list(tmp_path.glob("f.*"))


def test_splits_need_not_have_the_same_classes(residual, pictures):
    shutil.rmtree(next((pictures / "test").iterdir()))
    found = extract_features(residual, pictures)
    for label, path in zip(found.labels, found.paths, strict=True):
        assert path.startswith(found.classes[label])


def test_a_network_without_weights_has_no_features(pictures):
    with pytest.raises(ProvenetError, match="resnet18"):
        extract_features("resnet18", pictures)


def test_a_full_disk_leaves_no_half_file(residual, pictures, small_disk):
    found = extract_features(residual, pictures)
    big = type(found)(**{**vars(found), "features": np.zeros((60, 4096), np.float32)})
    with pytest.raises(OSError, match="No space left"):
        big.save(small_disk / "f.npz")
    assert not list(small_disk.iterdir())


def test_settings_errors_come_before_work(residual, tmp_path):
    with pytest.raises(SettingsError, match="--engine: expected auto"):
        extract_features(residual, tmp_path / "nowhere", engine="tpu")
