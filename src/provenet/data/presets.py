"""Distortions by name: what each paper did to its training pictures, and some strengths for pictures of your own.

Each is a function of the preprocessing: lengths in pixels grow with the window where it is not the paper's. What the papers print is in
`papers/*.toml`; what they leave open is said here, at the number. Pictures whose mirror image is of another class are never mirrored.
"""

from collections.abc import Callable
from dataclasses import replace

from provenet.data.distortion import Distortion
from provenet.data.preset_names import list_presets
from provenet.errors import SettingsError
from provenet.preprocessing import Preprocessing

LARGEST_SMALL_SIDE_PIXELS = 64
IMAGENET_SIDE_PIXELS = 224
CIFAR_SIDE_PIXELS = 32


def none(_: Preprocessing) -> Distortion:
    """The pictures as they are."""
    return Distortion()


def lenet5(preprocessing: Preprocessing) -> Distortion:
    """LeCun et al. 1998, section III-A: horizontal and vertical translation, scaling, squeezing, horizontal shearing.

    The paper prints no strengths: all of them are ours, and keep digits legible.
    """
    return Distortion(
        shift_pixels=_scaled(2, preprocessing, CIFAR_SIDE_PIXELS), scale_fraction=0.15, squeeze_fraction=0.1, shear_degrees=15.0
    )


def alexnet(preprocessing: Preprocessing) -> Distortion:
    """Krizhevsky et al. 2012, section 4.1: 224x224 anywhere in the central 256x256, mirror, principal components with deviation 0.1."""
    return replace(zfnet(preprocessing), pca_colour=0.1)


def zfnet(preprocessing: Preprocessing) -> Distortion:
    """Zeiler and Fergus 2013, section 3: 224x224 of 256x256, mirror; no colour.

    They took the corners and the centre; here the window is anywhere in the square.
    """
    return Distortion(shift_pixels=max(0, (preprocessing.resize - preprocessing.size) // 2), mirror=True)


def vgg(preprocessing: Preprocessing) -> Distortion:
    """Simonyan and Zisserman 2014, section 3.1: short side 256 to 512, 224x224 anywhere, mirror, colour as AlexNet."""
    return Distortion(crop="scale", short_sides=_short_sides(256, 512, preprocessing), mirror=True, pca_colour=0.1)


def nin(preprocessing: Preprocessing) -> Distortion:
    """Lin, Chen, Yan 2013, section 4.2: translation and mirror on CIFAR, by a number that is not printed; 4 pixels are usual.

    Its network for ImageNet is Caffe's, trained with Caffe's crop and mirror.
    """
    return cifar(preprocessing) if preprocessing.size <= LARGEST_SMALL_SIDE_PIXELS else zfnet(preprocessing)


def googlenet(preprocessing: Preprocessing) -> Distortion:
    """Szegedy et al. 2014, section 6: 8 to 100 percent of the area, aspect 3/4 to 4/3; "the photometric distortions by Andrew Howard".

    The paper names no strengths of these: that they are Howard's is ours. His ("Some improvements on deep convolutional neural network
    based image classification", 2013) are brightness, contrast and colour by factors of 0.5 to 1.5, then AlexNet's principal components.
    He draws their order too; here it is fixed.
    """
    del preprocessing
    return Distortion(
        crop="area", area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), mirror=True, brightness=0.5, contrast=0.5, saturation=0.5, pca_colour=0.1
    )


def resnet(preprocessing: Preprocessing) -> Distortion:
    """He et al. 2015, section 3.4: short side 256 to 480, 224x224 anywhere, mirror, colour as AlexNet."""
    return Distortion(crop="scale", short_sides=_short_sides(256, 480, preprocessing), mirror=True, pca_colour=0.1)


def cifar(preprocessing: Preprocessing) -> Distortion:
    """He et al. 2015, section 4.2: 4 pixels of padding, 32x32 anywhere, mirror."""
    return Distortion(shift_pixels=_scaled(4, preprocessing, CIFAR_SIDE_PIXELS), mirror=True)


def light(preprocessing: Preprocessing) -> Distortion:
    """A small move or crop, mirror, a touch of light. The strengths are ours."""
    if preprocessing.size <= LARGEST_SMALL_SIDE_PIXELS:
        return Distortion(shift_pixels=_scaled(2, preprocessing, CIFAR_SIDE_PIXELS), mirror=True, brightness=0.1, contrast=0.1)
    return Distortion(crop="area", area=(0.5, 1.0), aspect=(4 / 5, 5 / 4), mirror=True, brightness=0.1, contrast=0.1, saturation=0.1)


def standard(preprocessing: Preprocessing) -> Distortion:
    """What suits most photographs: a crop of a quarter or more, mirror, light and colour. The strengths are ours."""
    if preprocessing.size <= LARGEST_SMALL_SIDE_PIXELS:
        return replace(cifar(preprocessing), rotation_degrees=5.0, brightness=0.2, contrast=0.2, saturation=0.2)
    return Distortion(crop="area", area=(0.25, 1.0), aspect=(3 / 4, 4 / 3), mirror=True, brightness=0.3, contrast=0.3, saturation=0.3)


def strong(preprocessing: Preprocessing) -> Distortion:
    """For few pictures and long training: more of everything, turned and partly erased. The strengths are ours."""
    colour = replace(Distortion(), brightness=0.4, contrast=0.4, saturation=0.4, hue_degrees=15.0, rotation_degrees=15.0, mirror=True)
    if preprocessing.size <= LARGEST_SMALL_SIDE_PIXELS:
        shift = _scaled(4, preprocessing, CIFAR_SIDE_PIXELS)
        return replace(colour, shift_pixels=shift, scale_fraction=0.1, shear_degrees=5.0, erase=0.25, erase_area=(0.02, 0.2))
    return replace(colour, crop="area", area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), shear_degrees=5.0, erase=0.25)


def modern(preprocessing: Preprocessing) -> Distortion:
    """Crop and mirror, mixup 0.2 or CutMix 1.0 by a coin, a quarter of the pictures partly erased: the usual recipe of the 2020s.

    The strengths are those of their papers for ImageNet; Wightman, Touvron, Jegou, "ResNet strikes back", 2021, combine them so.
    """
    if preprocessing.size <= LARGEST_SMALL_SIDE_PIXELS:
        moved = cifar(preprocessing)
    else:
        moved = Distortion(crop="area", area=(0.08, 1.0), aspect=(3 / 4, 4 / 3), mirror=True)
    return replace(moved, mixup=0.2, cutmix=1.0, erase=0.25)


PRESETS: dict[str, Callable[[Preprocessing], Distortion]] = {
    "none": none,
    "light": light,
    "standard": standard,
    "strong": strong,
    "modern": modern,
    "lenet5": lenet5,
    "alexnet": alexnet,
    "zfnet": zfnet,
    "nin": nin,
    "vgg": vgg,
    "googlenet": googlenet,
    "resnet": resnet,
    "cifar": cifar,
}


def preset_distortion(name: str, preprocessing: Preprocessing, *, can_mirror: bool) -> Distortion:
    """The preset of this name for such windows. Raises SettingsError for an unknown name, with those there are."""
    if name not in PRESETS:
        raise SettingsError(f"--augment: no such preset {name!r}. {list_presets()}")
    distortion = PRESETS[name](preprocessing)
    return replace(distortion, mirror=distortion.mirror and can_mirror)


def _scaled(pixels: int, preprocessing: Preprocessing, side: int) -> int:
    """A length of pictures of `side` pixels, in pixels of the window."""
    return max(1, round(pixels * preprocessing.size / side))


def _short_sides(least: int, most: int, preprocessing: Preprocessing) -> tuple[int, int]:
    low, high = (round(side * preprocessing.size / IMAGENET_SIDE_PIXELS) for side in (least, most))
    return low, high
