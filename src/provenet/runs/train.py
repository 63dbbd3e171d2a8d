"""A whole run: data -> index -> squares -> network -> loop -> bundle, and the folder it leaves behind."""

import contextlib
import dataclasses
import os
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from provenet.data.holdout import TrainingSplits, default_fraction, divide
from provenet.data.index import DataSet, ImageSet
from provenet.data.loader import Loader
from provenet.data.sources import open_data
from provenet.errors import SettingsError, show_path
from provenet.evaluation.evaluate import BATCH_SIZE, evaluate
from provenet.metrics import Evaluation
from provenet.models.catalog import build_network
from provenet.models.classifier import Classifier
from provenet.runs.folder import make_run_folder
from provenet.runs.pictures import SPLIT_SEED, open_sound_squares
from provenet.runs.plan import choose_model, make_settings, override
from provenet.runs.settings import RunSettings, Source, read_settings, write_settings
from provenet.runs.watcher import Silent, Watcher, follow
from provenet.runs.wishes import Wishes, make_wishes
from provenet.runtime import choose_device, place, seeded
from provenet.training.loop import EpochRecord, StepRecord, count_steps, fit
from provenet.training.recorder import Log
from provenet.version import __version__
from provenet.weights.bundle import Bundle, save_bundle


@dataclass(frozen=True)
class Run:
    """What a run left behind."""

    folder: Path
    settings: RunSettings
    val: Evaluation
    test: Evaluation | None

    @property
    def bundle_path(self) -> Path:
        """The trained network, ready to predict."""
        return self.folder / "model.safetensors"


def train(
    data: str | os.PathLike[str] | None = None,
    model: str | None = None,
    *,
    settings_file: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    skip_broken: bool = False,
    val_fraction: float | None = None,
    device: str = "auto",
    watcher: Watcher | None = None,
    **wishes: Any,
) -> Run:
    """Train a network on labelled pictures and leave it, with its settings and log, in a run folder.

    `data` is a folder of class folders or a built-in name; `model` a name of the catalog, by default one that suits the pictures.
    `wishes` may be epochs, batch_size, micro_batches, learning_rate, weight_decay, seed, precision, size, channels, shift_pixels and
    mirror. `settings_file` repeats an earlier run, except for what else is given. The test pictures, where there are any, are looked
    at once, at the end.
    """
    watcher = watcher or Silent()
    chosen_device = choose_device(device)
    asked = make_wishes(wishes)
    if settings_file is not None:
        _refuse_changes(asked, model, val_fraction)
        settings, data_set, splits = _repeat(read_settings(settings_file), data, skip_broken, asked, watcher)
    elif data is not None:
        settings, data_set, splits = _plan(os.fspath(data), model, val_fraction, skip_broken, asked, watcher)
    else:
        raise SettingsError("expected DATA (a folder of class folders, or fashion-mini) or --settings FILE, found neither")
    net = build(settings, num_classes=len(splits.train.classes))
    folder, is_new = make_run_folder(output, data_set.name, settings.source.model)
    try:
        for note in data_set.notes:
            watcher.note(note)
        return _train_in(folder, net, settings, splits, chosen_device, watcher)
    finally:
        with contextlib.suppress(OSError):
            if is_new:
                folder.rmdir()  # it is empty, and so goes, only if the run never began


def _plan(
    data: str, model: str | None, val_fraction: float | None, skip_broken: bool, asked: Wishes, watcher: Watcher
) -> tuple[RunSettings, DataSet, TrainingSplits]:
    """Settings for a new run, chosen by its data where nothing was asked."""
    if model == "":
        raise SettingsError("--model: expected a name that `provenet models` lists, found nothing; leave it out to have one chosen")
    data_set = open_data(data, watcher.progress)
    fraction = default_fraction(data_set) if val_fraction is None else val_fraction
    source = Source(data=data, model=model or "", val_fraction=fraction, skip_broken=skip_broken)
    splits = divide(data_set, val_fraction=fraction, seed=SPLIT_SEED)
    source = dataclasses.replace(source, model=model or choose_model(splits.train))
    settings = make_settings(source, splits.train, asked, can_mirror=data_set.can_mirror, progress=watcher.progress)
    return settings, data_set, splits


def _repeat(
    settings: RunSettings, data: str | os.PathLike[str] | None, skip_broken: bool, asked: Wishes, watcher: Watcher
) -> tuple[RunSettings, DataSet, TrainingSplits]:
    """The settings of an earlier run, with what else was asked put in."""
    source = settings.source
    source = dataclasses.replace(
        source, data=source.data if data is None else os.fspath(data), skip_broken=source.skip_broken or skip_broken
    )
    data_set = open_data(source.data, watcher.progress)
    splits = divide(data_set, val_fraction=source.val_fraction, seed=SPLIT_SEED)
    return override(dataclasses.replace(settings, source=source), asked), data_set, splits


def build(settings: RunSettings, num_classes: int) -> Classifier:
    """The fresh network of a run, its weights decided by the seed alone."""
    with seeded(settings.training.seed):
        net = build_network(
            settings.source.model,
            num_classes=num_classes,
            in_channels=settings.preprocessing.channels,
            init=settings.source.init,  # type: ignore[arg-type]  # checked there
        )
    net.input_spec = net.input_spec.with_preprocessing(settings.preprocessing)
    return net


def _train_in(folder: Path, net: Classifier, settings: RunSettings, splits: TrainingSplits, device: torch.device, watcher: Watcher) -> Run:
    training, classes = settings.training, splits.train.classes
    place(net, device)
    train_loader = _load(splits.train, settings, training.batch_size, device, watcher, must_keep_classes=True)
    val_loader = _load(splits.val, settings, BATCH_SIZE, device, watcher)
    test_loader = _load(splits.test, settings, BATCH_SIZE, device, watcher) if splits.test else None
    provenance: dict[str, Any] = {
        "settings": settings.to_dict(),
        "data": _describe(splits, train_loader, val_loader, test_loader),
        "versions": {"provenet": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"device": str(device), "threads": torch.get_num_threads()},
    }
    recorder = _Recorder(folder, Bundle(net, classes, settings.preprocessing, provenance), settings, watcher)
    watcher.note(_introduce(net, settings, train_loader, val_loader, test_loader, splits, device))
    num_images = len(train_loader)
    try:
        val = fit(
            net,
            train_loader.training_batches(0, count_steps(training, num_images), seed=training.seed, distortion=settings.distortion),
            training,
            num_images=num_images,
            evaluate=lambda: evaluate(net, val_loader.evaluation_batches(), classes),
            recorder=recorder,
        )
        test = None
        if test_loader:
            test = evaluate(net, follow(test_loader.evaluation_batches(), "testing", len(test_loader), watcher), classes)
        recorder.end({"val": val.to_dict()} | ({"test": test.to_dict()} if test else {}))
    except KeyboardInterrupt:
        is_kept = (folder / "model.safetensors").exists()
        watcher.note(f"{folder} has " + ("the best network so far" if is_kept else "no network yet, only settings and log"))
        raise
    finally:
        recorder.log.close()
    return Run(folder, settings, val, test)


def _load(
    images: ImageSet, settings: RunSettings, batch_size: int, device: torch.device, watcher: Watcher, *, must_keep_classes: bool = False
) -> Loader:
    squares, sound = open_sound_squares(
        images,
        settings.preprocessing,
        skip_broken=settings.source.skip_broken,
        must_keep_classes=must_keep_classes,
        watcher=watcher,
    )
    return Loader(squares, sound.labels, settings.preprocessing, batch_size=batch_size, device=device)


class _Recorder:
    """Writes the run's folder as it goes: settings, log, and the bundle whenever the network is better than before."""

    def __init__(self, folder: Path, bundle: Bundle, settings: RunSettings, watcher: Watcher) -> None:
        self.bundle_path = folder / "model.safetensors"
        self.bundle = bundle
        self.total_epochs = settings.training.epochs
        self.watcher = watcher
        try:
            write_settings(settings, folder / "settings.toml")
            self.log = Log(folder / "log.jsonl")
        except OSError as error:
            raise SettingsError(
                f"{show_path(folder)}: expected to write into it, found: {error.strerror}; free some space or choose another --output"
            ) from error
        self.log.write("start", **bundle.provenance)

    def on_step(self, record: StepRecord) -> None:
        self.log.step(record)
        self.watcher.step(record)

    def on_epoch(self, record: EpochRecord) -> None:
        if record.is_best:  # kept before it is told: whoever stops the run now has it
            self._keep({"epoch": round(record.epoch, 4), "val": record.val.to_dict()})
        self.log.epoch(record)
        self.watcher.epoch(record, self.total_epochs)

    def end(self, metrics: dict[str, Any]) -> None:
        self._keep(metrics)
        self.log.write("end", **{split: {"top1": scores["top1"], "loss": scores["loss"]} for split, scores in metrics.items()})

    def _keep(self, metrics: dict[str, Any]) -> None:
        save_bundle(dataclasses.replace(self.bundle, provenance={**self.bundle.provenance, "metrics": metrics}), self.bundle_path)


def _describe(splits: TrainingSplits, train: Loader, val: Loader, test: Loader | None) -> dict[str, Any]:
    """The data as the bundle remembers them: enough to know them again, and which were trained on."""
    images = {"train": len(train), "val": len(val)} | ({"test": len(test)} if test else {})
    fingerprints = {"train": splits.train.fingerprint(), "val": splits.val.fingerprint()}
    if splits.test:
        fingerprints["test"] = splits.test.fingerprint()
    memory = splits.memory.to_dict() if splits.memory else None
    return {"images": images, "fingerprints": fingerprints, "held_out_from": splits.held_out_from, "memory": memory}


def _introduce(
    net: Classifier, settings: RunSettings, train: Loader, val: Loader, test: Loader | None, splits: TrainingSplits, device: torch.device
) -> str:
    count = sum(parameter.numel() for parameter in net.parameters())
    held_out = f", held out of {splits.held_out_from}" if splits.held_out_from else ""
    tested = f", {len(test):,} to test" if test else ""
    shape = "x".join(str(n) for n in (settings.preprocessing.channels, settings.preprocessing.size, settings.preprocessing.size))
    return (
        f"{net.name}: {count:,} parameters, images {shape}, {net.num_classes} classes; {len(train):,} pictures to train, "
        f"{len(val):,} to validate{held_out}{tested}; "
        f"{settings.training.epochs:g} passes, {settings.training.batch_size} pictures a step, on {device}"
    )


def _refuse_changes(asked: Wishes, model: str | None, val_fraction: float | None) -> None:
    decided = {"--model": model, "--size": asked.size, "--channels": asked.channels, "--val-fraction": val_fraction}
    for flag, value in decided.items():
        if value is not None:
            raise SettingsError(
                f"{flag} {value}: expected nothing here, the file of --settings decides it; edit the file, or leave --settings out"
            )
