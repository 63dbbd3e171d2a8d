"""What is found when ways are tried: each by itself, and all beside one another."""

from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any

from provenet.engines.ways import AUTO, LARGEST_ERROR, LEAST_AGREEMENT, REFERENCE, Way

FORMAT_VERSION = 2
"""1 did not say how many images a thread takes at a time."""


@dataclass(frozen=True)
class Trial:
    """What was found of one way."""

    way: Way
    seconds: tuple[float, ...] = ()
    """Of a batch, in each turn."""
    start_seconds: float = 0.0
    """To convert and compile the network, and its first batch."""
    error: float | None = None
    """Of its answers, as a part of the length of the reference's."""
    agreement: float | None = None
    """Of int8: the part of the pictures it was not fitted to that get the label of the reference."""
    agreement_of: int = 0
    is_absent: bool = False
    """Whether it was not tried, because something is not there."""
    why_not: str = ""
    """Why it is not to be used, if so."""
    has_died: bool = False
    """Whether it took the process with it, or hung, which another time it may not."""

    @property
    def is_right(self) -> bool:
        """Whether it may be used."""
        return not self.why_not

    @property
    def has_failed(self) -> bool:
        """Whether it was tried and did not start."""
        return bool(self.why_not) and self.error is None and not self.is_absent

    @property
    def usual_seconds(self) -> float:
        """Of a batch."""
        return median(self.seconds)

    @property
    def agreement_in_words(self) -> str:
        """Nothing where labels were not compared."""
        return f"{self.agreement:.1%} of {self.agreement_of} pictures get the same label" if self.agreement is not None else ""

    def judged(self) -> "Trial":
        """The same, with the reason where its answers are too far off."""
        if self.why_not or self.error is None:
            return self
        largest = LARGEST_ERROR[self.way.precision]
        if not self.error <= largest:
            return replace(self, why_not=f"its answers differ by {self.error:.1e} of their length, more than {largest:g}")
        if self.way.precision == "int8" and not (self.agreement is not None and self.agreement >= LEAST_AGREEMENT):
            return replace(self, why_not=f"{self.agreement_in_words or 'no labels were compared'}, less than {LEAST_AGREEMENT:.0%}")
        return self


@dataclass(frozen=True)
class Probe:
    """What was found of all ways that were tried, for one network and shape on one machine."""

    shape: tuple[int, ...]
    trials: tuple[Trial, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    """What all this depends on."""

    def ranking(self, num_batches: float = float("inf")) -> list[Trial]:
        """Those that are right, the soonest done first with so many batches, their start included."""
        right = [trial for trial in self.trials if trial.is_right and trial.seconds]
        if num_batches == float("inf"):
            return sorted(right, key=lambda trial: trial.usual_seconds)
        return sorted(right, key=lambda trial: trial.usual_seconds * num_batches + (trial.way != REFERENCE) * trial.start_seconds)

    @property
    def chosen(self) -> Trial:
        """What is used where nothing is asked for and the work is long."""
        return next(trial for trial in self.ranking() if AUTO.allows(trial.way))

    def gain(self, way: Way) -> float:
        """How many times as fast as the reference."""
        seconds = {trial.way: trial.usual_seconds for trial in self.trials if trial.seconds}
        return seconds[REFERENCE] / seconds[way]

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        trials = [{**asdict(trial), "way": list(trial.way), "seconds": list(trial.seconds)} for trial in self.trials]
        return {"format_version": FORMAT_VERSION, "shape": list(self.shape), "facts": self.facts, "trials": trials}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Probe":
        """From plain values. Raises whatever is wrong with them."""
        trials = tuple(
            Trial(**{**each, "way": Way(*each["way"]), "seconds": tuple(map(float, each["seconds"]))}) for each in values["trials"]
        )
        return cls(tuple(values["shape"]), trials, dict(values["facts"]))
