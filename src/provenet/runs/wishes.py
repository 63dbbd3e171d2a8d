"""What may be asked of a training run: the options of `provenet train` and the keywords of `train`, in one list. Imports no torch."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from cyclopts import Parameter

from provenet.data.preset_names import PRESET_NAMES, Augment, list_presets
from provenet.engines.ways import EngineName, EnginePrecision
from provenet.errors import SettingsError, suggest
from provenet.training.settings import ClassWeights

TRANSFER_IN_WORDS = (
    "Which stages of --weights learn: cached (a new head, on features that are computed once and kept), head (the same, on pictures that "
    "are distorted anew in each pass), from:STAGE (that stage and all after it, such as from:conv4_x), all, or auto, which decides by the "
    "pictures of the smallest class; by default auto."
)
Mean = Literal["channel", "pixel", "none"]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """None leaves a setting to the network and the data."""

    epochs: float | None = None
    """Passes over the training pictures."""
    batch_size: int | None = None
    """Pictures a step."""
    micro_batches: int | None = None
    """Parts a batch is computed in, to fit memory."""
    learning_rate: float | None = None
    """The highest one; it rises to it and falls to zero."""
    weight_decay: float | None = None
    """Of weights, not of biases and norms."""
    weights: str | None = None
    """To begin with what a network knows already: a bundle or run folder, a file of weights, or a tag of `provenet weights list`;
    with --transfer alone a small network of clothes that lies in the package."""
    transfer: Annotated[str | None, Parameter(help=TRANSFER_IN_WORDS)] = None
    """Which stages learn: a way of transfer/settings.py."""
    head: str | None = None
    """What takes the place of the last stage of --weights: linear, mlp:512 (hidden units), or own, which is the network's; by default
    linear."""
    ends_after: str | None = None
    """The last stage of --weights to keep, such as conv4_x; the head comes after it."""
    views: int | None = None
    """Of --transfer cached: distorted views of each picture, beside its own, whose features the head learns from; by default 0."""
    feature_type: Literal["float32", "float16"] | None = None
    """Of --transfer cached: how features are kept; float16 is half as large."""
    depth_rate: float | None = None
    """The learning rate of each stage over that of the stage after it; by default 1, all learn alike."""
    init: Literal["published", "trainable"] | None = None
    """How the weights begin: as published, or, where that does not train by itself, with its cure; trainable by default."""
    size: int | None = None
    """Side of the square the network sees, in pixels."""
    channels: int | None = None
    """1 for grey, 3 for colour."""
    mean: Mean | None = None
    """What is subtracted from pixels: the training pictures' mean by channel or by pixel, or nothing; by default as suits the network."""
    augment: Annotated[Augment | None, Parameter(help=f"How training pictures are varied. {list_presets()}", show_choices=False)] = None
    """How training pictures are varied: a name of data/preset_names.py."""
    colours: Path | None = None
    """The file of `provenet colours`: its principal components of colour instead of ImageNet's."""
    shift_pixels: int | None = None
    """Largest random move of a training picture."""
    mirror: bool | None = None
    """Whether training pictures are mirrored by chance."""
    class_weights: ClassWeights | None = None
    """balanced makes every class count alike, however few its pictures are."""
    precision: EnginePrecision | None = None
    """Of the forward pass; with --transfer cached, of the frozen part's."""
    engine: Literal["auto"] | EngineName | None = None
    """Of --transfer cached: what computes the features; by default the fastest that is right, measured where there are many pictures."""
    cycles: int | None = None
    """Times the learning rate rises and falls; the network at the end of each is kept, for `provenet ensemble`; by default 1."""
    seed: int | None = None
    """Decides the initial weights, the order and the distortions."""


NO_WISHES = Wishes()


def make_wishes(asked: dict[str, Any]) -> Wishes:
    """Named wishes as a dataclass. Raises SettingsError for a name that is none, and for a number that no setting can have."""
    known = [field.name for field in fields(Wishes)]
    for name in asked:
        if name not in known:
            raise SettingsError(f"train: no such setting {name!r}; {suggest(name, known)}")
        if isinstance(asked[name], int | float) and not abs(asked[name]) < 2**63:
            raise SettingsError(f"train: expected a number of reasonable size for {name!r}, found one of 2^63 or more, or none at all")
    if asked.get("mean") not in (None, *get_args(Mean)):
        raise SettingsError(f"--mean: expected channel, pixel or none, found {asked['mean']!r}")
    if asked.get("augment") is not None and asked["augment"] not in PRESET_NAMES:
        raise SettingsError(f"--augment: no such preset {asked['augment']!r}. {list_presets()}")
    numbers = [name for name, hint in get_type_hints(Wishes).items() if hint == float | None]
    decimals: dict[str, Any] = {name: float(asked[name]) for name in numbers if isinstance(asked.get(name), int)}
    return Wishes(**{**asked, **decimals})
