"""Which graphs count as the same network, and where one that is another is said to part from it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from provenet.errors import WeightsError
from provenet.inspection.trace import trace
from provenet.models.catalog import build_network, build_on_meta
from provenet.weights.by_graph import find_by_graph
from provenet.weights.foreign import ForeignFile, ForeignGraph, ForeignTensor, Operation
from provenet.weights.graphs import _operation_of_step
from provenet.weights.importer import _fill
from provenet.weights.recognise import recognise


def held(values):
    return ForeignTensor(tuple(values.shape), "float32", lambda: values.detach().numpy())


def operations_of(net):
    """A network of ours as a reader hands on a file: with weights, each batch norm as an operation of its own, softmax at the end."""
    modules, spec = dict(net.named_modules()), net.input_spec
    run = trace(net, (spec.channels, spec.size, spec.size))
    operations = []
    for step in run.steps:
        operation, module = _operation_of_step(step, modules), modules.get(step.module)
        if isinstance(module, nn.Conv2d | nn.Linear):
            weights = {"weight": held(module.weight)} | ({"bias": held(module.bias)} if module.bias is not None else {})
            operation = replace(operation, weights=weights)
        elif isinstance(module, nn.BatchNorm2d):
            names = {"scale": "weight", "shift": "bias", "mean": "running_mean", "variance": "running_var"}
            weights = {name: held(getattr(module, ours)) for name, ours in names.items()}
            operation = replace(operation, settings={"eps": module.eps}, weights=weights)
        operations.append(operation)
    assert run.results[0] == len(operations) - 1
    return operations


def file_of(operations, shape):
    return ForeignFile(Path("net.onnx"), "ONNX", {}, ForeignGraph(tuple(operations), len(operations) - 1, shape))


def insert(operations, place, *new):
    """New operations after that of a number, each reading the one before; whoever read that one reads the last of them."""
    shifted = [replace(each, reads=tuple(before if before < place else before + len(new) for before in each.reads)) for each in operations]
    added = [replace(each, reads=(place + number,)) for number, each in enumerate(new)]
    return [*operations[: place + 1], *added, *shifted[place + 1 :]]


def find(operations, kind, number=0):
    return [place for place, each in enumerate(operations) if each.kind == kind][number]


def change(operations, kind, number=0, *, name=None, **settings):
    place = find(operations, kind, number)
    old = operations[place]
    return [*operations[:place], replace(old, kind=name or kind, settings={**old.settings, **settings}), *operations[place + 1 :]]


@pytest.fixture(scope="module")
def nets():
    torch.manual_seed(0)
    found = {name: build_network(name, init="trainable").eval() for name in ("resnet20_cifar_b", "nin_cifar")}
    with torch.no_grad():
        for net in found.values():
            for module in net.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.normal_(module.bias, std=0.1)
                    nn.init.normal_(module.running_mean, std=0.1)
                    nn.init.uniform_(module.running_var, 0.5, 1.5)
                elif getattr(module, "bias", None) is not None:
                    nn.init.normal_(module.bias, std=0.1)
    return found


def read_back(net, operations):
    """The network that the operations are recognised as, which must be this one and answer as it does."""
    spec = net.input_spec
    file = file_of(operations, (spec.channels, spec.size, spec.size))
    found = find_by_graph(file, None)
    assert found.net.name == net.name
    _fill(found.net, found, file, None)
    images = torch.randn(4, spec.channels, spec.size, spec.size)
    with torch.no_grad():
        torch.testing.assert_close(found.net.eval()(images), net(images), rtol=1e-4, atol=1e-4)
    return found


def as_it_is(operations):
    return operations


def softmax_at_the_end(operations):
    return insert(operations, len(operations) - 1, Operation("softmax", "prob", ()))


def nothing_done_here_and_there(operations):
    """Dropout, identity, and flattening before and after."""
    for place in (len(operations) - 2, 3, 0):
        operations = insert(operations, place, Operation("dropout", "drop", ()), Operation("identity", "same", ()))
    return operations


def norms_in_two(operations):
    """Mean and variance, then scale and shift, as Caffe has them."""
    for number in reversed(range(sum(each.kind == "batch_norm" for each in operations))):
        place = find(operations, "batch_norm", number)
        old = operations[place]
        scale = Operation("scale", f"scale{number}", (), {}, {name: old.weights[name] for name in ("scale", "shift")})
        bare = replace(old, weights={name: old.weights[name] for name in ("mean", "variance")})
        operations = insert([*operations[:place], bare, *operations[place + 1 :]], place, scale)
    return operations


def norms_and_another_scale(operations):
    """Half of a norm's scale and shift, doubled afterwards, and a little more."""
    for number in reversed(range(sum(each.kind == "batch_norm" for each in operations))):
        place = find(operations, "batch_norm", number)
        old = operations[place]
        half = {"scale": old.weights["scale"].arranged(old.weights["scale"].shape, lambda values: values / 2)}
        half["shift"] = old.weights["shift"].arranged(old.weights["shift"].shape, lambda values: (values - 0.1) / 2)
        channels = old.weights["scale"].shape
        scale = Operation(
            "scale", f"scale{number}", (), {}, {"scale": held(torch.full(channels, 2.0)), "shift": held(torch.full((1,), 0.1))}
        )
        operations = insert([*operations[:place], replace(old, weights={**old.weights, **half}), *operations[place + 1 :]], place, scale)
    return operations


def norms_folded(operations):
    """Into the convolutions, which get a bias."""
    kept, number_of = [], {-1: -1}
    for place, each in enumerate(operations):
        if each.kind == "batch_norm":
            before = kept[number_of[each.reads[0]]]
            mean, variance, scale, shift = (torch.from_numpy(each.weights[name].read()) for name in ("mean", "variance", "scale", "shift"))
            slope = scale / (variance + each.settings["eps"]).sqrt()
            weight = torch.from_numpy(before.weights["weight"].read()) * slope[:, None, None, None]
            kept[number_of[each.reads[0]]] = replace(before, weights={"weight": held(weight), "bias": held(shift - mean * slope)})
            number_of[place] = number_of[each.reads[0]]
        else:
            number_of[place] = len(kept)
            kept.append(replace(each, reads=tuple(number_of[before] for before in each.reads)))
    return kept


def biases_before_norms(operations):
    """Which the mean takes back, as MXNet and Keras have them."""
    changed = list(operations)
    for place, each in enumerate(operations):
        if each.kind == "batch_norm":
            before = changed[each.reads[0]]
            bias = torch.randn(before.weights["weight"].shape[0])
            changed[each.reads[0]] = replace(before, weights={**before.weights, "bias": held(bias)})
            mean = torch.from_numpy(each.weights["mean"].read()) + bias
            changed[place] = replace(each, weights={**each.weights, "mean": held(mean)})
    return changed


def padding_by_hand(operations):
    """Before convolutions: zeros around, then no padding."""
    for number in reversed(range(sum(each.kind == "convolution" for each in operations))):
        place = find(operations, "convolution", number)
        pads = operations[place].settings["pads"]
        if any(pads) and operations[place].reads[0] >= 0:
            operations = change(operations, "convolution", number, pads=(0, 0, 0, 0))
            before = operations[place].reads[0]
            alone = [*operations[:place], replace(operations[place], reads=(place,)), *operations[place + 1 :]]
            shifted = [replace(each, reads=tuple(r + 1 if r >= place else r for r in each.reads)) for each in alone[place + 1 :]]
            operations = [*alone[:place], Operation("pad", "pad", (before,), {"pads": pads, "value": 0.0}), alone[place], *shifted]
    return operations


def average_over_all_of_the_map(operations):
    window = {"kernel": (8, 8), "stride": (1, 1), "pads": (0, 0, 0, 0), "rounds_up": False, "counts_padding": True}
    return change(operations, "global_average", name="avg_pool", **window)


def pools_that_pad_the_far_edge(operations):
    """In the place of rounding up."""
    for number in range(2):
        kind = "max_pool" if number == 0 else "avg_pool"
        settings = {"pads": (0, 0, 1, 1), "rounds_up": False} if kind == "max_pool" else {}
        operations = change(operations, kind, **settings)
    return operations


def padded_pool(operations, value):
    operations = change(operations, "max_pool", rounds_up=False)
    return pad_before(operations, "max_pool", value)


def pool_padded_by_zeros(operations):
    """Behind a relu, where nothing is below zero."""
    return padded_pool(operations, 0.0)


def pool_padded_by_what_is_below_all(operations):
    return padded_pool(operations, -np.inf)


def pools_that_pad_by_themselves(operations):
    """To the same size, the average over what there is."""
    for kind in ("max_pool", "avg_pool"):
        place = find(operations, kind)
        settings = {name: value for name, value in operations[place].settings.items() if name != "pads"}
        settings |= {"auto_pad": "same_upper", "rounds_up": False, "counts_padding": False}
        operations = [*operations[:place], replace(operations[place], settings=settings), *operations[place + 1 :]]
    return operations


def last_layer_as_a_convolution(operations):
    place = find(operations, "linear", -1)
    weight = operations[place].weights["weight"]
    window = {"kernel": (1, 1), "stride": (1, 1), "pads": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    weights = {**operations[place].weights, "weight": weight.arranged((*weight.shape, 1, 1), lambda values: values[..., None, None])}
    return [*operations[:place], replace(operations[place], kind="convolution", settings=window, weights=weights), *operations[place + 1 :]]


SAME = [
    *(
        ("resnet20_cifar_b", way)
        for way in (as_it_is, softmax_at_the_end, nothing_done_here_and_there, norms_in_two, norms_and_another_scale, norms_folded)
    ),
    *(
        ("resnet20_cifar_b", way)
        for way in (biases_before_norms, padding_by_hand, average_over_all_of_the_map, last_layer_as_a_convolution)
    ),
    *(("nin_cifar", way) for way in (as_it_is, padding_by_hand, pools_that_pad_the_far_edge, average_over_all_of_the_map)),
    *(("nin_cifar", way) for way in (pool_padded_by_zeros, pool_padded_by_what_is_below_all, pools_that_pad_by_themselves)),
]


@pytest.mark.parametrize(("name", "way"), SAME, ids=lambda value: getattr(value, "__name__", value))
def test_what_says_the_same_is_the_same(nets, name, way):
    read_back(nets[name], way(operations_of(nets[name])))


def pad_before(operations, kind, value):
    return insert(operations, find(operations, kind) - 1, Operation("pad", "pad", (), {"pads": (0, 0, 1, 1), "value": value}))


def drop(operations, kind, number=0):
    """Without that operation: its readers read what it read."""
    place = find(operations, kind, number)
    before = operations[place].reads[0]
    number_of = {place: before}
    rest = [replace(each, reads=tuple(r - 1 if r > place else number_of.get(r, r) for r in each.reads)) for each in operations[place + 1 :]]
    return [*operations[:place], *rest]


def pad_convolution(operations, *steps, own=(0, 0, 0, 0)):
    """The fourth convolution with other padding, behind padding by hand in steps of (width on all sides, value)."""
    place = find(operations, "convolution", 3)
    by_hand = [Operation("pad", "pad", (), {"pads": (width,) * 4, "value": value}) for width, value in steps]
    return insert(change(operations, "convolution", 3, pads=own), place - 1, *by_hand)


def count_what_it_pads_by_itself(operations):
    operations = pools_that_pad_by_themselves(operations)
    return change(operations, "avg_pool", counts_padding=True)


def widen(operations, kind, count):
    """A norm of so many numbers, or a scale behind it."""
    place = find(operations, "batch_norm")
    if kind == "scale":
        return insert(operations, place, Operation("scale", "scale", (), {}, {"scale": held(torch.ones(count))}))
    weights = dict.fromkeys(operations[place].weights, held(torch.ones(count)))
    return [*operations[:place], replace(operations[place], weights=weights), *operations[place + 1 :]]


def pad_between(operations):
    """A layer and its norm."""
    return pad_before(operations, "batch_norm", 0.0)


NIN, RESNET = "nin_cifar", "resnet20_cifar_b"
OTHER = {
    "a pool rounds down": (NIN, lambda o: change(o, "max_pool", rounds_up=False), r"there .*max pool.* -> 96x15x15\), here .*16x16"),
    "a pool begins one pixel before": (NIN, lambda o: change(o, "max_pool", pads=(1, 1, 0, 0), rounds_up=False), "begins_before 1x1"),
    "padding is missing": (NIN, lambda o: change(o, "convolution", pads=(0, 0, 0, 0)), "there .* begins_before 0x0.*, here .* 2x2"),
    "a step is another": (NIN, lambda o: change(o, "convolution", stride=(2, 2)), "there .*stride 2x2.*, here .*stride 1x1"),
    "groups": (RESNET, lambda o: change(o, "convolution", 3, groups=2), "there .*groups 2.*, here .*groups 1"),
    "a relu is missing": (RESNET, lambda o: drop(o, "relu", 1), "there .*convolution.*, here .*relu"),
    "a relu is leaky": (RESNET, lambda o: change(o, "relu", name="unknown", called="LeakyRelu"), "there .*LeakyRelu.*, here .*relu"),
    "a layer nobody knows": (NIN, lambda o: insert(o, 3, Operation("unknown", "odd", (), {"called": "Selu"})), "there odd .*Selu"),
    "another after the end": (NIN, lambda o: insert(o, len(o) - 1, Operation("relu", "more", ())), "there more "),
    "a shortcut is missing": (RESNET, lambda o: drop(o, "add"), "there .*relu.*, here nothing of the kind"),
    "maps of two sizes": (RESNET, lambda o: change(o, "convolution", 3, stride=(2, 2)), "expected maps of one size to add, found"),
    "padding by ones": (NIN, lambda o: pad_before(o, "max_pool", 1.0), "a maximum over padding of 1"),
    "a convolution padded by ones": (NIN, lambda o: pad_convolution(o, (2, 1.0)), "a convolution over padding of 1 "),
    "padded by ones, then by zeros": (NIN, lambda o: pad_convolution(o, (1, 1.0), (1, 0.0)), "a convolution over padding of nan"),
    "cut off, then padded": (NIN, lambda o: pad_convolution(o, (-1, 0.0), own=(3, 3, 3, 3)), "there pad .*-1"),
    "padding between a layer and its norm": (RESNET, pad_between, "there .*batch_norm of padded maps"),
    "padding that an average counts": (NIN, count_what_it_pads_by_itself, "there .*counts_padding True.*, here .*counts_padding False"),
    "a norm of other channels": (RESNET, lambda o: widen(o, "batch_norm", 17), "there .*batch_norm of 17 numbers"),
    "a scale of other channels": (RESNET, lambda o: widen(o, "scale", 17), "there .*scale of 17 numbers"),
    "a layer more": (RESNET, lambda o: insert(o, 4, o[3]), "there .*convolution.*, here .*relu"),
    "padding before an average": (NIN, lambda o: pad_before(o, "avg_pool", 0.0), "avg_pool of padded maps"),
    "a graph in disorder": (NIN, lambda o: [replace(o[0], reads=(5,)), *o[1:]], "expected to read what comes before it"),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER)
def test_what_computes_something_else_is_refused_where_it_begins_to(nets, case):
    name, way, said = OTHER[case]
    net = nets[name]
    with pytest.raises(WeightsError, match=said) as caught:
        find_by_graph(file_of(way(operations_of(net)), (3, 32, 32)), name)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("net.onnx: ")


def test_two_norms_of_alexnet_are_two_networks():
    """The authors' constants, and Caffe's; both alone and changed halfway."""
    operations = operations_of(build_on_meta("alexnet", init="trainable"))
    shape = (3, 227, 227)
    assert find_by_graph(file_of(operations, shape), None).net.name == "alexnet"
    for number in range(2):
        operations = change(operations, "response_norm", number, alpha=2e-5, k=1.0)
        found = find_by_graph(file_of(operations, shape), None) if number else None
    assert found.net.name == "alexnet_bvlc"
    halfway = change(operations, "response_norm", 1, alpha=1e-4, k=2.0)
    with pytest.raises(
        WeightsError, match=r"parts from it after \d+ operations: there .*response norm.* alpha 0.0001.*, here .*alpha 2e-05"
    ):
        find_by_graph(file_of(halfway, shape), "alexnet_bvlc")
    with pytest.raises(WeightsError, match=r"there .*groups 1"):
        find_by_graph(file_of(change(operations, "convolution", 1, groups=1), shape), None)


def test_the_place_of_a_stride_tells_the_resnets_apart():
    shape = (3, 224, 224)
    published, world = (operations_of(build_on_meta(name, init="trainable")) for name in ("resnet50", "resnet50_v1_5"))
    assert find_by_graph(file_of(published, shape), None).net.name == "resnet50"
    assert find_by_graph(file_of(world, shape), None).net.name == "resnet50_v1_5"
    with pytest.raises(
        WeightsError, match=r"expected the graph of resnet50, found one which parts from it after \d+ operations: .*stride 1x1"
    ):
        find_by_graph(file_of(world, shape), "resnet50")


def test_a_norm_that_is_passed_by_is_not_a_part_of_its_layer(nets):
    """The sum reads the convolution itself: what nobody reads is left out, and nothing of it gets into the weights."""
    net = build_network(RESNET, init="trainable").eval()
    net.load_state_dict(nets[RESNET].state_dict())
    operations = operations_of(net)
    add = find(operations, "add")
    norm = operations[operations[add].reads[0]]
    assert norm.kind == "batch_norm"
    operations[add] = replace(operations[add], reads=(norm.reads[0], operations[add].reads[1]))
    net.conv2_x.block1.bn2 = nn.Identity()
    read_back(net, operations)


def test_two_layers_in_the_place_of_one_are_refused(nets):
    """The branch reads one convolution and the shortcut another: ours has room for the weights of one."""
    operations = operations_of(nets[RESNET])
    add = find(operations, "add")
    first = [replace(each, name=f"{each.name}_again") for each in operations[:3]]  # convolution, batch norm, relu
    assert [each.kind for each in first] == ["convolution", "batch_norm", "relu"]
    first[1:] = [replace(each, reads=(add + number,)) for number, each in enumerate(first[1:])]
    shifted = [replace(each, reads=tuple(before + 3 if before >= add else before for before in each.reads)) for each in operations[add:]]
    shifted[0] = replace(shifted[0], reads=(shifted[0].reads[0], add + 2))
    apart = file_of([*operations[:add], *first, *shifted], (3, 32, 32))
    with pytest.raises(
        WeightsError, match=r"after \d+ operations: there conv1.conv .* and conv1.conv_again .*, here only conv1.conv$"
    ) as caught:
        find_by_graph(apart, RESNET)
    assert "\n" not in str(caught.value)


def test_layers_on_which_the_answer_does_not_rest_are_named_or_refused(nets):
    """But the six of GoogLeNet's auxiliary classifiers, which only training uses."""
    operations = operations_of(nets["nin_cifar"])
    place = find(operations, "convolution", 2)
    aside = replace(operations[place], name="aside")
    whole = file_of([*operations[:-1], aside, operations[-1]], (3, 32, 32))
    with pytest.raises(WeightsError, match=r"net.onnx: is nin_cifar, but 1 of its layers is without a place.* on it \(aside\); name what"):
        recognise(whole)
    found = recognise(whole, without=["as*"])
    assert (found.net.name, found.dropped) == ("nin_cifar", ("aside",))

    operations = operations_of(build_on_meta("googlenet", init="trainable"))
    place = find(operations, "convolution", 9)
    for count in (6, 7):
        asides = [replace(operations[place], name=f"loss{number}") for number in range(count)]
        file = file_of([*operations[:-1], *asides, operations[-1]], (3, 224, 224))
        if count == 6:
            assert len(recognise(file).dropped) == 6
    with pytest.raises(WeightsError, match="7 of its layers are without a place"):
        recognise(file)


def test_two_that_nobody_knows_are_never_the_same():
    """Not even where they have the same name: that shortcut of zeros could be any."""
    operations = operations_of(build_on_meta("resnet20_cifar", init="trainable"))
    with pytest.raises(WeightsError, match=r"there .*unknown called zero_padding.*, here .*unknown called zero_padding"):
        find_by_graph(file_of(operations, (3, 32, 32)), "resnet20_cifar")


def test_numbers_that_are_none_are_refused(nets):
    net = nets["nin_cifar"]
    operations = operations_of(net)
    place = find(operations, "convolution", 2)
    broken = operations[place].weights["weight"].arranged(operations[place].weights["weight"].shape, lambda values: values * np.nan)
    operations[place] = replace(operations[place], weights={**operations[place].weights, "weight": broken})
    file = file_of(operations, (3, 32, 32))
    found = find_by_graph(file, None)
    with pytest.raises(WeightsError, match="expected numbers, found some that are none"):
        _fill(found.net, found, file, None)
