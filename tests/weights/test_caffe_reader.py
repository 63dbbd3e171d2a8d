"""Caffe models in both spellings, written here field by field; what the reader makes of each."""

import random
import tracemalloc

import numpy as np
import pytest
from protobuf_writer import caffe_model, integer, layer, old_layer, packed_integers, packed_reals, real, sized, varint

from provenet.errors import WeightsError
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


CONVOLUTION, POOLING, LRN, INNER, ELTWISE, CONCAT, BATCH_NORM, SCALE = 106, 121, 118, 117, 110, 104, 139, 142
DATA = layer("Input", "data", "", "data", param=(143, sized(1, packed_integers(1, [10, 3, 8, 8]))))
FEW = layer("InnerProduct", "last", "y", "last", [np.ones((2, 4))], param=(INNER, integer(2, 0)))
"""A layer with weights, for files that would have none."""


def kinds(file):
    return [operation.kind for operation in file.graph.operations]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (("Pooling", (POOLING, integer(2, 3) + integer(3, 2))), ("max_pool", {"rounds_up": True, "pads": (0, 0, 0, 0)})),
        (("Pooling", (POOLING, integer(2, 3) + integer(13, 1))), ("max_pool", {"rounds_up": False, "stride": (1, 1)})),
        (("Pooling", (POOLING, integer(2, 3) + integer(13, 0))), ("max_pool", {"rounds_up": True})),
        (("Pooling", (POOLING, integer(1, 1) + integer(2, 5) + integer(3, 3))), ("avg_pool", {"counts_padding": True, "kernel": (5, 5)})),
        (
            ("Pooling", (POOLING, integer(5, 2) + integer(6, 3) + integer(9, 1) + integer(7, 4))),
            ("max_pool", {"kernel": (2, 3), "pads": (1, 0, 1, 0), "stride": (4, 1)}),
        ),
        (("Pooling", (POOLING, integer(1, 1) + integer(12, 1))), ("global_average", {})),
        (("Pooling", (POOLING, integer(12, 1))), ("unknown", {"called": "Pooling"})),
        (("Pooling", (POOLING, integer(1, 2) + integer(2, 3))), ("unknown", {"called": "Pooling"})),
        (("Pooling", (POOLING, b"")), ("unknown", {"called": "Pooling"})),
        (
            ("LRN", (LRN, integer(1, 3) + real(2, 0.75) + real(3, 0.25) + real(5, 2))),
            ("response_norm", {"size": 3, "alpha": 0.25, "beta": 0.25, "k": 2}),
        ),
        (("LRN", (LRN, b"")), ("response_norm", {"size": 5, "alpha": 0.2, "beta": 0.75, "k": 1})),
        (("LRN", (LRN, integer(1, 4))), ("unknown", {"called": "LRN"})),
        (("LRN", (LRN, integer(4, 1))), ("unknown", {"called": "LRN"})),
        (("ReLU", (123, b"")), ("relu", {})),
        (("ReLU", (123, real(1, 0.1))), ("unknown", {"called": "ReLU"})),
        (("PReLU", (131, b"")), ("unknown", {"called": "PReLU"})),
        (("Dropout", (108, real(1, 0.4))), ("dropout", {})),
        (("Softmax", (125, b"")), ("softmax", {})),
        (("Softmax", (125, integer(2, 2))), ("unknown", {"called": "Softmax"})),
        (("Flatten", (135, b"")), ("flatten", {})),
        (("Reshape", (133, sized(1, packed_integers(1, [0, -1])))), ("flatten", {})),
        (("Reshape", (133, sized(1, packed_integers(1, [0, 4, 4])))), ("unknown", {"called": "Reshape"})),
        (("Eltwise", (ELTWISE, b"")), ("unknown", {"called": "Eltwise"})),
        (("Concat", (CONCAT, integer(2, 2))), ("unknown", {"called": "Concat"})),
        (("Sigmoid", (124, b"")), ("unknown", {"called": "Sigmoid"})),
    ],
    ids=lambda case: f"{case[0]}({case[1]})",
)  # fmt: skip
def test_layers_of_one_map(read, given, expected):
    file = read([DATA, layer(given[0], "l", "data", "y", param=given[1]), FEW])
    operation = file.graph.operations[0]
    assert (operation.kind, operation.name, operation.reads) == (expected[0], "l", (-1,))
    assert {name: operation.settings.get(name) for name in expected[1]} == expected[1]
    assert file.graph.input_shape == (3, 8, 8)


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        (integer(4, 3), {"kernel": (3, 3), "stride": (1, 1), "pads": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}),
        (integer(4, 3) + integer(4, 3) + integer(3, 1) + integer(3, 2), {"kernel": (3, 3), "pads": (1, 2, 1, 2)}),
        (packed_integers(4, [3, 3]) + packed_integers(6, [2, 1]), {"stride": (2, 1)}),
        (
            integer(11, 3) + integer(12, 3) + integer(9, 4) + integer(10, 5) + integer(13, 6) + integer(14, 7),
            {"pads": (4, 5, 4, 5), "stride": (6, 7)},
        ),
        (integer(4, 3) + integer(18, 2), {"dilation": (2, 2)}),
    ],
)
def test_windows_in_all_spellings(read, param, expected):
    operation = read([DATA, layer("Convolution", "c", "data", "y", [WEIGHT, BIAS], param=(CONVOLUTION, param))]).graph.operations[0]
    assert operation.kind == "convolution"
    assert {name: operation.settings[name] for name in expected} == expected


def test_convolutions_with_groups_and_without_a_bias(read):
    grouped = layer("Convolution", "c", "data", "y", [WEIGHT[:, :1]], param=(CONVOLUTION, integer(4, 3) + integer(2, 0) + integer(5, 3)))
    file = read([layer("Data", "data", "", "data label", transform=(100, integer(3, 8))), grouped])
    assert file.graph.operations[0].settings["groups"] == 3
    assert list(file.graph.operations[0].weights) == ["weight"]
    assert file.graph.input_shape == (3, 8, 8)  # three groups of one channel each


@pytest.mark.parametrize("param", [integer(4, 5), integer(4, 3) + integer(16, 2), integer(4, 3) + integer(2, 0), integer(4, 3) * 3, b""])
def test_convolutions_that_do_not_fit_their_blobs(read, param):
    assert kinds(read([DATA, layer("Convolution", "c", "data", "y", [WEIGHT, BIAS], param=(CONVOLUTION, param))])) == ["unknown"]


def test_inner_products_flatten_by_themselves_but_once(read):
    first = layer("InnerProduct", "a", "data", "a", [MATRIX, np.zeros(5)])
    second = layer("InnerProduct", "b", "a", "b", [np.ones((5, 7))], param=(INNER, integer(2, 0) + integer(6, 1)))
    file = read([DATA, first, layer("ReLU", "r", "a", "a"), layer("Dropout", "d", "a", "a"), second])
    assert kinds(file) == ["flatten", "linear", "relu", "dropout", "linear"]
    assert [operation.reads for operation in file.graph.operations] == [(-1,), (0,), (1,), (2,), (3,)]
    assert file.graph.operations[4].weights["weight"].shape == (7, 5)  # it was transposed
    assert kinds(read([DATA, layer("InnerProduct", "a", "data", "a", [MATRIX, BIAS])])) == ["unknown"]


@pytest.mark.parametrize("factor", [999.982, 1.0, 0.0])
def test_batch_norm_divides_by_its_factor(read, factor):
    norm = layer("BatchNorm", "n", "data", "n", [[2, 4, 6], [1, 3, 5], [factor]], param=(BATCH_NORM, real(3, 1e-3)))
    scale = layer("Scale", "s", "n", "n", [[1, 2, 3], [4, 5, 6]], param=(SCALE, integer(4, 1)))
    file = read([DATA, norm, scale, layer("Scale", "s2", "n", "n", [[1, 2, 3]]), layer("Bias", "b", "n", "n", [[1, 2, 3]])])
    assert kinds(file) == ["batch_norm", "scale", "scale", "scale"]
    batch_norm, scale, scale_alone, shift_alone = file.graph.operations
    by = np.float32(factor) if factor else np.inf
    np.testing.assert_allclose(batch_norm.weights["mean"].read(), np.array([2, 4, 6]) / by, rtol=1e-6)
    np.testing.assert_allclose(batch_norm.weights["variance"].read(), np.array([1, 3, 5]) / by, rtol=1e-6)
    assert batch_norm.settings["eps"] == pytest.approx(1e-3)
    assert (scale.weights["scale"].read().tolist(), scale.weights["shift"].read().tolist()) == ([1, 2, 3], [4, 5, 6])
    assert (list(scale_alone.weights), list(shift_alone.weights)) == (["scale"], ["shift"])
    assert list(file.tensors)[:5] == ["n.mean", "n.variance", "n.factor", "s.weight", "s.bias"]


def test_a_scale_by_another_map_is_unknown(read):
    assert kinds(read([DATA, layer("Scale", "s", "data data", "y"), FEW]))[0] == "unknown"


def test_forks_joins_and_splits(read):
    layers = [
        DATA,
        layer("ReLU", "r", "data", "r"),
        layer("Split", "r_split", "r", "r_split_0 r_split_1"),
        layer("Eltwise", "sum", "r_split_0 data", "sum", param=(ELTWISE, integer(1, 1) + real(2, 1) + real(2, 1))),
        layer("Eltwise", "minus", "r_split_0 data", "minus", param=(ELTWISE, integer(1, 1) + real(2, 1) + real(2, -1))),
        layer("Eltwise", "max", "r_split_0 data", "max", param=(ELTWISE, integer(1, 2))),
        layer("Concat", "all", "r_split_1 sum", "all", param=(CONCAT, integer(1, 1))),
        layer("InnerProduct", "fc", "all", "fc", [MATRIX], param=(INNER, integer(2, 0))),
    ]
    file = read(layers)
    assert kinds(file) == ["relu", "add", "unknown", "unknown", "concatenate", "flatten", "linear"]
    assert [operation.reads for operation in file.graph.operations[:5]] == [(-1,), (0, -1), (0, -1), (0, -1), (0, 1)]
    assert file.graph.result == 6


def test_layers_of_training_alone_are_left_out(read):
    layers = [
        layer("Data", "train", "", "data label", transform=(100, integer(3, 4) + sized(4, "train_mean.binaryproto")), include=0),
        layer("Data", "test", "", "data label", transform=(100, integer(3, 8) + real(1, 0.0078125)), include=1),
        layer("Convolution", "c", "data", "c", [WEIGHT, BIAS], param=(CONVOLUTION, integer(4, 3))),
        layer("Sigmoid", "training", "c", "c", include=0),
        layer("Sigmoid", "no test", "c", "c", exclude=1),
        layer("ReLU", "test", "c", "c", include=1),
        layer("ReLU", "no training", "c", "c", exclude=0),
        layer("InnerProduct", "fc", "c", "fc", [MATRIX], param=(INNER, integer(2, 0))),
        layer("Accuracy", "accuracy", "fc label", "accuracy", include=1),
        layer("SoftmaxWithLoss", "loss", "fc label", "loss"),
    ]
    file = read(layers)
    assert kinds(file) == ["convolution", "relu", "relu", "flatten", "linear"]
    assert file.metadata == {"name": "net", "scale": "0.0078125", "mean_file": "train_mean.binaryproto"}
    assert [operation.name for operation in file.graph.operations[:3]] == ["c", "test", "no training"]


def test_the_last_of_several_losses_is_the_answer(read):
    def head(name, bottom):
        return [
            layer("InnerProduct", f"{name}/fc", bottom, f"{name}/fc", [MATRIX], param=(INNER, integer(2, 0))),
            layer("SoftmaxWithLoss", f"{name}/loss", f"{name}/fc label", f"{name}/loss"),
        ]

    data = layer("Data", "data", "", "data label")
    file = read(
        [
            data,
            *head("loss1", "data"),
            layer("ReLU", "r", "data", "r"),
            *head("loss2", "r"),
            layer("LRN", "n", "r", "n"),
            *head("loss3", "n"),
        ]
    )
    assert file.graph.operations[file.graph.result].name == "loss3/fc"
    assert kinds(file) == ["flatten", "linear", "relu", "flatten", "linear", "response_norm", "flatten", "linear"]


@pytest.mark.parametrize("end", ["Softmax", "SoftmaxWithLoss", None])
def test_the_answer_may_be_a_pool_as_in_network_in_network(read, end):
    layers = [
        layer("Data", "data", "", "data label"),
        layer("Convolution", "cccp8", "data", "cccp8", [WEIGHT, BIAS], param=(CONVOLUTION, integer(4, 3))),
        layer("Pooling", "pool4", "cccp8", "pool4", param=(POOLING, integer(1, 1) + integer(12, 1))),
    ]
    layers += [layer(end, "end", "pool4" if end == "Softmax" else "pool4 label", "end")] if end else []
    file = read(layers)
    assert file.graph.operations[file.graph.result].name == ("end" if end == "Softmax" else "pool4")


@pytest.mark.parametrize(
    "rest",
    [
        sized(3, "data") + packed_integers(4, [10, 3, 8, 8]),
        sized(3, "data") + b"".join(integer(4, side) for side in (10, 3, 8, 8)),
        sized(3, "data") + sized(8, packed_integers(1, [10, 3, 8, 8])),
    ],
)
def test_inputs_of_a_deployed_net(read, rest):
    file = read([layer("ReLU", "r", "data", "y"), FEW], rest=rest)
    assert file.graph.input_shape == (3, 8, 8)
    assert file.graph.operations[0].reads == (-1,)


def test_the_picture_of_a_net_without_a_data_layer(read):
    assert read([layer("ReLU", "r", "pixels", "y"), FEW]).graph.operations[0].reads == (-1,)


def test_a_memory_layer_says_its_size(read):
    memory = layer("MemoryData", "data", "", "data label", param=(119, integer(1, 5) + integer(2, 1) + integer(3, 28) + integer(4, 27)))
    assert read([memory, layer("ReLU", "r", "data", "y"), FEW]).graph.input_shape == (1, 28, 27)


def test_doubles_and_numbers_not_packed(read):
    values = np.array([[0.1, 0.2, 0.3, 0.4]] * 2)
    doubles = sized(7, packed_integers(1, [2, 4])) + packed_reals(8, values, "<f8")
    singles = integer(1, 1) + integer(2, 1) + integer(3, 2) + integer(4, 4) + b"".join(real(5, value) for value in values.reshape(-1))
    for written in (doubles, singles):
        (found,) = read(
            [sized(1, "fc") + sized(2, "InnerProduct") + sized(3, "data") + sized(4, "fc") + sized(7, written)]
        ).tensors.values()
        np.testing.assert_array_equal(found.read().reshape(2, 4), values.astype(np.float32))


def test_blobs_of_other_layers_and_of_layers_of_one_name(read):
    file = read([DATA, layer("PReLU", "p", "data", "y", [[0.25]]), FEW, FEW])
    assert list(file.tensors) == ["p/0", "last.weight", "last.weight@3"]


def test_what_comes_behind_the_answer_is_not_the_answer(read):
    fully = layer("InnerProduct", "fc", "data", "fc", [MATRIX], param=(INNER, integer(2, 0)))
    aside = layer("Sigmoid", "aside", "data", "aside")
    for end in ([], [layer("Softmax", "prob", "fc", "prob")]):
        graph = read([DATA, fully, *end, aside]).graph
        assert graph.operations[graph.result].name == ("prob" if end else "fc")
        assert graph.operations[-1].name == "aside"


def test_how_old_data_layers_prepare_pictures(read):
    data = old_layer(12, "data", "", "data label", image_data=(15, real(2, 0.5) + sized(3, "mean.binaryproto") + integer(5, 8)))
    convolution = old_layer(4, "conv1", "data", "conv1", [WEIGHT, BIAS], convolution=(10, integer(4, 3)))
    file = read([data, convolution], old=True)
    assert file.metadata == {"name": "net", "mean_file": "mean.binaryproto", "scale": "0.5"}
    assert file.graph.input_shape == (3, 8, 8)


# Harm


def refused(path, content):
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as caught:
            read_caffe(path)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert most_bytes < 2_000_000
    return str(caught.value)


def with_blob(written):
    return caffe_model([sized(1, "fc") + sized(2, "InnerProduct") + sized(3, "data") + sized(4, "fc") + sized(7, written)])


@pytest.mark.parametrize(
    ("written", "found"),
    [
        (sized(7, packed_integers(1, [100_000, 250_000])) + packed_reals(5, [1, 2]), "found 100000 x 250000"),
        (sized(7, packed_integers(1, [2**31, 2**31, 4])), "found 2147483648 x 2147483648 x 4"),
        (sized(7, packed_integers(1, [-1, -4])) + packed_reals(5, [1] * 4), "found -1 x -4"),
        (integer(1, -1) + integer(2, -4) + integer(3, 1) + integer(4, 1) + packed_reals(5, [1] * 4), "found -1 x -4"),
        (sized(7, packed_integers(1, [1] * 9)) + packed_reals(5, [1]), "the shape of a blob"),
        (sized(7, packed_integers(1, [5])) + packed_reals(5, [1] * 4), "blob fc/0: expected 5 numbers, found 4"),
        (sized(7, packed_integers(1, [3])) + packed_reals(5, [1] * 4), "expected 3 numbers, found 4"),
        (packed_reals(5, [1] * 4), "expected 0 numbers, found 4"),
        (sized(7, packed_integers(1, [1])) + sized(5, b"abc"), "multiple of 4"),
        (b"\x2a" + varint(2**63), "9,223,372,036,854,775,808 bytes where 0 are left"),
    ],
)
def test_blobs_that_promise_more_than_there_is(tmp_path, written, found):
    assert found in refused(tmp_path / "net.caffemodel", with_blob(written))


def test_what_is_no_net(tmp_path):
    path = tmp_path / "net.caffemodel"
    assert "no layers with weights" in refused(path, sized(1, "net"))
    assert "no layers with weights" in refused(path, caffe_model([layer("ReLU", "r", "data", "y")]))
    assert "'nowhere', which layer 'r' reads, nowhere before it" in refused(
        path, caffe_model([DATA, layer("ReLU", "r", "nowhere", "y"), FEW])
    )
    assert "upgrade_net_proto_binary" in refused(path, caffe_model([sized(1, sized(1, "conv1"))], old=True))
    assert "expected a Caffe model" in refused(path, b"PK\x03\x04" + bytes(1000))


def test_files_cut_short_and_changed(tmp_path):
    layers = [
        layer("Data", "data", "", "data label", transform=(100, integer(3, 8) + real(5, 104) + real(5, 117) + real(5, 123))),
        layer("Convolution", "conv1", "data", "conv1", [WEIGHT, BIAS], param=(CONVOLUTION, integer(4, 3) + integer(3, 1))),
        layer("BatchNorm", "n", "conv1", "conv1", [BIAS, BIAS, [1]]),
        layer("Scale", "s", "conv1", "conv1", [BIAS, BIAS], param=(SCALE, integer(4, 1))),
        layer("Split", "split", "conv1", "a b"),
        layer("Eltwise", "add", "a b", "c"),
        layer("Pooling", "p", "c", "p", param=(POOLING, integer(1, 1) + integer(12, 1))),
        layer("InnerProduct", "fc", "p", "fc", [np.ones((5, 4))], param=(INNER, integer(2, 0))),
        layer("SoftmaxWithLoss", "loss", "fc label", "loss"),
    ]
    whole, path, dice = caffe_model(layers), tmp_path / "net.caffemodel", random.Random(0)
    contents = [whole[:length] for length in range(0, len(whole), 7)]
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(content))
            content[place : place + dice.randint(0, 2)] = dice.randbytes(dice.randint(0, 2))
        contents.append(bytes(content))
    contents += [dice.randbytes(dice.choice((1, 10, 1000))) for _ in range(100)]
    messages = []
    with np.errstate(all="ignore"):  # of numbers that a changed byte made infinite
        for content in contents:
            path.unlink(missing_ok=True)
            path.write_bytes(content)
            try:
                file = read_caffe(path)
                for each in (file.tensors, *(operation.weights for operation in file.graph.operations)):
                    assert all(found.read().shape == found.shape for found in each.values())
            except WeightsError as error:
                messages.append(str(error))
    assert len(messages) > 250
    assert not [message for message in messages if "\n" in message]
