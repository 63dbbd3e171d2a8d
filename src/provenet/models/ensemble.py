"""Several networks as one: each sees the picture as its weights want it, and their probabilities are averaged.

An ensemble is a `Classifier` like any other: images in, logits out, where its logits are the logarithms of the averaged probabilities. It
reads pixels of 0 to 255 and does itself what its members' preprocessing asks for after the decoding: the window, the resize where members
want other sizes, grey of colours, normalisation. Members whose stored squares are of one size see exactly what they see alone; others see
the larger square resized, which is nearly the same (`sees_exactly` says which).

Letters: N batch, C channels, S side of the ensemble's window, M members, K classes of all members together.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from provenet.errors import ModelError
from provenet.models.classifier import Classifier, InputSpec
from provenet.preprocessing import Preprocessing, window_corner

NAME = "ensemble"
MOST_MEMBERS = 100
Combine = Literal["probabilities", "logits"]
"""What is averaged. The mean of logits is, after softmax, the geometric mean of probabilities: the two are one way."""
LUMINANCE = (0.299, 0.587, 0.114)
"""Of red, green and blue in grey: ITU-R 601, which Pillow uses too."""
LEAST_LOG = -700.0
"""Of a probability; that of a class which a member does not know."""


@dataclass(frozen=True)
class Member:
    """One network of an ensemble."""

    network: Classifier
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    temperature: float = 1.0


def joint_classes(members: Sequence[Member]) -> tuple[str, ...]:
    """The classes of all members, joined by name, in the order in which they first come."""
    return tuple(dict.fromkeys(name for member in members for name in member.classes))


def joint_preprocessing(rules: Sequence[Preprocessing]) -> Preprocessing:
    """What an ensemble reads: pixels of 0 to 255, of the largest stored square, in a window that holds what every member sees of it.

    Raises ModelError where some take the middle of a picture and others squash all of it.
    """
    if len({rule.fit for rule in rules}) > 1:
        raise ModelError("expected members that all see the middle of a picture, or all of it squashed, found both; leave some out")
    resize, channels = max(rule.resize for rule in rules), max(rule.channels for rule in rules)
    size = max(rule.size if rule.resize == resize else resize for rule in rules)
    return Preprocessing(
        size=size, resize=resize, channels=channels, white=255.0, mean=(0.0,) * channels, std=(1.0,) * channels,
        interpolation=rules[0].interpolation, fit=rules[0].fit,
    )  # fmt: skip


def sees_exactly(rule: Preprocessing, joint: Preprocessing) -> bool:
    """Whether a member of an ensemble is shown what it is shown alone (but for fractions of a grey step where colours become grey)."""
    return (rule.resize, rule.interpolation) == (joint.resize, joint.interpolation)


class MemberInput(nn.Module):
    """Pixels of the ensemble's window [N, C, S, S] -> what one member sees, normalised [N, c, s, s]."""

    factor: Tensor
    offset: Tensor

    def __init__(self, rule: Preprocessing, joint: Preprocessing) -> None:
        super().__init__()
        self.rule = rule
        self.becomes_grey = rule.channels < joint.channels
        self.is_resized = rule.resize != joint.resize
        self.side = joint.resize if self.is_resized else rule.size
        self.corner = window_corner(joint.resize, self.side) - window_corner(joint.resize, joint.size)
        # Made of the rule and not kept in the file; on the CPU also where the network is built without memory for its weights.
        with torch.device("cpu"):
            factor = rule.white / (255 * torch.tensor(rule.std))
            offset = rule.mean_by_place(torch.device("cpu")).permute(2, 0, 1).clone()
        self.register_buffer("factor", factor[:, None, None], persistent=False)
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels of 0 to 255 [N, C, S, S] -> [N, c, s, s]."""
        if self.becomes_grey:
            pixels = (pixels * pixels.new_tensor(LUMINANCE)[:, None, None]).sum(1, keepdim=True)
        end = self.corner + self.side
        pixels = pixels[:, :, self.corner : end, self.corner : end]
        if self.is_resized:
            side, corner = self.rule.resize, window_corner(self.rule.resize, self.rule.size)
            pixels = F.interpolate(pixels, (side, side), mode=self.rule.interpolation, align_corners=False, antialias=True).clamp(0, 255)
            pixels = F.pad(pixels, (-corner, self.rule.size - side + corner) * 2)  # black around it, or, below 0, the middle of it
        if self.rule.channel_order == "BGR":
            pixels = pixels.flip(1)
        return pixels * self.factor - self.offset


class Seat(nn.Module):
    """One member in an ensemble: pixels [N, C, S, S] -> logarithms of its probabilities of all classes [N, K]."""

    def __init__(self, member: Member, joint: Preprocessing, classes: tuple[str, ...]) -> None:
        super().__init__()
        self.see = MemberInput(member.preprocessing, joint)
        self.network = member.network
        self.temperature = member.temperature
        places = {name: place for place, name in enumerate(member.classes)}
        self.columns = [places.get(name, -1) for name in classes]
        self.is_whole = self.columns == list(range(len(classes)))

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels of 0 to 255 [N, C, S, S] -> [N, K]."""
        logits: Tensor = self.network(self.see(pixels)) / self.temperature
        logs = logits.log_softmax(1)
        if self.is_whole:
            return logs
        columns = torch.tensor(self.columns, device=logs.device)
        return torch.where(columns >= 0, logs[:, columns.clamp_min(0)], LEAST_LOG)


class Members(nn.ModuleList):
    """All of them: pixels [N, C, S, S] -> logarithms of probabilities [N, M, K]."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels of 0 to 255 [N, C, S, S] -> [N, M, K]."""
        return torch.stack([seat(pixels) for seat in self], dim=1)


class Average(nn.Module):
    """Logarithms of probabilities [N, M, K] -> those of their weighted mean [N, K], or their weighted mean."""

    def __init__(self, weights: Sequence[float], combine: Combine) -> None:
        super().__init__()
        self.weights = tuple(weights)
        self.combine = combine

    def forward(self, logs: Tensor) -> Tensor:
        """[N, M, K] -> [N, K]."""
        weights = logs.new_tensor(self.weights)[:, None]
        if self.combine == "logits":
            return (logs * weights).sum(1)
        return (logs + weights.log()).logsumexp(1)


class Ensemble(Classifier):
    """Members, and how their answers become one; see the file's first lines."""

    def __init__(self, members: Sequence[Member], weights: Sequence[float] = (), combine: Combine = "probabilities") -> None:
        """`weights` are above 0, by default alike; made to add up to 1. Raises ModelError for what does not fit."""
        weights = list(weights) or [1.0] * len(members)
        if not 1 <= len(members) <= MOST_MEMBERS or any(isinstance(member.network, Ensemble) for member in members):
            raise ModelError(f"expected 1 to {MOST_MEMBERS} networks that are no ensembles themselves, found others")
        if len(weights) != len(members) or not all(math.isfinite(weight) and weight > 0 for weight in weights):
            raise ModelError(f"expected a weight above 0 for each of the {len(members)} members, found others; leave out those of 0")
        if combine not in ("probabilities", "logits"):
            raise ModelError(f"expected probabilities or logits to be averaged, found {combine!r}")
        classes = joint_classes(members)
        if combine == "logits" and any(set(member.classes) != set(classes) for member in members):
            raise ModelError("expected members of the same classes where logits are averaged, found others; average probabilities")
        joint = joint_preprocessing([member.preprocessing for member in members])
        total = math.fsum(weights)
        shares = tuple(weight / total for weight in weights)
        super().__init__(
            name=NAME,
            stages=OrderedDict(
                networks=Members(Seat(member, joint, classes) for member in members), average=Average(shares, combine)
            ),
            head="average",
            num_features=len(members) * len(classes),
            num_classes=len(classes),
            make_classifier=_cannot_be_replaced,
            input_spec=InputSpec(preprocessing=joint, smallest=joint.size, measured="nothing"),
        )  # fmt: skip
        self.members = tuple(members)
        self.classes = classes
        self.shares = shares
        self.combine: Combine = combine

    def as_fully_convolutional(self) -> nn.Module:
        """An ensemble has no such form: its members see windows of different sizes."""
        raise ModelError("expected one network to run over whole pictures, found an ensemble; choose views of one size, such as ten or 144")

    @property
    def title(self) -> str:
        """Of how many networks."""
        names = dict.fromkeys(member.network.name for member in self.members)
        return f"ensemble of {len(self.members)} ({', '.join(names)})"


def _cannot_be_replaced(num_classes: int) -> nn.Module:
    del num_classes
    raise ModelError("expected one network whose classifier can be replaced, found an ensemble; take one of its members")
