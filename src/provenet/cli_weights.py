"""The commands about weights: `provenet weights list|show|fetch|import|export|publish`."""

import json as json_module
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import App, Parameter

from provenet.errors import printable

Flag = Annotated[bool, Parameter(negative="", show_default=False)]
Output = Annotated[Path, Parameter(alias="-o")]

weights = App(
    name="weights",
    help="Weights that others have published: list, fetch and import them; and give yours to others.",
    result_action="return_value",
    help_format="plaintext",
)


@weights.command
def list(*patterns: str, wide: Flag = False, json: Flag = False) -> None:
    """List the published weights for these networks: tag, size, licence, top-1, and where each entry was read.

    Args:
        patterns: Only tags that match one, such as 'resnet50*'.
        wide: Also the training data, the preprocessing, the address and all of the source.
        json: Print a JSON list with all that is known of each; what is not known is null.
    """
    from provenet.weights.sources import list_sets, show_sets

    wanted = {found.tag for pattern in patterns or ("*",) for found in list_sets(pattern)}
    sets = [found for found in list_sets() if found.tag in wanted]
    _print_json([found.to_dict() for found in sets]) if json else print(show_sets(sets, wide=wide))


@weights.command
def show(tag: str, /, *, json: Flag = False) -> None:
    """All that is known of one published set.

    Args:
        tag: A tag of `provenet weights list`.
        json: Print a JSON object.
    """
    from provenet.weights.sources import find_set

    found = find_set(tag)
    if json:
        _print_json(found.to_dict())
        return
    for name, value in found.to_dict().items():
        if value not in (None, "", [], {}):
            print(f"{name:14} {printable(json_module.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value))}")


@weights.command
def fetch(
    tag: str,
    /,
    *,
    output: Output | None = None,
    mirror: str | None = None,
    proxy: str | None = None,
    json: Flag = False,
) -> None:
    """Fetch a published set, check it against its published hash, and keep it; an interrupted one goes on where it stopped.

    Args:
        tag: A tag of `provenet weights list`, or hf:OWNER/NAME for a repository of the Hugging Face Hub.
        output: A bundle to make of it at once.
        mirror: Another address under which files lie by their published names, or TAG/NAME where several have one; also
            PROVENET_MIRROR.
        proxy: A proxy, such as http://localhost:3128; PROVENET_PROXY does the same.
        json: Print {tag, file} as JSON.
    """
    from provenet.console import Terminal
    from provenet.weights.hub import fetch_from_hub
    from provenet.weights.sources import find_set
    from provenet.weights.store import fetch_set

    with Terminal() as terminal:
        if tag.startswith("hf:"):
            path, network, rule = fetch_from_hub(tag, terminal.progress), None, None
        else:
            found = find_set(tag)
            path = fetch_set(found, terminal.progress, mirror=mirror, proxy=proxy)
            network = None if found.dialect in ("onnx", "caffe") else found.network  # a graph tells by itself
            rule = found.preprocessing
    if output is not None:
        _import(path, network, output=output, preprocessing=rule, json=json)
    elif json:
        _print_json({"tag": tag, "file": str(path)})
    else:
        print(printable(str(path)))


@weights.command(name="import")
def import_(
    file: Path,
    /,
    *,
    output: Output,
    as_: Annotated[str | None, Parameter(name="--as")] = None,
    without: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    preprocessing: Literal["torch", "caffe", "tf"] | None = None,
    classes: Path | None = None,
    json: Flag = False,
) -> None:
    """Make a bundle of a file of torchvision, timm, Keras, the ONNX model zoo, Caffe or the authors.

    Args:
        file: A .pth, .pt, .bin, .safetensors, .h5, .onnx or .caffemodel. No code in it is run.
        output: The bundle to write, such as model.safetensors.
        as_: The network, where several fit, or none is recognised: a name of `provenet models`.
        without: A pattern of names, in the file or of ours, that may be left over; those of ours are drawn anew.
        preprocessing: What the network expects to see, if not what is usual: torch (RGB, ImageNet's mean and deviation), caffe (BGR, 0
            to 255, less a mean) or tf (-1 to 1).
        classes: A text file with the name of a class on each line.
        json: Print what was recognised, rewritten and left out as a JSON object.
    """
    _import(file, as_, output=output, without=without, preprocessing=preprocessing, classes=classes, json=json)


@weights.command
def export(
    bundle: Path,
    /,
    *,
    to: Literal["torchvision", "timm", "keras", "onnx"],
    output: Output,
    json: Flag = False,
) -> None:
    """Write a bundle's weights as a file that another library loads, for the networks that it has; or any of them as ONNX.

    Args:
        bundle: A model.safetensors, or the run folder it is in.
        to: Whose; onnx is for whatever runs ONNX files, and takes any network, an ensemble too.
        output: The file: .pth or .safetensors for torchvision and timm, .h5 or .weights.h5 for Keras, .onnx for ONNX.
        json: Print {file, advice} as JSON.
    """
    from provenet.runtime import prepare_process
    from provenet.weights.bundle import load_bundle
    from provenet.weights.export import export_weights

    prepare_process()
    advice = export_weights(load_bundle(bundle), to, output)
    if json:
        _print_json({"file": str(output), "advice": advice})
    else:
        print("\n".join(printable(line) for line in advice))


@weights.command
def publish(
    bundle: Path,
    /,
    *,
    to: str,
    card: Path | None = None,
    licence: str | None = None,
    private: Flag = False,
    json: Flag = False,
) -> None:
    """Put a bundle with its card on the Hugging Face Hub; its own client knows who you are (`hf auth login`).

    Args:
        bundle: A model.safetensors, or the run folder it is in.
        to: The repository, OWNER/NAME; it is made if it is not there.
        card: The README.md to publish; by default that of the run folder, else one made of the bundle.
        licence: The Hub's short name of one, such as mit or cc-by-4.0, for its card.
        private: Only you may see it.
        json: Print {address} as JSON.
    """
    from provenet.weights.hub import publish_bundle

    address = publish_bundle(bundle, to, private=private, card=card, licence=licence)
    if json:
        _print_json({"address": address})
    else:
        print(printable(address))


def _import(path: Path, network: str | None, *, output: Path, json: bool, **choices: Any) -> None:
    from provenet.console import Terminal
    from provenet.runtime import prepare_process
    from provenet.weights.bundle import save_bundle
    from provenet.weights.importer import import_weights

    prepare_process()
    with Terminal() as terminal:
        bundle, report = import_weights(path, network, progress=terminal.progress, **choices)
        save_bundle(bundle, output)
    if json:
        _print_json(report.to_dict() | {"bundle": str(output)})
    else:
        print(report)
        print(f"wrote {printable(str(output))}: `provenet predict {printable(str(output))} PICTURE…`")


def _print_json(value: Any) -> None:
    print(json_module.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))
