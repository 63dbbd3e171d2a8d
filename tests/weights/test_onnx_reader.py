"""ONNX files of every kind that the published networks are in, written here field by field; what the reader makes of each."""

import numpy as np
import pytest
from protobuf_writer import (
    node,
    onnx_model,
    tensor,
)

from provenet.weights.formats.onnx import read_onnx

RNG = np.random.default_rng(0)
WEIGHT, BIAS = RNG.normal(size=(4, 3, 3, 3)).astype(np.float32), RNG.normal(size=4).astype(np.float32)
MATRIX = RNG.normal(size=(5, 4)).astype(np.float32)


@pytest.fixture
def read(tmp_path):
    def read(*args, **kwargs):
        path = tmp_path / "net.onnx"
        path.write_bytes(onnx_model(*args, **kwargs))
        return read_onnx(path)

    return read


def test_a_small_network(read):
    file = read(
        [
            node("Conv", "x w b", "c", kernel_shape=(3, 3), pads=(1, 1, 1, 1), strides=(2, 2), dilations=(1, 1), group=1),
            node("Relu", "c", "r"),
            node("GlobalAveragePool", "r", "g"),
            node("Flatten", "g", "f"),
            node("Gemm", "f m", "y", transB=1),
        ],
        [tensor("w", WEIGHT), tensor("b", BIAS), tensor("m", MATRIX)],
    )
    graph = file.graph
    assert [operation.kind for operation in graph.operations] == ["convolution", "relu", "global_average", "flatten", "linear"]
    assert [operation.reads for operation in graph.operations] == [(-1,), (0,), (1,), (2,), (3,)]
    assert graph.result == 4
    assert graph.input_shape == (3, 8, 8)
    assert graph.operations[0].settings == {
        "kernel": (3, 3), "stride": (2, 2), "dilation": (1, 1), "pads": (1, 1, 1, 1), "groups": 1
    }  # fmt: skip
    np.testing.assert_array_equal(graph.operations[0].weights["weight"].read(), WEIGHT)
    np.testing.assert_array_equal(graph.operations[4].weights["weight"].read(), MATRIX)
    assert list(file.tensors) == ["w", "b", "m"]
    assert file.metadata == {"producer_name": "a test", "producer_version": "1.0", "opset": "13", "ir_version": "7", "graph_name": "net"}
