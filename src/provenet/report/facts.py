"""What a report tells: the facts of a run or of an evaluation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from provenet.metrics import Evaluation
from provenet.report.compared import Compared
from provenet.report.gallery import Gallery

State = Literal["running", "ended", "stopped", "evaluated"]


@dataclass(frozen=True)
class EvaluatedPart:
    """How the network did on one part of the data: `test`, `val`, `train` or `all`."""

    split: str
    evaluation: Evaluation
    gallery: Gallery = field(default_factory=Gallery)
    num_trained_on: int = 0
    """So many of these pictures the network was trained on; then they are no measure of what it does with new ones."""


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """Everything the report and the model card say. Tables may come from files of strangers; what is not as expected is left out."""

    title: str
    model: str
    """A name of the catalog."""
    num_parameters: int
    classes: Sequence[str]
    state: State
    events: Sequence[Mapping[str, Any]] = ()
    """The lines of log.jsonl."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """By section, as in settings.toml."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """`images` {split: count}, `classes` {split: {class: count}}, `fingerprints` {split: word}, `held_out_from`."""
    trained_on: Mapping[str, Any] = field(default_factory=dict)
    """The same of the data of its training, where `data` are others."""
    machine: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    started: str | None = None
    """ISO 8601, as is `finished`."""
    finished: str | None = None
    seconds: float | None = None
    parts: Sequence[EvaluatedPart] = ()
    views: str = "center"
    """What the network was shown of each picture, a name of evaluation/views.py."""
    compared: Compared | None = None
    """The same network in several views, `views` the first of them."""
    temperature: float = 1.0
    """Of the bundle: what its logits were divided by."""

    @property
    def ordered_parts(self) -> list[EvaluatedPart]:
        """The test pictures first: they chose nothing, so they tell the truth."""
        return sorted(self.parts, key=lambda part: part.split != "test")
