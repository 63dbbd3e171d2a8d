"""What a run writes into its folder as it goes: the log, the best network, snapshots. What cannot be written is told and tried again."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from provenet.errors import BundleError, SettingsError, show_path
from provenet.metrics import Evaluation
from provenet.report.facts import State
from provenet.report.guarded import whole
from provenet.runs.folder import RunFolder
from provenet.runs.pages import RunPages, now
from provenet.runs.settings import RunSettings, write_settings
from provenet.runs.stop import StopRequest
from provenet.runs.watcher import Watcher
from provenet.training.loop import EpochRecord, StepRecord
from provenet.training.optimizers import cycle_end, find_cycle
from provenet.training.recorder import Log
from provenet.training.snapshot import SnapshotFolder, SnapshotKeeper
from provenet.training.state import Snapshot, TrainingState
from provenet.transfer.plan import FrozenWatch
from provenet.weights.bundle import Bundle, save_bundle

QUICK_SECONDS = 0.05
LARGEST_KEEPING_SHARE = 0.1


class RunRecorder:
    """A `training.loop.Recorder` for the folder of a run.

    While the run goes, a full or failing disk costs a line and no work: whatever could not be written is written at the next occasion. Only
    at the end must everything be there.
    """

    def __init__(
        self,
        folder: RunFolder,
        bundle: Bundle,
        settings: RunSettings,
        pages: RunPages,
        *,
        snapshot_seconds: float,
        resumed: Snapshot | None,
        stop: StopRequest,
        watch: FrozenWatch | None = None,
        watcher: Watcher,
    ) -> None:
        self.folder = folder
        self.bundle = bundle
        self.pages = pages
        self.total_epochs = settings.training.epochs
        self.num_cycles = settings.training.cycles
        self.is_one_step = settings.transfer is not None and settings.transfer.at_once
        """Whether the end comes with the first evaluation, and writes everything once."""
        self.stop = stop
        self.watch = watch
        self._pages_trouble = ""
        self._unkept: dict[str, Any] | None = None
        self._keeping = (0.0, 0.0)
        self.watcher = watcher
        kept_step = resumed.facts["step"] if resumed else None
        self.keeper = SnapshotKeeper(
            SnapshotFolder(folder.snapshots), seconds_between=snapshot_seconds, on_trouble=watcher.note, kept_step=kept_step
        )
        facts = resumed.facts if resumed else {"log_bytes": 0}
        waiting = facts.get("log_waiting")
        try:
            folder.remove_unfinished()
            self.keeper.folder.remove_unfinished()
            if not resumed:
                write_settings(settings, folder.settings)
            self.log = Log(
                folder.log,
                watcher.note,
                keep_bytes=whole(facts.get("log_bytes")),
                waiting=waiting if isinstance(waiting, str) else "",
            )
            if resumed and self.log.num_bytes != facts.get("log_bytes"):
                watcher.note(f"{show_path(folder.log)}: expected {facts.get('log_bytes')} bytes, found fewer: its curves will have a gap")
        except OSError as error:
            raise SettingsError(
                f"{show_path(folder.path)}: expected to write into it, found: {error.strerror}; free some space or mend that"
            ) from error
        if resumed:
            here = {name: bundle.provenance[name] for name in ("versions", "machine")}
            self.log.write("resume", time=now(), step=resumed.facts["step"], **here)
        else:
            self.log.write("start", time=now(), **bundle.provenance)

    def on_step(self, record: StepRecord) -> None:
        """To the log and the watcher."""
        self.log.step(record)
        self.watcher.step(record)

    def on_epoch(self, record: EpochRecord) -> None:
        """The network, if it is the best so far and what is frozen is as it was; then the log and the watcher."""
        if self.watch and not self.is_one_step:
            self.watch.check_bits_if_due()
        if record.is_best:
            if not self.is_one_step:
                self.pages.show("val", record.val)
            self._unkept = {"epoch": round(record.epoch, 4), "val": record.val.to_dict()}
            if self._is_worth_keeping():  # before it is told: whoever stops the run now has it
                self.keep_best()
        self.log.epoch(record)
        if not self.is_one_step:
            self.draw_pages("running", record.seconds)
        self.watcher.epoch(record, self.total_epochs)

    def keep_best(self) -> None:
        """Write the best network, whose weights are in place, unless it is written. Raises TrainingError where frozen ones have changed."""
        if self._unkept is None:
            return
        if self.watch:
            self.watch.check_bits()
        try:
            self._keep(self._unkept)
        except BundleError as error:
            self.watcher.note(f"{error}; the run goes on, and its end writes it again")

    def _keep_cycle(self, state: TrainingState) -> None:
        """The network at the end of a cycle, as it is now and not the best; after a resume it is the same again."""
        number = find_cycle(state.step, state.num_steps, self.num_cycles)
        if self.num_cycles == 1 or state.step == 0 or cycle_end(number, state.num_steps, self.num_cycles) != state.step:
            return
        if self.watch:
            self.watch.check_bits()
        provenance = {**self.bundle.provenance, "cycle": {"number": number, "of": self.num_cycles, "epoch": round(state.epoch, 4)}}
        try:
            self.folder.cycles.mkdir(exist_ok=True)
            save_bundle(replace(self.bundle, provenance=provenance), self.folder.cycles / f"{number}.safetensors")
        except (BundleError, OSError) as error:
            self.watcher.note(f"the network of cycle {number} could not be kept: {error}; the run goes on without")

    def _is_worth_keeping(self) -> bool:
        """Not where the end comes next, nor where passes are so short that writing large files would take most of the time."""
        took, kept_at = self._keeping
        return not self.is_one_step and (took < QUICK_SECONDS or time.monotonic() - kept_at >= took / LARGEST_KEEPING_SHARE)

    def between_steps(self, state: TrainingState) -> None:
        """Stop if asked to; else keep the network of a cycle that is over, and take a snapshot if it is time.

        Raises TrainingError where what is frozen could learn in the next step.
        """
        self.stop.check()
        if self.watch:
            self.watch.check()
        self._keep_cycle(state)
        if self.keeper.is_due() and not state.is_over:
            self.keeper.take(lambda: self.capture(state))

    def capture(self, state: TrainingState) -> Snapshot:
        """The state, of which run it is, and how far the log had come."""
        snapshot = state.capture()
        log = {"log_bytes": self.log.num_bytes, "log_waiting": self.log.waiting.decode()}
        return replace(snapshot, facts={**snapshot.facts, **log, "run": self.bundle.provenance})

    def draw_pages(self, state: State, seconds: float) -> None:
        """The report and the model card, as far as the run has come; that they could not be drawn is no reason to stop."""
        try:
            self.pages.draw(state, seconds)
        except Exception as error:
            trouble = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
            if trouble != self._pages_trouble:
                self.watcher.note(f"{show_path(self.folder.report)}: expected to draw it, found: {trouble}; the run goes on without")
            self._pages_trouble = trouble
        else:
            self._pages_trouble = ""

    def end(self, results: dict[str, Evaluation], seconds: float) -> None:
        """Everything is done: write what is left to write, and remove the snapshots, which nobody needs any more.

        Only what is all on the disk is called complete: raises BundleError or SettingsError where the disk has no room for it.
        """
        self.keeper.wait()
        if self.watch:
            self.watch.check_bits()
        with ThreadPoolExecutor(1, thread_name_prefix="bundle") as beside:  # the disk is at work while the pages are drawn
            writing = beside.submit(self._keep_at_last, {split: result.to_dict() for split, result in results.items()})
            for split, result in results.items():
                self.pages.show(split, result)
            try:
                write_pages = self.pages.prepare("ended", seconds)
            except Exception:  # our mistake, which another try would make again
                write_pages = partial(self.draw_pages, "ended", seconds)
            writing.result()
        try:
            write_pages()
        except OSError as error:
            raise SettingsError(
                f"{show_path(self.folder.report)}: expected to write it, found: {error.strerror or error}; free some space"
            ) from error
        self.log.write("end", time=now(), **{split: {"top1": result.top1, "loss": result.loss} for split, result in results.items()})
        if self.log.is_behind:
            raise SettingsError(f"{show_path(self.folder.log)}: expected to write its last lines, found no way to; free some space")
        self.log.flush()
        self.keeper.folder.clear()

    def close(self) -> None:
        """No more events."""
        try:
            self.keeper.wait()
        finally:
            self.log.close()

    def _keep_at_last(self, metrics: dict[str, Any]) -> None:
        try:
            self._keep(metrics)
        except BundleError:  # it needs less room than the older of two snapshots
            self.keeper.folder.keep_newest()
            self._keep(metrics)

    def _keep(self, metrics: dict[str, Any]) -> None:
        started_at = time.monotonic()
        save_bundle(replace(self.bundle, provenance={**self.bundle.provenance, "metrics": metrics}), self.folder.bundle)
        self._keeping, self._unkept = (time.monotonic() - started_at, time.monotonic()), None
