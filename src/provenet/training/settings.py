"""What a training run can be told: one dataclass for defaults, checks, help and the settings file."""

from dataclasses import dataclass, fields
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from provenet.errors import SettingsError, suggest

Loss = Literal["cross_entropy", "map"]
ClassWeights = Literal["none", "balanced"]
Precision = Literal["float32", "bfloat16"]
ADDED_LATER: dict[str, Any] = {"cycles": 1}
"""What files and snapshots from before a setting was there mean by leaving it out."""


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How to train. Inside the loop everything is in steps; here, what people think in."""

    epochs: float
    """Passes over the training pictures."""
    batch_size: int
    """Pictures a step."""
    micro_batches: int = 1
    """Parts a batch is computed in, one after the other, to fit memory; the gradient is the same but for batch norm."""
    peak_learning_rate: float
    """The highest learning rate; it is reached after the warm-up and falls to zero at the end."""
    warmup_fraction: float = 0.2
    """The part of the run in which the learning rate rises from zero."""
    momentum: float = 0.9
    """Of stochastic gradient descent (Nesterov's)."""
    weight_decay: float = 0.0
    """Of weights with two or more dimensions; biases and batch norm have none."""
    label_smoothing: float = 0.0
    """The part of a label's weight that is spread over all classes."""
    loss: Loss = "cross_entropy"
    """`map` is equation 9 of the LeNet-5 paper."""
    class_weights: ClassWeights = "none"
    """`balanced` makes every class count alike in the loss, however few of its pictures there are."""
    precision: Precision = "float32"
    """Of the forward pass; weights are float32 always."""
    cycles: int = 1
    """Times the learning rate rises and falls to zero; the network at the end of each is kept, a member for an ensemble."""
    seed: int = 0
    """Decides the initial weights, the order and the distortions."""

    def __post_init__(self) -> None:
        checks = {
            "epochs": (0 < self.epochs <= 100_000, "a number above 0"),
            "batch_size": (1 <= self.batch_size <= 65_536, "1 to 65536"),
            "micro_batches": (1 <= self.micro_batches <= self.batch_size, f"1 to batch_size ({self.batch_size})"),
            "peak_learning_rate": (0 < self.peak_learning_rate <= 1e4, "a number above 0 and up to 10000"),
            "warmup_fraction": (0 <= self.warmup_fraction < 1, "at least 0 and below 1"),
            "momentum": (0 <= self.momentum < 1, "at least 0 and below 1"),
            "weight_decay": (0 <= self.weight_decay <= 1e3, "0 to 1000"),
            "label_smoothing": (0 <= self.label_smoothing < 1, "at least 0 and below 1"),
            "loss": (self.loss in get_args(Loss), "one of " + ", ".join(get_args(Loss))),
            "class_weights": (self.class_weights in get_args(ClassWeights), "one of " + ", ".join(get_args(ClassWeights))),
            "precision": (self.precision in get_args(Precision), "one of " + ", ".join(get_args(Precision))),
            "cycles": (1 <= self.cycles <= 1_000, "1 to 1000"),
            "seed": (0 <= self.seed < 2**63, "0 or more"),
        }
        for name, (is_right, expected) in checks.items():
            if not is_right:
                flag = "--" + name.removeprefix("peak_").replace("_", "-")
                raise SettingsError(f"training.{name} ({flag}): expected {expected}, found {getattr(self, name)!r}")
        if self.loss == "map" and self.label_smoothing:
            raise SettingsError(
                f"training.label_smoothing: expected 0 with loss 'map', found {self.label_smoothing}; it has no soft labels"
            )
        if self.loss == "map" and self.class_weights != "none":
            raise SettingsError(
                f"training.class_weights (--class-weights): expected none with loss 'map', found {self.class_weights}; leave it out"
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Settings as a file has them; every key must be there and known, and of the right type."""
        return cls(**check_types(cls, ADDED_LATER | values, "training"))


def check_types(kind: type, values: dict[str, Any], section: str, *, may_leave_out: bool = False) -> dict[str, Any]:
    """The values of one section of a settings file, as the dataclass `kind` takes them: lists as tuples, whole numbers as decimals.

    Raises SettingsError for the first that is unknown, missing (unless what is left out has its default) or of another type.
    """
    known = {name: hint for name, hint in get_type_hints(kind).items() if name in {field.name for field in fields(kind)}}
    for name in values:
        if name not in known:
            raise SettingsError(f"{section}.{name}: no such setting; {suggest(name, known)}")
    checked = {}
    for name, hint in known.items():
        if name in values:
            checked[name] = _check_type(hint, values[name], f"{section}.{name}")
        elif not may_leave_out:
            raise SettingsError(f"{section}.{name}: expected a value, found none; add it")
    return checked


def _check_type(hint: Any, value: Any, where: str) -> Any:
    """The value as a field of the type `hint` takes it."""
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if not isinstance(value, list | tuple) or len(value) != len(parts):
            what = "whole numbers" if parts[0] is int else "numbers"
            raise SettingsError(f"{where}: expected a list of {len(parts)} {what}, found {value!r}")
        return tuple(_check_type(part, number, where) for part, number in zip(parts, value, strict=True))
    if type(value) is int and abs(value) >= 2**63:
        raise SettingsError(f"{where}: expected a number of reasonable size, found one of 2^63 or more")
    expected = hint if isinstance(hint, type) else str  # a Literal is checked for its words by the class itself
    accepted = (int, float) if expected is float else expected
    if not isinstance(value, accepted) or (expected is not bool and isinstance(value, bool)):
        what = {float: "a number", int: "a whole number", bool: "true or false"}.get(expected, "a word in quotes")
        raise SettingsError(f"{where}: expected {what}, found {value!r}")
    return float(value) if expected is float else value  # type: ignore[arg-type]  # a number, as was checked
