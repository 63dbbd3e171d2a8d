"""All that a run was told, in one file that can be given back to `train`: `settings.toml`."""

import os
import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import tomli_w

from provenet.data.distortion import Distortion
from provenet.errors import SettingsError, is_plain_text, show_path
from provenet.files import write_whole
from provenet.preprocessing import Preprocessing
from provenet.training.settings import TrainingSettings, check_types
from provenet.transfer.settings import CACHED, TransferSettings

LARGEST_BYTES = 2**22  # a mean image may take half of it
SECTIONS_OF_SOME = ("transfer",)
SECTIONS = ("run", "preprocessing", "distortion", "training")


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is trained on what."""

    data: str
    """A built-in name or a folder, as it was given."""
    model: str
    """A name of the catalog."""
    init: str = "trainable"
    """The paper's initialisation, or the one that trains by itself where the paper has none."""
    val_fraction: float = 0.2
    """The part of each class to hold out where the data have no validation pictures."""
    skip_broken: bool = False
    """Whether to go on without pictures that cannot be decoded."""

    def __post_init__(self) -> None:
        if not is_plain_text(self.data):
            raise SettingsError(f"run.data: expected a path of plain text, found {show_path(self.data)!r}; rename the folder")
        if self.init not in ("published", "trainable"):
            raise SettingsError(f"run.init (--init): expected published or trainable, found {self.init!r}")
        if not 0 < self.val_fraction < 1:
            raise SettingsError(f"run.val_fraction (--val-fraction): expected a number above 0 and below 1, found {self.val_fraction}")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Complete: with the same data, the same threads and a processor of the same kind it trains the same weights again."""

    source: Source
    preprocessing: Preprocessing
    distortion: Distortion
    training: TrainingSettings
    transfer: TransferSettings | None = None
    """Of a run that begins with weights."""

    def __post_init__(self) -> None:
        self.distortion.check_with(self.preprocessing)
        if self.distortion.mixes and self.training.loss == "map":
            raise SettingsError(
                f"distortion.mixup and distortion.cutmix: expected 0 with training.loss 'map' ({self.source.model}), found "
                f"{self.distortion.mixup:g} and {self.distortion.cutmix:g}; it has no mixed labels: choose another --augment or --model"
            )
        if self.distortion.mixes and self.transfer and self.transfer.mode == CACHED:
            raise SettingsError(
                "distortion.mixup and distortion.cutmix: expected 0 with transfer.mode 'cached', whose features are of one picture each, "
                f"found {self.distortion.mixup:g} and {self.distortion.cutmix:g}: choose another --augment, or --transfer head"
            )

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """Plain values, by section."""
        return {
            "run": asdict(self.source),
            "preprocessing": self.preprocessing.to_dict(),
            "distortion": self.distortion.to_dict(),
            "training": asdict(self.training),
        } | ({"transfer": self.transfer.to_dict()} if self.transfer else {})

    def to_short_dict(self) -> dict[str, dict[str, Any]]:
        """The same, but of a mean image its fingerprint only: to show settings, and to tell whether they are the same."""
        image, values = self.preprocessing.mean_image, self.to_dict()
        return values | {"preprocessing": values["preprocessing"] | {"mean_image": image.fingerprint()}} if image else values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of `to_dict`, each value checked."""
        for name in SECTIONS:
            if not isinstance(values.get(name), dict):
                raise SettingsError(f"expected a section [{name}], found {'something else' if name in values else 'none'}; add it")
        unknown = [name for name in values if name not in (*SECTIONS, *SECTIONS_OF_SOME)]
        if unknown:
            raise SettingsError(f"expected the sections {', '.join((*SECTIONS, *SECTIONS_OF_SOME))}, found {unknown[0]!r} too; remove it")
        return cls(
            source=Source(**check_types(Source, values["run"], "run")),
            preprocessing=Preprocessing.from_dict(values["preprocessing"]),
            distortion=Distortion(**check_types(Distortion, values["distortion"], "distortion", may_leave_out=True)),
            training=TrainingSettings.from_dict(values["training"]),
            transfer=TransferSettings.from_dict(values["transfer"]) if "transfer" in values else None,
        )


def write_settings(settings: RunSettings, path: Path) -> None:
    """Write the file; it appears whole or not at all."""
    content = "# provenet train --settings THIS_FILE trains the same network again.\n\n" + tomli_w.dumps(settings.to_dict())
    write_whole(path, content.encode())


def read_settings(path: str | os.PathLike[str]) -> RunSettings:
    """Read the file. Raises SettingsError with one line that names it and the setting."""
    values = read_toml(path, "a settings file")
    try:
        return RunSettings.from_dict(values)
    except SettingsError as error:
        raise SettingsError(f"{show_path(path)}: {error}") from error


def read_toml(path: str | os.PathLike[str], what: str) -> dict[str, Any]:
    """The values in a file of TOML that a person gave. Raises SettingsError with one line that names it and says `what` was expected."""
    shown = show_path(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise SettingsError(f"{shown}: expected {what}, found something that is no file; check the path")
        with open(path, "rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise SettingsError(f"{shown}: expected {what} of at most {LARGEST_BYTES:,} bytes, found more; check the path")
        return tomllib.loads(content.decode())
    except OSError as error:
        raise SettingsError(f"{shown}: expected {what}, found nothing readable ({error.strerror}); check the path") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{shown}: expected TOML, found something else ({error}); correct it") from error
