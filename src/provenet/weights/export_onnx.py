"""A bundle as an ONNX file, which other programs run without torch or us: any network, an ensemble too, for any number of pictures."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from provenet.engines.ways import LARGEST_ERROR
from provenet.engines.with_onnxruntime import write_onnx
from provenet.errors import SettingsError, WeightsError, show_path
from provenet.files import appearing
from provenet.weights.bundle import Bundle

INPUT, OUTPUT = "images", "logits"
CHECKED_BATCHES = (1, 3)
LARGEST_BYTES = 2**31 - 2**20
"""Of weights: an ONNX file is one protobuf message, which cannot be larger than 2 GiB."""


def export_onnx(bundle: Bundle, path: Path) -> list[str]:
    """Write images [N, C, S, S] -> logits [N, K] as ONNX; what its user has to know, a line each.

    The bundle's temperature is in it; its preprocessing and its classes are in the metadata of the file, as JSON. ONNX Runtime runs the
    file before it takes its place. Raises SettingsError where the libraries for that are missing, WeightsError where the answers are
    others than the network's.
    """
    if path.suffix.lower() != ".onnx":
        raise SettingsError(f"{show_path(path)}: expected a name that ends in .onnx, found another; rename it")
    weighs = sum(tensor.nbytes for tensor in bundle.network.state_dict().values())
    if weighs > LARGEST_BYTES:
        raise SettingsError(f"{bundle.network.title}: expected weights of less than 2 GiB for one ONNX file, found {weighs:,} bytes")
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401, torch's converter asks for it
    except Exception as error:
        raise SettingsError(f"--to onnx: expected onnx, onnxruntime and onnxscript: pip install 'provenet[onnx]' ({error})") from error
    net, rule = _Tempered(bundle.network, bundle.temperature).eval(), bundle.preprocessing
    shape = (rule.channels, rule.size, rule.size)
    batches = [rule.normalise(_noise(number, rule.channels, rule.size)) for number in CHECKED_BATCHES]
    try:
        with appearing(path) as part:
            write_onnx(net, batches[-1], part, for_any_batch=(INPUT, OUTPUT))
            model = onnx.load(part)
            about = {"architecture": bundle.network.name, "classes": list(bundle.classes), "preprocessing": rule.to_dict()}
            for name, value in about.items():
                model.metadata_props.add(key=f"provenet.{name}", value=json.dumps(value, ensure_ascii=False))
            onnx.save(model, part)
            session = onnxruntime.InferenceSession(str(part), providers=["CPUExecutionProvider"])
            for images in batches:
                _compare(net, images, torch.from_numpy(session.run(None, {INPUT: images.numpy()})[0]), path)
    except OSError as error:
        raise WeightsError(f"{show_path(path)}: expected to write the file, found: {error}; free some space or name another") from error
    return [
        f"to run it: onnxruntime.InferenceSession(FILE).run(None, {{{INPUT!r}: ARRAY}}), ARRAY float32 [N, {', '.join(map(str, shape))}]",
        f"what it expects of a picture: {describe_input(bundle)}; this and its {len(bundle.classes)} classes are in its metadata too",
    ]


def describe_input(bundle: Bundle) -> str:
    """The preprocessing in words."""
    rule = bundle.preprocessing
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (rule.mean, rule.std))
    first = f"shorter side {rule.resize}" if rule.fit == "short side" else f"squashed to {rule.resize}x{rule.resize}"
    return (
        f"{first}, centre {rule.size}x{rule.size}, {rule.interpolation}, {rule.channel_order}, white {rule.white:g}, "
        f"less {mean}, over {std}"
    )


class _Tempered(nn.Module):
    """The network and its temperature: images [N, C, S, S] -> logits [N, K]."""

    def __init__(self, network: nn.Module, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images)
        return logits if self.temperature == 1 else logits / self.temperature


def _noise(number: int, channels: int, side: int) -> Tensor:
    """Pixels [N, S, S, C] of no picture."""
    return torch.randint(256, (number, side, side, channels), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def _compare(net: nn.Module, images: Tensor, theirs: Tensor, path: Path) -> None:
    with torch.inference_mode():
        ours = net(images)
    error = float((theirs - ours).norm() / ours.norm().clamp_min(1e-12))
    if not error <= LARGEST_ERROR["float32"]:
        raise WeightsError(
            f"{show_path(path)}: expected the answers of the network, found others when ONNX Runtime ran the file ({error:.2g} of them)"
        )
