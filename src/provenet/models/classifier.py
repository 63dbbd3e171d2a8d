"""The contract that every network keeps.

A `Classifier` is an ordered list of named stages, as its paper names them, the last of which is the classifier proper. That one list
serves the forward pass, freezing, caching, summaries and explanations; method names are timm's, so the networks drop into code
written for it. Letters: N batch, C channels, H W pixels, K classes, F features.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from provenet.errors import ModelError, suggest
from provenet.preprocessing import Preprocessing

Initialisation = Literal["published", "trainable"]
"""`published`: the paper's own. `trainable`: the same where that trains by itself, else the stated cure."""


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """What a network expects to see."""

    preprocessing: Preprocessing
    smallest: int
    """Smallest side, in pixels, that leaves every layer something to work on."""
    is_fixed: bool = False
    """Whether only `size` itself will do, because fully connected layers count the pixels."""

    def with_preprocessing(self, preprocessing: Preprocessing) -> "InputSpec":
        """The same network shown other pictures. Raises ModelError for a size or channels that it cannot take."""
        wanted = f"{self.size}" if self.is_fixed else f"at least {self.smallest}"
        if preprocessing.size < self.smallest or (self.is_fixed and preprocessing.size != self.size):
            raise ModelError(f"preprocessing.size: expected {wanted} pixels, which is what the network takes, found {preprocessing.size}")
        if preprocessing.channels != self.channels:
            raise ModelError(f"preprocessing.channels: expected {self.channels}, found {preprocessing.channels}")
        return replace(self, preprocessing=preprocessing)

    @property
    def channels(self) -> int:
        """Image channels, 1 or 3."""
        return self.preprocessing.channels

    @property
    def size(self) -> int:
        """Side of the square the network is meant to see, in pixels."""
        return self.preprocessing.size


class Classifier(nn.Module):
    """Images [N, C, H, W] -> logits [N, K]: stages applied in order, nothing else.

    `stages` maps names to modules; `head` names the first stage of the head (what follows the last spatial features);
    `make_classifier` builds the last stage for a number of classes. Subclasses only build: of the methods, `training_logits` alone
    is meant to be replaced, by networks with auxiliary heads.
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
        input_spec: InputSpec,
    ) -> None:
        super().__init__()
        self.name = name
        self.num_features = num_features
        self.num_classes = num_classes
        self.input_spec = input_spec
        self._stage_names = tuple(stages)
        self._head_start = self._stage_names.index(head)
        self._make_classifier = make_classifier
        self.authors_names: dict[str, str] = {}  # layer names of the authors' release -> our module paths; empty where they are ours
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
        """Features -> logits [N, K]; with `pre_logits` what the classifier proper reads, [N, F]."""
        names = self._stage_names[self._head_start :]
        for name in names[:-1] if pre_logits else names:
            features = self.get_submodule(name)(features)
        return features

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
        device = next((tensor.device for tensor in self.state_dict().values()), None)
        classifier = self._make_classifier(num_classes) if num_classes else nn.Identity()
        self.add_module(self._stage_names[-1], classifier.to(device))

    def layer(self, name: str) -> nn.Module:
        """The layer of that name: the authors' (`res4d_branch2a`) or ours (`conv4_x.block4.conv1`)."""
        modules: dict[str, nn.Module] = dict(self.named_modules())
        path = self.authors_names.get(name, name)
        if path not in modules or not path:
            raise ModelError(f"{self.name} has no layer {name!r}; {suggest(name, [*self.authors_names, *filter(None, modules)])}")
        return modules[path]

    def _check_input(self, images: Tensor) -> None:
        spec = self.input_spec
        if images.ndim != 4 or images.shape[1] != spec.channels:
            raise ModelError(f"{self.name}: expected images [N, {spec.channels}, H, W], found {list(images.shape)}")
        height, width = images.shape[2:]
        if spec.is_fixed and (height, width) != (spec.size, spec.size):
            raise ModelError(f"{self.name}: expected images of {spec.size}x{spec.size} pixels, found {height}x{width}; resize them")
        if min(height, width) < spec.smallest:
            raise ModelError(
                f"{self.name}: expected images of at least {spec.smallest}x{spec.smallest} pixels, found {height}x{width}; enlarge them"
            )
