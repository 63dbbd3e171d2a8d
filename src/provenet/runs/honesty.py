"""What few pictures, or few of one class, mean for a result: said where it matters, and in no other case."""

import torch
from torch import Tensor

from provenet.data.index import ImageSet
from provenet.metrics import Evaluation
from provenet.outcomes import wilson_interval
from provenet.runs.settings import RunSettings
from provenet.runs.watcher import Watcher
from provenet.training.losses import balanced_weights

UNEVEN = 3.0
"""Pictures of the commonest class for one of the rarest, from which on it is worth a line."""
WIDE_INTERVAL = 0.1


def class_weights_of(settings: RunSettings, train: ImageSet, watcher: Watcher) -> Tensor | None:
    """How much a picture of each class counts [K], if not all alike; a line where some class is rare and nobody asked for weights."""
    labels = torch.from_numpy(train.labels)
    if settings.training.class_weights == "balanced":
        return balanced_weights(labels, len(train.classes))
    counts = {name: count for name, count in train.counts().items() if count}
    common, rare = max(counts, key=lambda name: counts[name]), min(counts, key=lambda name: counts[name])
    if counts[common] >= UNEVEN * counts[rare] and settings.training.loss != "map":
        watcher.note(
            f"{common!r} has {counts[common]:,} pictures to train on and {rare!r} has {counts[rare]:,}: "
            "--class-weights balanced makes them count alike"
        )
    return None


def tell_uncertainty(val: Evaluation, watcher: Watcher) -> None:
    """A line where the validation pictures are too few to tell much."""
    low, high = wilson_interval(round(val.top1 * val.images), val.images)
    if high - low > WIDE_INTERVAL:
        watcher.note(
            f"{val.images:,} validation pictures tell little: {val.top1:.1%} of them right means {low:.0%} to {high:.0%} of others "
            "(95 % confidence)"
        )
