"""Networks handed to OpenVINO: pools that give the values alone, so that int8 goes through them."""

import pytest
import torch
from torch import nn

from provenet.engines.openvino_requests import core
from provenet.engines.with_openvino import _convert, _quantise


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
