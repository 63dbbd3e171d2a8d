"""A file of weights opened by what it is, whatever its name says."""

import os
from pathlib import Path

from provenet.errors import WeightsError, show_path
from provenet.weights.foreign import ForeignFile
from provenet.weights.formats.caffe import read_caffe
from provenet.weights.formats.hdf5 import read_hdf5
from provenet.weights.formats.onnx import read_onnx
from provenet.weights.formats.safetensors_file import read_safetensors
from provenet.weights.formats.torch_file import read_torch

KNOWN = ".pth, .pt, .bin, .safetensors, .h5, .onnx or .caffemodel"
ARCHIVES = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"Rar!", b"7z\xbc\xaf")


def open_foreign(path: Path) -> ForeignFile:
    """Read a file of weights of any format. Raises WeightsError, with one line, for one that is none."""
    shown = show_path(path)
    try:
        if os.path.isdir(path):
            raise WeightsError(f"{shown}: expected a file of weights ({KNOWN}), found a folder; name the file in it")
        if not os.path.isfile(path):
            raise WeightsError(f"{shown}: expected a file of weights ({KNOWN}), found none; check the path")
        with path.open("rb") as file:
            start = file.read(32)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(f"{shown}: expected a file of weights ({KNOWN}), found nothing readable ({reason}); check the path") from error
    suffix = path.suffix.lower()
    if not start:
        raise WeightsError(f"{shown}: expected a file of weights ({KNOWN}), found an empty one; fetch it again")
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return read_hdf5(path)
    if start[8:9] == b"{" or suffix == ".safetensors":  # behind the header's length, which may begin like anything
        return read_safetensors(path)
    if start.startswith((b"PK", b"\x80")):
        return read_torch(path)
    if start.startswith(ARCHIVES) or start[257:262] == b"ustar" or suffix == ".tar":
        raise WeightsError(f"{shown}: expected a file of weights ({KNOWN}), found an archive; unpack it and import the file in it")
    if start.lstrip()[:1] == b"<" or start.startswith(b"version https://git-lfs"):
        what = "a pointer of Git LFS" if start.startswith(b"version") else "a web page"
        raise WeightsError(f"{shown}: expected a file of weights ({KNOWN}), found {what}; fetch the file itself")
    if suffix == ".caffemodel":
        return read_caffe(path)
    if suffix == ".onnx" or start[:1] == b"\x08":  # the first field of a model, its version
        return read_onnx(path)
    if start[:1] in (b"\x0a", b"\x12") or start[:2] == b"\xa2\x06":  # a network's name, or its first layer
        return read_caffe(path)
    raise WeightsError(f"{shown}: expected a file of weights ({KNOWN}), found something else; fetch it again")
