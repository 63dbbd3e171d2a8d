"""The table of public weight sets against the tables of the packages that publish them: each of their sets is here, as they state it."""

import inspect
import math
import re

import pytest
import timm
import torchvision
from keras.src.applications import resnet, vgg16, vgg19
from timm.models import get_pretrained_cfg

from provenet.preprocessing import PREPROCESSINGS, Preprocessing
from provenet.weights.sources import find_set, read_sources

VGG = tuple(f"vgg{depth}{norm}" for depth in (11, 13, 16, 19) for norm in ("", "_bn"))
RESNET = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
OURS = {"alexnet": "alexnet_owt", "googlenet": "googlenet_bn", **{f"resnet{depth}": f"resnet{depth}_v1_5" for depth in (50, 101, 152)}}


def tags(dialect):
    return {found.tag for found in read_sources() if found.dialect == dialect}


def test_torchvision():
    here = set()
    for name in ("alexnet", "googlenet", *VGG, *RESNET):
        for weights in torchvision.models.get_model_weights(name):
            if "ImageNet-1K" not in weights.meta["_metrics"] or math.isnan(weights.meta["_metrics"]["ImageNet-1K"]["acc@1"]):
                assert weights.name == "IMAGENET1K_FEATURES"  # no classifier
                continue
            found = find_set(f"{OURS.get(name, name)}.torchvision_{weights.name[-2:].lower()}")
            here.add(found.tag)
            assert found.address == weights.url
            assert found.sha256_prefix == re.search(r"-([0-9a-f]{8,})\.", weights.url)[1][:8]  # as torch.hub checks it
            assert {"acc@1": found.top1, "acc@5": found.top5} == weights.meta["_metrics"]["ImageNet-1K"]
            assert found.mebibytes == weights.meta["_file_size"]
            theirs = weights.transforms()
            (size,), (resize,) = theirs.crop_size, theirs.resize_size
            rule = found.preprocessing
            assert (rule.size, rule.resize, rule.interpolation) == (size, resize, theirs.interpolation.value)
            if name == "googlenet":  # which turns its input again; test_preprocessing.py sees to the arithmetic
                assert (rule.mean, rule.std) == (PREPROCESSINGS["tf"].mean, PREPROCESSINGS["tf"].std)
            else:
                assert (rule.mean, rule.std) == (tuple(theirs.mean), tuple(theirs.std))
            assert f"torchvision {torchvision.__version__.split('+')[0]}," in found.source
    assert here == tags("torchvision")


def test_timm():
    here = set()
    for name in (*VGG, *RESNET):
        for full in timm.list_models(f"{name}.*", pretrained=True):
            theirs = get_pretrained_cfg(full)
            if theirs.num_classes != 1000:
                assert full == "resnet50.bamboo"
                continue
            found = find_set(f"{OURS.get(name, name)}.timm_{theirs.tag}")
            here.add(found.tag)
            assert found.address == f"https://huggingface.co/{theirs.hf_hub_id}/resolve/main/model.safetensors"
            assert found.also == ((theirs.url,) if theirs.url else ())
            assert found.licence == theirs.license
            _, size, _ = theirs.input_size
            resize = math.floor(size / theirs.crop_pct)  # as timm.data.transforms_factory has it
            assert found.preprocessing == Preprocessing(
                size=size, resize=resize, channels=3, mean=theirs.mean, std=theirs.std, interpolation=theirs.interpolation
            )
            assert f"timm {timm.__version__}," in found.source
    assert here == tags("timm")


@pytest.mark.parametrize(("module", "names"), [(vgg16, ["vgg16"]), (vgg19, ["vgg19"]), (resnet, ["resnet50", "resnet101", "resnet152"])])
def test_keras(module, names):
    for name in names:
        found = find_set(f"{name}.keras")
        if module is resnet:
            assert found.address == f"{resnet.BASE_WEIGHTS_PATH}{name}_weights_tf_dim_ordering_tf_kernels.h5"
            assert found.md5 == resnet.WEIGHTS_HASHES[name][0]
        else:
            assert found.address == module.WEIGHTS_PATH
            assert found.md5 == re.search(r'WEIGHTS_PATH,.*?file_hash="(\w+)"', inspect.getsource(module), re.DOTALL)[1]
        assert 'mode="caffe"' in inspect.getsource(module.preprocess_input)
        assert found.preprocessing == PREPROCESSINGS["caffe"]


def test_keras_has_no_others():
    assert tags("keras") == {f"{name}.keras" for name in ("vgg16", "vgg19", "resnet50", "resnet101", "resnet152")}
