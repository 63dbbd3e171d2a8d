"""The ways to run a network forward: an engine and a precision, what each needs to be there, and how far its answers may be off.

Imports no torch: the command line reads its names from here.
"""

import importlib.metadata
import importlib.util
import os
import shutil
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

EngineName = Literal["eager", "folded", "compiled", "onnxruntime", "openvino"]
EnginePrecision = Literal["float32", "bfloat16", "int8"]
ENGINES = get_args(EngineName)
PRECISIONS = get_args(EnginePrecision)


class Way(NamedTuple):
    """One way to run a network."""

    engine: str
    precision: str
    part: int = 0
    """Images that a thread takes at a time, each its own; 0 where all threads share each layer of the whole batch."""

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}" + (f", {self.part} images a thread" if self.part else "")


REFERENCE = Way("eager", "float32")
"""The network as it is: every other way is compared with it."""

PART = 2
"""So few that what is between the layers stays in a core's own cache; of 1, 2, 4 and 8 it was the fastest or near it for all networks."""

WAYS = (
    REFERENCE,
    Way("folded", "float32"),
    Way("folded", "bfloat16"),
    Way("openvino", "bfloat16"),
    Way("openvino", "bfloat16", PART),
    Way("openvino", "float32"),
    Way("openvino", "float32", PART),
    Way("onnxruntime", "float32"),
    Way("compiled", "bfloat16"),
    Way("compiled", "float32"),
    Way("openvino", "int8"),
    Way("openvino", "int8", PART),
)
"""`folded` is eager with each batch norm in the convolution before it; `compiled` is the same through torch.compile."""

LARGEST_ERROR = {"float32": 1e-4, "bfloat16": 3e-2, "int8": 2e-1}
"""How far answers may be from the reference's, as a part of their length, to count as right."""
LEAST_AGREEMENT = 0.99
"""Of int8: pictures that must get the label that the reference gives them."""

_NEEDS = {
    "onnxruntime": (("onnxruntime", "onnxscript"), "pip install 'provenet[onnx]'"),
    "openvino": (("openvino",), "pip install 'provenet[openvino]'"),
    "int8": (("nncf",), "pip install 'provenet[openvino]'"),
}


@dataclass(frozen=True, kw_only=True)
class EngineWish:
    """How a network is to be run; `auto` leaves it to what was measured."""

    engine: Literal["auto"] | EngineName = "auto"
    """What runs the network: auto (the fastest that is right, measured on this machine where the work is long enough), eager, folded,
    compiled, onnxruntime or openvino."""
    precision: Literal["auto"] | EnginePrecision = "auto"
    """Of the network's numbers: auto (float32 or bfloat16), float32, bfloat16, or int8, which is fitted to some of the pictures and used
    only where 99 % of others get the same label."""

    def allows(self, way: Way) -> bool:
        """Whether this way is what was asked for. int8 changes answers, so nobody gets it unasked."""
        precisions = ("float32", "bfloat16") if self.precision == "auto" else (self.precision,)
        return self.engine in ("auto", way.engine) and way.precision in precisions


AUTO = EngineWish()


def exactly(way: Way) -> EngineWish:
    """The wish for one way."""
    return EngineWish(engine=way.engine, precision=way.precision)  # type: ignore[arg-type]


def why_absent(way: Way, device: str, batch_size: int) -> str:
    """What is missing for this way, and how to get it; nothing where it may be tried."""
    if way.part and (batch_size <= way.part or batch_size % way.part):
        return f"batches of {batch_size} are not cut into parts of {way.part}"
    if device != "cpu" and way.engine in ("onnxruntime", "openvino"):
        return f"{way.engine} is for the processor here, and the device is {device}"
    if way.engine == "compiled" and not (os.environ.get("CXX") or any(map(shutil.which, ("c++", "g++", "clang++")))):
        return "torch.compile needs a C++ compiler, such as g++, and finds none"
    for need in (way.engine, way.precision):
        modules, how = _NEEDS.get(need, ((), ""))
        missing = [module for module in modules if not _is_there(module)]
        if missing:
            return f"{missing[0]} is not installed: {how}"
    return ""


def versions() -> dict[str, str]:
    """Of all that a way's speed and answers depend on, as far as it is installed."""
    found = {}
    for name in ("torch", "openvino", "nncf", "onnxruntime", "onnxscript"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
