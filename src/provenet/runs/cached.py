"""A head trained on features that are computed once: what takes the place of pictures, and of steps over them."""

import copy
from typing import Any

import torch
from torch import Tensor

from provenet.data.holdout import TrainingSplits
from provenet.data.index import ImageSet
from provenet.engines.choose import make_wish
from provenet.metrics import count_correct
from provenet.models.classifier import Classifier
from provenet.runs.features import choose_way
from provenet.runs.pictures import leave_out_broken
from provenet.runs.settings import RunSettings
from provenet.runs.watcher import Watcher
from provenet.runtime import seeded
from provenet.training.losses import balanced_weights
from provenet.training.state import TrainingState
from provenet.transfer.batches import FeatureLoader
from provenet.transfer.features import Views, Wanted, compute_features
from provenet.transfer.parts import FrozenPart, HeadPart
from provenet.transfer.solve import DECAYS, CrossValidation, cross_validate, solve

LARGEST_WEIGHTS = 30.0
"""Root mean square of a layer's in a solved head that steps begin with: larger ones pass on gradients that tear apart what is before."""


def open_features(
    settings: RunSettings, net: Classifier, splits: TrainingSplits, device: torch.device, watcher: Watcher
) -> dict[str, tuple[ImageSet, FeatureLoader]]:
    """The features of `train`, `val` and, where there is one, `test`; a broken picture is an error, or left out if the settings say so."""
    transfer, training = settings.transfer, settings.training
    assert transfer is not None
    part = FrozenPart(net).eval()
    sets = {name: images for name, images in (("train", splits.train), ("val", splits.val), ("test", splits.test)) if images is not None}
    looked_at = {name: Wanted.look_at(images, watcher.progress) for name, images in sets.items()}
    chosen = choose_way(
        part,
        settings.preprocessing,
        make_wish(transfer.engine, transfer.precision),
        transfer.feature_type,
        list(looked_at.values()),
        views=transfer.views,
        device=device,
        watcher=watcher,
    )
    views = {"train": Views(count=transfer.views, distortion=settings.distortion, seed=training.seed)}
    computed = chosen.compute(
        lambda way, open_engine: {
            name: compute_features(
                part,
                images,
                settings.preprocessing,
                way=way,
                open_engine=open_engine,
                looked_at=looked_at[name],
                type=transfer.feature_type,
                views=views.get(name),
                device=device,
                progress=watcher.progress,
                note=watcher.note,
            )
            for name, images in sets.items()
        }
    )
    opened, num_computed, num_rows, errors = {}, 0, 0, []
    for name, images in sets.items():
        features = computed[name]
        sound = leave_out_broken(
            images, features.broken, skip_broken=settings.source.skip_broken, is_trained_on=name == "train", watcher=watcher
        )
        loader = FeatureLoader(features, images.select(sound), batch_size=training.batch_size, seed=training.seed, device=device)
        opened[name] = images.select(sound), loader
        num_computed, num_rows = num_computed + features.num_computed, num_rows + len(sound) * len(features.rows)
        errors += [features.float16_error] if features.float16_error is not None else []
    row_bytes = torch.Size(part.shape).numel() * (2 if transfer.feature_type == "float16" else 4)
    watcher.note(
        f"features up to {part.cut}, {row_bytes:,} bytes a picture: {num_computed:,} computed, {num_rows - num_computed:,} kept from before"
        + (f"; float16 changes them by {max(errors):.1e} of their length" if errors else "")
    )
    return opened


def choose_decay(
    net: Classifier, settings: RunSettings, loader: FeatureLoader, num_classes: int, watcher: Watcher, *, is_decided: bool
) -> CrossValidation | None:
    """How each weight decay did, and which is chosen; one that is decided is judged only. None where nothing can be held out."""
    training = settings.training
    labels = loader.labels.to(loader.device)
    weights = balanced_weights(labels, num_classes) if training.class_weights == "balanced" else None
    head = HeadPart(net)
    with seeded(training.seed):
        found = cross_validate(
            lambda: copy.deepcopy(head),
            loader.standardised,
            labels,
            weights=weights,
            decays=(training.weight_decay,) if is_decided else DECAYS,
            progress=watcher.progress,
        )
    if found is None:
        watcher.note("no class has two pictures to train on: nothing can be held out to choose the weight decay by")
        return None
    low, high = found.interval
    watcher.note(
        f"cross-validation in {found.folds} folds of {found.images:,} pictures: {found.chosen_top1:.1%} right ({low:.0%} to {high:.0%} "
        f"with 95 % confidence), weight decay {found.decay:g}"
    )
    return found


def begin_solved(
    net: Classifier, settings: RunSettings, train: ImageSet, loader: object, device: torch.device, watcher: Watcher
) -> CrossValidation | None:
    """Solve the fresh head on the features of the network as it is, before anything learns in steps; -> how its decay was chosen.

    A random head would first pull the layers before it astray, and the fewer pictures there are the less they find back: Kumar et al. 2022,
    "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution". `loader` has the features, or they are computed.
    """
    if not isinstance(loader, FeatureLoader):
        part = FrozenPart(net).eval()
        features = compute_features(part, train, settings.preprocessing, device=device, progress=watcher.progress, note=watcher.note)
        loader = FeatureLoader(features, train.select(features.sound), batch_size=settings.training.batch_size, device=device)
    found = choose_decay(net, settings, loader, net.num_classes, watcher, is_decided=False)
    labels, training = loader.labels.to(loader.device), settings.training
    weights = balanced_weights(labels, net.num_classes) if training.class_weights == "balanced" else None
    head = HeadPart(net)
    fresh = copy.deepcopy(head.state_dict())
    solve(head, loader.standardised, labels, decay=found.decay if found else training.weight_decay, weights=weights)
    sizes = [float(parameter.detach().square().mean().sqrt()) for parameter in head.parameters() if parameter.ndim > 1]
    if max(sizes) <= LARGEST_WEIGHTS:
        watcher.note("the new head begins as solved on the features of the weights as they are")
    else:
        head.load_state_dict(fresh)
        watcher.note(f"the new head begins at random: solved on features as small as these its weights would be about {max(sizes):,.0f}")
    return found


def solve_step(
    state: TrainingState,
    features: Tensor,
    labels: Tensor,
    rate: float,
    *,
    settings: RunSettings,
    loader: FeatureLoader,
    class_weights: Tensor | None,
) -> tuple[float, int]:
    """The one step of a head that is solved at once; -> the loss, and how many pictures are right afterwards."""
    del rate
    given = loader.standardised if len(loader.rows) == 1 else features  # distorted views have another mean
    loss = solve(state.net, given, labels, decay=settings.training.weight_decay, weights=class_weights)
    with torch.no_grad():
        return loss, count_correct(state.net(features), labels)


def describe_choice(found: CrossValidation | None) -> dict[str, Any]:
    """For the bundle: how the weight decay was chosen."""
    if found is None:
        return {}
    facts = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(found).items()}
    return {"cross_validation": facts | {"chosen_top1": found.chosen_top1, "interval": list(found.interval)}}
