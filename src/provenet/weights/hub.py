"""The Hugging Face Hub, through its own client: files from it, and bundles to it with their cards."""

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from provenet.errors import DownloadError, SettingsError, printable, show_path
from provenet.progress import Progress
from provenet.weights.bundle import Bundle, load_bundle

ADDRESS = re.compile(r"hf:(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+?))?(?P<file>/[^@]+)?")
SUFFIXES = (".safetensors", ".bin", ".pth", ".h5", ".onnx", ".caffemodel")
"""Of files of weights, those that are taken first when none is named."""
USUAL = ("model.safetensors", "pytorch_model.bin")
"""What timm and others call the weights, where several files have the suffix."""
LICENCE = re.compile(r"[a-z][a-z0-9.-]*")


def fetch_from_hub(address: str, progress: Progress | None = None) -> Path:
    """The file of hf:OWNER/NAME, hf:OWNER/NAME/FILE or hf:OWNER/NAME@REVISION/FILE, in the Hub's own cache.

    Without FILE it is the only one of its kind, safetensors before others. What was fetched once is found without a network. Raises
    DownloadError, with one line, of the kind "absent", "refused" or "unreachable".
    """
    parts = ADDRESS.fullmatch(address)
    if not parts or ".." in address.split("/"):
        raise SettingsError(f"{printable(address)}: expected hf:OWNER/NAME, perhaps @REVISION and /FILE after it, found otherwise")
    repository, revision = parts["repository"], parts["revision"]
    hub = _import_client()
    try:
        file = (parts["file"] or "").lstrip("/") or _choose(_list_files(hub, repository, revision), address)
        if progress:
            progress(f"fetching {file} with the Hub's client", 0, 0)
        return Path(hub.hf_hub_download(repository, file, revision=revision))
    except SettingsError:
        raise
    except Exception as error:  # the client raises what its libraries raise
        raise DownloadError(
            f"{printable(address)}: expected it on the Hub, found: {_first_line(error)}; check the name and the network", _kind(error)
        ) from error


def publish_bundle(bundle: Path, repository: str, *, private: bool = False, card: Path | None = None, licence: str | None = None) -> str:
    """Put a bundle, or that of a run folder, on the Hub as OWNER/NAME with its card; the address where it is then.

    The card is `card`, else the README.md of the run folder, else one made of what the bundle says. `licence` is the Hub's short name of
    one, such as mit or cc-by-4.0. Whose account it is the client knows.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise SettingsError(f"--to: expected OWNER/NAME, found {printable(repository)!r}")
    if licence is not None and not LICENCE.fullmatch(licence):
        raise SettingsError(f"--licence: expected a short name such as mit or cc-by-4.0, found {printable(licence)!r}")
    opened = load_bundle(bundle)  # what is no bundle is not published
    path = bundle / "model.safetensors" if bundle.is_dir() else bundle
    card = card or (bundle / "README.md" if bundle.is_dir() and (bundle / "README.md").is_file() else None)
    try:
        text = card.read_text(encoding="utf-8") if card else f"# {repository.partition('/')[2]}\n\n{_describe(opened, repository)}"
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{show_path(card or '')}: expected the text of a card, found none ({error}); check the path") from error
    if not text.startswith("---\n"):
        text = _front_matter(opened, licence) + text
    elif licence:
        raise SettingsError(
            f"--licence: expected a card without a heading of its own, found {show_path(card or '')} with one; say it there"
        )
    hub = _import_client()
    try:
        address = hub.create_repo(repository, private=private, exist_ok=True)
        operations = [
            hub.CommitOperationAdd("README.md", text.encode()),
            hub.CommitOperationAdd("model.safetensors", str(path)),
        ]
        hub.create_commit(repository, operations, commit_message=f"{opened.network.name} by provenet")
    except Exception as error:  # as above
        raise DownloadError(
            f"{printable(repository)}: expected to publish it on the Hub, found: {_first_line(error)}; `hf auth login` says who you are",
            _kind(error),
        ) from error
    return str(address)


def _import_client() -> Any:
    try:
        import huggingface_hub
    except Exception as error:  # a broken one is none
        raise SettingsError(f"expected the client of the Hugging Face Hub, found none ({error}); install provenet[hub]") from error
    return huggingface_hub


def _choose(files: Iterable[str], address: str) -> str:
    names = [name for name in files if not name.endswith(("training_args.bin", "optimizer.bin"))]
    for suffix in SUFFIXES:
        fitting = [name for name in names if name.lower().endswith(suffix)]
        usual = next((name for name in USUAL if name in fitting), None)
        if usual:
            return usual
        if len(fitting) > 1:
            raise SettingsError(f"{printable(address)}: expected one file of weights, found {printable(', '.join(fitting[:4]))}; add /FILE")
        if fitting:
            return fitting[0]
    raise SettingsError(f"{printable(address)}: expected a file of weights ({', '.join(SUFFIXES)}), found none among {len(names)}")


def _list_files(hub: Any, repository: str, revision: str | None) -> list[str]:
    """The files of a repository; without a network those that were fetched before."""
    try:
        return list(hub.list_repo_files(repository, revision=revision))
    except hub.errors.HfHubHTTPError:  # it was asked, and has answered
        raise
    except Exception:
        with contextlib.suppress(Exception):
            folder = Path(hub.snapshot_download(repository, revision=revision, local_files_only=True))
            return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
        raise


def _kind(error: Exception) -> str:
    """What went wrong, in a word for code."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (404, 410):
        return "absent"
    return "unreachable" if status is None or status >= 500 else "refused"


def _front_matter(bundle: Bundle, licence: str | None) -> str:
    """What the Hub reads of a card."""
    stated = f"license: {licence}\n" if licence else ""
    return f"---\n{stated}library_name: provenet\npipeline_tag: image-classification\ntags:\n- {bundle.network.name}\n---\n\n"


def _describe(bundle: Bundle, repository: str) -> str:
    rule, count = bundle.preprocessing, len(bundle.classes)
    some = ", ".join(bundle.classes[:8]) + (" …" if count > 8 else "")
    fit = f"its shorter side resized to {rule.resize} pixels" if rule.fit == "short side" else f"squashed to {rule.resize}x{rule.resize}"
    values = "by place" if rule.mean_image else ", ".join(f"{value:g}" for value in rule.mean)
    deviation = ", ".join(f"{value:g}" for value in rule.std)
    return (
        f"`{bundle.network.name}`, {bundle.network.num_parameters:,} parameters, {count} classes: {some}\n\n"
        f"Of a picture, {fit} ({rule.interpolation}), it sees the middle {rule.size}x{rule.size}: {rule.channel_order}, "
        f"0 to {rule.white:g}, less a mean ({values}), over a deviation ({deviation}). To use it:\n\n"
        f"```bash\npip install provenet\nprovenet weights fetch hf:{repository} -o model.safetensors\n"
        "provenet predict model.safetensors PICTURE\n```\n"
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("For more information")]
    return printable(" ".join(lines[:2]) if lines else type(error).__name__)[:300]
