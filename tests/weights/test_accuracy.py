"""Published weights that are on this machine, evaluated beside their published figures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import fill
from provenet.models.catalog import build_network
from provenet.weights.bundle import Bundle
from provenet.weights.export import export_weights
from provenet.weights.imagenet import imagenet_classes

ROOT = Path(__file__).parent.parent.parent
GOOD, BROKEN = "resnet18.timm_a1_in1k", "resnet34.timm_a1_in1k"  # sets without a published hash


def accuracy(weights, *words):
    environment = {**os.environ, "PROVENET_WEIGHTS": str(weights), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(ROOT / "tools/accuracy.py"), *map(str, words)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_what_is_here_is_evaluated_and_what_is_broken_is_named(tmp_path):
    """Folders by WordNet's numbers; weights at random in the file that timm would load."""
    data, weights = tmp_path / "val", tmp_path / "weights"
    for number in ("n01440764", "n01443537"):
        fill(data / number, 6)
    net = build_network("resnet18", init="trainable").eval()
    (weights / GOOD).mkdir(parents=True)
    (weights / BROKEN).mkdir()
    export_weights(Bundle(net, imagenet_classes(), net.input_spec.preprocessing), "timm", weights / GOOD / "model.safetensors")
    (weights / BROKEN / "model.safetensors").write_bytes(b"half of a file")
    done = accuracy(weights, data, "resnet*.timm_a1_in1k")
    assert done.returncode == 2
    (complaint,) = [line for line in done.stderr.splitlines() if line.startswith("provenet: ")]
    assert str(weights / BROKEN / "model.safetensors") in complaint
    head, row, end = done.stdout.splitlines()
    assert head.split()[:3] == ["tag", "top-1", "%"]
    tag, top1, published, differ = row.split()[:4]
    assert (tag, published) == (GOOD, "73.16")
    assert float(differ) == pytest.approx(float(top1) - 73.16, abs=0.011)
    assert end.startswith("12 pictures: the standard error of a share is at most 14.43; ")


@pytest.mark.parametrize(
    ("words", "said"), [(["PLACE"], "expected files of weights in PROVENET_WEIGHTS, found none"), ([], "found none named")]
)
def test_without_weights_or_pictures_the_line_says_what_to_do(tmp_path, words, said):
    done = accuracy(tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("provenet: expected ")
    assert said in done.stderr
