"""Networks handed to OpenVINO: pools that give the values alone, so that int8 goes through them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from provenet.engines.engine import relative_error
from provenet.engines.openvino_requests import core, run_whole
from provenet.engines.with_openvino import _convert, _quantise
from provenet.runs.engines import sample_of
from provenet.weights.create import open_weights
from provenet.weights.sources import EMBEDDED_TAG


def has_int8():
    """Whether the processor multiplies numbers of 8 bits by themselves; others do it in steps, which may run over."""
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return any(flag in flags for flag in ("avx512_vnni", "avx_vnni", "amx_int8"))


takes_int8 = pytest.mark.skipif(not has_int8(), reason="this processor has no instructions for int8")


def pools(model):
    """How many answers each of its pools gives."""
    return [len(op.outputs()) for op in model.get_ordered_ops() if op.get_type_name() == "MaxPool"]


@pytest.mark.parametrize("size", [7, 8, 9, 11])
@pytest.mark.parametrize(
    ("pool", "num_answers"),
    [
        (nn.MaxPool2d(3, 2, ceil_mode=True), 1),  # of AlexNet and GoogLeNet
        (nn.MaxPool2d(3, 2, padding=1), 1),  # of ResNet
        (nn.MaxPool2d(3, 1, padding=1, ceil_mode=True), 2),
        (nn.MaxPool2d(2, 2, padding=1, ceil_mode=True), 2),  # of which torch leaves out a last window that the older pool has
        (nn.MaxPool2d(2, 3, ceil_mode=True), 2),  # and of this one
        (nn.MaxPool2d(2, 1, dilation=2), 2),
    ],
)
def test_pools_give_the_values_alone_where_that_is_the_same(pool, num_answers, size):
    images = torch.randn(2, 3, size, size) - 3
    model = _convert(pool, images)
    assert pools(model) == [num_answers]
    given = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([images.numpy()])[0]
    assert torch.equal(torch.from_numpy(given), pool(images))


@takes_int8
def test_int8_goes_through_pools():
    images = torch.randn(32, 3, 16, 16)
    convs = [nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 1), nn.Conv2d(32, 32, 3)]
    net = nn.Sequential(
        convs[0], nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), convs[1], nn.ReLU(), nn.MaxPool2d(3, 1, 1), convs[2]
    ).eval()
    model = _quantise(_convert(net, images), images)
    model.reshape(list(images.shape))
    running = core().compile_model(model, "CPU").get_runtime_model().get_ordered_ops()
    kinds = [op.get_rt_info()["primitiveType"].astype(str) for op in running if op.get_rt_info()["layerType"].astype(str) == "Convolution"]
    assert len(kinds) == len(convs)
    assert all(kind.endswith("I8") for kind in kinds), kinds


@takes_int8
def test_int8_of_a_trained_network_answers_nearly_the_same(mini):
    """Fitted by NNCF's quick way, its logits change by 6.2 % of their length instead of 3.6 %, and 1.6 % of the labels instead of 0.8 %."""
    bundle = open_weights(EMBEDDED_TAG)
    images = sample_of(mini["test"], bundle.preprocessing, torch.device("cpu"))(768)
    is_fitted_to = torch.arange(768) % 6 == 0
    fitted_to, others = images[is_fitted_to], images[~is_fitted_to]
    net = bundle.network.eval()
    run = run_whole(_quantise(_convert(net, images[:64]), fitted_to), (64, *images.shape[1:]), "int8")
    with torch.inference_mode():
        expected = net(others)
    found = torch.cat([run(batch) for batch in others.split(64)])
    assert relative_error(found, expected) < 0.05
    assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.985
