"""ONNX files as others write them: onnx's own helper, PyTorch's exporter, external data, half precision.

Tensors are compared with onnx's own reading of them. A graph is compared by what it computes: it is run here, operation by operation,
from what the reader says, and by ONNX Runtime from the file.
"""

import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
import torchvision
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from provenet.weights.formats.onnx import read_onnx

SINGLE, HALF = 1e-5, 1e-2
"""Relative errors of the answer: of two orders of adding up in float32, and of rounding every value to float16."""


def run(graph, images):
    """What a ForeignGraph says, computed."""
    values = {-1: images}
    for number, operation in enumerate(graph.operations):
        x, weights = values[operation.reads[0]], {name: torch.from_numpy(tensor.read()) for name, tensor in operation.weights.items()}
        values[number] = compute(operation.kind, operation.settings, weights, x, [values[read] for read in operation.reads])
    return values[graph.result]


def padded(x, settings, value):
    top, left, bottom, right = settings["pads"]
    return F.pad(x, (left, right, top, bottom), value=value)


def compute(kind, settings, weights, x, all_read):
    match kind:
        case "convolution":
            assert weights["weight"].shape[2:] == settings["kernel"]
            return F.conv2d(
                padded(x, settings, 0.0),
                weights["weight"],
                weights.get("bias"),
                settings["stride"],
                0,
                settings["dilation"],
                settings["groups"],
            )
        case "linear":
            return F.linear(x, weights["weight"], weights.get("bias"))
        case "batch_norm":
            return F.batch_norm(x, weights["mean"], weights["variance"], weights.get("scale"), weights.get("shift"), eps=settings["eps"])
        case "scale":
            shape = (1, -1) + (1,) * (x.ndim - 2)
            return x * weights.get("scale", torch.ones(1)).reshape(shape) + weights.get("shift", torch.zeros(1)).reshape(shape)
        case "max_pool":
            return F.max_pool2d(padded(x, settings, -torch.inf), settings["kernel"], settings["stride"], ceil_mode=settings["rounds_up"])
        case "avg_pool":
            top, left, bottom, right = settings["pads"]
            assert (top, left) == (bottom, right)
            return F.avg_pool2d(x, settings["kernel"], settings["stride"], (top, left), settings["rounds_up"], settings["counts_padding"])
        case "global_average":
            return x.mean((2, 3), keepdim=True)
        case "response_norm":
            size = settings["size"]
            return F.local_response_norm(x, size, settings["alpha"] * size, settings["beta"], settings["k"])
        case "pad":
            return padded(x, settings, settings["value"])
        case "add":
            return sum(all_read[1:], start=x)
        case "concatenate":
            return torch.cat(all_read, 1)
        case "softmax":
            return F.log_softmax(x, 1) if settings.get("log") else F.softmax(x, 1)
        case "relu":
            return F.relu(x)
        case "flatten":
            return x.flatten(1)
        case "dropout" | "identity":
            return x
    raise AssertionError(kind)


def close(found, expected, tolerance):
    np.testing.assert_allclose(found.numpy(), expected.astype(np.float32), rtol=0, atol=tolerance * np.abs(expected).max())


def compare(path, images, num_tensors=None):
    """A file's tensors with onnx's reading of them, and its graph with ONNX Runtime's."""
    model, file = onnx.load(path), read_onnx(path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            stored[node.output[0]] = node.attribute[0].t
    assert file.tensors.keys() == stored.keys()
    assert num_tensors is None or len(stored) == num_tensors
    for name, tensor in stored.items():
        expected = numpy_helper.to_array(tensor)
        assert file.tensors[name].shape == expected.shape
        np.testing.assert_array_equal(file.tensors[name].read(), expected.astype(np.float32) if expected.dtype.kind == "f" else expected)
    assert [operation.settings for operation in file.graph.operations if operation.kind == "unknown"] == []
    assert file.metadata["opset"] == str(model.opset_import[0].version)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    half = given.type == "tensor(float16)"
    (expected,) = session.run(None, {given.name: images.half().numpy() if half else images.numpy()})
    with torch.no_grad():
        found = run(file.graph, images)
    close(found, expected, HALF if half else SINGLE)
    return file


class Small(nn.Module):
    """Parts that torchvision's networks have, and some that they lack, small."""

    def __init__(self, ceil=False):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=ceil),
            nn.Conv2d(12, 16, 3, groups=2, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.AvgPool2d(3, 2, padding=1),
            nn.ZeroPad2d((1, 2, 0, 1)), nn.Conv2d(16, 8, 3, dilation=2), nn.ReLU(),
        )  # fmt: skip
        self.classifier = nn.Sequential(nn.Dropout(), nn.LazyLinear(20), nn.ReLU(), nn.Linear(20, 7, bias=False))

    def forward(self, x):
        x = self.features(x * 2.0 - 0.5)
        return self.classifier(x.view(x.size(0), -1)).softmax(1)


def randomised(net):
    """Batch norms with statistics that are not those of the start."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2), nn.init.normal_(module.bias)
    return net.eval()


def export(net, images, path, opset, **rest):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(
            net, images, str(path), opset_version=opset, dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "N"}}, **rest
        )


@pytest.mark.parametrize("opset", range(7, 21))
def test_what_pytorch_exports(opset, tmp_path):
    images = torch.randn(2, 3, 33, 33)
    net = Small(ceil=opset >= 10)
    net(images)
    export(randomised(net), images, tmp_path / "net.onnx", opset)
    file = compare(tmp_path / "net.onnx", images)
    assert file.metadata["producer_name"] == "pytorch"
    assert file.graph.input_shape == (3, 33, 33)


@pytest.mark.parametrize("opset", [9, 13, 17, 20])
@pytest.mark.parametrize("folds", [True, False])
def test_torchvisions_networks(opset, folds, tmp_path):
    training = torch.onnx.TrainingMode.EVAL if folds else torch.onnx.TrainingMode.PRESERVE
    images = torch.randn(1, 3, 64, 64)
    networks = {"resnet18": {}, "alexnet": {}, "googlenet": {"init_weights": False}}
    for name, rest in networks.items():
        if name == "alexnet" and (opset != 17 or not folds):
            continue  # a quarter of a gigabyte
        images = torch.randn(1, 3, 224, 224) if name == "alexnet" else images  # its adaptive pool is exported where it is the identity
        path = tmp_path / f"{name}.onnx"
        net = randomised(getattr(torchvision.models, name)(**rest))
        export(net, images, path, opset, training=training, do_constant_folding=folds)
        compare(path, images)
        path.unlink()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of torch, at its own exporter
def test_what_pytorchs_newer_exporter_writes(tmp_path):
    images = torch.randn(2, 3, 33, 33)
    net = Small()
    net(images)
    torch.onnx.export(randomised(net), (images,), str(tmp_path / "net.onnx"), dynamo=True, verbose=False)
    compare(tmp_path / "net.onnx", images)


@pytest.fixture
def resnet(tmp_path):
    net, images = randomised(torchvision.models.resnet18(num_classes=7)), torch.randn(1, 3, 64, 64)
    export(net, images, tmp_path / "net.onnx", 17)
    return tmp_path / "net.onnx", images


def test_external_data(resnet, tmp_path):
    path, images = resnet
    for rest in ({"all_tensors_to_one_file": True, "location": "net.data"}, {"all_tensors_to_one_file": False}):
        place = tmp_path / str(len(rest))
        place.mkdir()
        onnx.save(onnx.load(path), place / "net.onnx", save_as_external_data=True, size_threshold=100, **rest)
        assert (place / "net.onnx").stat().st_size < 100_000
        compare(place / "net.onnx", images)


def test_half_precision(resnet, tmp_path):
    path, images = resnet
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name))
    # as converters do it: pictures and logits stay float32, with a Cast at either end
    model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["x_half"], to=TensorProto.FLOAT16))
    for node in list(model.graph.node)[1:]:
        node.input[:] = ["x_half" if name == "x" else name for name in node.input]
        node.output[:] = ["y_half" if name == model.graph.output[0].name else name for name in node.output]
    model.graph.node.append(helper.make_node("Cast", ["y_half"], [model.graph.output[0].name], to=TensorProto.FLOAT))
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "half.onnx")
    file = read_onnx(tmp_path / "half.onnx")
    assert {tensor.dtype for tensor in file.tensors.values()} == {"float16"}
    assert [operation.kind for operation in file.graph.operations if operation.kind in ("identity", "unknown")] == ["identity"] * 2
    session = onnxruntime.InferenceSession(tmp_path / "half.onnx", providers=["CPUExecutionProvider"])
    with torch.no_grad():
        close(run(file.graph, images), session.run(None, {"x": images.numpy()})[0], HALF)


@pytest.mark.parametrize(
    "dtype", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT64, TensorProto.INT32]
)
@pytest.mark.parametrize("raw", [True, False])
def test_tensors_as_onnx_writes_them(dtype, raw, tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 4)) * 100
    stored = values.astype(helper.tensor_dtype_to_np_dtype(dtype))
    tensor = helper.make_tensor("w", dtype, (3, 4), stored.tobytes() if raw else stored.reshape(-1).tolist(), raw=raw)
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 8, 8)), helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", shape[:1], shape[1:], [tensor])
    onnx.save(helper.make_model(graph), tmp_path / "net.onnx")
    found = read_onnx(tmp_path / "net.onnx").tensors["w"].read()
    np.testing.assert_array_equal(found, numpy_helper.to_array(tensor).astype(found.dtype))


NODES = {
    "ceil": ("MaxPool", {"kernel_shape": (3, 3), "strides": (2, 2), "ceil_mode": 1}),
    "average": ("AveragePool", {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1)}),
    "average with padding": ("AveragePool", {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (1, 1, 1, 1), "count_include_pad": 1}),
    "one-sided": ("MaxPool", {"kernel_shape": (3, 3), "strides": (2, 2), "pads": (0, 0, 1, 1)}),
    "norm": ("LRN", {"size": 5, "alpha": 0.5, "beta": 0.75, "bias": 2.0}),
    "narrow": ("Conv", {"pads": (0, 1, 2, 1), "strides": (1, 2), "dilations": (2, 1)}),
}


@pytest.mark.parametrize("name", NODES)
def test_single_nodes_against_onnx_runtime(name, tmp_path):
    kind, attributes = NODES[name]
    inputs, weight = ["x"], numpy_helper.from_array(np.random.default_rng(0).normal(size=(4, 6, 3, 2)).astype(np.float32), "w")
    inputs += ["w"] * (kind == "Conv")
    shape = (
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 6, 12, 12)),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    )
    graph = helper.make_graph([helper.make_node(kind, inputs, ["y"], **attributes)], "g", shape[:1], shape[1:], [weight] * (kind == "Conv"))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "net.onnx")
    compare(tmp_path / "net.onnx", torch.randn(2, 6, 12, 12))
