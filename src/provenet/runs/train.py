"""A new run: what was asked -> complete settings, a folder of its own, and the work itself."""

import dataclasses
import os
from typing import Any

from provenet.data.holdout import TrainingSplits, default_fraction, divide
from provenet.data.index import DataSet
from provenet.data.sources import open_data
from provenet.errors import SettingsError
from provenet.runs.cached import choose_decay, describe_choice
from provenet.runs.folder import make_run_folder
from provenet.runs.pictures import SPLIT_SEED, refuse_or_note
from provenet.runs.plan import choose_model, make_settings, override
from provenet.runs.session import SNAPSHOT_SECONDS, Run, build, carry_out, check_seconds, describe, open_splits
from provenet.runs.settings import RunSettings, Source, read_settings
from provenet.runs.start import Start, differences, plan_start, refuse_without_weights, reopen_start, with_embedded_weights
from provenet.runs.watcher import Silent, Watcher
from provenet.runs.wishes import Wishes, make_wishes
from provenet.runtime import choose_device
from provenet.transfer.batches import FeatureLoader
from provenet.transfer.settings import CACHED


def train(
    data: str | os.PathLike[str] | None = None,
    model: str | None = None,
    *,
    settings_file: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    skip_broken: bool = False,
    val_fraction: float | None = None,
    device: str = "auto",
    snapshot_seconds: float = SNAPSHOT_SECONDS,
    watcher: Watcher | None = None,
    **wishes: Any,
) -> Run:
    """Train a network on labelled pictures and leave it, with its settings and log, in a run folder.

    `data` is whatever `data.sources.open_data` opens; `model` a name of the catalog, by default one that suits the pictures.
    `wishes` may be weights, transfer, head, ends_after, views, feature_type, engine and depth_rate, to begin with what a network knows
    already; epochs, batch_size, micro_batches, learning_rate, weight_decay, class_weights, cycles, init, seed, precision, size, channels,
    mean, augment, colours, shift_pixels and mirror. `settings_file` repeats an earlier run, except for what else is given. The test
    pictures, where there are any, are looked at once, at the end.

    A snapshot is taken every `snapshot_seconds`, so a run that is killed loses no more than that: see `resume`.
    """
    watcher = watcher or Silent()
    check_seconds(snapshot_seconds)
    chosen_device = choose_device(device)
    asked = make_wishes(wishes)
    if settings_file is not None:
        _refuse_changes(asked, model, val_fraction)
        settings, data_set, splits, start = _repeat(read_settings(settings_file), data, skip_broken, asked, watcher)
    elif data is not None:
        settings, data_set, splits, start = plan_run(os.fspath(data), model, val_fraction, skip_broken, asked, watcher)
    else:
        raise SettingsError("expected DATA (see provenet train --help) or --settings FILE, found neither")
    notes = [*data_set.notes, *(start.notes if start else ())]
    if start:
        notes += differences(start.bundle.preprocessing, settings.preprocessing, splits.train)
    net = build(settings, len(splits.train.classes), start.bundle if start else None)
    folder, is_new = make_run_folder(output, data_set.name, settings.source.model, settings.source.data)
    try:
        for note in notes:
            watcher.note(note)
        opened = open_splits(settings, net, splits, chosen_device, watcher)
        choice: dict[str, Any] = {}
        if settings.transfer and settings.transfer.mode == CACHED:
            loader = opened["train"].loader
            assert isinstance(loader, FeatureLoader)
            if settings.transfer.at_once:
                is_decided = settings_file is not None or asked.weight_decay is not None
                found = choose_decay(net, settings, loader, net.num_classes, watcher, is_decided=is_decided)
                if found:
                    training = dataclasses.replace(settings.training, weight_decay=found.decay)
                    settings = dataclasses.replace(settings, training=training)
                choice = describe_choice(found)
            assert settings.transfer is not None
            way = dataclasses.replace(settings.transfer, engine=loader.way.engine, precision=loader.way.precision)
            settings = dataclasses.replace(settings, transfer=way)
        return carry_out(
            folder,
            net,
            settings,
            data_set.name,
            opened,
            chosen_device,
            provenance=describe(settings, splits, opened, chosen_device) | choice,
            snapshot=None,
            snapshot_seconds=snapshot_seconds,
            watcher=watcher,
        )
    finally:
        folder.release(remove_if_unused=is_new)


def plan_run(
    data: str, model: str | None, val_fraction: float | None, skip_broken: bool, asked: Wishes, watcher: Watcher
) -> tuple[RunSettings, DataSet, TrainingSplits, Start | None]:
    """Settings for a new run, chosen by its data where nothing was asked."""
    asked = with_embedded_weights(asked, model)
    if asked.weights is None:
        refuse_without_weights(asked)
    if model == "":
        raise SettingsError("--model: expected a name that `provenet models` lists, found nothing; leave it out to have one chosen")
    on_problem = refuse_or_note(skip_broken=skip_broken, watcher=watcher)
    data_set = open_data(data, watcher.progress, on_problem, allow_missing=skip_broken)
    fraction = default_fraction(data_set) if val_fraction is None else val_fraction
    source = Source(data=data, model=model or "", init=asked.init or "trainable", val_fraction=fraction, skip_broken=skip_broken)
    splits = divide(data_set, val_fraction=fraction, seed=SPLIT_SEED)
    start = plan_start(asked, model, splits.train) if asked.weights is not None else None
    source = dataclasses.replace(source, model=start.bundle.network.name if start else model or choose_model(splits.train))
    settings = make_settings(source, splits.train, asked, can_mirror=data_set.can_mirror, start=start, progress=watcher.progress)
    return settings, data_set, splits, start


def _repeat(
    settings: RunSettings, data: str | os.PathLike[str] | None, skip_broken: bool, asked: Wishes, watcher: Watcher
) -> tuple[RunSettings, DataSet, TrainingSplits, Start | None]:
    """The settings of an earlier run, with what else was asked put in."""
    source = settings.source
    source = dataclasses.replace(
        source, data=source.data if data is None else os.fspath(data), skip_broken=source.skip_broken or skip_broken
    )
    on_problem = refuse_or_note(skip_broken=source.skip_broken, watcher=watcher)
    data_set = open_data(source.data, watcher.progress, on_problem, allow_missing=source.skip_broken)
    splits = divide(data_set, val_fraction=source.val_fraction, seed=SPLIT_SEED)
    start = reopen_start(settings.transfer, source.model) if settings.transfer else None
    settings = override(dataclasses.replace(settings, source=source), asked, can_mirror=data_set.can_mirror)
    return settings, data_set, splits, start


def _refuse_changes(asked: Wishes, model: str | None, val_fraction: float | None) -> None:
    decided = {
        "--model": model,
        "--init": asked.init,
        "--weights": asked.weights,
        "--transfer": asked.transfer,
        "--head": asked.head,
        "--ends-after": asked.ends_after,
        "--views": asked.views,
        "--feature-type": asked.feature_type,
        "--depth-rate": asked.depth_rate,
        "--size": asked.size,
        "--channels": asked.channels,
        "--mean": asked.mean,
        "--val-fraction": val_fraction,
    }
    for flag, value in decided.items():
        if value is not None:
            raise SettingsError(
                f"{flag} {value}: expected nothing here, the file of --settings decides it; edit the file, or leave --settings out"
            )
