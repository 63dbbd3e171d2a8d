"""A whole run: data -> index -> squares -> network -> loop -> bundle, and the folder it leaves behind."""

import contextlib
import dataclasses
import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from provenet.data.decode import show_path
from provenet.data.index import ImageSet, TrainingSplits, divide
from provenet.data.loader import Loader
from provenet.data.sources import open_data
from provenet.data.squares import Squares, open_squares
from provenet.errors import DataError, SettingsError
from provenet.evaluation.evaluate import BATCH_SIZE, evaluate
from provenet.metrics import Evaluation
from provenet.models.catalog import build_network
from provenet.models.classifier import Classifier
from provenet.preprocessing import Preprocessing
from provenet.runs.plan import Wishes, choose_model, make_settings, override
from provenet.runs.settings import RunSettings, Source, read_settings, write_settings
from provenet.runs.watcher import Silent, Watcher
from provenet.runtime import choose_device, count_cores, place, seeded
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
    `wishes` are the fields of `runs.plan.Wishes`: epochs, batch_size, learning_rate, seed and so on. `settings_file` repeats an
    earlier run, except for what else is given. The test pictures, where there are any, are looked at once, at the end.
    """
    watcher = watcher or Silent()
    asked = Wishes(**wishes)
    chosen_device = choose_device(device)
    if settings_file is not None:
        settings = override(read_settings(settings_file), asked)
        _refuse_changes(asked, model, val_fraction)
        source = dataclasses.replace(settings.source, data=os.fspath(data) if data is not None else settings.source.data)
        settings = dataclasses.replace(settings, source=dataclasses.replace(source, skip_broken=source.skip_broken or skip_broken))
        data_set = open_data(settings.source.data, watcher.progress)
        splits = divide(data_set, val_fraction=settings.source.val_fraction, seed=0)
    else:
        if data is None:
            raise SettingsError("expected DATA (a folder of class folders, or fashion-mini) or --settings FILE, found neither")
        data_set = open_data(data, watcher.progress)
        fraction = val_fraction if val_fraction is not None else Source.val_fraction
        source = Source(data=os.fspath(data), model=model or "", val_fraction=fraction, skip_broken=skip_broken)
        splits = divide(data_set, val_fraction=fraction, seed=0)
        source = dataclasses.replace(source, model=model or choose_model(splits.train))
        settings = make_settings(source, splits.train, asked, can_mirror=data_set.can_mirror)

    net = build(settings, num_classes=len(splits.train.classes))
    folder = make_run_folder(output, data_set.name, settings.source.model)
    try:
        for note in data_set.notes:
            watcher.note(note)
        return _train_in(folder, net, settings, splits, chosen_device, watcher)
    finally:
        with contextlib.suppress(OSError):
            folder.rmdir()  # it is empty, and so goes, only if the run never began


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


def make_run_folder(output: str | os.PathLike[str] | None, data_name: str, model: str) -> Path:
    """A new folder: `output`, else `runs/DATA-MODEL` with the first free number."""
    plain = re.sub(r"[^\w.-]+", "-", data_name).strip("-.") or "data"
    try:
        if output is not None:
            folder = Path(output)
            if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                raise SettingsError(f"{show_path(folder)}: expected a new or empty folder, found one in use; choose another --output")
            folder.mkdir(parents=True, exist_ok=True)
            return folder
        for number in range(1, 10_000):
            folder = Path("runs") / (f"{plain}-{model}" + (f"-{number}" if number > 1 else ""))
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise SettingsError(f"{show_path(folder)}: expected to make a run folder, found: {error.strerror}; choose another --output") from error
    raise SettingsError("runs: expected a free name, found 9,999 runs of this network on these data; choose an --output")


def open_sound_squares(
    images: ImageSet, preprocessing: Preprocessing, *, skip_broken: bool, watcher: Watcher
) -> tuple[Squares, ImageSet]:
    """The squares of all pictures that can be decoded, and those pictures. Broken ones are an error, or are left out and counted if asked."""
    squares, broken = open_squares(images.pictures, preprocessing, num_threads=count_cores(), progress=watcher.progress)
    if not broken:
        return squares, images
    first = next(iter(broken.values()))
    more = f" (and {len(broken) - 1} more like it)" if len(broken) > 1 else ""
    if not skip_broken:
        raise DataError(f"{first}{more}; or go on without with --skip-broken")
    sound = np.array([index for index in range(len(images)) if index not in broken], dtype=np.int64)
    lost = [name for name, count in images.select(sound).counts().items() if not count and images.counts()[name]]
    if lost or not len(sound):
        raise DataError(f"{images.name}: expected a picture that can be decoded in class {lost[0]!r}, found none; first: {first}")
    for error in broken.values():
        watcher.note(f"skipped: {error}")
    watcher.note(f"{images.name}: skipped {len(broken)} broken of {len(images)} pictures")
    kept = images.select(sound)
    return open_squares(kept.pictures, preprocessing, num_threads=count_cores(), progress=watcher.progress)[0], kept


def _train_in(
    folder: Path, net: Classifier, settings: RunSettings, splits: TrainingSplits, device: torch.device, watcher: Watcher
) -> Run:
    training, classes = settings.training, splits.train.classes
    place(net, device)

    def load(images: ImageSet, batch_size: int) -> Loader:
        squares, sound = open_sound_squares(images, settings.preprocessing, skip_broken=settings.source.skip_broken, watcher=watcher)
        return Loader(squares, sound.labels, settings.preprocessing, batch_size=batch_size, device=device)

    train_loader, val_loader = load(splits.train, training.batch_size), load(splits.val, BATCH_SIZE)
    test_loader = load(splits.test, BATCH_SIZE) if splits.test else None
    provenance: dict[str, Any] = {
        "settings": settings.to_dict(),
        "data": _describe(splits, train_loader, val_loader, test_loader),
        "versions": {"provenet": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": {"device": str(device), "threads": torch.get_num_threads()},
    }
    write_settings(settings, folder / "settings.toml")
    log = Log(folder / "log.jsonl")
    log.write("start", **provenance)
    watcher.note(_introduce(net, settings, train_loader, val_loader, test_loader, splits, device))

    def keep(metrics: dict[str, Any]) -> None:
        bundle = Bundle(net, classes, settings.preprocessing, {**provenance, "metrics": metrics})
        save_bundle(bundle, folder / "model.safetensors")

    class Recording:
        def on_step(self, record: StepRecord) -> None:
            log.step(record)
            watcher.step(record)

        def on_epoch(self, record: EpochRecord) -> None:
            if record.is_best:  # kept before it is told: whoever stops the run now has it
                keep({"epoch": round(record.epoch, 4), "val": record.val.to_dict()})
            log.epoch(record)
            watcher.epoch(record, training.epochs)

    try:
        num_images = len(train_loader)
        batches = train_loader.training_batches(0, count_steps(training, num_images), seed=training.seed, distortion=settings.distortion)
        val = fit(
            net,
            batches,
            training,
            num_images=num_images,
            evaluate=lambda: evaluate(net, val_loader.evaluation_batches(), classes),
            recorder=Recording(),
        )
        test = evaluate(net, test_loader.evaluation_batches(), classes) if test_loader else None
        metrics = {"val": val.to_dict()} | ({"test": test.to_dict()} if test else {})
        keep(metrics)
        log.write("end", **{split: {"top1": scores["top1"], "loss": scores["loss"]} for split, scores in metrics.items()})
    finally:
        log.close()
    return Run(folder, settings, val, test)


def _describe(splits: TrainingSplits, train: Loader, val: Loader, test: Loader | None) -> dict[str, Any]:
    """The data as the bundle remembers them: enough to know them again, and which pictures validated."""
    images = {"train": len(train), "val": len(val)} | ({"test": len(test)} if test else {})
    fingerprints = {"train": splits.train.fingerprint(), "val": splits.val.fingerprint()}
    if splits.test:
        fingerprints["test"] = splits.test.fingerprint()
    return {"images": images, "fingerprints": fingerprints, "held_out_from": splits.held_out_from}


def _introduce(
    net: Classifier, settings: RunSettings, train: Loader, val: Loader, test: Loader | None, splits: TrainingSplits, device: torch.device
) -> str:
    count = sum(parameter.numel() for parameter in net.parameters())
    held_out = f", held out of {splits.held_out_from}" if splits.held_out_from else ""
    tested = f", {len(test):,} to test" if test else ""
    shape = "x".join(str(n) for n in (settings.preprocessing.channels, settings.preprocessing.size, settings.preprocessing.size))
    return (
        f"{net.name}: {count:,} parameters, images {shape}, {net.num_classes} classes; {len(train):,} pictures to train, "
        f"{len(val):,} to validate{held_out}{tested}; {settings.training.epochs:g} epochs of {settings.training.batch_size} a step on {device}"
    )


def _refuse_changes(asked: Wishes, model: str | None, val_fraction: float | None) -> None:
    decided = {"--model": model, "--size": asked.size, "--channels": asked.channels, "--val-fraction": val_fraction}
    for flag, value in decided.items():
        if value is not None:
            raise SettingsError(f"{flag} {value}: expected nothing here, the file of --settings decides it; edit the file, or leave --settings out")
