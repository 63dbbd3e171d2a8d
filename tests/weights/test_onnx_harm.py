"""ONNX files that are broken, or made to do harm: each is refused with one line, before anything is allocated."""

import os
import random
import tracemalloc

import numpy as np
import pytest
from protobuf_writer import (
    FLOAT,
    INT64,
    integer,
    node,
    onnx_model,
    packed_integers,
    packed_reals,
    sized,
    tensor,
    value,
    varint,
)

from provenet.errors import WeightsError
from provenet.weights.formats.onnx import read_onnx

RELU = [node("Relu", "x", "y")]
WHOLE = onnx_model(
    [
        node("Conv", "x w", "c0", kernel_shape=(3, 3), pads=(1, 1, 1, 1), strides=(2, 2), group=1),
        node("Constant", "", "k", value=tensor("", np.zeros((4, 1, 1)))),
        node("Add", "c0 k", "c"),
        node("BatchNormalization", "c b b b b", "n", epsilon=1e-5),
        node("MaxPool", "n", "p places", kernel_shape=(3, 3), ceil_mode=1),
        node("Pad", "p widths low", "padded", mode="constant"),
        node("LRN", "padded", "l", size=5, alpha=1e-4, beta=0.75, bias=1.0),
        node("Shape", "l", "s"),
        node("Gather", "s zero", "s0", axis=0),
        node("Unsqueeze", "s0", "s1", axes=(0,)),
        node("Concat", "s1 rest", "s2", axis=0),
        node("GlobalAveragePool", "l", "g"),
        node("Reshape", "g s2", "f"),
        node("Transpose", "m", "turned", perm=(1, 0)),
        node("MatMul", "f turned", "mm"),
        node("Add", "mm five", "h"),
        node("Dropout", "h", "d mask"),
        node("Softmax", "d", "y", axis=1),
    ],
    [
        tensor("w", np.zeros((4, 3, 3, 3))),
        tensor("b", np.zeros(4)),
        tensor("m", np.zeros((5, 4))),
        tensor("five", np.zeros(5)),
        tensor("zero", 0, INT64),
        tensor("rest", [-1], INT64),
        tensor("widths", [0, 0, 1, 1, 0, 0, 1, 1], INT64),
        tensor("low", 0.0),
    ],
)


@pytest.fixture
def path(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    return folder / "net.onnx"


def refused(path, content=None):
    """The one line with which a file is refused, which takes little memory."""
    if content is not None:
        path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as caught:
            read_onnx(path)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path)) or "the file with the tensors" in str(caught.value)
    assert most_bytes < 2_000_000
    return str(caught.value)


def use(path):
    """Read a file and everything in it; WeightsError is all that may come of it, which is then returned."""
    try:
        file = read_onnx(path)
        for each in (file.tensors, *(operation.weights for operation in file.graph.operations)):
            assert all(found.read().shape == found.shape for found in each.values())
    except WeightsError as error:
        return str(error)
    return None


def is_one_line(message):
    """Whether a file was refused, which must take one line."""
    assert "\n" not in (message or "")
    return message is not None


def test_the_whole_file_is_sound(path):
    path.write_bytes(WHOLE)
    assert use(path) is None
    assert not [operation for operation in read_onnx(path).graph.operations if operation.kind == "unknown"]


def test_cut_short_anywhere(path):
    num_refused = 0
    for length in range(0, len(WHOLE), 7):
        path.unlink(missing_ok=True)
        path.write_bytes(WHOLE[:length])
        num_refused += is_one_line(use(path))
    assert num_refused > 0.95 * len(range(0, len(WHOLE), 7))  # what misses only the opset at the end is a file still


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numbers that a changed byte made infinite
def test_bytes_changed_anywhere(path):
    dice, num_refused = random.Random(0), 0
    for _ in range(400):
        content = bytearray(WHOLE)
        for _ in range(dice.randint(1, 4)):
            place = dice.randrange(len(content))
            match dice.randrange(3):
                case 0:
                    content[place] = dice.randrange(256)
                case 1:
                    del content[place : place + dice.randint(1, 9)]
                case 2:
                    content[place:place] = dice.randbytes(dice.randint(1, 9))
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        num_refused += is_one_line(use(path))
    assert 100 < num_refused < 400


def test_random_bytes(path):
    dice = random.Random(1)
    for _ in range(100):
        refused(path, dice.randbytes(dice.choice((1, 10, 1000))))


def test_a_file_of_another_kind(path):
    assert "expected an ONNX model, found" in refused(path, b"PK\x03\x04" + bytes(1000))
    assert "expected an ONNX model, found no graph in it" in refused(path, integer(1, 7))
    assert "without an input" in refused(path, onnx_model(RELU, inputs=[]))
    assert "without an output" in refused(path, onnx_model(RELU, outputs=()))


def a_tensor(dims, rest=b"", data_type=FLOAT):
    return packed_integers(1, dims) + integer(2, data_type) + sized(8, "w") + rest


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        (a_tensor([100_000, 250_000], sized(9, bytes(8))), "found 100000 x 250000"),  # 100 GB
        (a_tensor([2**31, 2**31, 4], sized(9, b"")), "found 2147483648 x 2147483648 x 4"),  # 2 ** 64 numbers
        (a_tensor([2**62, 2**62, 2**62]), "expected the shape of a tensor"),
        (a_tensor([-1, -4], sized(9, bytes(16))), "found -1 x -4"),
        (a_tensor([1] * 9, sized(9, bytes(4))), "found 1 x 1 x 1 x 1 x 1 x 1 x 1 x 1 x 1;"),
        (a_tensor([1] * 5000), "5,000 numbers where a few belong"),
        (a_tensor([4], sized(9, bytes(15))), "expected 16 bytes, found 15"),
        (a_tensor([4], sized(9, bytes(17))), "expected 16 bytes, found 17"),
        (a_tensor([4]), "expected 4 numbers, found 0"),
        (a_tensor([4], packed_reals(4, [1, 2, 3])), "expected 4 numbers, found 3"),
        (a_tensor([4], packed_integers(7, [1, 2, 3, 4, 5]), INT64), "expected 4 numbers, found 5"),
        (a_tensor([1000], packed_reals(10, [1]), FLOAT), "expected 1,000 numbers, found 0"),
        (a_tensor([4]) + b"\x4a" + varint(2**63), "9,223,372,036,854,775,808 bytes where 0 are left"),
    ],
)
def test_tensors_that_promise_more_than_there_is(path, stored, found):
    assert found in refused(path, onnx_model(RELU, [stored]))
    assert found in refused(path, onnx_model([node("Constant", "", "c", value=stored), *RELU]))


@pytest.mark.parametrize(
    ("nodes", "found"),
    [
        ([node("Relu", "b", "a"), node("Relu", "a", "b"), *RELU], "nodes that read one another in a circle"),
        ([node("Relu", "y", "y")], "nodes that read one another in a circle"),
        ([node("Relu", "nothing", "y")], "'nothing', which Relu 'y' reads, nowhere"),
        ([*RELU, *RELU], "two things called 'y'"),
        ([node("Relu", "x", "x"), *RELU], "two things called 'x'"),
        ([node("Relu", "x", "z")], "an output 'y' that no known node gives"),
        ([node("Constant", "", "y", value_int=1)], "an output 'y' that no known node gives"),
    ],
)
def test_graphs_that_are_none(path, nodes, found):
    assert found in refused(path, onnx_model(nodes))


def test_names_do_not_reach_the_terminal(path):
    assert "\x1b" not in refused(path, onnx_model([node("Relu\x1b[2J", "no\x1b[2J", "y\nz")]))


def test_a_chain_of_many_nodes_is_read_without_recursion(path):
    path.write_bytes(
        onnx_model([node("Relu", f"v{k}", f"v{k + 1}") for k in reversed(range(5000))], inputs=[value("v0")], outputs=["v5000"])
    )
    assert [operation.reads for operation in read_onnx(path).graph.operations] == [(k - 1,) for k in range(5000)]


def test_shapes_worked_out_do_not_grow(path):
    chain = [node("Concat", f"s{k} s{k}", f"s{k + 1}", axis=0) for k in range(100)]  # 2 ** 100 sizes
    path.write_bytes(onnx_model([node("Shape", "x", "s0"), *chain, node("Reshape", "x s100", "y")]))
    tracemalloc.start()
    assert [operation.kind for operation in read_onnx(path).graph.operations] == ["unknown"]
    assert tracemalloc.get_traced_memory()[1] < 2_000_000
    tracemalloc.stop()


def outside(location=None, offset=None, length=None, dims=(4,)):
    """A model whose one tensor is in another file."""
    entries = {"location": location, "offset": offset, "length": length}
    entries = [sized(13, sized(1, key) + sized(2, each)) for key, each in entries.items() if each is not None]
    return onnx_model(RELU, [a_tensor(dims, b"".join(entries) + integer(14, 1))])


def test_tensors_in_a_file_beside_it(path):
    values = np.arange(10, dtype="<f4")
    (path.parent / "net.data").write_bytes(values.tobytes())
    (path.parent / "below").mkdir()
    (path.parent / "below/net.data").write_bytes(values.tobytes())
    for location in ("net.data", "below/net.data", "./net.data"):
        for offset, length, expected in ((None, None, values[:4]), ("8", "16", values[2:6]), ("24", None, values[6:])):
            path.write_bytes(outside(location, offset, length))
            np.testing.assert_array_equal(read_onnx(path).tensors["w"].read(), expected)
            path.unlink()


def test_tensors_in_a_file_beyond_two_gigabytes(path):
    place = path.parent / "net.data"
    with place.open("wb") as file:
        file.seek(3 * 2**30)  # a hole: it takes no room
        file.write(np.arange(4, dtype="<f4").tobytes())
    path.write_bytes(outside("net.data", str(3 * 2**30), "16"))
    np.testing.assert_array_equal(read_onnx(path).tensors["w"].read(), np.arange(4))


@pytest.mark.parametrize(
    "location",
    ["/etc/passwd", "../secret", "below/../../secret", "C:\\secret", "..\\secret", "", "a\0b", "//host/share", "link", "below/link"],
)
def test_files_outside_its_folder_are_refused(path, location):
    secret = path.parent.parent / "secret"
    secret.write_bytes(bytes(100))
    (path.parent / "below").mkdir()
    (path.parent / "link").symlink_to(secret)
    (path.parent / "below/link").symlink_to("../../secret")
    assert "outside it; do not trust this file" in refused(path, outside(location))


def test_a_folder_that_is_a_link_is_refused_too(path):
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "net.data").write_bytes(bytes(16))
    (path.parent / "below").symlink_to(elsewhere)
    assert "outside it" in refused(path, outside("below/net.data"))


def test_a_link_inside_its_folder_is_followed(path):
    (path.parent / "net.data").write_bytes(bytes(16))
    (path.parent / "link").symlink_to("net.data")
    path.write_bytes(outside("link"))
    assert read_onnx(path).tensors["w"].read().tolist() == [0] * 4


def test_a_missing_file_is_asked_for(path):
    message = refused(path, outside("net.onnx_data"))
    assert f"'net.onnx_data' beside it, found none; put that file into {path.parent}" in message


def test_what_is_no_file_is_not_opened(path):
    (path.parent / "folder").mkdir()
    os.mkfifo(path.parent / "pipe")
    for location in ("folder", "pipe", "."):
        assert "something that is no file" in refused(path, outside(location))
    (path.parent / "round").symlink_to("round")
    refused(path, outside("round"))
    (path.parent / "device").symlink_to("/dev/zero")
    assert "outside it" in refused(path, outside("device"))


@pytest.mark.parametrize(
    ("offset", "length", "found"),
    [
        ("1", "16", "bytes 1 to 17 of 'net.data', found a file of 16"),
        ("0", "17", "found a file of 16"),
        ("9223372036854775807", "16", "found a file of 16"),
        ("-4", "16", "found no number"),
        ("0x0", "16", "found no number"),
        ("1" * 5000, "16", "found no number"),
        ("٣", "16", "found no number"),
        ("0", "12", "expected 16 bytes, found 12"),
        ("0", "", "found no number"),
    ],
)
def test_places_that_are_not_in_the_file(path, offset, length, found):
    (path.parent / "net.data").write_bytes(bytes(16))
    assert found in refused(path, outside("net.data", offset, length))


def test_a_pipe_or_a_folder_is_no_model(path):
    os.mkfifo(path)
    assert "something that is no file" in refused(path)
    path.unlink()
    path.mkdir()
    assert "something that is no file" in refused(path)
