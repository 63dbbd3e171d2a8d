"""What `torch.save` wrote: `.pth`, `.pt`, `.bin`, in both of its formats, read as tensors and nothing else.

Such a file is a pickle, which can run any code when it is loaded in the ordinary way. Here its pickle is first read opcode by opcode,
without doing what it says: a file that asks for anything but tensors and dictionaries is refused by the name of what it asks for. Only
then does `torch.load(weights_only=True)`, which keeps to a list of its own, map it into memory.
"""

import pickle
import pickletools
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import torch

from provenet.errors import WeightsError, printable, show_path
from provenet.weights.foreign import LARGEST_TENSOR_BYTES, ForeignFile, ForeignTensor

LARGEST_PICKLE_BYTES = 2**26
LARGEST_NUM_OPCODES = 5_000_000
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The pickled number with which files of torch before 1.6 begin."""

HARMLESS = {
    "collections.OrderedDict",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_parameter",
    "torch.nn.parameter.Parameter",
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
    *(f"torch.{kind}Storage" for kind in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")),
    *(f"torch.{kind}" for kind in ("float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")),
}
"""What a dictionary of tensors needs. torch's own list is longer, and some of what is on it takes any amount of memory."""

WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params", "model_ema", "ema", "module")
"""Keys under which training programs keep the weights in their checkpoints, the likeliest first."""

LARGEST_DEPTH = 4


def read_torch(path: Path) -> ForeignFile:
    """Read a file of `torch.save`. Raises WeightsError for one that holds more than tensors, or whose tensors are larger than it."""
    shown = show_path(path)
    try:
        with path.open("rb") as file:
            is_zip = file.read(2) == b"PK"
        _check_zip(path, shown) if is_zip else _check_legacy(path, shown)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except WeightsError:
        raise
    except (OSError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, ValueError, KeyError, TypeError, IndexError,
            AttributeError, AssertionError, MemoryError, OverflowError, RecursionError, struct.error) as error:  # fmt: skip
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise WeightsError(f"{shown}: expected a file of torch.save, found one that cannot be read ({printable(reason)[:200]})") from error
    where, state = _find_state(loaded, shown)
    tensors = {name: _foreign(name, tensor, shown) for name, tensor in state.items()}
    return ForeignFile(path, "torch", tensors, metadata={"found under": where} if where else {})


def _check_zip(path: Path, shown: str) -> None:
    """Today's format: an archive of one pickle and the numbers of each storage, none of them compressed."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        pickles = [member for member in members if member.filename.endswith("data.pkl")]
        if len(pickles) != 1:
            what = "a saved Keras model" if any(member.filename == "model.weights.h5" for member in members) else "another archive"
            advice = "unpack its model.weights.h5 and import that" if "Keras" in what else "unpack it first"
            raise WeightsError(f"{shown}: expected a file of torch.save, found {what}; {advice}")
        if any("/code/" in member.filename for member in members):
            raise WeightsError(
                f"{shown}: expected tensors, found a scripted program (TorchScript); load it where it is trusted and save its state_dict()"
            )
        if any(member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size for member in members):
            raise WeightsError(f"{shown}: expected a file of torch.save, found compressed parts, which it never has; fetch it again")
        if pickles[0].file_size > LARGEST_PICKLE_BYTES:
            raise WeightsError(f"{shown}: expected names and shapes of tensors, found {pickles[0].file_size:,} bytes of something else")
        with archive.open(pickles[0]) as file:
            _check_pickle(file, shown)


def _check_legacy(path: Path, shown: str) -> None:
    """The format before torch 1.6: five pickles, of which the fourth is the dictionary, then the numbers."""
    with path.open("rb") as file:
        if file.read(len(LEGACY_MAGIC)) != LEGACY_MAGIC:
            raise WeightsError(f"{shown}: expected a file of torch.save, found a pickle of something else; save the network's state_dict()")
        for _ in range(4):
            _check_pickle(file, shown)


def _check_pickle(file: IO[bytes], shown: str) -> None:
    """Read one pickle without doing what it says; refuse what it should not say."""
    asked: list[str] = []
    strings: list[str] = []
    highest_place = 0
    for num_opcodes, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if opcode.name == "GLOBAL":
            asked.append(str(argument).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            asked.append(".".join(strings[-2:]))
        elif opcode.name in ("INST", "OBJ", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "READONLY_BUFFER"):
            asked.append(f"{argument or opcode.name}")
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            highest_place = max(highest_place, int(str(argument)))
        elif isinstance(argument, str):
            strings.append(argument)
        if num_opcodes > LARGEST_NUM_OPCODES or highest_place > LARGEST_NUM_OPCODES:
            raise WeightsError(f"{shown}: expected a dictionary of tensors, found a pickle that would take the memory; do not trust it")
    strange = sorted(set(asked) - HARMLESS)
    if strange:
        raise WeightsError(
            f"{shown}: expected tensors by name, found a pickle that asks for {printable(', '.join(strange[:3]))[:200]}"
            f"{f' and {len(strange) - 3} more' if len(strange) > 3 else ''}, which is not loaded; where you trust it, load it and save "
            "only its state_dict()",
            "dangerous",
        )


def _find_state(loaded: object, shown: str) -> tuple[str, Mapping[str, torch.Tensor]]:
    """The dictionary of tensors in what was loaded, and under which keys it was found."""
    found = dict(_states(loaded, "", 0))
    if not found:
        raise WeightsError(f"{shown}: expected a dictionary of tensors by name, found {type(loaded).__name__}; save a state_dict()")

    def rank(where: str) -> tuple[int, int, int]:
        last = where.rpartition("/")[2]
        return where != "", WRAPPERS.index(last) if last in WRAPPERS else len(WRAPPERS), -len(found[where])

    where = min(found, key=rank)
    return where, found[where]


def _states(value: object, where: str, depth: int) -> Iterator[tuple[str, Mapping[str, torch.Tensor]]]:
    if not isinstance(value, Mapping) or depth > LARGEST_DEPTH:
        return
    tensors = {name: tensor for name, tensor in value.items() if isinstance(name, str) and isinstance(tensor, torch.Tensor)}
    if tensors:
        yield where, tensors
    for name, inner in value.items():
        if isinstance(name, str) and name not in ("optimizer", "optimizer_state_dict", "optim"):
            yield from _states(inner, f"{where}/{name}" if where else name, depth + 1)


def _foreign(name: str, tensor: torch.Tensor, shown: str) -> ForeignTensor:
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.is_quantized:
        raise WeightsError(f"{shown}: expected plain tensors, found {printable(name)} sparse, quantised or without values; save it plain")
    held_bytes = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > min(held_bytes, LARGEST_TENSOR_BYTES):
        raise WeightsError(
            f"{shown}: tensor {printable(name)} says it is {'x'.join(map(str, tensor.shape))}, its file holds {held_bytes:,} bytes of it; "
            "do not trust it"
        )
    return foreign_tensor(tensor)


def foreign_tensor(tensor: torch.Tensor) -> ForeignTensor:
    """A tensor of torch's as the importer reads it."""

    def read() -> Any:
        plain = tensor.detach()
        return (plain.to(torch.float32, copy=True) if plain.is_floating_point() else plain.clone()).contiguous().numpy()

    return ForeignTensor(tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), read)
