"""What public weights are shown of a photograph, by the code of those who trained them, against `Preprocessing` at work in a Predictor.

Pixels that both resize alike are the same to the bit, so images may differ by rounding alone: by a hundred-thousandth of what lies
between black and white. Where others resize otherwise, the difference is measured in grey steps of 255, and asserted from both sides.
"""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import skimage.transform
import timm
from keras.applications import imagenet_utils
from PIL import Image
from timm.data import create_transform, resolve_data_config
from torchvision.models import AlexNet_Weights, GoogLeNet, GoogLeNet_Weights, ResNet50_Weights, VGG16_Weights

from provenet.data.loader import Loader
from provenet.data.pictures import PictureFiles
from provenet.data.squares import stream_squares
from provenet.deploy.predictor import Predictor
from provenet.models.catalog import build_network
from provenet.preprocessing import IMAGENET_PREPROCESSING, PREPROCESSINGS, Preprocessing
from provenet.weights.bundle import Bundle

CAFFE, TF = PREPROCESSINGS["caffe"], PREPROCESSINGS["tf"]
TOLERANCE = 1e-5
CUTS = {"astronaut": (511, 383), "chelsea": (451, 300), "coffee": (333, 399)}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Photographs as JPEGs of odd sizes, lying and standing."""
    folder = tmp_path_factory.mktemp("photographs")
    for name, (width, height) in CUTS.items():
        path = folder / "things" / f"{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(getattr(skimage.data, name)()).crop((0, 0, width, height)).save(path, quality=92)
        assert rgb(path).size == (width, height)
    return sorted(folder.glob("*/*.jpg"))


@pytest.fixture(scope="module")
def network():
    return build_network("resnet_toy", num_classes=2, init="trainable")


@pytest.fixture
def see(network):
    """Path and preprocessing -> what a Predictor shows its network, float64 [C, S, S]."""

    def see(path: Path, preprocessing: Preprocessing):
        predictor = Predictor(Bundle(network, ("a", "b"), preprocessing, {}), device="cpu")
        return predictor.see(path)[0].double().numpy()

    return see


def agree(ours, theirs, preprocessing):
    theirs = np.asarray(theirs, np.float64)
    assert ours.shape == theirs.shape
    black_to_white = preprocessing.white / max(preprocessing.std)
    assert np.ptp(theirs) > black_to_white / 2
    assert np.abs(ours - theirs).max() <= TOLERANCE * black_to_white


def grey_steps(ours, theirs, preprocessing):
    """Mean difference in steps of 255."""
    std = np.array(preprocessing.std)[:, None, None]
    return float((np.abs(ours - theirs) * std * 255 / preprocessing.white).mean())


def rgb(path):
    with Image.open(path) as picture:
        return picture.convert("RGB")


def chw(pixels):
    return np.asarray(pixels, np.float64).transpose(2, 0, 1)


VGG16_FEATURES = replace(
    IMAGENET_PREPROCESSING, mean=(0.48235, 0.45882, 0.40784), std=(1 / 255,) * 3
)  # Simonyan's and Zisserman's own weights
TORCHVISION = {
    "alexnet": (AlexNet_Weights.IMAGENET1K_V1, IMAGENET_PREPROCESSING),
    "vgg16": (VGG16_Weights.IMAGENET1K_V1, IMAGENET_PREPROCESSING),
    "vgg16, the authors'": (VGG16_Weights.IMAGENET1K_FEATURES, VGG16_FEATURES),
    "resnet50 V1": (ResNet50_Weights.IMAGENET1K_V1, IMAGENET_PREPROCESSING),
    "resnet50 V2": (ResNet50_Weights.IMAGENET1K_V2, replace(IMAGENET_PREPROCESSING, resize=232)),
}


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision(name, photographs, see):
    weights, preprocessing = TORCHVISION[name]
    for path in photographs:
        agree(see(path, preprocessing), weights.transforms()(rgb(path)), preprocessing)


def test_torchvision_googlenet_turns_its_input_into_that_of_its_origin(photographs, see):
    """Its network undoes the normalisation that its transforms do: what it sees are pixels of -1 to 1."""
    turn = SimpleNamespace(transform_input=True)
    for path in photographs:
        image = GoogLeNet_Weights.IMAGENET1K_V1.transforms()(rgb(path))
        agree(see(path, TF), GoogLeNet._transform_input(turn, image[None])[0], TF)


@pytest.mark.parametrize(("use_test_size", "resize", "size"), [(False, 235, 224), (True, 288, 288)])
def test_timm_resnet50(use_test_size, resize, size, photographs, see):
    configuration = resolve_data_config(
        {}, pretrained_cfg=timm.get_pretrained_cfg("resnet50.a1_in1k").to_dict(), use_test_size=use_test_size
    )
    preprocessing = replace(IMAGENET_PREPROCESSING, resize=resize, size=size, interpolation="bicubic")
    for path in photographs:
        agree(see(path, preprocessing), create_transform(**configuration)(rgb(path)), preprocessing)


@pytest.mark.parametrize("name", PREPROCESSINGS)
def test_keras_modes(name, photographs, see):
    """Of the same window of 8-bit pixels."""
    as_they_are = replace(PREPROCESSINGS[name], white=255.0, mean=(0.0,) * 3, std=(1.0,) * 3, channel_order="RGB")
    for path in photographs:
        pixels = see(path, as_they_are).transpose(1, 2, 0)
        theirs = imagenet_utils.preprocess_input(pixels.astype(np.float32), data_format="channels_last", mode=name)
        agree(see(path, PREPROCESSINGS[name]), chw(theirs), PREPROCESSINGS[name])


@pytest.mark.parametrize("model", ["vgg16", "resnet50"])
def test_keras_examples_squash(model, photographs, see):
    """`load_img` with a target size, then the model's own `preprocess_input`."""
    preprocess = getattr(keras.applications, model).preprocess_input
    preprocessing = replace(CAFFE, resize=224, fit="squash")
    for path in photographs:
        for interpolation in ("bilinear", "bicubic"):
            picture = keras.utils.load_img(path, target_size=(224, 224), interpolation=interpolation)
            asked = replace(preprocessing, interpolation=interpolation)
            agree(see(path, asked), chw(preprocess(keras.utils.img_to_array(picture))), asked)
        nearest = chw(preprocess(keras.utils.img_to_array(keras.utils.load_img(path, target_size=(224, 224)))))  # the default
        assert 1 < grey_steps(see(path, preprocessing), nearest, preprocessing) < 8


def zoo_imagenet(picture):
    """vision/classification/imagenet_preprocess.py of onnx/models, `preprocess`: the longer side is rounded to the nearest pixel."""
    ratio = 256 / min(picture.size)
    picture = picture.resize(tuple(256 if side == min(picture.size) else round(ratio * side) for side in picture.size), Image.BILINEAR)
    left, top = (side // 2 - 224 // 2 for side in picture.size)
    pixels = np.asarray(picture)[top : top + 224, left : left + 224].astype(np.float32)
    return chw((pixels / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225]))


def test_the_onnx_zoo_s_resnets_and_vggs(photographs, see, tmp_path):
    differences = [grey_steps(see(path, IMAGENET_PREPROCESSING), zoo_imagenet(rgb(path)), IMAGENET_PREPROCESSING) for path in photographs]
    assert [round(256 * max(size) / min(size)) - 256 * max(size) // min(size) for size in CUTS.values()] == [1, 1, 1]
    assert 0.1 < min(differences) <= max(differences) < 8  # a longer side of one pixel more
    for width, height in ((500, 375), (375, 500), (300, 300), (410, 400)):  # where both round alike
        picture = rgb(photographs[0]).resize((width, height))
        picture.save(tmp_path / "a.png")
        agree(see(tmp_path / "a.png", IMAGENET_PREPROCESSING), zoo_imagenet(picture), IMAGENET_PREPROCESSING)


def zoo_googlenet(picture):
    """The readme of vision/classification/inception_and_googlenet/googlenet of onnx/models; `resize` is bicubic since Pillow 7."""
    pixels = np.array(picture.resize((224, 224))).astype(np.float32)
    pixels -= np.array([123.68, 116.779, 103.939], np.float32)
    return chw(pixels[:, :, ::-1])


def test_the_onnx_zoo_s_googlenet(photographs, see):
    preprocessing = replace(CAFFE, resize=224, fit="squash", interpolation="bicubic")
    for path in photographs:
        agree(see(path, preprocessing), zoo_googlenet(rgb(path)), preprocessing)


def caffe_classifier(picture, crop, resized=None):
    """python/caffe/io.py and classifier.py of BVLC/caffe: `load_image`, `resize_image` to 256x256, the middle, `Transformer.preprocess`.

    `resized` [256, 256, 3] of 0 to 1 takes the place of its own resizing, which averages nothing where pictures shrink.
    """
    if resized is None:
        resized = skimage.transform.resize(np.asarray(picture) / 255, (256, 256), order=1, mode="edge", anti_aliasing=False)
    first = int(256 / 2 - crop / 2)
    image = np.float32(resized[first : first + crop, first : first + crop]).transpose(2, 0, 1)[[2, 1, 0]] * 255
    return image - np.float32([103.939, 116.779, 123.68])[:, None, None]


@pytest.mark.parametrize(("network_name", "size"), [("alexnet_bvlc", 227), ("googlenet", 224)])
def test_caffe_squashes(network_name, size, photographs, see):
    assert build_network(network_name, num_classes=2).input_spec.size == size
    preprocessing = replace(CAFFE, resize=256, size=size, fit="squash")
    for path in photographs:
        ours, picture = see(path, preprocessing), rgb(path)
        resized = np.asarray(picture.resize((256, 256), Image.BILINEAR)) / 255
        agree(ours, caffe_classifier(picture, size, resized), preprocessing)
        assert 0.5 < grey_steps(ours, caffe_classifier(picture, size), preprocessing) < 4
        kept = see(path, replace(preprocessing, fit="short side"))
        assert grey_steps(kept, caffe_classifier(picture, size), preprocessing) > 8  # another picture altogether


@pytest.mark.parametrize("name", PREPROCESSINGS)
@pytest.mark.parametrize("fit", ["short side", "squash"])
def test_evaluation_sees_what_the_predictor_sees(name, fit, photographs, see):
    preprocessing = replace(PREPROCESSINGS[name], fit=fit)
    pictures = PictureFiles(photographs[0].parent, [path.name for path in photographs])
    squares = stream_squares(pictures, preprocessing, num_threads=1)
    (batch,) = Loader(squares, np.arange(3), preprocessing, batch_size=3).evaluation_batches()
    for image, path in zip(batch.images.double().numpy(), photographs, strict=True):
        assert np.array_equal(image, see(path, preprocessing))
