"""The contract that every network keeps.

A `Classifier` is an ordered list of named stages, as its paper names them, the last of which is the classifier proper. That one list
serves the forward pass, freezing, caching, summaries and explanations; method names are timm's, so the networks drop into code
written for it. Any image of at least `input_spec.smallest` pixels a side will do; the numbers that a paper prints hold at
`input_spec.size`. Letters: N batch, C channels, H W pixels, K classes, F features.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from provenet.errors import ModelError, suggest
from provenet.models.blocks import FlattenMaps, GlobalAverage
from provenet.preprocessing import IMAGENET_PREPROCESSING, MEAN_ONLY, Preprocessing

Initialisation = Literal["published", "trainable"]
"""`published`: the paper's own. `trainable`: the same where that trains by itself, else the stated cure."""

Measured = Literal["nothing", "mean", "mean and deviation"]
"""What a network's normalisation takes from its training pictures; the rest is as published."""


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a network expects to see."""

    preprocessing: Preprocessing
    smallest: int
    """Smallest side, in pixels, that leaves every layer something to work on."""
    measured: Measured = "mean and deviation"
    other_channels: int | None = None
    """Channels of images that are no pictures, such as those of satellites; to normalise them is up to whoever has them."""

    def with_preprocessing(self, preprocessing: Preprocessing) -> "InputSpec":
        """The same network shown other pictures. Raises ModelError for a size or channels that it cannot take."""
        if preprocessing.size < self.smallest:
            raise ModelError(
                f"preprocessing.size: expected at least {self.smallest} pixels, which is what the network takes, found {preprocessing.size}"
            )
        if preprocessing.channels != self.channels:
            raise ModelError(f"preprocessing.channels: expected {self.channels}, found {preprocessing.channels}")
        return replace(self, preprocessing=preprocessing)

    def with_channels(self, channels: int) -> "InputSpec":
        """The same for grey (1) or coloured (3) pictures: of a network whose first layer was changed to read them."""
        return replace(self, preprocessing=self.preprocessing.with_channels(channels))

    @property
    def channels(self) -> int:
        """Image channels: 1 or 3 of pictures, else any number."""
        return self.other_channels or self.preprocessing.channels

    @property
    def size(self) -> int:
        """Side of the square the network is meant to see, in pixels."""
        return self.preprocessing.size


def input_of_its_time(init: Initialisation, *, channels: int, smallest: int, size: int = 224) -> InputSpec:
    """For networks whose papers subtract a mean from pixels of 0 to 255: today's initialisations expect a deviation of 1 instead."""
    if init == "published":
        preprocessing = replace(MEAN_ONLY.with_channels(channels), size=size)
        return InputSpec(preprocessing=preprocessing, smallest=smallest, measured="mean")
    return InputSpec(preprocessing=replace(IMAGENET_PREPROCESSING.with_channels(channels), size=size), smallest=smallest)


class Classifier(nn.Module):
    """Images [N, C, H, W] -> logits [N, K]: stages applied in order, nothing else.

    `stages` maps names to modules; `head` names the first stage of the head (what follows the last spatial features);
    `make_classifier` builds the last stage for a number of classes, `no_classifier` what stands there for none; `training_parts` names
    modules beside the stages that only training uses. Functions build the networks; the one subclass there is, GoogLeNet's, has auxiliary
    heads to train.
    """

    def __init__(
        self,
        *,
        name: str,
        stages: Mapping[str, nn.Module],
        head: str,
        num_features: int,
        num_classes: int,
        make_classifier: Callable[[int], nn.Module],
        no_classifier: Callable[[], nn.Module] = nn.Identity,
        input_spec: InputSpec,
        training_parts: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.name = name
        self.num_features = num_features
        self.num_classes = num_classes
        self.input_spec = input_spec
        self._stage_names = tuple(stages)
        self._head_start = self._stage_names.index(head)
        self._make_classifier = make_classifier
        self._no_classifier = no_classifier
        self.training_parts = training_parts
        self.authors_names: dict[str, str] = {}
        """Layer names of the authors' release -> our module paths; empty where they are ours."""
        self.authors_operations: dict[str, str] = {}
        """The same for what is a layer there and only an operation here: `res2a` -> `conv2_x.block1.add`."""
        self.cure: str | None = None
        """With `init="trainable"`: how the weights began instead, where the published way does not train by itself."""
        self.ends_after = ""
        """The last stage of the published network that is there, where it ends early (models/heads.py)."""
        self.own_head = ""
        """The head in words, where it is not the published network's last stage for some number of classes (models/heads.py)."""
        self.frozen: frozenset[str] = frozenset()
        """Stages that do not learn; see `freeze`."""
        for stage_name, stage in stages.items():
            self.add_module(stage_name, stage)

    @property
    def stages(self) -> dict[str, nn.Module]:
        """The stages in order, by the paper's names; walking them is the forward pass."""
        return {name: self.get_submodule(name) for name in self._stage_names}

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> logits [N, K], in training and in evaluation alike."""
        return self.forward_head(self.forward_features(images))

    def forward_features(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> the last features before the head: maps [N, F, h, w], or [N, F] where the paper has no maps left."""
        self._check_input(images)
        for name in self._stage_names[: self._head_start]:
            images = self.get_submodule(name)(images)
        return images

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> logits [N, K]; with `pre_logits` what the classifier proper reads, [N, F] (of maps the mean of each)."""
        names = self._stage_names[self._head_start :]
        for name in names[:-1] if pre_logits else names:
            features = self.get_submodule(name)(features)
        return features.mean((2, 3)) if features.ndim == 4 else features

    @property
    def num_parameters(self) -> int:
        """Trainable numbers of the network that is left after training, as papers count them."""
        return sum(parameter.numel() for name, parameter in self.named_parameters() if not self._is_for_training(name))

    @property
    def has_sized_layers(self) -> bool:
        """Whether fully connected layers read maps of one size, to which those of other images are averaged or repeated first."""
        return any(isinstance(layer, FlattenMaps) for stage in self.stages.values() for layer in stage.modules())

    def training_logits(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """Pairs of loss weight and logits [N, K] to train on; one pair, unless the network has auxiliary heads."""
        return [(1.0, self(images))]

    def get_classifier(self) -> nn.Module:
        """The last stage, which turns features into logits."""
        return self.get_submodule(self._stage_names[-1])

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the last stage by a fresh one for `num_classes`; 0 leaves the features themselves, as in timm."""
        if num_classes < 0:
            raise ModelError(f"reset_classifier: expected a number of classes, 0 or more, found {num_classes}")
        self.num_classes = num_classes
        classifier = self._make_classifier(num_classes) if num_classes else self._no_classifier()
        self.add_module(self._stage_names[-1], like(next(self.parameters()), classifier).train(self.training))

    @property
    def title(self) -> str:
        """The name, and how it differs from the published network of that name, if it does."""
        ends = f" up to {self.ends_after}" if self.ends_after else ""
        return f"{self.name}{ends}" + (f" with a head {self.own_head}" if self.own_head else "")

    def replace_classifier(
        self, make_classifier: Callable[[int], nn.Module], no_classifier: Callable[[], nn.Module], *, num_features: int
    ) -> None:
        """What `reset_classifier` builds from now on, which reads `num_features`."""
        self._make_classifier, self._no_classifier, self.num_features = make_classifier, no_classifier, num_features

    def freeze(self, stages: Iterable[str]) -> None:
        """From now on exactly these stages do not learn: no gradients, and in `train()` they stay in evaluation mode.

        So the statistics of their batch norms stay as they are too, and nothing is dropped out in them.
        """
        unknown = [name for name in stages if name not in self._stage_names]
        if unknown:
            raise ModelError(f"{self.name}: expected stages to freeze, found {unknown[0]!r}; {suggest(unknown[0], self._stage_names)}")
        self.frozen = frozenset(stages)
        for name, stage in self.stages.items():
            stage.requires_grad_(name not in self.frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Training or evaluation mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        for name in self.frozen:
            self.get_submodule(name).eval()
        return self

    def stage_shapes(self) -> dict[str, torch.Size]:
        """The shape of what each stage gives of one image of `input_spec.size`, such as [C, H, W]; nothing is computed for it."""
        spec, shapes = self.input_spec, {}
        with in_evaluation(self), _ShapesOnly():
            given = torch.empty(1, spec.channels, spec.size, spec.size, device="meta", dtype=next(self.parameters()).dtype)
            for name, stage in self.stages.items():
                given = torch.func.functional_call(stage, {key: tensor.to("meta") for key, tensor in stage.state_dict().items()}, given)
                shapes[name] = given.shape[1:]
        return shapes

    def trained_state(self) -> dict[str, Tensor]:
        """The state dict of the network that is left after training: without what only training uses."""
        return {name: tensor for name, tensor in self.state_dict().items() if not self._is_for_training(name)}

    def discard_training_parts(self) -> None:
        """Remove what only training uses: GoogLeNet's auxiliary heads."""
        for name in self.training_parts:
            self.add_module(name, nn.ModuleDict())
        self.authors_names = {theirs: path for theirs, path in self.authors_names.items() if not self._is_for_training(path)}

    def as_fully_convolutional(self) -> nn.Module:
        """The same network with its fully connected layers as convolutions: images [N, C, H, W] -> a map of logits [N, K, h, w].

        At `input_spec.size` the map is one pixel and holds the logits of `forward`. On larger images it holds one for each place of the
        window that the network was built for (Simonyan and Zisserman 2014, section 3.2); its mean over pixels is their dense evaluation.
        Weights are shared with this network. Raises ModelError where it was trained at a size that its fully connected layers do not fit.
        """
        return FullyConvolutional(self)

    def layer(self, name: str) -> nn.Module:
        """The layer of that name: the authors' (`res4d_branch2a`) or ours (`conv4_x.block4.conv1`)."""
        modules: dict[str, nn.Module] = dict(self.named_modules())
        path = self.authors_names.get(name, name)
        if path not in modules or not path:
            raise ModelError(f"{self.name} has no layer {name!r}; {suggest(name, [*self.authors_names, *filter(None, modules)])}")
        return modules[path]

    def _is_for_training(self, name: str) -> bool:
        return name.partition(".")[0] in self.training_parts

    def _check_input(self, images: Tensor) -> None:
        spec = self.input_spec
        if images.ndim != 4 or images.shape[1] != spec.channels:
            raise ModelError(f"{self.name}: expected images [N, {spec.channels}, H, W], found {list(images.shape)}")
        height, width = images.shape[2:]
        if min(height, width) < spec.smallest:
            raise ModelError(
                f"{self.name}: expected images of at least {spec.smallest}x{spec.smallest} pixels, found {height}x{width}; enlarge them"
            )


SUMS = (torch.add, torch.Tensor.add, torch.Tensor.add_, torch.Tensor.__add__, torch.Tensor.__iadd__)


class _ShapesOnly(TorchFunctionMode):
    """Passes over what leaves the shape of maps as it is: norms and sums on the meta device run in Python, and first import much of it."""

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        leaves_it = func in (F.batch_norm, F.relu) or (func in SUMS and getattr(args[1], "shape", None) == args[0].shape)
        return args[0] if leaves_it else func(*args, **(kwargs or {}))


def like(parameter: Tensor, module: nn.Module) -> nn.Module:
    """The module on the device and of the type of a parameter."""
    return module.to(parameter.device, parameter.dtype)


class FullyConvolutional(nn.Module):
    """See `Classifier.as_fully_convolutional`."""

    def __init__(self, net: Classifier) -> None:
        super().__init__()
        self.name = net.name
        self.smallest = net.input_spec.size
        self._sides = _sides_of_maps(net)
        self._kernel_size = 1
        self.stages = nn.Sequential(OrderedDict((name, self._convert(stage)) for name, stage in net.stages.items()))
        self.training = net.training

    def forward(self, images: Tensor) -> Tensor:
        """Images [N, C, H, W] -> logits [N, K, h, w]."""
        if min(images.shape[2:]) < self.smallest:
            height, width = images.shape[2:]
            raise ModelError(
                f"{self.name}: expected images of at least {self.smallest}x{self.smallest} pixels, its own size, found {height}x{width}"
            )
        logits: Tensor = self.stages(images)
        return logits

    def _convert(self, module: nn.Module) -> nn.Module:
        """What does to maps, at every place, what `module` does to the one map of its size."""
        if isinstance(module, nn.Sequential) or GlobalAverage in map(type, module.children()):  # or a classifier that averages maps
            parts = nn.Sequential(OrderedDict((name, self._convert(layer)) for name, layer in module.named_children()))
            parts.training = module.training
            return parts
        if isinstance(module, GlobalAverage):
            return nn.AvgPool2d(self._sides[module], stride=1)
        if isinstance(module, FlattenMaps):
            side = self._sides[module]
            if side != module.side:
                raise ModelError(
                    f"{self.name}: expected {module.side}x{module.side} maps before its fully connected layers, found {side}x{side} "
                    f"at {self.smallest} pixels; only the size that it was published for has a convolutional form"
                )
            self._kernel_size = module.side
            return nn.Identity()
        if isinstance(module, nn.Linear):
            kernel_size, self._kernel_size = self._kernel_size, 1
            return LinearAsConvolution(module, kernel_size)
        return module


class LinearAsConvolution(nn.Module):
    """A fully connected layer at every place of a map: [N, C, H, W] -> [N, out_features, H - k + 1, W - k + 1], with its own weights."""

    def __init__(self, linear: nn.Linear, kernel_size: int) -> None:
        super().__init__()
        self.linear = linear
        self.kernel_size = kernel_size

    def forward(self, maps: Tensor) -> Tensor:
        """Maps [N, C, H, W] -> [N, out_features, H - k + 1, W - k + 1]."""
        weight = self.linear.weight.view(self.linear.out_features, -1, self.kernel_size, self.kernel_size)
        return F.conv2d(maps, weight, self.linear.bias)


def _sides_of_maps(net: Classifier) -> dict[nn.Module, int]:
    """Side of the maps that reach each layer which takes the pixels together, at `input_spec.size`; nothing is computed for it."""
    sides: dict[nn.Module, int] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda layer, inputs: sides.update({layer: inputs[0].shape[-1]}))
        for layer in net.modules()
        if isinstance(layer, FlattenMaps | GlobalAverage)
    ]
    spec = net.input_spec
    weightless = {name: tensor.to("meta") for name, tensor in net.state_dict().items()}
    image = torch.empty(1, spec.channels, spec.size, spec.size, device="meta", dtype=next(net.parameters()).dtype)
    try:
        with in_evaluation(net):  # batch norm of one pixel has nothing to train on
            torch.func.functional_call(net, weightless, image)
    finally:
        for hook in hooks:
            hook.remove()
    return sides


@contextmanager
def in_evaluation(net: nn.Module) -> Iterator[None]:
    """The network in evaluation mode inside; afterwards every module in the mode that it had."""
    modes = {module: module.training for module in net.modules()}
    try:
        net.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
