"""The report and the model card of a run, drawn again at each evaluation, so that they can be read while it trains."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from provenet.data.index import ImageSet
from provenet.files import write_whole
from provenet.metrics import Evaluation
from provenet.report.card import render_card
from provenet.report.facts import EvaluatedPart, RunFacts, State
from provenet.report.gallery import gather_pictures
from provenet.report.page import render_report
from provenet.runs.folder import RunFolder
from provenet.training.recorder import read_log
from provenet.weights.bundle import Bundle


class RunPages:
    """`report.html` and `README.md` of a run folder."""

    def __init__(self, folder: RunFolder, bundle: Bundle, data_name: str, images: dict[str, ImageSet]) -> None:
        """`images` are the pictures of each split as they are evaluated."""
        self.folder = folder
        self.bundle = bundle
        self.data_name = data_name
        self.images = images
        self._parts: dict[str, EvaluatedPart] = {}

    def show(self, split: str, evaluation: Evaluation) -> None:
        """From now on the pages tell of this evaluation of that split."""
        if split not in self._parts or self._parts[split].evaluation is not evaluation:  # the best is shown again at the end
            self._parts[split] = EvaluatedPart(split, evaluation, gather_pictures(evaluation, self.images[split]))

    def draw(self, state: State, seconds: float) -> None:
        """Write both, whole or not at all. Raises OSError."""
        self.prepare(state, seconds)()

    def prepare(self, state: State, seconds: float) -> Callable[[], None]:
        """Draw both; -> what writes them. The log and the settings of the run are read from its folder."""
        provenance: dict[str, Any] = self.bundle.provenance
        events = read_log(self.folder.log)
        started = next((event.get("time") for event in events if event["event"] == "start"), None)
        facts = RunFacts(
            title=f"{self.bundle.network.name} on {self.data_name}",
            model=self.bundle.network.name,
            num_parameters=self.bundle.network.num_parameters,
            classes=self.bundle.classes,
            state=state,
            events=events,
            settings=provenance["settings"],
            data=provenance["data"],
            machine=provenance["machine"],
            versions=provenance["versions"],
            started=started if isinstance(started, str) else None,
            finished=None if state == "running" else now(),
            seconds=seconds,
            parts=list(self._parts.values()),
        )
        pages = {self.folder.report: render_report(facts), self.folder.card: render_card(facts)}

        def write() -> None:
            for path, text in pages.items():
                write_whole(path, text.encode("utf-8", "replace"))

        return write


def now() -> str:
    """The time of day, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
