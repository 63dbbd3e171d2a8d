"""Caffe models in both spellings, written here field by field; what the reader makes of each."""

import numpy as np
import pytest
from protobuf_writer import caffe_model, integer, layer, old_layer, real

from provenet.weights.formats.caffe import read_caffe

RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32), RNG.normal(size=4).astype(np.float32)
MATRIX = RNG.normal(size=(5, 16)).astype(np.float32)


@pytest.fixture
def read(tmp_path):
    def read(*args, **kwargs):
        path = tmp_path / "net.caffemodel"
        path.write_bytes(caffe_model(*args, **kwargs))
        return read_caffe(path)

    return read


@pytest.mark.parametrize("old", [False, True])
def test_a_small_network(read, old):
    convolution = integer(1, 4) + integer(3, 1) + integer(4, 3) + integer(6, 2)
    pooling = integer(2, 3) + integer(3, 2)
    if old:
        layers = [
            old_layer(5, "data", "", "data label", transform=(36, integer(3, 8) + real(5, 104) + real(5, 117) + real(5, 123))),
            old_layer(4, "conv1", "data", "conv1", [WEIGHT, BIAS], convolution=(10, convolution)),
            old_layer(18, "relu1", "conv1", "conv1"),
            old_layer(17, "pool1", "conv1", "pool1", pooling=(19, pooling)),
            old_layer(14, "fc", "pool1", "fc", [MATRIX, BIAS[:1].repeat(5)], inner_product=(17, integer(1, 5))),
            old_layer(21, "loss", "fc label", "loss"),
        ]
    else:
        layers = [
            layer("Data", "data", "", "data label", transform=(100, integer(3, 8) + real(5, 104) + real(5, 117) + real(5, 123))),
            layer("Convolution", "conv1", "data", "conv1", [WEIGHT, BIAS], convolution=(106, convolution)),
            layer("ReLU", "relu1", "conv1", "conv1"),
            layer("Pooling", "pool1", "conv1", "pool1", pooling=(121, pooling)),
            layer("InnerProduct", "fc", "pool1", "fc", [MATRIX, BIAS[:1].repeat(5)], inner_product=(117, integer(1, 5))),
            layer("SoftmaxWithLoss", "loss", "fc label", "loss"),
        ]
    file = read(layers, old=old)
    graph = file.graph
    assert [operation.kind for operation in graph.operations] == ["convolution", "relu", "max_pool", "flatten", "linear"]
    assert [operation.reads for operation in graph.operations] == [(-1,), (0,), (1,), (2,), (3,)]
    assert graph.result == 4
    assert graph.input_shape == (3, 8, 8)
    assert graph.operations[2].settings == {"kernel": (3, 3), "stride": (2, 2), "pads": (0, 0, 0, 0), "rounds_up": True}
    np.testing.assert_array_equal(graph.operations[0].weights["weight"].read(), WEIGHT)
    np.testing.assert_array_equal(graph.operations[0].weights["bias"].read(), BIAS)
    np.testing.assert_array_equal(graph.operations[4].weights["weight"].read(), MATRIX)
    assert list(file.tensors) == ["conv1.weight", "conv1.bias", "fc.weight", "fc.bias"]
    assert file.metadata == {"name": "net", "mean_value": "104, 117, 123"}
