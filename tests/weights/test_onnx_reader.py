"""ONNX files of every kind that the published networks are in, written here field by field; what the reader makes of each."""

import numpy as np
import pytest
from protobuf_writer import (
    BFLOAT16,
    DOUBLE,
    FLOAT,
    FLOAT16,
    INT64,
    integer,
    integers,
    node,
    onnx_model,
    packed_integers,
    packed_reals,
    sized,
    tensor,
    value,
)

from provenet.errors import WeightsError
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


def kinds(file):
    return [operation.kind for operation in file.graph.operations]


def only(file):
    (operation,) = file.graph.operations
    return operation


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("MaxPool", {"kernel_shape": (3, 3), "strides": (2, 2)}), ("max_pool", {"pads": (0, 0, 0, 0), "rounds_up": False})),
        (("MaxPool", {"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1}), ("max_pool", {"rounds_up": True})),
        (
            ("MaxPool", {"kernel_shape": (3, 2), "pads": (0, 0, 2, 1)}),
            ("max_pool", {"kernel": (3, 2), "stride": (1, 1), "pads": (0, 0, 2, 1)}),
        ),
        (("MaxPool", {"kernel_shape": (3, 3), "auto_pad": "SAME_UPPER"}), ("max_pool", {"auto_pad": "same_upper"})),
        (("MaxPool", {"kernel_shape": (3, 3), "auto_pad": "SAME_LOWER"}), ("max_pool", {"auto_pad": "same_lower"})),
        (("MaxPool", {"kernel_shape": (3, 3), "auto_pad": "VALID"}), ("max_pool", {"pads": (0, 0, 0, 0)})),
        (("MaxPool", {"kernel_shape": (3, 3), "dilations": (2, 2)}), ("unknown", {"called": "MaxPool"})),
        (("MaxPool", {"kernel_shape": (3,)}), ("unknown", {"called": "MaxPool"})),
        (("AveragePool", {"kernel_shape": (2, 2), "pads": (1, 1, 1, 1)}), ("avg_pool", {"counts_padding": False, "pads": (1, 1, 1, 1)})),
        (("AveragePool", {"kernel_shape": (2, 2), "count_include_pad": 1}), ("avg_pool", {"counts_padding": True})),
        (("AveragePool", {"kernel_shape": (1, 1), "strides": (1, 1)}), ("identity", {})),
        (("AveragePool", {"kernel_shape": (1, 1), "strides": (2, 2)}), ("avg_pool", {"stride": (2, 2)})),
        (("GlobalAveragePool", {}), ("global_average", {})),
        (("GlobalMaxPool", {}), ("unknown", {"called": "GlobalMaxPool"})),
        (("ReduceMean", {"axes": (2, 3)}), ("global_average", {})),
        (("ReduceMean", {"axes": (-1, -2), "keepdims": 1}), ("global_average", {})),
        (("ReduceMean", {"axes": (1,)}), ("unknown", {"called": "ReduceMean"})),
        (
            ("LRN", {"size": 5, "alpha": 0.5, "beta": 0.25, "bias": 2.0}),
            ("response_norm", {"size": 5, "alpha": 0.1, "beta": 0.25, "k": 2.0}),
        ),
        (("LRN", {"size": 4}), ("unknown", {"called": "LRN"})),
        (("Relu", {}), ("relu", {})),
        (("LeakyRelu", {"alpha": 0.1}), ("unknown", {"called": "LeakyRelu"})),
        (("Identity", {}), ("identity", {})),
        (("Dropout", {"is_test": 1, "ratio": 0.5}), ("dropout", {})),
        (("Softmax", {"axis": 1}), ("softmax", {})),
        (("LogSoftmax", {"axis": -3}), ("softmax", {"log": True})),
        (("Softmax", {"axis": 2}), ("unknown", {"called": "Softmax"})),
        (("Cast", {"to": 1}), ("identity", {})),
        (("Cast", {"to": 7}), ("unknown", {"called": "Cast"})),
        (("Flatten", {}), ("flatten", {})),
        (("Flatten", {"axis": 2}), ("unknown", {"called": "Flatten"})),
        (("Squeeze", {"axes": (2, 3)}), ("flatten", {})),
        (("Reshape", {"shape": (0, -1)}), ("flatten", {})),
        (("Reshape", {"shape": (1, 192)}), ("flatten", {})),
        (("Reshape", {"shape": (1, 3, 64)}), ("unknown", {"called": "Reshape"})),
        (("Pad", {"pads": (0, 0, 1, 2, 0, 0, 3, 4), "value": -1e30}), ("pad", {"pads": (1, 2, 3, 4)})),
        (("Pad", {"paddings": (0, 0, 1, 2, 0, 0, 3, 4)}), ("pad", {"pads": (1, 2, 3, 4), "value": 0.0})),
        (("Pad", {"pads": (0, 1, 1, 2, 0, 0, 3, 4)}), ("unknown", {"called": "Pad"})),
        (("Pad", {"pads": (0,) * 8}), ("identity", {})),
        (("Pad", {"pads": (0, 0, 1, 2, 0, 0, 3, 4), "mode": "reflect"}), ("unknown", {"called": "Pad"})),
        (("QuantizeLinear", {}), ("unknown", {"called": "QuantizeLinear"})),
        (("Transpose", {"perm": (0, 2, 3, 1)}), ("unknown", {"called": "Transpose"})),
    ],
    ids=lambda case: f"{case[0]}({case[1]})",
)
def test_operations_of_one_map(read, given, expected):
    kind, attributes = given
    operation = only(read([node(kind, "x", "y", **attributes)]))
    assert operation.kind == expected[0]
    assert operation.reads == (-1,)
    assert {name: operation.settings.get(name) for name in expected[1]} == expected[1]


def test_operators_of_other_sets_are_not_known(read):
    operation = only(read([node("Relu", "x", "y", domain="com.example")]))
    assert (operation.kind, operation.settings["called"]) == ("unknown", "com.example.Relu")


def test_settings_that_became_inputs(read):
    tensors = [
        tensor("axes", [2, 3], INT64),
        tensor("one", [1], INT64),
        tensor("widths", [1, 2, 3, 4], INT64),
        tensor("whole", [0, 0, 1, 2, 0, 0, 3, 4], INT64),
        tensor("low", -3.0),
        tensor("shape", [0, -1], INT64),
    ]
    assert kinds(read([node("ReduceMean", "x axes", "y")], tensors)) == ["global_average"]
    assert kinds(read([node("ReduceMean", "x axes", "y", keepdims=0)], tensors)) == ["global_average", "flatten"]
    assert kinds(read([node("ReduceMean", "x one", "y")], tensors)) == ["unknown"]
    assert kinds(read([node("Squeeze", "x axes", "y")], tensors)) == ["flatten"]
    assert kinds(read([node("Reshape", "x shape", "y")], tensors)) == ["flatten"]
    assert only(read([node("Pad", "x whole low", "y")], tensors)).settings == {"pads": (1, 2, 3, 4), "value": -3.0}
    assert only(read([node("Pad", "x widths low axes", "y")], tensors, opset=18)).settings == {"pads": (1, 2, 3, 4), "value": -3.0}
    assert kinds(read([node("Pad", "x x", "y")], tensors)) == ["unknown"]


ROWS = node("Flatten", "x", "rows")
"""[N, 192]"""
WIDE = RNG.normal(size=(192, 5)).astype(np.float32)
FIVE = np.arange(5, dtype=np.float32)


@pytest.mark.parametrize(
    ("nodes", "weight", "bias"),
    [
        ([node("Gemm", "rows w b", "y")], WIDE.T, FIVE),
        ([node("Gemm", "rows w", "y", alpha=0.5)], WIDE.T / 2, None),
        ([node("Gemm", "rows w b", "y", beta=2.0, broadcast=1)], WIDE.T, 2 * FIVE),
        ([node("Gemm", "rows w b", "y", beta=0.0)], WIDE.T, None),
        ([node("Gemm", "rows t row", "y", transB=1)], WIDE.T, FIVE),
        ([node("Gemm", "rows t one", "y", transB=1)], WIDE.T, [3] * 5),
        ([node("MatMul", "rows w", "y")], WIDE.T, None),
        ([node("MatMul", "rows w", "m"), node("Add", "m b", "y")], WIDE.T, FIVE),
        ([node("MatMul", "rows w", "m"), node("Add", "row m", "y")], WIDE.T, FIVE),
        ([node("MatMul", "rows w", "m"), node("Add", "m b", "y", broadcast=1, axis=1)], WIDE.T, FIVE),
        ([node("Transpose", "t", "turned", perm=(1, 0)), node("MatMul", "rows turned", "m"), node("Add", "m one", "y")], WIDE.T, [3] * 5),
        ([node("Transpose", "t", "turned"), node("Gemm", "rows turned b", "y")], WIDE.T, FIVE),
        ([node("Identity", "w", "same"), node("Gemm", "rows same b", "y")], WIDE.T, FIVE),
        ([node("Cast", "w", "same", to=1), node("Gemm", "rows same b", "y")], WIDE.T, FIVE),
        ([node("Constant", "", "c", value=tensor("", WIDE)), node("MatMul", "rows c", "y")], WIDE.T, None),
        ([node("Reshape", "long shape", "w2"), node("MatMul", "rows w2", "y")], WIDE.T, None),
    ],
)
def test_linear_in_all_its_spellings(read, nodes, weight, bias):
    tensors = [tensor("w", WIDE), tensor("t", WIDE.T), tensor("b", FIVE), tensor("row", FIVE[None]), tensor("one", 3.0)]
    tensors += [tensor("long", WIDE.reshape(-1)), tensor("shape", [192, -1], INT64)]
    file = read([ROWS, *nodes], tensors)
    assert kinds(file) == ["flatten", "linear"]
    linear = file.graph.operations[1]
    assert file.graph.result == 1
    assert linear.weights["weight"].shape == (5, 192)
    np.testing.assert_array_equal(linear.weights["weight"].read(), weight)
    assert ("bias" in linear.weights) == (bias is not None)
    if bias is not None:
        np.testing.assert_array_equal(linear.weights["bias"].read(), bias)


@pytest.mark.parametrize(
    "nodes",
    [
        [ROWS, node("Gemm", "rows w", "y", transA=1)],
        [ROWS, node("MatMul", "w rows", "y")],
        [node("MatMul", "x w", "y")],
        [node("Gemm", "x w", "y")],
        [ROWS, node("Gemm", "rows rows", "y")],
    ],
)
def test_products_that_are_no_linear_layer(read, nodes):
    assert kinds(read(nodes, [tensor("w", WIDE)]))[-1] == "unknown"


def test_caffe2_left_flattening_to_gemm(read):
    file = read([node("Gemm", "x w", "y")], [tensor("w", WIDE)], opset=3)
    assert kinds(file) == ["flatten", "linear"]
    assert file.graph.operations[1].reads == (0,)


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1), ()])
def test_the_bias_of_a_convolution_may_be_added_behind_it(read, shape):
    values = np.full((), 2.0) if shape == () else BIAS
    operation = only(read([node("Conv", "x w", "c"), node("Add", "c b", "y")], [tensor("w", WEIGHT), tensor("b", values.reshape(shape))]))
    np.testing.assert_array_equal(operation.weights["bias"].read(), np.broadcast_to(values.astype(np.float32), 4))


def test_an_addition_is_no_bias_where_something_else_reads_the_map_too(read):
    nodes = [node("Conv", "x w", "c"), node("Add", "c b", "d"), node("Add", "c d", "y")]
    file = read(nodes, [tensor("w", WEIGHT), tensor("b", BIAS.reshape(4, 1, 1))])
    assert kinds(file) == ["convolution", "scale", "add"]
    assert file.graph.operations[2].reads == (0, 1)
    file = read(nodes[:2], [tensor("w", WEIGHT), tensor("b", BIAS.reshape(4, 1, 1))], outputs=("c", "d"))
    assert kinds(file) == ["convolution", "scale"]
    assert file.graph.result == 0


def test_a_second_bias_and_one_per_column_are_none(read):
    tensors = [tensor("w", WEIGHT), tensor("b", BIAS), tensor("b2", BIAS.reshape(4, 1, 1)), tensor("column", np.ones(6))]
    assert kinds(read([node("Conv", "x w b", "c"), node("Add", "c b2", "y")], tensors)) == ["convolution", "scale"]
    assert kinds(read([node("Conv", "x w", "c"), node("Add", "c column", "y")], tensors)) == ["convolution", "unknown"]


@pytest.mark.parametrize(
    ("written", "name", "values"),
    [
        (node("Mul", "x c", "y"), "scale", [1, 2, 4]),
        (node("Mul", "c x", "y"), "scale", [1, 2, 4]),
        (node("Div", "x c", "y"), "scale", [1, 0.5, 0.25]),
        (node("Add", "x c", "y"), "shift", [1, 2, 4]),
        (node("Sub", "x c", "y"), "shift", [-1, -2, -4]),
        (node("Sub", "x one", "y"), "shift", [-8]),
        (node("Mul", "x one", "y"), "scale", [8]),
        (node("Mul", "x flat", "y", axis=1, broadcast=1), "scale", [1, 2, 4]),
    ],
)
def test_scales(read, written, name, values):
    column = np.array([1, 2, 4], np.float32)
    operation = only(read([written], [tensor("c", column.reshape(3, 1, 1)), tensor("one", 8.0), tensor("flat", column)]))
    assert operation.kind == "scale"
    assert list(operation.weights) == [name]
    np.testing.assert_array_equal(operation.weights[name].read(), values)


@pytest.mark.parametrize("written", [node("Sub", "c x", "y"), node("Div", "c x", "y"), node("Mul", "x x", "y"), node("Mul", "x flat", "y")])
def test_what_is_no_scale(read, written):
    column = np.array([1, 2, 4], np.float32)
    assert only(read([written], [tensor("c", column.reshape(3, 1, 1)), tensor("flat", np.ones(8))])).kind == "unknown"


@pytest.mark.parametrize("old", [{"spatial": 1, "is_test": 1, "consumed_inputs": (0, 0, 0, 1, 1)}, {"spatial": 0}, {}])
def test_batch_norm(read, old):
    tensors = [tensor(name, np.full(3, k)) for k, name in enumerate("sbmv")]
    operation = only(read([node("BatchNormalization", "x s b m v", "y", epsilon=0.5, **old)], tensors))
    assert (operation.kind, operation.settings) == ("batch_norm", {"eps": 0.5})
    assert [operation.weights[name].read()[0] for name in ("scale", "shift", "mean", "variance")] == [0, 1, 2, 3]
    assert only(read([node("BatchNormalization", "x s b m v", "y", training_mode=1)], tensors)).kind == "unknown"
    wide = [tensor(name, np.zeros((3, 8, 8))) for name in "sbmv"]
    assert only(read([node("BatchNormalization", "x s b m v", "y", spatial=0)], wide)).kind == "unknown"


def test_maps_are_added_and_concatenated(read):
    file = read([node("Relu", "x", "r"), node("Sum", "x r x", "s"), node("Concat", "r s", "y", axis=1)])
    assert [(operation.kind, operation.reads) for operation in file.graph.operations[1:]] == [("add", (-1, 0, -1)), ("concatenate", (0, 1))]
    assert kinds(read([node("Concat", "x x", "y", axis=-3)])) == ["concatenate"]
    assert kinds(read([node("Concat", "x x", "y", axis=2)])) == ["unknown"]
    assert kinds(read([node("Sum", "x", "y")])) == ["identity"]
    assert kinds(read([ROWS, node("Add", "x rows", "y")])) == ["flatten", "unknown"]


def constant(name, values):
    return node("Constant", "", name, value=tensor("", values, INT64))


@pytest.mark.parametrize(
    "chain",
    [
        [  # PyTorch's x.view(x.size(0), -1), and torch.flatten before opset 9
            node("Shape", "x", "s"), constant("zero", 0), node("Gather", "s zero", "n", axis=0), node("Unsqueeze", "n", "n1", axes=(0,)),
            constant("rest", [-1]), node("Concat", "n1 rest", "shape", axis=0),
        ],
        [  # with axes as an input
            node("Shape", "x", "s"), constant("zero", 0), node("Gather", "s zero", "n", axis=0), constant("axes", [0]),
            node("Unsqueeze", "n axes", "n1"), constant("rest", [-1]), node("Concat", "n1 rest", "shape", axis=0),
        ],
        [  # x.view(-1, x.size(1) * x.size(2) * x.size(3))
            node("Shape", "x", "s"), constant("one", 1), constant("two", 2), node("Gather", "s one", "c"), node("Gather", "s two", "h"),
            node("Mul", "c h", "ch"), node("Mul", "ch h", "chw"), node("Unsqueeze", "chw", "features", axes=(0,)), constant("rest", [-1]),
            node("Concat", "rest features", "shape", axis=0),
        ],
        [  # torch.flatten in the newest: Shape of a part
            node("Shape", "x", "s", start=0, end=1), constant("rest", [-1]), node("Concat", "s rest", "shape", axis=0),
        ],
        [  # Slice with attributes
            node("Shape", "x", "s"), node("Slice", "s", "n", starts=(0,), ends=(1,), axes=(0,)), constant("rest", [-1]),
            node("Concat", "n rest", "shape", axis=0),
        ],
        [  # Slice with inputs, and a Cast
            node("Shape", "x", "s"), constant("zero", [0]), constant("one", [1]), node("Slice", "s zero one zero", "n"),
            node("Cast", "n", "n64", to=7), node("Constant", "", "rest", value_ints=(-1,)), node("Concat", "n64 rest", "shape", axis=0),
        ],
    ],
)  # fmt: skip
def test_shapes_that_are_worked_out(read, chain):
    file = read([*chain, node("Reshape", "x shape", "y")])
    assert kinds(file) == ["flatten"]


def test_a_shape_that_nobody_knows_is_unknown(read):
    chain = [node("Shape", "x", "s"), node("ReduceProd", "s", "all"), node("Reshape", "x all", "y")]
    assert kinds(read(chain)) == ["unknown"]


def test_flattened_twice_is_once(read):
    assert kinds(read([ROWS, node("Reshape", "rows shape", "y")], [tensor("shape", [-1, 192], INT64)])) == ["flatten", "identity"]


def test_the_picture_is_the_input_that_is_no_tensor(read):
    inputs = [value("w", (4, 3, 3, 3)), value("data_0", (1, 3, 224, 224))]
    file = read([node("Conv", "data_0 w", "y")], [tensor("w", WEIGHT)], inputs, opset=3)
    assert only(file).reads == (-1,)
    assert file.graph.input_shape == (3, 224, 224)
    assert read([node("Relu", "x", "y")], inputs=[value("x", ("N", 3, "H", "W"))]).graph.input_shape is None


def test_a_picture_with_its_channels_last_is_turned(read):
    file = read([node("Transpose", "x", "t", perm=(0, 3, 1, 2)), node("Relu", "t", "y")], inputs=[value("x", ("N", 20, 30, 3))])
    assert kinds(file) == ["identity", "relu"]
    assert file.graph.input_shape == (3, 20, 30)


def test_another_input_and_a_second_output_are_unknown(read):
    nodes = [node("MaxPool", "x", "p places", kernel_shape=(2, 2)), node("Add", "p places", "a"), node("Add", "a other", "y")]
    file = read(nodes, inputs=[value("x", (1, 3, 8, 8)), value("other", (1, 3, 4, 4))])
    assert kinds(file) == ["max_pool", "unknown", "unknown", "unknown", "add"]


def test_nodes_are_put_into_order(read):
    file = read([node("Relu", "b", "y"), node("LRN", "a", "b", size=5), node("Identity", "x", "a"), node("Dropout", "a", "aside mask")])
    assert kinds(file) == ["identity", "response_norm", "relu", "dropout"]
    assert [operation.reads for operation in file.graph.operations] == [(-1,), (0,), (1,), (0,)]
    assert file.graph.result == 2


BFLOAT = np.array([1.5, -2, 0.25, 3], np.float32)


@pytest.mark.parametrize(
    ("data_type", "field", "values", "dtype"),
    [
        (FLOAT, packed_reals(4, BFLOAT), BFLOAT, "float32"),
        (FLOAT, sized(9, BFLOAT.tobytes()), BFLOAT, "float32"),
        (DOUBLE, packed_reals(10, BFLOAT, "<f8"), BFLOAT, "float64"),
        (DOUBLE, sized(9, BFLOAT.astype("<f8").tobytes()), BFLOAT, "float64"),
        (FLOAT16, packed_integers(5, BFLOAT.astype(np.float16).view(np.uint16).tolist()), BFLOAT, "float16"),
        (FLOAT16, sized(9, BFLOAT.astype("<f2").tobytes()), BFLOAT, "float16"),
        (BFLOAT16, packed_integers(5, (BFLOAT.view(np.uint32) >> 16).tolist()), BFLOAT, "bfloat16"),
        (BFLOAT16, sized(9, (BFLOAT.view(np.uint32) >> 16).astype("<u2").tobytes()), BFLOAT, "bfloat16"),
        (INT64, packed_integers(7, [1, -2, 3, 2**40]), [1, -2, 3, 2**40], "int64"),
        (INT64, integers(7, [1, -2, 3, 2**40]), [1, -2, 3, 2**40], "int64"),
        (INT64, sized(9, np.array([1, -2, 3, 4], "<i8").tobytes()), [1, -2, 3, 4], "int64"),
        (6, packed_integers(5, [1, -2, 3, 4]), [1, -2, 3, 4], "int32"),
        (2, sized(9, bytes([1, 2, 3, 255])), [1, 2, 3, 255], "uint8"),
    ],
)
def test_tensors_of_every_kind(read, data_type, field, values, dtype):
    stored = packed_integers(1, [2, 2]) + integer(2, data_type) + sized(8, "t") + field
    tensors = read([node("Relu", "x", "y")], [stored]).tensors
    assert (tensors["t"].shape, tensors["t"].dtype) == ((2, 2), dtype)
    found = tensors["t"].read()
    np.testing.assert_array_equal(found, np.reshape(values, (2, 2)))
    assert found.dtype == (np.float32 if "float" in dtype else dtype)
    found[:] = 0  # it is an array of its own
    np.testing.assert_array_equal(tensors["t"].read(), np.reshape(values, (2, 2)))


def test_a_kind_of_numbers_nobody_can_read_is_named_when_it_is_read(read):
    tensors = read([node("Relu", "x", "y")], [packed_integers(1, [2]) + integer(2, 17) + sized(8, "t") + sized(9, b"ab")]).tensors
    with pytest.raises(WeightsError, match="found type 17 of ONNX; take a file with float weights"):
        tensors["t"].read()


def test_the_widths_of_a_pad_that_are_worked_out(read):
    # as PyTorch writes nn.ZeroPad2d((1, 2, 3, 4)) since opset 11: zeros in front, pairs, the last axis first, and all of it turned round
    chain = [
        constant("given", [1, 2, 3, 4]),
        constant("four", [4]),
        node("ConstantOfShape", "four", "zeros", value=tensor("", [0], INT64)),
        node("Concat", "given zeros", "all", axis=0),
        constant("pairs", [-1, 2]),
        node("Reshape", "all pairs", "table"),
        constant("first", [0]),
        constant("last", [-1]),
        constant("end", [-(2**63) + 1]),
        node("Slice", "table last end first last", "reversed"),
        node("Transpose", "reversed", "turned", perm=(1, 0)),
        constant("flat", [-1]),
        node("Reshape", "turned flat", "line"),
        node("Cast", "line", "widths", to=7),
        tensor_of("low", 0.0),
        node("Pad", "x widths low", "y", mode="constant"),
    ]
    assert only(read(chain)).settings == {"pads": (3, 1, 4, 2), "value": 0.0}


def tensor_of(name, number):
    return node("Constant", "", name, value_float=float(number))


@pytest.mark.parametrize(
    "broken",
    [
        node("ConstantOfShape", "huge", "widths", value=tensor("", [0], INT64)),
        node("ConstantOfShape", "four", "widths"),  # of floats
        node("Reshape", "four pairs", "widths"),
        node("Gather", "four huge", "widths"),
        node("Slice", "four four", "widths"),
        node("Squeeze", "four", "widths", axes=(7,)),
        node("Mod", "four four", "widths"),
    ],
)
def test_arithmetic_that_cannot_be_done_is_unknown(read, broken):
    tensors = [tensor("four", [4], INT64), tensor("huge", [2**40, 2**40], INT64), tensor("pairs", [-1, 2], INT64)]
    assert kinds(read([broken, node("Pad", "x widths", "y")], tensors)) == ["unknown", "unknown"]


def test_a_weight_turned_round_a_thousand_times_is_unknown(read):
    turns = [node("Transpose", f"w{k}", f"w{k + 1}", perm=(1, 0)) for k in range(1000)]
    nodes = [ROWS, *turns, node("MatMul", "rows w1000", "y")]
    assert kinds(read(nodes, [tensor("w0", WIDE)]))[-1] == "unknown"


# Networks as the ONNX model zoo has them: https://github.com/onnx/models, validated/vision/classification


def test_alexnet_as_caffe2_exported_it(read):
    # bvlcalexnet-3: no Reshape, Gemm flattens; a pool that rounds up is one with pads at its end
    inputs = [value("data_0", (1, 3, 224, 224)), value("conv1_w_0", WEIGHT.shape), value("conv1_b_0", (4,)), value("fc_w_0", (5, 4 * 9))]
    wide = RNG.normal(size=(5, 36)).astype(np.float32)
    nodes = [
        node("Conv", "data_0 conv1_w_0 conv1_b_0", "conv1_1", kernel_shape=(3, 3), strides=(1, 1), pads=(0, 0, 0, 0), group=1),
        node("Relu", "conv1_1", "conv1_2"),
        node("LRN", "conv1_2", "norm1_1", alpha=1e-4, beta=0.75, bias=1.0, size=5),
        node("MaxPool", "norm1_1", "pool1_1", kernel_shape=(3, 3), pads=(0, 0, 1, 1), strides=(2, 2)),
        node("Gemm", "pool1_1 fc_w_0 fc_b_0", "fc_1", transB=1, broadcast=1),
        node("Dropout", "fc_1", "fc_2 _fc_mask_1", is_test=1, ratio=0.5),
        node("Softmax", "fc_2", "prob_1"),
    ]
    tensors = [tensor("conv1_w_0", WEIGHT), tensor("conv1_b_0", BIAS), tensor("fc_w_0", wide), tensor("fc_b_0", FIVE)]
    file = read(nodes, tensors, inputs, outputs=["prob_1"], opset=3)
    expected = ["convolution", "relu", "response_norm", "max_pool", "flatten", "linear", "dropout", "softmax"]
    assert kinds(file) == expected
    newer = [
        *nodes[:4],
        node("Reshape", "pool1_1 OC2_DUMMY_1", "OC2_DUMMY_0"),
        node("Gemm", "OC2_DUMMY_0 fc_w_0 fc_b_0", "fc_1", transB=1),
        *nodes[5:],
    ]
    tensors.append(tensor("OC2_DUMMY_1", [1, 36], INT64))
    assert kinds(read(newer, tensors, inputs, outputs=["prob_1"], opset=9)) == expected
    assert file.graph.operations[2].settings["alpha"] == pytest.approx(2e-5)


def test_the_scale_behind_caffe2s_batch_norm(read):
    # inception-v2: Caffe's Scale layer as Unsqueeze of a constant, Mul and Add
    nodes = [
        node("BatchNormalization", "x s b m v", "bn", epsilon=1e-5, is_test=1),
        node("Unsqueeze", "sc_w", "OC2_DUMMY_0", axes=(1, 2)),
        node("Mul", "bn OC2_DUMMY_0", "sc"),
        node("Unsqueeze", "sc_b", "OC2_DUMMY_1", axes=(1, 2)),
        node("Add", "sc OC2_DUMMY_1", "y"),
    ]
    file = read(nodes, [tensor(name, np.ones(3)) for name in ("s", "b", "m", "v", "sc_w", "sc_b")], opset=7)
    assert kinds(file) == ["batch_norm", "scale", "scale"]
    assert [list(operation.weights) for operation in file.graph.operations[1:]] == [["scale"], ["shift"]]
