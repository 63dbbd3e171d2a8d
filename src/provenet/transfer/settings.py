"""How a network that knows something already is taught other classes, as settings."""

from dataclasses import asdict, dataclass
from typing import Any, Self, get_args

from provenet.engines.ways import REFERENCE
from provenet.errors import SettingsError
from provenet.models.heads import LINEAR, hidden_units
from provenet.training.settings import check_types
from provenet.transfer.store import FeatureType

ALL, HEAD, CACHED, FROM, AUTO = "all", "head", "cached", "from:", "auto"
MOST_VIEWS = 1_000
MODES_IN_WORDS = "head, cached, from:STAGE, all or auto"


@dataclass(frozen=True, kw_only=True)
class TransferSettings:
    """Complete: `mode` is decided, and the weights are known by what they hold."""

    weights: str
    """A bundle, a file of weights or the tag of a published set, as it was given."""
    fingerprint: str
    """Of what was read there: a short name for exactly these numbers."""
    mode: str
    """`head` trains a new head only, `cached` the same on features that were computed once, `from:STAGE` that stage and all after it,
    `all` everything."""
    head: str = LINEAR
    """`own`, `linear` or `mlp:UNITS`: see models/heads.py."""
    keeps_head: bool = False
    """Whether the head begins with the weights' own, because the classes are the same."""
    solves_head: bool = False
    """Whether the new head, before it learns in steps, begins as solved on the features of the network as it is, instead of at random."""
    ends_after: str = ""
    """The last stage to keep; empty keeps all but the last, whose place the head takes."""
    at_once: bool = False
    """Whether the head is solved over all features at once, instead of in steps; of `cached` only."""
    views: int = 0
    """Distorted views of each picture whose features are kept beside its own; of `cached` only."""
    feature_type: FeatureType = "float32"
    """Of kept features."""
    engine: str = REFERENCE.engine
    """What runs the frozen part for features that are kept: a name of engines/ways.py, or `auto` before it is decided."""
    precision: str = REFERENCE.precision
    """Of the frozen part's numbers there."""
    depth_rate: float = 1.0
    """The learning rate of each stage over that of the stage after it."""
    batch_norm_epsilon: float = 0.0
    """What the weights' batch norms add to the variance; 0 is what the network is built with."""

    def __post_init__(self) -> None:
        check_mode(self.mode)
        if self.mode == AUTO:
            raise SettingsError(f"transfer.mode: expected a mode that is decided, found {self.mode!r}; name one")
        if self.head != "own":
            hidden_units(self.head)
        is_plain = (self.at_once, self.views, self.feature_type, self.engine) == (False, 0, "float32", REFERENCE.engine)
        if self.mode != CACHED and not is_plain:
            raise SettingsError(
                f"transfer: expected none of at_once, --views, --feature-type and --engine with mode {self.mode!r}: they are of 'cached'"
            )
        if self.solves_head and (self.at_once or self.keeps_head):
            raise SettingsError("transfer.solves_head: expected false with at_once, and with a head that is kept, found true")
        if not 0 <= self.views <= MOST_VIEWS:
            raise SettingsError(f"transfer.views (--views): expected 0 to {MOST_VIEWS}, found {self.views}")
        if self.feature_type not in get_args(FeatureType):
            raise SettingsError(f"transfer.feature_type (--feature-type): expected float32 or float16, found {self.feature_type!r}")
        if self.precision == "int8":
            raise SettingsError("--precision int8: expected float32 or bfloat16 for features: int8 is judged by labels, and they have none")
        if not 0 < self.depth_rate <= 1:
            raise SettingsError(f"transfer.depth_rate (--depth-rate): expected above 0 and at most 1, found {self.depth_rate}")

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Settings as a file has them; every key must be there and known, and of the right type."""
        if not isinstance(values, dict):
            raise SettingsError("expected a section [transfer], found something else; correct it")
        return cls(**check_types(cls, values, "transfer"))

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def check_mode(mode: str) -> None:
    """Raise SettingsError for words that are no way of transfer; whether a stage is there only its network knows."""
    if mode not in (ALL, HEAD, CACHED, AUTO) and not (mode.startswith(FROM) and mode != FROM):
        raise SettingsError(f"transfer.mode (--transfer): expected {MODES_IN_WORDS}, found {mode!r}")
