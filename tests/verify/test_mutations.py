"""`verify` can fail: each change of a network turns exactly its own rows red."""

from collections import OrderedDict
from dataclasses import replace
from functools import partial
from types import MethodType

import pytest
import torch
from torch import nn

from provenet.models.alexnet import ALEXNETS, alexnet
from provenet.models.blocks import BasicBlock, Inception, ResponseNorm
from provenet.models.catalog import build_network, build_on_meta
from provenet.models.googlenet import GOOGLENETS, googlenet
from provenet.models.lenet import C3_TABLE, SparseConvolution
from provenet.models.resnet import IMAGENET, BottleneckV15, resnet_imagenet
from provenet.models.vgg import VGGS, vgg
from provenet.models.zfnet import ZFNETS, zfnet
from provenet.verify.verify import verify_network

MUTATIONS = {}


def mutation(*rows):
    def register(change):
        MUTATIONS[change.__name__] = (change, set(rows))
        return change

    return register


def on_meta(build):
    with torch.device("meta"):
        return build()


def replace_layer(net, name, layer):
    path = net.authors_names.get(name, name)
    parent, _, child = path.rpartition(".")
    setattr(net.get_submodule(parent), child, layer)
    return net


def of(name, *fields):
    return [f"{name}: {field}" for field in fields]


@mutation("network: operations", "network: order", *of("norm1", "size", "alpha", "beta", "k"), *of("norm2", "size", "alpha", "beta", "k"))
def alexnet_without_lrn():
    net = build_on_meta("alexnet")
    return replace_layer(replace_layer(net, "norm1", nn.Identity()), "norm2", nn.Identity())


@mutation("norm1: alpha", "norm2: alpha")
def alexnet_alpha_divided_by_five():
    net = build_on_meta("alexnet")
    for name in ("norm1", "norm2"):
        net.layer(name).alpha /= 5
    return net


@mutation("norm1: beta")
def alexnet_beta_of_a_half():
    net = build_on_meta("alexnet")
    net.layer("norm1").beta = 0.5
    return net


@mutation("norm2: size")
def alexnet_norm_over_three_maps():
    return replace_layer(build_on_meta("alexnet"), "norm2", ResponseNorm(3))


@mutation(*of("conv2", "groups", "parameters", "macs"), "network: parameters", "network: macs", "network: printed_parameters")
def alexnet_one_group_instead_of_two():
    return replace_layer(build_on_meta("alexnet"), "conv2", on_meta(lambda: nn.Conv2d(96, 256, 5, padding=2)))


@mutation("network: order", *of("norm1", "output"), *of("norm2", "output"))
def alexnet_pools_before_it_normalises():
    return on_meta(lambda: alexnet("alexnet", ALEXNETS["alexnet"]._replace(after_relu="pool, norm")))


@mutation("network: operations", "network: preprocessing", "network: input", *of("conv1", "output", "macs"),
          *of("conv2", "macs", "output"), *of("conv3", "macs", "output"),
          *of("conv4", "macs", "output"), *of("conv5", "macs", "output"), *of("norm1", "output"), *of("norm2", "output"),
          *of("pool1", "output"), *of("pool2", "output"), "network: macs", "pool5: output")  # fmt: skip
def alexnet_on_another_size():
    net = build_on_meta("alexnet")
    net.input_spec = net.input_spec.with_preprocessing(net.input_spec.preprocessing.with_size(196))
    return net


@mutation("drop6: dropout")
def alexnet_dropout_of_four_tenths():
    net = build_on_meta("alexnet")
    net.layer("drop6").p = 0.4
    return net


@mutation("network: order")
def alexnet_dropout_before_the_layer():
    net = build_on_meta("alexnet")
    fc6 = dict(net.get_submodule("fc6").named_children())
    net.fc6 = nn.Sequential(OrderedDict((name, fc6[name]) for name in ("flatten", "dropout", "linear", "relu")))
    return net


@mutation("network: operations", "network: order")
def alexnet_without_a_relu():
    return replace_layer(build_on_meta("alexnet"), "relu3", nn.Identity())


@mutation("network: operations", "network: order")
def alexnet_with_a_layer_too_many():
    net = build_on_meta("alexnet")
    net.get_submodule("conv3").add_module("norm", ResponseNorm())
    return net


@mutation(*of("pool1", "rounds", "output"), *of("norm1", "output"), *of("conv2", "output", "macs"), *of("pool2", "output"),
          *of("norm2", "output"), *of("conv3", "output", "macs"), *of("conv4", "output", "macs"), *of("conv5", "output", "macs"),
          "network: macs")  # fmt: skip
def zfnet_first_pool_rounds_down():
    """54 instead of 55, and 12 instead of 13 until the last pool, which makes 6 of both."""
    net = build_on_meta("zfnet")
    net.layer("pool1").ceil_mode = False
    return net


@mutation(*of("conv2", "padding", "output", "macs"), "network: macs")
def zfnet_padding_in_the_second_convolution():
    net = build_on_meta("zfnet")
    net.layer("conv2").padding = (1, 1)
    return net


@mutation(*of("conv4", "output", "parameters", "macs"), *of("conv5", "parameters", "macs"), "network: parameters", "network: macs")
def zfnet_as_the_notes_have_it_in_one_layer():
    table = list(ZFNETS["zfnet"].convolutions)
    table[3] = table[3]._replace(maps=1024)
    return on_meta(lambda: zfnet("zfnet", ZFNETS["zfnet"]._replace(convolutions=tuple(table))))


@mutation(*of("conv3_3", "kernel", "padding", "parameters", "macs"), "network: parameters", "network: macs")
def vgg16_with_a_1x1():
    return replace_layer(build_on_meta("vgg16"), "conv3_3", on_meta(lambda: nn.Conv2d(256, 256, 1)))


@mutation("network: operations", "network: order", *of("norm1", "size", "alpha", "beta", "k", "output"))
def vgg11_lrn_without_it():
    return on_meta(lambda: vgg("vgg11_lrn", VGGS["vgg11"]))


@mutation(
    "network: operations", "network: order", *of("gap", "output"), *of("fc6", "parameters", "macs"), "network: parameters", "network: macs"
)
def vgg16_gap_without_the_average():
    return on_meta(lambda: vgg("vgg16_gap", VGGS["vgg16"]))


@mutation(*(row for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
            for row in of(f"inception_{module}", "kernels", "parameters", "macs")),
          *(f"inception_{module}: printed_macs" for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5b")),
          "inception_3a: printed_parameters", "inception_4a: printed_parameters",  # 4a's misprint would fit: it may not be listed then
          "network: parameters", "network: macs")  # fmt: skip
def googlenet_three_for_five():
    return on_meta(lambda: googlenet("googlenet", GOOGLENETS["googlenet"]._replace(module=partial(Inception, kernel5=3))))


@mutation("pool5/drop_7x7_s1: dropout")
def googlenet_dropout_of_a_half():
    net = build_on_meta("googlenet")
    net.layer("pool5/drop_7x7_s1").p = 0.5
    return net


@mutation("loss1/drop_fc: dropout", "network: auxiliary_weight")
def googlenet_auxiliary_heads_otherwise():
    net = build_on_meta("googlenet")
    net.layer("loss1/drop_fc").p = 0.5
    net.auxiliary_weight = 0.5
    return net


@mutation(*of("pool3/3x3_s2", "rounds", "output"), "pool4/3x3_s2: output",
          *(row for module in ("4a", "4b", "4c", "4d", "4e", "5a", "5b") for row in of(f"inception_{module}", "output", "macs")),
          *(f"inception_{module}: printed_macs" for module in ("4a", "4b", "4c", "4d", "4e", "5b")),
          "network: macs")  # fmt: skip
def googlenet_one_pool_rounds_down():
    """28 pixels give 13 instead of 14: everything after has other sizes."""
    net = build_on_meta("googlenet")
    net.layer("pool3/3x3_s2").ceil_mode = False
    return net


@mutation(*of("conv3_x", "strides", "macs"), *of("conv4_x", "strides", "macs"), *of("conv5_x", "strides", "macs"),
          "network: macs", "network: printed_macs")  # fmt: skip
def resnet50_stride_in_the_other_convolution():
    return on_meta(lambda: resnet_imagenet("resnet50", IMAGENET["resnet50"]._replace(block=BottleneckV15)))


@mutation("network: operations", *(row
          for stage in ("conv3_x", "conv4_x", "conv5_x") for row in of(stage, "shortcut", "parameters", "macs")),
          "network: parameters", "network: macs")  # fmt: skip
def resnet34_with_option_a():
    return on_meta(lambda: resnet_imagenet("resnet34", IMAGENET["resnet34_a"]))


@mutation("network: operations", *(row for stage in ("conv2_x", "conv3_x", "conv4_x", "conv5_x") for row in of(stage, "shortcut")))
def plain18_with_shortcuts():
    return on_meta(lambda: resnet_imagenet("plain18", IMAGENET["resnet18_a"]))


@mutation(
    "network: operations", *of("conv4_x", "blocks", "parameters", "macs"), "network: parameters", "network: macs", "network: printed_macs"
)
def resnet101_one_block_short():
    return on_meta(lambda: resnet_imagenet("resnet101", IMAGENET["resnet101"]._replace(blocks=(3, 4, 21, 3))))


@mutation(*of("C3", "table"))
def lenet5_one_connection_elsewhere():
    net = build_network("lenet5")
    table = ((0, 1, 3), *C3_TABLE[1:])
    conv = SparseConvolution(6, table, kernel_size=5)
    conv.load_state_dict(net.get_submodule("C3.conv").state_dict())
    net.get_submodule("C3").conv = conv
    return net


@mutation("output: codes")
def lenet5_one_pixel_of_a_code():
    net = build_network("lenet5")
    net.output.codes[3, 40] *= -1
    return net


@mutation("C1: computes the formula", *of("C1", "squash_amplitude"))
def lenet5_another_squash():
    net = build_network("lenet5")
    net.C1.squash.amplitude = 1.0
    return net


@mutation("cccp1: initial weights")
def nin_standard_deviation_of_a_tenth():
    net = build_network("nin_cifar")
    nn.init.normal_(net.layer("cccp1").weight, std=0.1)
    return net


@mutation("conv1: initial weights")
def nin_imagenet_a_tenth_for_a_hundredth():
    net = build_network("nin_imagenet")
    nn.init.normal_(net.layer("conv1").weight, std=0.1)
    return net


@mutation("conv2/3x3: initial biases")
def googlenet_biases_of_zero():
    net = build_network("googlenet")
    nn.init.zeros_(net.layer("conv2/3x3").bias)
    return net


@mutation("F6.linear: initial weights")
def lenet5_twice_the_spread():
    net = build_network("lenet5")
    with torch.no_grad():
        net.get_submodule("F6.linear").weight.mul_(2)
    return net


@mutation("inception_4c: eps")
def googlenet_bn_another_constant():
    net = build_on_meta("googlenet_bn")
    net.layer("inception_4c").column1.conv.bn.eps = 1e-5
    return net


@mutation("network: operations", *(f"conv{stage}_x: computes the formula" for stage in (2, 3, 4)))
def resnet_without_the_relu_after_the_addition():
    net = build_network("resnet8_cifar")
    for block in net.modules():
        if isinstance(block, BasicBlock):
            block.forward = MethodType(lambda self, x: self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))) + self.shortcut(x), block)
    return net


@mutation(*(f"conv{stage}_x: computes the formula" for stage in (2, 3, 4)))
def resnet_relu_before_the_addition():
    net = build_network("resnet8_cifar")
    for block in net.modules():
        if isinstance(block, BasicBlock):
            block.forward = MethodType(
                lambda self, x: torch.relu(self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))) + self.shortcut(x), block
            )
    return net


@mutation(*(f"inception_{module}: computes the formula" for module in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")))
def googlenet_columns_in_another_order():
    net = build_network("googlenet")
    for block in net.modules():
        if isinstance(block, Inception):
            block.forward = MethodType(
                lambda self, x: torch.cat([self.column3(x), self.column1(x), self.column5(x), self.column_pool(x)], 1), block
            )
    return net


@mutation("loss1/drop_fc: reads", "loss1/ave_pool: reads")
def googlenet_first_head_one_module_later():
    net = build_on_meta("googlenet")
    names = dict(net.authors_names)
    net.auxiliary = nn.ModuleDict({key.replace("4a", "4b"): head for key, head in net.auxiliary.items()})
    net.authors_names = {name: path.replace("auxiliary.inception_4a", "auxiliary.inception_4b") for name, path in names.items()}
    return net


@mutation("network: auxiliary_weight")
def googlenet_heads_that_count_in_full():
    net = build_on_meta("googlenet")
    own = net.training_logits
    net.training_logits = lambda images: [(1.0, logits) for _, logits in own(images)]
    return net


@mutation("network: operations")
def vgg16_with_a_gelu():
    return replace_layer(build_on_meta("vgg16"), "relu3_1", nn.GELU())


@mutation("network: operations")
def resnet18_with_a_global_maximum():
    net = build_on_meta("resnet18")
    net.pool.forward = lambda maps: maps.amax((2, 3))
    return net


@mutation("network: operations", "conv3: kernel")
def alexnet_reflected_borders():
    net = build_on_meta("alexnet")
    return replace_layer(net, "conv3", on_meta(lambda: nn.Conv2d(256, 384, 3, padding=1, padding_mode="reflect")))


@mutation("batch norms: begin as the identity")
def resnet_that_begins_with_zero_branches():
    net = build_network("resnet8_cifar")
    nn.init.zeros_(net.get_submodule("conv3_x.block1.bn2").weight)
    return net


@mutation("network: preprocessing")
def vgg16_on_blue_first():
    net = build_on_meta("vgg16")
    net.input_spec = net.input_spec.with_preprocessing(replace(net.input_spec.preprocessing, channel_order="BGR"))
    return net


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_turns_its_own_rows_red(name):
    change, rows = MUTATIONS[name]
    torch.manual_seed(0)
    assert {check.what for check in verify_network(change()).failures} == rows


def test_there_are_enough():
    assert len(MUTATIONS) >= 20
