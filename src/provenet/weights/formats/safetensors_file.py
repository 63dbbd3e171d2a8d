"""Plain safetensors, such as timm's: a header of names, shapes and types, then the numbers."""

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from provenet.errors import WeightsError, printable, show_path
from provenet.weights.foreign import LARGEST_TENSOR_BYTES, Array, ForeignFile, ForeignTensor
from provenet.weights.formats.torch_file import foreign_tensor

LARGEST_HEADER_BYTES = 2**24
TYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64", "I64": "int64", "I32": "int32", "U8": "uint8"}


def read_safetensors(path: Path) -> ForeignFile:
    """Read a safetensors file. Raises WeightsError for one whose header is larger than any network's, or does not fit the file."""
    shown = show_path(path)
    try:
        size_bytes = path.stat().st_size
        with path.open("rb") as raw:
            header_bytes = int.from_bytes(raw.read(8), "little")
        if header_bytes > min(LARGEST_HEADER_BYTES, max(0, size_bytes - 8)):
            raise WeightsError(
                f"{shown}: expected a header of at most {LARGEST_HEADER_BYTES:,} bytes within the file's {size_bytes:,}, "
                f"found one of {header_bytes:,}; do not trust it"
            )
        with safe_open(path, framework="pt") as file:
            tensors = {name: _slot(path, name, file.get_slice(name), shown) for name in file.keys()}  # noqa: SIM118, no dict
            metadata = {str(key): str(value) for key, value in (file.metadata() or {}).items()}
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{shown}: expected a safetensors file, found one that cannot be read ({printable(str(error))[:200]})"
        ) from error
    return ForeignFile(path, "safetensors", tensors, metadata=metadata)


def _slot(path: Path, name: str, part: object, shown: str) -> ForeignTensor:
    shape, kind = tuple(part.get_shape()), TYPES.get(part.get_dtype())  # type: ignore[attr-defined]
    if kind is None:
        raise WeightsError(f"{shown}: expected floating point or whole numbers, found {printable(name)} of {part.get_dtype()}")  # type: ignore[attr-defined]
    slot = ForeignTensor(shape, kind, _reader(path, name))
    if slot.num_values * 4 > LARGEST_TENSOR_BYTES:
        raise WeightsError(f"{shown}: expected tensors of at most {LARGEST_TENSOR_BYTES:,} bytes, found {printable(name)} larger")
    return slot


def _reader(path: Path, name: str) -> Callable[[], Array]:
    def read() -> Array:
        with safe_open(path, framework="pt") as file:
            return foreign_tensor(file.get_tensor(name)).read()

    return read
