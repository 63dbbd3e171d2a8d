"""From what a person asked to complete settings: whatever they left open is chosen by the network and the data."""

from dataclasses import fields, replace
from typing import Any

from provenet.data.distortion import Distortion
from provenet.data.index import ImageSet
from provenet.data.presets import preset_distortion
from provenet.errors import SettingsError
from provenet.models.catalog import build_on_meta
from provenet.models.classifier import InputSpec
from provenet.models.lenet import NUM_CODE_UNITS
from provenet.preprocessing import Preprocessing
from provenet.progress import Progress
from provenet.recipes import default_distortion, default_training, default_transfer_training
from provenet.runs.colours import read_colours, with_colours
from provenet.runs.normalisation import measure
from provenet.runs.settings import RunSettings, Source
from provenet.runs.start import Start, preprocessing_of_start
from provenet.runs.wishes import Mean, Wishes
from provenet.transfer.settings import CACHED, HEAD

LARGEST_SMALL_SIDE_PIXELS = 64


def choose_model(images: ImageSet) -> str:
    """Without a name: ResNet-18 for photographs; for little pictures LeNet-5 if they are grey, else the ResNet-20 of CIFAR."""
    side = images.pictures.largest_side()
    if side is None or side > LARGEST_SMALL_SIDE_PIXELS:
        return "resnet18"
    return "lenet5" if images.pictures.native_channels() == 1 and len(images.classes) <= 2 * NUM_CODE_UNITS else "resnet20_cifar"


def make_settings(
    source: Source, train: ImageSet, wishes: Wishes, *, can_mirror: bool, start: Start | None = None, progress: Progress | None = None
) -> RunSettings:
    """Settings for training `source.model` on `train`, from the beginning or from weights."""
    if start:
        preprocessing = preprocessing_of_start(start, train, wishes, progress)
        transfer, is_alone = start.settings, start.settings.mode in (HEAD, CACHED)
        training = default_transfer_training(source.model, len(train), head=transfer.head, is_head_alone=is_alone)
        if transfer.at_once:
            training = replace(training, epochs=1.0, batch_size=len(train) * (1 + transfer.views), momentum=0.0)
    else:
        preprocessing = choose_preprocessing(source, train, size=wishes.size, channels=wishes.channels, mean=wishes.mean, progress=progress)
        training = default_training(source.model, len(train))
    if wishes.batch_size and wishes.learning_rate is None:  # the linear rule (Krizhevsky 2014; Goyal et al. 2017)
        wishes = replace(wishes, learning_rate=training.peak_learning_rate * wishes.batch_size / training.batch_size)
    settings = RunSettings(
        source=source,
        preprocessing=preprocessing,
        distortion=default_distortion(source.model, preprocessing, can_mirror=can_mirror),
        training=training,
        transfer=start.settings if start else None,
    )
    if start and start.settings.mode == CACHED and not start.settings.views:
        settings = replace(settings, distortion=Distortion())
    return override(settings, wishes, can_mirror=can_mirror)


def override(settings: RunSettings, wishes: Wishes, *, can_mirror: bool) -> RunSettings:
    """The settings with what was asked for put in; size, channels and mean are decided with the network, not here.

    A preset of distortions takes the place of all of them, then come the colours, then what was asked for one by one.
    """
    if wishes.augment is not None:
        settings = replace(settings, distortion=preset_distortion(wishes.augment, settings.preprocessing, can_mirror=can_mirror))
    if wishes.colours is not None:
        settings = replace(settings, distortion=with_colours(settings.distortion, read_colours(wishes.colours)))
    asked = {field.name: getattr(wishes, field.name) for field in fields(wishes) if getattr(wishes, field.name) is not None}
    if "learning_rate" in asked:
        asked["peak_learning_rate"] = asked.pop("learning_rate")
    if settings.transfer and settings.transfer.mode == CACHED:
        way = {name: asked.pop(name) for name in ("engine", "precision") if name in asked}
        settings = replace(settings, transfer=replace(settings.transfer, **way))
    elif "engine" in asked:
        raise SettingsError(f"--engine {asked['engine']}: expected it with --transfer cached, whose features it computes; leave it out")

    def known_to(section: Any) -> set[str]:
        return {field.name for field in fields(section)}

    in_training = {name: value for name, value in asked.items() if name in known_to(settings.training)}
    in_distortion = {name: value for name, value in asked.items() if name in known_to(settings.distortion)}
    return replace(settings, training=replace(settings.training, **in_training), distortion=replace(settings.distortion, **in_distortion))


def choose_preprocessing(
    source: Source, train: ImageSet, *, size: int | None, channels: int | None, mean: Mean | None = None, progress: Progress | None = None
) -> Preprocessing:
    """What the network sees of these pictures.

    Networks that end in the mean over all pixels see small pictures in their own size; the others, whose fully connected layers were made
    for one size, and all larger pictures, keep the network's. Grey pictures have one channel. The normalisation is measured on the
    training pictures as far as the network's paper measures it: LeNet-5's is fixed, AlexNet's subtracts a mean; `mean` asks for another.
    """
    net = build_on_meta(source.model, init=source.init)  # type: ignore[arg-type]  # checked there
    spec = net.input_spec
    native_side, native_channels = train.pictures.native_side(), train.pictures.native_channels()
    channels = channels if channels is not None else min(spec.channels, native_channels)
    if channels not in (1, 3):
        raise SettingsError(f"--channels: expected 1 (grey) or 3 (colour), found {channels}")
    preprocessing = spec.preprocessing.with_channels(channels)
    if size is None and not net.has_sized_layers and native_side is not None and spec.smallest <= native_side <= LARGEST_SMALL_SIDE_PIXELS:
        size = native_side
    if size is not None:
        preprocessing = _scaled_to(preprocessing, size, spec, source.model)
    return measure(preprocessing, spec.measured, mean, train, progress)


def _scaled_to(preprocessing: Preprocessing, size: int, spec: InputSpec, network: str) -> Preprocessing:
    if size < spec.smallest:
        raise SettingsError(f"--size {size}: {network} needs at least {spec.smallest} pixels; enlarge --size or choose another --model")
    return preprocessing.with_size(size)
