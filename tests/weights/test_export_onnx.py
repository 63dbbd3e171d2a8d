"""ONNX files of bundles: run by ONNX Runtime they answer as the networks do, ensembles and temperatures included; and they read back."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from provenet.engines.with_onnxruntime import write_onnx
from provenet.errors import SettingsError, WeightsError
from provenet.evaluation.predictions import load_predictions
from provenet.models.catalog import build_network
from provenet.models.ensemble import Ensemble, Member
from provenet.preprocessing import Preprocessing
from provenet.runs.evaluate import evaluate_bundle
from provenet.weights import export_onnx
from provenet.weights.bundle import Bundle, load_bundle, save_bundle
from provenet.weights.export import export_weights
from provenet.weights.importer import import_weights

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
CLASSES = tuple("abcde")
RULE = Preprocessing(size=32, resize=40, channels=3, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))


def answers(path, images):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"images": images})[0]


def metadata(path):
    return {prop.key: json.loads(prop.value) for prop in onnx.load(path).metadata_props}


def bundle_of(name="resnet8_cifar", rule=RULE, seed=0, classes=CLASSES, **options):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build_network(name, num_classes=len(classes), in_channels=rule.channels).eval()
    net.input_spec = net.input_spec.with_preprocessing(rule)
    return Bundle(net, classes, rule, {}, **options)


def ensemble_of(members, **options):
    net = Ensemble(
        [Member(each.network, each.classes, each.preprocessing, each.temperature) for each in members], [2, 1, 1], **options
    ).eval()
    return Bundle(net, net.classes, net.input_spec.preprocessing, {})


def test_what_it_says_of_real_pictures_is_what_evaluate_says(trained, mini, tmp_path):
    """Another program's road: pixels normalised by hand from the metadata, run by ONNX Runtime."""
    path = tmp_path / "lenet.onnx"
    bundle = replace(load_bundle(trained.folder), temperature=1.7)
    save_bundle(bundle, tmp_path / "tempered.safetensors")
    lines = export_weights(bundle, "onnx", path)
    assert "float32 [N, 1, 32, 32]" in lines[0]
    about = metadata(path)
    assert about["provenet.classes"] == list(bundle.classes)
    rule = about["provenet.preprocessing"]
    pixels = np.stack([np.asarray(mini["test"].pictures.picture(n)) for n in range(200)]).astype(np.float32)
    windows = np.zeros((200, 1, rule["size"], rule["size"]), np.float32)
    border = (rule["size"] - rule["resize"]) // 2
    windows[:, 0, border : border + 28, border : border + 28] = pixels / 255 * rule["white"]
    said = answers(path, (windows - rule["mean"][0]) / rule["std"][0])
    evaluate_bundle(tmp_path / "tempered.safetensors", "fashion-mini", predictions=tmp_path / "p.csv", engine="eager")
    expected = load_predictions(tmp_path / "p.csv")[0].probabilities[:200]
    assert np.abs(torch.from_numpy(said).softmax(1).numpy() - expected.numpy()).max() < 1e-5


def test_an_ensemble_is_one_file(tmp_path):
    """Members of other sizes, other preprocessing, other classes, grey and colour."""
    grey = Preprocessing(size=32, resize=28, channels=1, mean=(0.1,), std=(0.7,))
    small = Preprocessing(size=24, resize=24, channels=3, mean=(0.5,) * 3, std=(0.25,) * 3, channel_order="BGR")
    members = [
        bundle_of(),
        bundle_of("lenet5_softmax", grey, 1, temperature=3.0),
        bundle_of(rule=small, seed=2, classes=("e", "f", "a", "b")),
    ]
    bundle = ensemble_of(members)
    path = tmp_path / "all.onnx"
    export_weights(bundle, "onnx", path)
    side = bundle.preprocessing.size
    for count in (1, 2, 5):
        images = 255 * torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(count))
        with torch.no_grad():
            expected = bundle.network(images)
        assert np.abs(answers(path, images.numpy()) - expected.numpy()).max() < 1e-4
    assert metadata(path)["provenet.classes"] == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nin_cifar", "resnet20_cifar_b"])
def test_read_back_it_is_the_same_network(tmp_path, name):
    rule = replace(RULE, size=32)
    bundle = bundle_of(name, rule)
    export_weights(bundle, "onnx", tmp_path / "n.onnx")
    again, _ = import_weights(tmp_path / "n.onnx", name, classes=CLASSES)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(again.network(images), bundle.network(images), atol=1e-5)


def test_a_file_that_answers_otherwise_is_not_kept(tmp_path, monkeypatch):
    def write_another(net, example, path, **form):
        with torch.no_grad():
            net.network.get_classifier().weight.add_(0.01)
        write_onnx(net, example, path, **form)
        with torch.no_grad():
            net.network.get_classifier().weight.sub_(0.01)

    monkeypatch.setattr(export_onnx, "write_onnx", write_another)
    with pytest.raises(WeightsError, match="expected the answers of the network, found others when ONNX Runtime ran the file"):
        export_weights(bundle_of(), "onnx", tmp_path / "n.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_written(tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match=r"expected a name that ends in .onnx"):
        export_weights(bundle_of(), "onnx", tmp_path / "n.bin")
    with pytest.raises(WeightsError, match="expected to write the file"):
        export_weights(bundle_of(), "onnx", tmp_path / "nowhere" / "n.onnx")
    monkeypatch.setattr(export_onnx, "LARGEST_BYTES", 1_000)
    with pytest.raises(SettingsError, match="expected weights of less than 2 GiB for one ONNX file, found"):
        export_weights(bundle_of(), "onnx", tmp_path / "n.onnx")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SettingsError, match=r"--to onnx: expected onnx, onnxruntime and onnxscript: pip install 'provenet\[onnx\]'"):
        export_weights(bundle_of(), "onnx", tmp_path / "n.onnx")
    with pytest.raises(SettingsError, match="found another; --to onnx takes any"):
        export_weights(bundle_of(), "timm", tmp_path / "n.safetensors")
