"""Weights from elsewhere -> a bundle of ours, with a report of what was recognised, rewritten and left out."""

import hashlib
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from provenet.errors import SettingsError, WeightsError, is_plain_text, printable, show_path, suggest
from provenet.models.blocks import ResponseNorm
from provenet.models.catalog import build_network
from provenet.models.classifier import Classifier
from provenet.preprocessing import PREPROCESSINGS, Preprocessing
from provenet.progress import Progress
from provenet.version import __version__
from provenet.weights.bundle import Bundle, is_bundle, load_bundle
from provenet.weights.foreign import ForeignFile
from provenet.weights.formats.opening import open_foreign
from provenet.weights.found import Found, signature
from provenet.weights.imagenet import imagenet_classes
from provenet.weights.placing import place
from provenet.weights.recognise import recognise
from provenet.weights.sources import WeightSet, set_of_file

IMAGENET_CLASSES = 1000
LARGEST_CLASS_FILE_BYTES = 2**22


@dataclass(frozen=True)
class ImportReport:
    """What `import_weights` found and did."""

    file: str
    format: str
    dialect: str
    network: str
    why: str
    """Why this network."""
    also_fit: tuple[str, ...]
    """Other networks that fit as well; `as_` would name one."""
    tag: str | None
    """Of the published set that the file is."""
    preprocessing: str
    """Which, and why."""
    classes: str
    """Whose names the classes have."""
    notes: tuple[str, ...]
    """What was rewritten on the way."""
    left_out: tuple[str, ...]
    """What the file holds besides."""
    fresh: tuple[str, ...]
    """Parameters of ours that the file lacks, drawn anew."""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.network}: {self.why} ({self.format})"]
        if self.also_fit:
            lines.append(f"also fits {', '.join(self.also_fit)}: --as names another")
        lines.append(f"preprocessing: {self.preprocessing}")
        lines.append(f"classes: {self.classes}")
        lines += self.notes
        if left := tuple(name for name in self.left_out if not name.endswith("num_batches_tracked")):
            lines.append(f"left out: {_some(left)}")
        if self.fresh:
            lines.append(f"not in the file, drawn anew: {_some(self.fresh)}")
        return "\n".join(printable(line) for line in lines)


def import_weights(
    path: str | os.PathLike[str],
    as_: str | None = None,
    *,
    without: Sequence[str] = (),
    preprocessing: str | Preprocessing | None = None,
    classes: Sequence[str] | str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> tuple[Bundle, ImportReport]:
    """Read a file of weights of torchvision, timm, Keras, the ONNX model zoo, Caffe or the authors, as a bundle with its network.

    The network is recognised; `as_` names it. `without` are patterns of names, on either side, that may be left over. `preprocessing` is
    one of `PREPROCESSINGS` or a whole one, else that of the published set or of its library. `classes` are names, or a file of one a line;
    else ImageNet's for a thousand. Raises WeightsError with one line for a file that cannot be used, ModelError for an unknown network.
    """
    path = Path(path)
    if is_bundle(path):
        return _of_a_bundle(path, as_)
    file = open_foreign(path)
    found = recognise(file, as_, without)
    net = found.net
    digest = _sha256(path, progress)
    known = set_of_file(path.name, digest)
    if known is not None and signature(known.network) != signature(net.name):
        known = None
    notes = _fill(net, found, file, progress)
    rule, reason = _preprocessing(preprocessing, found, file, known)
    names, whose = _classes(classes, net.num_classes)
    net.input_spec = net.input_spec.with_preprocessing(rule)
    net.cure = None
    net.eval()
    report = ImportReport(
        file=show_path(path),
        format=file.format,
        dialect=found.dialect,
        network=net.name,
        why=found.why,
        also_fit=found.also_fit,
        tag=known.tag if known else None,
        preprocessing=reason,
        classes=whose,
        notes=tuple(notes),
        left_out=found.dropped + found.theirs_left,
        fresh=found.ours_left,
    )
    source = {"file": printable(path.name), "sha256": digest, "format": file.format, "dialect": found.dialect, "tag": report.tag}
    provenance = {"imported": source | {"notes": list(report.notes), "version": __version__}}
    return Bundle(net, names, rule, provenance), report


def _of_a_bundle(path: Path, as_: str | None) -> tuple[Bundle, ImportReport]:
    bundle = load_bundle(path)
    if as_ not in (None, bundle.network.name):
        raise WeightsError(f"{show_path(path)}: expected weights of {as_}, found a bundle of {bundle.network.name}; leave --as out")
    report = ImportReport(
        file=show_path(path),
        format="bundle",
        dialect="provenet",
        network=bundle.network.name,
        why="it is a bundle, which says so",
        also_fit=(),
        tag=None,
        preprocessing="the bundle's own",
        classes="the bundle's own",
        notes=(),
        left_out=(),
        fresh=(),
    )
    return bundle, report


def _fill(net: Classifier, found: Found, file: ForeignFile, progress: Progress | None) -> list[str]:
    """Put the file's numbers into the network, which gets memory by that; what was rewritten."""
    shape = {"num_classes": net.num_classes, "in_channels": net.input_spec.channels}
    fresh = dict(build_network(net.name, **shape, init="trainable").state_dict()) if found.ours_left else {}
    if found.dialect == "provenet":
        notes: list[str] = []
        assert found.naming
        state = {
            f"{path}.{leaf}": torch.from_numpy(file.tensors[found.prefix + place.name].read())
            for path, leaves in found.naming.layers.items()
            for leaf, place in leaves.items()
            if found.prefix + place.name in file.tensors
        }
        if bad := next((name for name, tensor in state.items() if not torch.isfinite(tensor).all()), None):
            raise WeightsError(f"{show_path(file.path)}: tensor {bad} holds values that are no numbers; get another file")
        for name, module in net.named_modules():
            if isinstance(module, nn.BatchNorm2d):
                state[f"{name}.num_batches_tracked"] = torch.zeros((), dtype=torch.int64)
        net.load_state_dict(state, strict=False, assign=True)
    else:
        try:
            notes = list(place(net, found.layers(file, progress)))
        except WeightsError as error:
            raise WeightsError(f"{show_path(file.path)}: {error}") from error
    kinds = sorted({tensor.dtype for tensor in file.tensors.values()} & {"float16", "bfloat16", "float64"})
    if kinds:
        notes.append(f"{' and '.join(kinds)} became float32")
    still_empty = {name: fresh[name] for name, tensor in net.state_dict().items() if tensor.is_meta and name in fresh}
    net.load_state_dict(still_empty, strict=False, assign=True)
    if empty := [name for name, tensor in net.state_dict().items() if tensor.is_meta]:
        raise WeightsError(f"{show_path(file.path)}: expected weights for all of {net.name}, found none for {_some(tuple(empty))}")
    return notes


def _preprocessing(
    chosen: str | Preprocessing | None, found: Found, file: ForeignFile, known: WeightSet | None
) -> tuple[Preprocessing, str]:
    """What the network sees of a picture, and why."""
    spec = found.net.input_spec
    size = file.graph.input_shape[1] if file.graph and file.graph.input_shape else spec.size
    if isinstance(chosen, Preprocessing):
        return chosen, "as given"
    if chosen is not None and chosen not in PREPROCESSINGS:
        raise SettingsError(f"preprocessing: expected {', '.join(PREPROCESSINGS)}, found {chosen!r}; {suggest(chosen, PREPROCESSINGS)}")
    if chosen is None and known is not None and known.preprocessing is not None:
        return known.preprocessing, f"as published with {known.tag}"
    if chosen is None and found.dialect == "provenet":
        return spec.preprocessing, "the network's own"
    name = chosen or _usual(found, file)
    rule = PREPROCESSINGS[name].with_channels(spec.channels)
    rule = replace(rule, size=size, resize=max(256, size) if size >= 192 else size)
    if chosen is None and name == "caffe":
        said, what = _as_the_file_says(rule, file.metadata)
        if what:
            return said, f"caffe, with {what}"
    return rule, f"{name}, {'as asked for' if chosen else f'which is usual for {found.dialect.split()[0]}'}"


def _as_the_file_says(rule: Preprocessing, metadata: Mapping[str, str]) -> tuple[Preprocessing, str]:
    """The rule with what a Caffe net's data layer did to pictures, and that in words."""
    means = tuple(float(value) for value in metadata.get("mean_value", "").replace(",", " ").split())
    scale, image = float(metadata.get("scale", 1)), metadata.get("mean_file")
    said = []
    if len(means) in (1, rule.channels) and all(0 <= value <= 255 for value in means):
        rule = replace(rule, mean=means if len(means) == rule.channels else means * rule.channels)
        said.append("the means that the file says")
    elif image:
        said.append(f"usual means, as the file names a mean image ({image}) but does not hold it")
    if 0 < scale < math.inf and scale != 1:
        rule = replace(rule, std=(1 / scale,) * rule.channels, mean=rule.mean if said else (0.0,) * rule.channels)
        said.append(f"the scale that it says ({scale:g})")
    return rule, " and ".join(said)


def _usual(found: Found, file: ForeignFile) -> str:
    """The preset that weights of this kind are published with."""
    if found.dialect.split()[0] in ("keras", "authors", "caffe"):
        return "caffe"
    is_of_caffe = any(isinstance(module, ResponseNorm) for module in found.net.modules())  # whoever exported it
    return "caffe" if found.dialect == "onnx" and (is_of_caffe or "caffe" in file.metadata.get("producer_name", "")) else "torch"


def _classes(given: Sequence[str] | str | os.PathLike[str] | None, count: int) -> tuple[tuple[str, ...], str]:
    if given is None:
        if count == IMAGENET_CLASSES:
            return imagenet_classes(), "ImageNet's thousand, in their usual order"
        return tuple(f"class {k}" for k in range(count)), f"numbers, as the file does not name its {count}; --classes FILE names them"
    if isinstance(given, str | os.PathLike):
        shown = show_path(given)
        try:
            if Path(given).stat().st_size > LARGEST_CLASS_FILE_BYTES:
                raise SettingsError(f"{shown}: expected a name of a class on each line, found a file of many megabytes")
            given = Path(given).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{shown}: expected a name of a class on each line, found no readable text; check the path") from error
        given = [line.strip() for line in given if line.strip()]
    if len(given) != count or len(set(given)) != count or not all(map(is_plain_text, given)):
        raise SettingsError(f"classes: expected {count} names, each another, found {len(given)} with {len(set(given))} different")
    return tuple(given), "as given"


def _sha256(path: Path, progress: Progress | None) -> str:
    digest, done, size_bytes = hashlib.sha256(), 0, path.stat().st_size
    with path.open("rb") as file:
        while chunk := file.read(2**22):
            digest.update(chunk)
            done += len(chunk)
            if progress:
                progress("reading the file", done, size_bytes)
    return digest.hexdigest()


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
