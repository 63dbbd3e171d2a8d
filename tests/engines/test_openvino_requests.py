"""A batch in parts: the same answers as the whole, cut before the last fully connected layers and nowhere else."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from odd_networks import Odd
from torch import nn

from provenet.engines.openvino_requests import core, run_in_parts, run_whole, split
from provenet.engines.ways import PART, WAYS, Way, why_absent
from provenet.engines.with_openvino import _convert, _quantise, on_openvino
from provenet.models.catalog import TOYS, build_network


class Gated(nn.Module):
    """A fully connected layer whose answer meets what went around it, and then two in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.fc1, self.fc2 = nn.Linear(3, 3), nn.Linear(48, 7), nn.Linear(7, 5)

    def forward(self, images):
        gate = self.gate(images.mean((2, 3))).sigmoid()
        return self.fc2(self.fc1((gate[:, :, None, None] * images).flatten(1)).relu())


def converted(net, images):
    """The network as a model of OpenVINO."""
    return _convert(net.eval(), images)


def compiled(model, *images):
    """What the model gives in float32."""
    return core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([each.numpy() for each in images])[0]


def names(model):
    """Its layers with weights, by kind."""
    return [op.get_type_name() for op in model.get_ordered_ops() if op.get_type_name() in ("Convolution", "MatMul", "FakeQuantize")]


def test_the_cut_is_before_the_first_fully_connected_layer_that_all_images_pass_through():
    images = torch.randn(4, 3, 4, 4)
    expected = compiled(converted(net := Gated(), images), images)
    body, head = split(converted(net, images))
    assert (names(body), names(head)) == (["MatMul"], ["MatMul", "MatMul"])
    between = compiled(body, images)
    assert between.shape == (4, 48)
    np.testing.assert_allclose(compiled(head, torch.from_numpy(between)), expected, rtol=1e-5, atol=1e-6)


def test_what_has_no_fully_connected_layer_is_not_cut():
    images = torch.randn(4, 3, 8, 8)
    body, head = split(converted(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), images))
    assert head is None
    assert compiled(body, images).shape == (4, 4, 6, 6)


def test_int8_is_cut_before_the_rounding():
    images = torch.randn(32, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 20), nn.ReLU(), nn.Linear(20, 5))
    model = _quantise(converted(net, images), images)
    num_rounded = names(model).count("FakeQuantize")
    body, head = split(model)
    assert names(head)[0] == "FakeQuantize"
    assert names(body)[-1] == "Convolution"
    assert names(body).count("FakeQuantize") + names(head).count("FakeQuantize") == num_rounded


@pytest.mark.parametrize("part", [1, 2, 3])
def test_parts_answer_as_the_whole_does(part):
    images = torch.randn(6, 3, 4, 4)
    model = converted(net := Gated(), images)
    whole = run_whole(model.clone(), images.shape, "float32")
    parts = run_in_parts(model, images.shape, "float32", part)
    with torch.no_grad():
        torch.testing.assert_close(parts(images), net(images))
    first = parts(images)
    kept = first.clone()
    torch.testing.assert_close(parts(images.flip(0)), whole(images.flip(0)))
    assert torch.equal(first, kept)


def test_maps_that_are_put_together_are_not_overwritten_by_the_next_ones():
    images = torch.randn(4, 3, 8, 8)
    parts = run_in_parts(converted(nn.Conv2d(3, 4, 3), images), images.shape, "float32", 2)
    first = parts(images)
    kept = first.clone()
    parts(-images)
    assert torch.equal(first, kept)


def test_a_network_whose_batch_is_fixed_goes_in_parts_too(tmp_path):
    torch.manual_seed(0)
    net = build_network("lenet5").eval()
    images = torch.randn(4, net.input_spec.channels, net.input_spec.size, net.input_spec.size)
    for part in (0, PART):
        run = on_openvino(net, images, tmp_path, Way("openvino", "float32", part))
        with torch.no_grad():
            torch.testing.assert_close(run(images), net(images), atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(TOYS))
def test_every_architecture_goes_in_parts(name, tmp_path):
    torch.manual_seed(0)
    net = build_network(name, init="trainable").eval()
    images = torch.randn(4, net.input_spec.channels, net.input_spec.size, net.input_spec.size)
    run = on_openvino(net, images, tmp_path, Way("openvino", "float32", PART))
    with torch.no_grad():
        torch.testing.assert_close(run(images), net(images), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("batch_size", "is_cut"), [(1, False), (2, False), (3, False), (4, True), (63, False), (64, True)])
def test_what_cannot_be_cut_is_not_tried(batch_size, is_cut):
    (way,) = (way for way in WAYS if way.part and way.precision == "bfloat16")
    why = why_absent(way, "cpu", batch_size)
    assert why == ("" if is_cut else f"batches of {batch_size} are not cut into parts of 2")
    assert not why_absent(Way(way.engine, way.precision), "cpu", batch_size)


def test_the_name_says_how(tmp_path):
    assert str(Way("openvino", "float32", 2)) == "openvino float32, 2 images a thread"
    images = torch.randn(4, 3, 4, 4)
    run = on_openvino(Odd().eval(), images, tmp_path, Way("openvino", "float32", 2))
    assert run(images).shape == (4, 5)


def test_a_signal_is_survived_after_two_networks_that_went_in_the_order_they_came():
    code = """
import os, signal
import torch
from pathlib import Path
from tempfile import TemporaryDirectory
from provenet.engines.ways import Way
from provenet.engines.with_openvino import on_openvino
heard = []
signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
images = torch.randn(4, 3, 4, 4)
runs = []
for part in (0, 2):
    with TemporaryDirectory() as folder:
        runs.append(on_openvino(torch.nn.Conv2d(3, 4, 3).eval(), images, Path(folder), Way("openvino", "float32", part)))
    runs[-1](images)
while runs:
    runs.pop(0)
os.kill(os.getpid(), signal.SIGTERM)
print(*heard)
"""
    ran = subprocess.run([sys.executable, "-X", "faulthandler", "-c", code], capture_output=True, text=True, timeout=100)
    assert (ran.returncode, ran.stdout) == (0, "15\n"), ran.stderr
