"""ONNX files as exporters and the model zoo write them, recognised by what they compute and read into our networks.

PyTorch's exporter writes torchvision's networks. The zoo's files cannot be had here: graphs of the same layers, which ONNX Runtime runs
in today's operator set, are written again in the operator sets and the manners of the zoo, padded by hand and with names that say nothing.
"""

import warnings

import onnx
import onnx_oracle
import onnxruntime
import pytest
import torch
import torchvision.models as torchvision
from answers import agree, disturb, make_photographs
from onnx import TensorProto, helper, numpy_helper
from test_onnx_oracle import build, run

from provenet.errors import WeightsError
from provenet.models.catalog import build_network
from provenet.weights.importer import import_weights
from provenet.weights.state_dict_names import TORCHVISION

CLASSES = 20


def export(net, path, opset, *, keeps_norms=False):
    mode = torch.onnx.TrainingMode.PRESERVE if keeps_norms else torch.onnx.TrainingMode.EVAL
    size = getattr(getattr(net, "input_spec", None), "size", 224)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.eval(), (torch.randn(1, 3, size, size),), path, dynamo=False, opset_version=opset, training=mode,
            do_constant_folding=not keeps_norms,
        )  # fmt: skip


def answers_of(path, images):
    """ONNX Runtime's, one picture at a time, as the file was exported."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return torch.cat([torch.from_numpy(session.run(None, {name: image[None].numpy()})[0]) for image in images])


EXPORTS = [
    *((ours, theirs, 17, False) for ours, theirs in TORCHVISION.items()),
    *((ours, TORCHVISION[ours], 17, True) for ours in ("googlenet_bn", "vgg11_bn", "resnet18", "resnet50_v1_5")),
    *(("resnet18", "resnet18", opset, opset == 11) for opset in (9, 11, 13, 20)),
]


@pytest.mark.parametrize(("ours", "theirs", "opset", "keeps_norms"), EXPORTS)
def test_what_pytorch_exports_of_torchvision(ours, theirs, opset, keeps_norms, tmp_path):
    arguments = {"aux_logits": False, "init_weights": False} if theirs == "googlenet" else {}
    net = disturb(getattr(torchvision, theirs)(num_classes=CLASSES, **arguments))
    path = tmp_path / "net.onnx"
    export(net, path, opset, keeps_norms=keeps_norms)
    bundle, report = import_weights(path)
    # a VGG whose batch norms are folded computes what the one without them does
    expected = ours.removesuffix("_bn") if ours.startswith("vgg") and not keeps_norms else ours
    assert report.network == expected
    assert ours in (report.network, *report.also_fit)
    images = make_photographs(bundle)
    with torch.no_grad():
        found = bundle.network(images)
        agree(found, net(images))
    agree(found, answers_of(path, images))


@pytest.mark.parametrize("ours", ["alexnet_owt", "vgg11", "vgg11_bn", "googlenet_bn", "resnet18", "resnet50_v1_5"])
def test_what_pytorch_s_newer_exporter_writes(ours, tmp_path):
    """Which goes by way of torch.export and puts the weights beside the file."""
    theirs = TORCHVISION[ours]
    arguments = {"aux_logits": False, "init_weights": False} if theirs == "googlenet" else {}
    net = disturb(getattr(torchvision, theirs)(num_classes=CLASSES, **arguments))
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.randn(1, 3, 224, 224),), path, dynamo=True, verbose=False)
    assert (tmp_path / "net.onnx.data").is_file()
    bundle, report = import_weights(path)
    assert report.network == (ours.removesuffix("_bn") if ours.startswith("vgg") else ours)
    images = make_photographs(bundle)
    with torch.no_grad():
        found = bundle.network(images)
        agree(found, net(images))
    agree(found, answers_of(path, images))


def test_a_file_with_channels_last_says_so(tmp_path):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 224, 224, 3))
    path = tmp_path / "net.onnx"
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "last", [value], [helper.make_tensor_value_info("y", 1, None)])
    path.write_bytes(helper.make_model(graph).SerializeToString())
    with pytest.raises(WeightsError, match="expected channels before height and width, found 224x224x3; export the model channels first"):
        import_weights(path)


@pytest.mark.parametrize("name", ["resnet50", "resnet50_caffe", "resnet34", "vgg16_gap", "nin_imagenet"])
def test_networks_of_ours_exported_are_told_from_their_relatives(name, tmp_path):
    net = disturb(build_network(name, num_classes=CLASSES, init="trainable"))
    path = tmp_path / "net.onnx"
    export(net, path, 17, keeps_norms="resnet" in name)
    bundle, report = import_weights(path)
    assert (report.network, report.also_fit) == (name, ())
    images = make_photographs(bundle)
    with torch.no_grad():
        agree(bundle.network(images), net(images))
    with pytest.raises(WeightsError, match="parts from"):
        import_weights(path, "resnet50_v1_5" if name != "resnet34" else "resnet34_c")


def test_weights_beside_the_file(tmp_path):
    net = disturb(torchvision.resnet18(num_classes=CLASSES))
    export(net, tmp_path / "whole.onnx", 17)
    onnx.save(onnx.load(tmp_path / "whole.onnx"), tmp_path / "net.onnx", save_as_external_data=True, location="net.data", size_threshold=64)
    bundle, report = import_weights(tmp_path / "net.onnx")
    assert report.network == "resnet18"
    images = make_photographs(bundle)
    with torch.no_grad():
        agree(bundle.network(images), net(images))
    (tmp_path / "net.data").unlink()
    with pytest.raises(WeightsError, match=r"net\.data"):
        import_weights(tmp_path / "net.onnx")


def write_as_the_zoo(name, net, path, *, opset, size, far_pad=1):
    """The oracle's graph with the weights of `net`, in an old operator set, with dropout, softmax and names that say nothing."""
    graph = onnx_oracle.Graph(3)
    logits = onnx_oracle.NETWORKS[name](graph, net.num_classes)
    weights = {weight: f"gpu_0/w_{number}" for number, weight in enumerate((*graph.weights, *graph.statistics))}
    tensors = []
    for weight, new in weights.items():
        layer, _, attribute = weight.rpartition(".")
        tensors.append(numpy_helper.from_array(getattr(net.layer(layer), attribute).detach().numpy(), new))
    nodes, renamed, made_by = [], {"images": "gpu_0/data_0"}, {}

    def add(kind, inputs, outputs, **attributes):
        nodes.append(helper.make_node(kind, inputs, outputs, **attributes))

    for node in graph.nodes:
        inputs = [renamed.get(name, weights.get(name, name)) for name in node.input]
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        kind, (output,) = node.op_type, node.output
        if kind == "Gemm" and opset < 7:
            attributes["broadcast"] = 1
        if kind == "BatchNormalization":
            attributes |= ({"is_test": 1} if opset < 7 else {}) | ({"consumed_inputs": [0, 0, 0, 1, 1]} if opset < 6 else {})
            attributes |= {"spatial": 1} if opset < 9 else {}
        if kind in ("MaxPool", "AveragePool") and attributes.pop("ceil_mode", 0):
            pads = attributes["pads"]
            attributes["pads"] = [*pads[:2], pads[2] + far_pad, pads[3] + far_pad]
        if kind == "Flatten" and opset < 5:
            kind, attributes = "Reshape", {"shape": [1, -1]}
        elif kind == "Flatten" and opset < 12:
            kind, attributes = "Reshape", {}
            tensors.append(numpy_helper.from_array(torch.tensor([1, -1]).numpy(), f"OC2_DUMMY_{len(tensors)}"))
            inputs.append(tensors[-1].name)
        add(kind, inputs, [output], **attributes)
        made_by[output] = kind
        if kind == "Relu" and made_by.get(node.input[0]) == "Gemm":
            add("Dropout", [output], [f"{output}_drop", f"_{output}_mask"], **({"is_test": 1} if opset < 7 else {}))
            renamed[output] = f"{output}_drop"
    add("Softmax", [logits.name], ["gpu_0/softmax_1"], axis=1)
    shapes = {"gpu_0/data_0": (1, 3, size, size)} | {tensor.name: tuple(tensor.dims) for tensor in tensors}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in reversed(shapes.items())]
    outputs = [helper.make_tensor_value_info("gpu_0/softmax_1", TensorProto.FLOAT, (1, net.num_classes))]
    whole = helper.make_graph(nodes, "zoo", inputs, outputs, [*tensors, *(c for c in graph.constants)])
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", opset)], ir_version=3, producer_name="onnx-caffe2")
    path.write_bytes(model.SerializeToString())


ZOO = [
    ("alexnet_bvlc", 3, 227, 1), ("alexnet_bvlc", 12, 224, 1), ("alexnet_floor", 6, 224, 1), ("caffenet", 3, 227, 1),
    ("zfnet_512", 7, 224, 1), ("googlenet", 3, 224, 1), ("googlenet", 9, 224, 2), ("googlenet_floor", 8, 224, 1), ("zfnet", 9, 224, 1),
    ("vgg11_lrn", 7, 224, 1), ("resnet34_c", 3, 224, 1), ("plain18", 8, 224, 1), ("resnet20_cifar_b", 6, 32, 1),
]  # fmt: skip


@pytest.mark.parametrize(("name", "opset", "size", "far_pad"), ZOO)
def test_files_of_the_zoo_s_operator_sets(name, opset, size, far_pad, tmp_path):
    net, _ = build(name)
    path = tmp_path / "model.onnx"
    write_as_the_zoo(name, net, path, opset=opset, size=size, far_pad=far_pad)
    bundle, report = import_weights(path)
    assert report.network == name
    assert bundle.preprocessing.size == size
    # at 227 pools that round down and up are the same
    assert set(report.also_fit) <= ({"alexnet_floor", "caffenet_floor"} if size == 227 else set())
    images = make_photographs(bundle)
    with torch.no_grad():
        found = bundle.network(images)
        agree(found, net(images))
    net.requires_grad_(False)
    if name != "alexnet_bvlc" or size == 227:
        agree(found, run(onnx_oracle.NETWORKS[name], net, images))


MISTAKES = {
    "a norm's constant": ("alexnet", "alexnet_bvlc"),
    "pool and norm in another order": ("caffenet", "alexnet_bvlc"),
    "pools that round down": ("googlenet_floor", "googlenet"),
    "no groups": ("alexnet_one_tower", "caffenet"),
}


@pytest.mark.parametrize(("written", "asked"), MISTAKES.values(), ids=MISTAKES)
def test_what_computes_something_else_is_refused_where_it_begins_to(written, asked, tmp_path):
    net, _ = build(written)
    path = tmp_path / "model.onnx"
    write_as_the_zoo(written, net, path, opset=9, size=net.input_spec.size)
    with pytest.raises(WeightsError, match=r"parts from it after \d+ operations: there .*, here ") as caught:
        import_weights(path, asked)
    assert "\n" not in str(caught.value)
