"""What was measured before, on the same machine, with the same versions, of the same network and shape."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from provenet.data.fetch import cache_folder
from provenet.engines.findings import FORMAT_VERSION, Probe
from provenet.engines.ways import versions
from provenet.files import write_whole
from provenet.models.classifier import Classifier
from provenet.runtime import describe_machine

LARGEST_ANSWER_BYTES = 2**20


def what_it_depends_on(net: nn.Module, images: Tensor) -> dict[str, Any]:
    """The machine, the versions, the network's layers and the shape: with other ones everything is measured anew.

    The last stage does not count: a network with another head, or without, is run the same way.
    """
    machine = describe_machine(images.device)
    body = _body(net)
    layers = repr(body) + str([(name, list(tensor.shape)) for name, tensor in body.state_dict().items()])
    return {
        **{name: machine[name] for name in ("processor", "threads", "device", "accelerator") if name in machine},
        **versions(),
        "network": hashlib.sha256(layers.encode()).hexdigest()[:16],
        "shape": list(images.shape),
    }


def _body(net: nn.Module) -> nn.Module:
    if isinstance(net, Classifier):
        return nn.Sequential(*list(net.stages.values())[:-1])
    stages = getattr(net, "stages", None)
    return stages if isinstance(stages, nn.Sequential) else net


def answers_folder() -> Path:
    """Where probes are remembered."""
    return cache_folder() / "engines"


def remember(probe: Probe) -> None:
    """Keep what was found, joined with what was found before of other ways; where nothing can be written, it is found anew next time."""
    known = recall(probe.facts)
    before = {trial.way: trial for trial in known.trials} if known else {}
    now = {trial.way: trial for trial in probe.trials if not (trial.is_absent and trial.way in before)}
    kept = replace(probe, trials=tuple((before | now).values()))
    path = _path_of(probe.facts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(kept.to_dict(), indent=1).encode())
    except OSError:
        return


def recall(facts: dict[str, Any]) -> Probe | None:
    """What was found before, if anything that can be read."""
    try:
        with _path_of(facts).open("rb") as file:
            values = json.loads(file.read(LARGEST_ANSWER_BYTES))
        if values["format_version"] != FORMAT_VERSION or values["facts"] != facts:
            return None
        return Probe.from_dict(values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _path_of(facts: dict[str, Any]) -> Path:
    canonical = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return answers_folder() / f"{hashlib.sha256(canonical.encode()).hexdigest()[:20]}.json"
