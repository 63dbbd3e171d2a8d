"""One sitting of a run in its folder, from the first step or from a snapshot: data -> loaders -> loop -> bundle."""

import contextlib
import math
import platform
import shlex
import signal
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from provenet.data.holdout import TrainingSplits
from provenet.data.index import ImageSet
from provenet.data.loader import Loader
from provenet.errors import ModelError, ProvenetError, SettingsError, TrainingError, show_path
from provenet.evaluation.evaluate import BATCH_SIZE, evaluate
from provenet.metrics import Evaluation
from provenet.models.catalog import build_network
from provenet.models.classifier import Classifier
from provenet.runs.cached import begin_solved, describe_choice, open_features, solve_step
from provenet.runs.folder import RunFolder
from provenet.runs.honesty import class_weights_of, tell_uncertainty
from provenet.runs.pages import RunPages
from provenet.runs.pictures import open_sound_squares
from provenet.runs.recorder import RunRecorder
from provenet.runs.settings import RunSettings
from provenet.runs.start import build_from, plan_of
from provenet.runs.stop import Stopped, StopRequest
from provenet.runs.watcher import Watcher, follow
from provenet.runtime import describe_machine, one_thread, place, seeded
from provenet.training.loop import fit
from provenet.training.state import Snapshot, TrainingState
from provenet.transfer.batches import FeatureLoader
from provenet.transfer.parts import HeadPart
from provenet.transfer.plan import FrozenWatch
from provenet.transfer.settings import CACHED
from provenet.version import __version__
from provenet.weights.bundle import Bundle

SNAPSHOT_SECONDS = 60.0


def check_seconds(snapshot_seconds: float) -> None:
    """Raise SettingsError for what is no time between two snapshots."""
    if not 0 <= snapshot_seconds < math.inf:
        raise SettingsError(f"--snapshot-seconds: expected a number of seconds, 0 or more, found {snapshot_seconds}")


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

    @property
    def cycle_paths(self) -> list[Path]:
        """The networks that were kept at the end of each cycle, in their order."""
        paths = [self.folder / "cycles" / f"{number}.safetensors" for number in range(1, self.settings.training.cycles + 1)]
        return [path for path in paths if path.exists()]


def build(settings: RunSettings, num_classes: int, weights: Bundle | None = None) -> Classifier:
    """The network of a run as it begins: what is fresh in it is decided by the seed alone.

    Of a transfer without its weights it has the form only, for a snapshot to fill.
    """
    if settings.transfer:
        return build_from(settings, num_classes, weights)
    with seeded(settings.training.seed):
        net = build_network(
            settings.source.model,
            num_classes=num_classes,
            in_channels=settings.preprocessing.channels,
            init=settings.source.init,  # type: ignore[arg-type]  # checked there
        )
    net.input_spec = net.input_spec.with_preprocessing(settings.preprocessing)
    return net


class Split(NamedTuple):
    """Pictures that can be decoded, and their loader."""

    images: ImageSet
    loader: Loader | FeatureLoader


def open_splits(settings: RunSettings, net: Classifier, splits: TrainingSplits, device: torch.device, watcher: Watcher) -> dict[str, Split]:
    """Read the pictures of `train`, `val` and, where there is one, `test`, or their features; a broken picture is an error, or left out."""
    if settings.transfer and settings.transfer.mode == CACHED:
        net.to(device)
        return {name: Split(*split) for name, split in open_features(settings, net, splits, device, watcher).items()}
    opened = {}
    for name, images in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
        if images is not None:
            squares, sound = open_sound_squares(
                images,
                settings.preprocessing,
                skip_broken=settings.source.skip_broken,
                training=settings.distortion if name == "train" else None,
                watcher=watcher,
            )
            batch_size = settings.training.batch_size if name == "train" else BATCH_SIZE
            opened[name] = Split(
                sound,
                Loader(
                    squares,
                    sound.labels,
                    settings.preprocessing,
                    batch_size=batch_size,
                    device=device,
                    seed=settings.training.seed,
                    distortion=settings.distortion,
                    num_classes=len(sound.classes),
                ),
            )
    return opened


def describe(settings: RunSettings, division: TrainingSplits, splits: dict[str, Split], device: torch.device) -> dict[str, Any]:
    """What a run is, in plain values: for the log, the bundle, and for knowing it again."""
    data = {
        "images": {name: len(split.images) for name, split in splits.items()},
        "classes": {name: split.images.counts() for name, split in splits.items()},
        "fingerprints": {name: split.images.fingerprint() for name, split in splits.items()},
        "contents": {name: split.loader.fingerprint() for name, split in splits.items()},
        "held_out_from": division.held_out_from,
        "memory": division.memory.to_dict() if division.memory else None,
    }
    return {
        "settings": settings.to_short_dict(),
        "data": data,
        "versions": {"provenet": __version__, "torch": torch.__version__, "python": platform.python_version()},
        "machine": describe_machine(device),
    }


def carry_out(
    folder: RunFolder,
    net: Classifier,
    settings: RunSettings,
    data_name: str,
    splits: dict[str, Split],
    device: torch.device,
    *,
    provenance: dict[str, Any],
    snapshot: Snapshot | None,
    snapshot_seconds: float,
    watcher: Watcher,
) -> Run:
    """Train from the first step, or from `snapshot`, to the end.

    Stopped by a signal or by data that went away, it keeps the state of the last step, and its error says how to go on.
    """
    training, classes = settings.training, splits["train"].images.classes
    plan = plan_of(settings, net)
    loader, is_cached = splits["train"].loader, isinstance(splits["train"].loader, FeatureLoader)
    if not is_cached:  # else it was placed where it had pictures to look at
        place(net, device)
    learner = HeadPart(net) if is_cached else net
    at_once = settings.transfer is not None and settings.transfer.at_once
    if settings.transfer and settings.transfer.solves_head and snapshot is None:
        found = begin_solved(net, settings, splits["train"].images, loader, device, watcher)
        provenance = provenance | describe_choice(found)
    with seeded(training.seed), StopRequest() as stop:
        num_images = len(splits["train"].images) * (len(loader.rows) if at_once and isinstance(loader, FeatureLoader) else 1)
        state = TrainingState(learner, training, num_images=num_images, rates=plan.rates if plan and not is_cached else None)
        if snapshot:
            state.restore(snapshot)
        watch = None
        if plan:
            watch = FrozenWatch(net, plan, provenance.get("transfer"))
            provenance = provenance | {"transfer": watch.facts}
        bundle = Bundle(net, classes, settings.preprocessing, provenance)
        recorder = RunRecorder(
            folder,
            bundle,
            settings,
            RunPages(folder, bundle, data_name, {name: split.images for name, split in splits.items()}),
            snapshot_seconds=snapshot_seconds,
            resumed=snapshot,
            stop=stop,
            watch=watch,
            watcher=watcher,
        )
        if at_once and isinstance(loader, FeatureLoader):
            batches = (batch for batch in [loader.everything()])
        else:
            batches = loader.training_batches(state.step, state.num_steps)

        def evaluate_on(split: str, what: str) -> Evaluation:
            loader = splits[split].loader
            with one_thread() if is_cached else contextlib.nullcontext():  # a head is too little work to share
                return evaluate(learner, follow(stop.between(loader.evaluation_batches()), what, len(loader), watcher), classes)

        with contextlib.closing(recorder), contextlib.closing(batches):
            try:
                watcher.note(_introduce(net, settings, provenance["data"], device))
                for line in str(plan).splitlines() if plan else ():
                    watcher.note(line)
                if net.cure and not snapshot:
                    watcher.note(f"{net.name} begins with {net.cure} (--init published for that)")
                if snapshot:
                    watcher.note(f"{show_path(folder.path)}: goes on after step {state.step} of {state.num_steps}")
                if not at_once:
                    watcher.note(f"to look at meanwhile: {show_path(folder.report)}")
                if state.best:
                    recorder.pages.show("val", state.best.evaluation)
                if not at_once:
                    recorder.draw_pages("running", state.seconds)
                weights = class_weights_of(settings, splits["train"].images, watcher)
                weights = weights if weights is None else weights.to(device)
                val = fit(
                    state,
                    batches,
                    training,
                    evaluate=lambda: evaluate_on("val", "validating"),
                    recorder=recorder,
                    class_weights=weights,
                    take_step=partial(solve_step, settings=settings, loader=loader, class_weights=weights)
                    if at_once and isinstance(loader, FeatureLoader)
                    else None,
                )
                _tell_replaced(splits["train"], watcher)
                test = evaluate_on("test", "testing") if "test" in splits else None
                tell_uncertainty(val, watcher)
                recorder.end({"val": val} | ({"test": test} if test else {}), state.seconds)
            except (TrainingError, ModelError) as error:  # its weights lead nowhere: those before are worth more than a snapshot of these
                with contextlib.suppress(TrainingError):  # of what is frozen, if that is the error
                    if state.best:
                        learner.load_state_dict(state.best.tensors)
                        recorder.keep_best()
                recorder.draw_pages("stopped", state.seconds)
                kept = "keeps the best network before that" if folder.bundle.exists() else "has no network yet"
                error.args = (f"{error}; {show_path(folder.path)} {kept}",)
                raise
            except KeyboardInterrupt as error:
                number = error.signal_number if isinstance(error, Stopped) else signal.SIGINT
                raise Stopped(f"stopped after step {state.step} of {state.num_steps}; {_keep(state, recorder)}", number) from None
            except ProvenetError as error:
                error.args = (f"{error}; {_keep(state, recorder)}",)
                raise
            except BaseException as error:  # the memory is full, a watcher or we made a mistake: no reason to lose anything
                error.add_note(_keep(state, recorder))
                raise
    return Run(folder.path, settings, val, test)


def _tell_replaced(train: Split, watcher: Watcher) -> None:
    """Name and count the pictures that could not be decoded when they were met, each of which gave its turn to another."""
    broken = train.loader.broken
    for number in sorted(broken):
        watcher.note(f"skipped: {broken[number]}")
    if broken:
        watcher.note(f"{train.images.name}: skipped {len(broken)} broken of {len(train.images)} pictures")


def _keep(state: TrainingState, recorder: RunRecorder) -> str:
    """Take a snapshot of a state that is whole; -> what is kept and how to go on."""
    folder, keeper = shlex.quote(show_path(recorder.folder.path)), recorder.keeper
    keeper.wait()
    is_kept = state.is_whole and keeper.take_now(lambda: recorder.capture(state))
    recorder.draw_pages("stopped", state.seconds)
    if is_kept:
        return f"all of it is kept; go on: provenet resume {folder}"
    if keeper.kept_step is not None:
        return f"kept up to step {keeper.kept_step}; go on from there: provenet resume {folder}"
    return f"no snapshot could be kept; begin again: provenet resume {folder}"


def _introduce(net: Classifier, settings: RunSettings, data: dict[str, Any], device: torch.device) -> str:
    images = data["images"]
    held_out = f", held out of {data['held_out_from']}" if data["held_out_from"] else ""
    tested = f", {images['test']:,} to test" if "test" in images else ""
    shape = "x".join(str(n) for n in (settings.preprocessing.channels, settings.preprocessing.size, settings.preprocessing.size))
    return (
        f"{net.title}: {net.num_parameters:,} parameters, images {shape}, {net.num_classes} classes; "
        f"{images['train']:,} pictures to train, {images['val']:,} to validate{held_out}{tested}; "
        f"{settings.training.epochs:g} passes, {settings.training.batch_size} pictures a step, on {device}"
    )
