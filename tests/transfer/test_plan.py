"""Who learns, at what rate, and that the rest does not."""

import re

import pytest
import torch

from provenet.errors import SettingsError, TrainingError
from provenet.models.catalog import build_network, build_on_meta
from provenet.training.settings import TrainingSettings
from provenet.training.state import TrainingState
from provenet.transfer.plan import FrozenWatch, choose_mode, frozen_stages, plan_stages
from provenet.transfer.settings import TransferSettings


@pytest.mark.parametrize(
    ("fewest", "mode"),
    [
        (1, "cached"),
        (20, "cached"),
        (21, "from:conv5_x"),
        (100, "from:conv5_x"),
        (101, "from:conv3_x"),
        (500, "from:conv3_x"),
        (501, "all"),
    ],
)
def test_the_more_pictures_the_fewer_frozen_layers(fewest, mode):
    chosen, why = choose_mode(build_on_meta("resnet50"), {"cat": 10_000, "dog": fewest})
    assert chosen == mode
    assert why.startswith(f"'dog' has the fewest pictures, {fewest:,}, and ")


def test_the_rule_never_freezes_less_of_fewer():
    for name in ("lenet5_softmax", "alexnet", "vgg16", "googlenet", "nin_imagenet", "resnet20_cifar"):
        net = build_on_meta(name)
        frozen = [len(frozen_stages(net, choose_mode(net, {"a": count})[0])) for count in range(1, 700, 7)]
        assert frozen == sorted(frozen, reverse=True)
        assert (frozen[0], frozen[-1]) == (len(net.stages) - 1, 0)


def test_which_stages_a_mode_freezes():
    net = build_on_meta("alexnet")
    assert frozen_stages(net, "all") == []
    assert frozen_stages(net, "head") == frozen_stages(net, "cached") == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
    assert frozen_stages(net, "from:fc6") == ["conv1", "conv2", "conv3", "conv4", "conv5"]
    assert frozen_stages(build_on_meta("googlenet"), "from:inception_4e")[-1] == "inception_4d"
    with pytest.raises(SettingsError, match=r"--transfer from:fc9: expected a stage of alexnet, found 'fc9'; known: conv1, conv2"):
        frozen_stages(net, "from:fc9")


def test_the_table_says_what_the_optimizer_does():
    net = build_network("resnet20_cifar")
    plan = plan_stages(net, "from:conv3_x", peak_learning_rate=0.1, depth_rate=0.5)
    assert str(plan).splitlines() == [
        "stage    parameters  learns  learning rate  batch norm",
        "conv1           464  frozen                 eval",
        "conv2_x      14,016  frozen                 eval",
        "conv3_x      51,072  yes             0.025  train",
        "conv4_x     203,520  yes              0.05  train",
        "pool              0  yes",
        "fc              650  yes               0.1",
    ]
    settings = TrainingSettings(epochs=1, batch_size=4, peak_learning_rate=0.1, weight_decay=0.01)
    groups = TrainingState(net, settings, num_images=8, rates=plan.rates).optimizer.param_groups
    found = {(group["rate"], group["weight_decay"]): {id(parameter) for parameter in group["params"]} for group in groups}
    for stage, rate in (("conv3_x", 0.25), ("conv4_x", 0.5), ("fc", 1.0)):
        parameters = net.get_submodule(stage).parameters()
        by_decay = {0.01: set(), 0.0: set()}
        for parameter in parameters:
            by_decay[0.01 if parameter.ndim > 1 else 0.0].add(id(parameter))
        assert {decay: found[rate, decay] for decay in by_decay} == by_decay
    assert len(found) == 6


@pytest.mark.parametrize("change", ["mode", "gradient", "weight", "statistics"])
def test_what_is_frozen_is_watched(change):
    net = build_network("resnet20_cifar")
    watch = FrozenWatch(net, plan_stages(net, "head", peak_learning_rate=0.1))
    net.train()
    net(torch.randn(4, 3, 32, 32)).sum().backward()
    watch.check()
    watch.check_bits()
    layer = net.stages["conv2_x"].get_submodule("block1")
    if change == "mode":
        layer.train()
        says = "expected every frozen layer in evaluation mode, found"
    elif change == "gradient":
        next(layer.parameters()).requires_grad_(True)
        says = "expected no gradient of a frozen weight"
    else:
        tensors = dict(layer.named_parameters()) if change == "weight" else dict(layer.named_buffers())
        name = next(name for name in tensors if re.search("weight|running_var", name))
        with torch.no_grad():
            tensors[name].view(-1)[0] = torch.nextafter(tensors[name].view(-1)[0], torch.tensor(9.0))
        says = "to the bit, found other numbers"
    check = watch.check if change in ("mode", "gradient") else watch.check_bits
    with pytest.raises(TrainingError, match=says):
        check()


def test_another_sitting_must_find_the_same():
    net = build_network("resnet20_cifar")
    facts = FrozenWatch(net, plan_stages(net, "from:conv4_x", peak_learning_rate=0.1)).facts
    assert FrozenWatch(net, plan_stages(net, "from:conv4_x", peak_learning_rate=0.1), facts).facts == facts
    with pytest.raises(TrainingError, match="expected the plan of stages that the run began with, found another"):
        FrozenWatch(net, plan_stages(net, "head", peak_learning_rate=0.1), facts)
    with torch.no_grad():
        net.stages["conv1"].get_parameter("conv.weight" if "conv.weight" in dict(net.stages["conv1"].named_parameters()) else "0.weight")[
            0
        ] += 1
    with pytest.raises(TrainingError, match="as they were when the run began, to the bit"):
        FrozenWatch(net, plan_stages(net, "from:conv4_x", peak_learning_rate=0.1), facts)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"mode": "some"}, "expected head, cached, from:STAGE, all or auto, found 'some'"),
        ({"mode": "from:"}, "found 'from:'"),
        ({"mode": "auto"}, "expected a mode that is decided"),
        ({"head": "big"}, "expected own, linear or mlp:UNITS"),
        ({"depth_rate": 0.0}, "expected above 0 and at most 1, found 0"),
        ({"depth_rate": 1.5}, "found 1.5"),
    ],
)
def test_settings_that_make_no_sense(wrong, says):
    with pytest.raises(Exception, match=says):
        TransferSettings(**{"weights": "w", "fingerprint": "f", "mode": "all", **wrong})


def test_settings_there_and_back():
    settings = TransferSettings(weights="w", fingerprint="f", mode="from:conv4_x", head="mlp:8", ends_after="conv4_x", depth_rate=0.5)
    assert TransferSettings.from_dict(settings.to_dict()) == settings
    with pytest.raises(SettingsError, match=r"transfer.mode: expected a value, found none"):
        TransferSettings.from_dict({name: value for name, value in settings.to_dict().items() if name != "mode"})
    with pytest.raises(SettingsError, match=r"expected a section \[transfer\]"):
        TransferSettings.from_dict([])
