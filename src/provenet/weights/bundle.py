"""The bundle: one file that classifies a photograph by itself.

`model.safetensors` holds the tensors and, in its header, the architecture, the preprocessing, the class names and where it all came
from. A mean image is one of the tensors, and the header has its fingerprint. The file is plain data: reading one from a stranger runs no
code, and takes no more memory than the file is long.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from provenet.errors import BundleError, ProvenetError, SettingsError, is_plain_text, printable, show_path
from provenet.files import appearing
from provenet.mean_image import WHERE, MeanImage
from provenet.models.catalog import build_on_meta
from provenet.models.classifier import Classifier
from provenet.models.ensemble import MOST_MEMBERS, Ensemble, Member
from provenet.models.ensemble import NAME as ENSEMBLE
from provenet.models.heads import LINEAR, adapt, is_head_in_words
from provenet.preprocessing import Preprocessing
from provenet.runtime import one_thread
from provenet.weights.epsilon import EPSILON, own_epsilon, set_batch_norm_eps

FORMAT_VERSION = 1
HEADER_KEY = "provenet"
ENDS_AFTER, HEAD = "ends_after", "head"
"""In the header: of a network that ends early, or has another head than the published one, see models/heads.py."""
MEMBERS, WEIGHTS, COMBINE = "members", "weights", "combine"
"""In the header of an ensemble: the headers of its members, and how their answers become one."""
TEMPERATURE = "temperature"
"""In the header, where it is not 1."""
LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 100.0
LARGEST_HEADER_BYTES = 2**24
LARGEST_NUM_CLASSES = 100_000
AGAIN = "the file is damaged or no bundle: make or fetch it again"


@dataclass(frozen=True)
class Bundle:
    """A network with all that is needed to use it: output k is class `classes[k]`, `preprocessing` what it sees of a picture."""

    network: Classifier
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    provenance: dict[str, Any] = field(default_factory=dict)
    """Settings, fingerprint of the data, versions and metrics."""
    temperature: float = 1.0
    """By which logits are divided, so that the network is as often right as it says (evaluation/temperature.py); changes no label."""


def save_bundle(bundle: Bundle, path: Path) -> None:
    """Write the file; it appears at `path` whole or not at all."""
    net = bundle.network
    if net.input_spec.channels != bundle.preprocessing.channels:
        raise BundleError(
            f"{show_path(path)}: expected a network of pictures, of {bundle.preprocessing.channels} channels, found one of "
            f"{net.input_spec.channels}; keep its state_dict in a file of your own"
        )
    if net.own_head and not is_head_in_words(net.own_head):
        raise BundleError(
            f"{show_path(path)}: expected a head in words (linear, mlp:512), found {net.own_head}, and a bundle is data; "
            "keep its state_dict in a file of your own, or take a head in words"
        )
    header = {"format_version": FORMAT_VERSION, **_describe(bundle)}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.trained_state().items()} | _mean_images(bundle)
    try:
        with appearing(path) as part:
            save_file(tensors, part, metadata={HEADER_KEY: json.dumps(header, ensure_ascii=False, sort_keys=True)})
    except (OSError, SafetensorError) as error:
        raise BundleError(
            f"{show_path(path)}: expected to write the bundle, found: {error}; check the folder, or free some space"
        ) from error


def _describe(bundle: Bundle) -> dict[str, Any]:
    """The header: what is not as published is said, and nothing else."""
    net, image = bundle.network, bundle.preprocessing.mean_image
    header: dict[str, Any] = {
        "architecture": net.name,
        "preprocessing": bundle.preprocessing.to_dict() | ({"mean_image": image.fingerprint()} if image else {}),
        "classes": list(bundle.classes),
        "provenance": bundle.provenance,
    }
    if isinstance(net, Ensemble):
        members = [
            _describe(Bundle(member.network, member.classes, member.preprocessing, {}, member.temperature)) for member in net.members
        ]
        header |= {MEMBERS: members, WEIGHTS: list(net.shares), COMBINE: net.combine}
    else:
        found: tuple[tuple[str, Any], ...] = ((EPSILON, own_epsilon(net)), (ENDS_AFTER, net.ends_after), (HEAD, net.own_head))
        header |= {name: value for name, value in found if value}
    return header | ({TEMPERATURE: bundle.temperature} if bundle.temperature != 1 else {})


def _mean_images(bundle: Bundle) -> dict[str, Tensor]:
    """The mean image as a tensor, by its name in the file; of an ensemble those of its members."""
    net = bundle.network
    rules = {WHERE: bundle.preprocessing}
    if isinstance(net, Ensemble):
        rules |= {f"{MEMBERS}.{number}.{WHERE}": member.preprocessing for number, member in enumerate(net.members)}
    found = {}
    for name, rule in rules.items():
        if image := rule.mean_image:
            parts = np.frombuffer(image.content, "<u2").astype(np.uint16)
            found[name] = torch.from_numpy(parts.reshape(image.side, image.side, image.channels))
    return found


def check_bundle_path(path: Path) -> None:
    """Raise SettingsError where no bundle can be written: said before the work and not after it."""
    if path.suffix != ".safetensors" or path.is_dir():
        raise SettingsError(f"--output {show_path(path)}: expected a file that ends in .safetensors, found another; name one")
    if not path.parent.is_dir():
        raise SettingsError(f"--output {show_path(path)}: expected a folder to write into, found none; make it first")


def load_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Read a bundle, its network on the CPU in evaluation mode. Raises BundleError with one line for any file that is not one."""
    path = Path(path)
    if os.path.isdir(path):  # a run folder stands for the bundle in it
        path = path / "model.safetensors"
    shown = show_path(path)
    _check_file(path, shown)
    try:
        with safe_open(path, framework="pt") as file:
            header = _read_header((file.metadata() or {}).get(HEADER_KEY), shown)
            is_ensemble = header.get("architecture") == ENSEMBLE
            bundle, images = _build_ensemble(header, file, shown) if is_ensemble else _build_single(header, file, WHERE, shown)
            expected: dict[str, Tensor] = dict(bundle.network.state_dict()) | images
            _check_shapes({name: file.get_slice(name) for name in file.keys()}, expected, shown)  # noqa: SIM118, no dict
            with one_thread():
                tensors = {name: file.get_tensor(name).clone() for name in expected}
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"{shown}: expected a safetensors file, found one that cannot be read ({error}); {AGAIN}") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not np.isfinite(tensor.numpy()).all():
            raise BundleError(f"{shown}: tensor {name} holds values that are no numbers; {AGAIN}")
    bundle.network.load_state_dict({name: tensor for name, tensor in tensors.items() if name not in images}, assign=True)
    bundle.network.eval()
    return bundle


def is_bundle(path: Path) -> bool:
    """Whether a file is a bundle, of whatever version: safetensors with our key in the header. Anything else is none."""
    try:
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if header_bytes > min(LARGEST_HEADER_BYTES, path.stat().st_size - 8):
                return False
            return HEADER_KEY in json.loads(file.read(header_bytes)).get("__metadata__", {})
    except (OSError, ValueError, RecursionError, AttributeError, TypeError):
        return False


def _check_file(path: Path, shown: str) -> None:
    """Refuse what is no file, and a header that is larger than any bundle's or than its file."""
    try:
        size_bytes = path.stat().st_size
        if not os.path.isfile(path):
            raise BundleError(f"{shown}: expected a bundle (model.safetensors), found something that is no file; check the path")
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{shown}: expected a bundle (model.safetensors), found nothing readable ({reason}); check the path") from error
    if size_bytes < 8 or header_bytes > min(LARGEST_HEADER_BYTES, size_bytes - 8):
        raise BundleError(
            f"{shown}: expected a bundle (model.safetensors, or a run folder), found {size_bytes:,} bytes of something else; {AGAIN}"
        )


def _read_header(written: str | None, shown: str) -> dict[str, Any]:
    if not written:
        raise BundleError(
            f"{shown}: expected a bundle of provenet, found a safetensors file without its header; train one with `provenet train`"
        )
    try:
        header = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{shown}: expected a header in JSON, found something else; {AGAIN}") from error
    version = header.get("format_version") if isinstance(header, dict) else None
    if not isinstance(version, int):
        raise BundleError(f"{shown}: expected a format version in its header, found something else; {AGAIN}")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{shown}: expected bundle format {FORMAT_VERSION}, found another; it needs another version of provenet: upgrade it"
        )
    assert isinstance(header, dict)
    return header


def _build_ensemble(header: dict[str, Any], file: Any, shown: str) -> tuple[Bundle, dict[str, Tensor]]:
    """What the header of an ensemble describes, its networks without memory for their weights yet; and its members' mean images."""
    described, weights, combine, provenance = (header.get(name) for name in (MEMBERS, WEIGHTS, COMBINE, "provenance"))
    try:
        if not isinstance(described, list) or not 1 <= len(described) <= MOST_MEMBERS:
            raise BundleError(f"its {MEMBERS} are not a list of 1 to {MOST_MEMBERS} networks")
        if not all(isinstance(each, dict) and each.get("architecture") != ENSEMBLE for each in described):
            raise BundleError(f"its {MEMBERS} are not all single networks")
        if not isinstance(weights, list) or not all(type(weight) in (int, float) and 0 < weight <= 1 for weight in weights):
            raise BundleError(f"its {WEIGHTS} are not numbers above 0 and up to 1")
        found = [_build_single(each, file, f"{MEMBERS}.{number}.{WHERE}", shown) for number, each in enumerate(described)]
        members = [Member(each.network, each.classes, each.preprocessing, each.temperature) for each, _ in found]
        net = Ensemble(members, weights, combine)  # type: ignore[arg-type]  # checked there
        if header.get("classes") != list(net.classes):
            raise BundleError("its classes are not those of its members")
        temperature = _read_temperature(header)
    except BundleError as error:
        if str(error).startswith(shown):
            raise
        raise BundleError(f"{shown}: expected an ensemble that fits together, found: {error}; {AGAIN}") from error
    except ProvenetError as error:
        raise BundleError(f"{shown}: expected an ensemble that fits together, found: {error}; {AGAIN}") from error
    bundle = Bundle(net, net.classes, net.input_spec.preprocessing, provenance if isinstance(provenance, dict) else {}, temperature)
    return bundle, {name: image for _, images in found for name, image in images.items()}


def _build_single(header: dict[str, Any], file: Any, where: str, shown: str) -> tuple[Bundle, dict[str, Tensor]]:
    """One network, with its mean image where it has one: the tensor called `where`."""
    bundle, fingerprint = _build(header, shown)
    if fingerprint is None:
        return bundle, {}
    side, channels = bundle.preprocessing.size, bundle.preprocessing.channels
    expected = {where: torch.empty(side, side, channels, dtype=torch.uint16, device="meta")}
    _check_shapes({name: file.get_slice(name) for name in file.keys() if name == where}, expected, shown)  # noqa: SIM118, no dict
    return _with_mean_image(bundle, file.get_tensor(where), fingerprint, shown), expected


def _build(header: dict[str, Any], shown: str) -> tuple[Bundle, str | None]:
    """What the header describes, its network without memory for its weights yet; and the fingerprint of its mean image, if it has one."""
    try:
        architecture, classes = header["architecture"], header["classes"]
        described, fingerprint = header["preprocessing"], None
        if isinstance(described, dict) and "mean_image" in described:
            described, fingerprint = {**described}, str(described["mean_image"])
            del described["mean_image"]
        preprocessing = Preprocessing.from_dict(described)
        provenance = header.get("provenance", {})
        if not isinstance(architecture, str) or not isinstance(provenance, dict):
            raise BundleError("the architecture is no word or the provenance no table")
        if (
            not isinstance(classes, list)
            or not 1 <= len(classes) <= LARGEST_NUM_CLASSES
            or not all(isinstance(name, str) for name in classes)
        ):
            raise BundleError(f"the classes are not a list of 1 to {LARGEST_NUM_CLASSES:,} names")
        if not all(is_plain_text(name) for name in classes):
            raise BundleError("a class has control characters in its name")
        if len(set(classes)) != len(classes):
            raise BundleError("two classes have the same name")
        # only a classifier that replaces this one will be drawn anew: in the way that trains by itself
        net = build_on_meta(architecture, num_classes=len(classes), in_channels=preprocessing.channels, init="trainable")
        if HEAD in header or ENDS_AFTER in header:
            net = _adapted(net, header, len(classes))
        net.cure = None
        net.discard_training_parts()  # they are not written either
        if EPSILON in header:
            set_batch_norm_eps(net, header[EPSILON])
        net.input_spec = net.input_spec.with_preprocessing(preprocessing)
        return Bundle(net, tuple(classes), preprocessing, provenance, _read_temperature(header)), fingerprint
    except KeyError as error:
        raise BundleError(f"{shown}: expected {error} in its header, found none; {AGAIN}") from error
    except ProvenetError as error:
        raise BundleError(f"{shown}: expected a bundle that fits together, found: {error}; {AGAIN}") from error


def _read_temperature(header: dict[str, Any]) -> float:
    found = header.get(TEMPERATURE, 1.0)
    if type(found) not in (int, float) or not LEAST_TEMPERATURE <= found <= MOST_TEMPERATURE:
        raise BundleError(f"{TEMPERATURE}: expected a number of {LEAST_TEMPERATURE} to {MOST_TEMPERATURE:g}, found something else")
    return float(found)


def _adapted(net: Classifier, header: dict[str, Any], num_classes: int) -> Classifier:
    """With the head that the header describes."""
    head, ends_after = header.get(HEAD, LINEAR), header.get(ENDS_AFTER, "")
    if not isinstance(head, str) or not isinstance(ends_after, str) or not is_head_in_words(head):
        raise BundleError(f"{HEAD} and {ENDS_AFTER}: expected words such as linear or mlp:512 and a stage, found something else")
    with torch.device("meta"):
        return adapt(net, num_classes=num_classes, head=head, ends_after=ends_after)


def _with_mean_image(bundle: Bundle, parts: Tensor, fingerprint: str, shown: str) -> Bundle:
    """The bundle with the mean image of its file, uint16 [S, S, C], which must be the one that its header speaks of."""
    side, _, channels = parts.shape
    try:
        image = MeanImage(side, channels, parts.numpy().astype("<u2").tobytes())
        if image.fingerprint() != fingerprint:
            raise BundleError(f"{WHERE}: expected the one of its header, found another")
        preprocessing = replace(bundle.preprocessing, mean_image=image)
    except ProvenetError as error:
        raise BundleError(f"{shown}: expected a bundle that fits together, found: {error}; {AGAIN}") from error
    bundle.network.input_spec = bundle.network.input_spec.with_preprocessing(preprocessing)
    return replace(bundle, preprocessing=preprocessing)


def _check_shapes(found: Mapping[str, Any], expected: Mapping[str, Tensor], shown: str) -> None:
    """Compare names, shapes and types before any tensor is read, so that nothing larger than the network takes memory."""
    missing, unknown = [name for name in expected if name not in found], [name for name in found if name not in expected]
    if missing or unknown:
        raise BundleError(
            f"{shown}: {len(missing)} tensors are missing ({', '.join(missing[:2]) or 'none'}) "
            f"and {len(unknown)} unknown ({printable(', '.join(unknown[:2])) or 'none'}); {AGAIN}"
        )
    types = {torch.float32: "F32", torch.int64: "I64", torch.uint16: "U16"}
    for name, tensor in found.items():
        shape, kind = list(tensor.get_shape()), tensor.get_dtype()
        wanted = list(expected[name].shape), types[expected[name].dtype]
        if (shape, kind) != wanted:
            raise BundleError(f"{shown}: tensor {name} is {shape} of {kind}, its network has {wanted[0]} of {wanted[1]}; {AGAIN}")
