"""Files of torch.save: those that people have, and those that would do harm."""

import os
import pickle
import resource
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from provenet.errors import WeightsError
from provenet.weights.formats.opening import open_foreign
from provenet.weights.formats.torch_file import LEGACY_MAGIC, read_torch


def state():
    return OrderedDict(a=torch.arange(6.0).view(2, 3), b=torch.ones(4, dtype=torch.float16), n=torch.tensor(7))


@pytest.mark.parametrize("is_zip", [True, False])
def test_both_formats(tmp_path, is_zip):
    path = tmp_path / "weights.pth"
    torch.save(state(), path, _use_new_zipfile_serialization=is_zip)
    file = read_torch(path)
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in file.tensors.items()} == {
        "a": ((2, 3), "float32"), "b": ((4,), "float16"), "n": ((), "int64"),
    }  # fmt: skip
    assert np.array_equal(file.tensors["a"].read(), np.arange(6, dtype=np.float32).reshape(2, 3))
    assert file.tensors["b"].read().dtype == np.float32


def test_parts_of_one_storage(tmp_path):
    whole = torch.arange(12.0).view(3, 4)
    torch.save({"turned": whole.T, "row": whole[1], "parameter": torch.nn.Parameter(whole)}, tmp_path / "w.pt")
    tensors = read_torch(tmp_path / "w.pt").tensors
    assert np.array_equal(tensors["turned"].read(), whole.T.numpy())
    assert np.array_equal(tensors["row"].read(), whole[1].numpy())
    assert np.array_equal(tensors["parameter"].read(), whole.numpy())


@pytest.mark.parametrize(
    ("saved", "where"),
    [
        ({"state_dict": state(), "epoch": 3}, "state_dict"),
        ({"epoch": 3, "optimizer": {"state": {"x": torch.ones(9)}}, "model": state(), "ema": state()}, "model"),
        ({"checkpoint": {"net": state()}}, "checkpoint/net"),
    ],
)
def test_checkpoints_of_training_programs(tmp_path, saved, where):
    torch.save(saved, tmp_path / "checkpoint.pth.tar")
    file = read_torch(tmp_path / "checkpoint.pth.tar")
    assert set(file.tensors) == {"a", "b", "n"}
    assert file.metadata["found under"] == where


class Harm:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_pickle_that_would_run_code_does_not(tmp_path, is_zip):
    path, trace = tmp_path / "weights.pth", tmp_path / "ran"
    torch.save({"a": torch.ones(2), "b": Harm(trace)}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(WeightsError, match=r"asks for posix\.system, which is not loaded") as caught:
        read_torch(path)
    assert "\n" not in str(caught.value)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # this is what it would do
    assert trace.exists()


def test_a_plain_pickle_is_not_loaded(tmp_path):
    (tmp_path / "w.pth").write_bytes(pickle.dumps({"b": Harm(tmp_path / "ran")}))
    with pytest.raises(WeightsError, match="a pickle of something else"):
        open_foreign(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_objects_of_the_training_program_are_named(tmp_path):
    import argparse

    torch.save({"state_dict": state(), "args": argparse.Namespace(lr=0.1)}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"asks for argparse\.Namespace.*save only its state_dict\(\)"):
        read_torch(tmp_path / "w.pth")


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_tensor_larger_than_what_the_file_holds_of_it(tmp_path):
    torch.save({"a": torch.zeros(1).expand(25_000_000_000)}, tmp_path / "w.pth")
    before = peak_bytes()
    with pytest.raises(WeightsError, match=r"tensor a says it is 25000000000, its file holds 4 bytes"):
        read_torch(tmp_path / "w.pth")
    assert peak_bytes() - before < 2**27


def legacy(*objects: bytes) -> bytes:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    return LEGACY_MAGIC + pickle.dumps(1001, 2) + pickle.dumps(system, 2) + b"".join(objects)


class Storages(pickle._Pickler):  # the one written in Python has persistent_id as well
    def persistent_id(self, found):
        return found.what if isinstance(found, Stored) else None


class Stored:
    def __init__(self, *what):
        self.what = what


def test_a_storage_of_100_gigabytes_with_nothing_behind_it(tmp_path):
    import io

    class Tensor:
        def __reduce__(self):
            stored = Stored("storage", torch.FloatStorage, "0", "cpu", 25_000_000_000, None)
            return torch._utils._rebuild_tensor_v2, (stored, 0, (25_000_000_000,), (1,), False, OrderedDict())

    written = io.BytesIO()
    Storages(written, 2).dump({"a": Tensor()})
    path = tmp_path / "w.pth"
    path.write_bytes(legacy(written.getvalue(), pickle.dumps(["0"], 2)) + struct.pack("<q", 25_000_000_000))
    before = peak_bytes()
    with pytest.raises(WeightsError, match="cannot be read"):
        read_torch(path)
    assert peak_bytes() - before < 2**27


def rewritten(path, change):
    """The same archive with its pickle changed."""
    with zipfile.ZipFile(path) as archive:
        members = [(member, archive.read(member)) for member in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members:
            archive.writestr(member.filename, change(content) if member.filename.endswith("data.pkl") else content)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", r"asks for builtins\.bytearray"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "would take the memory"),
        (b"\x80\x02(iposix\nsystem\n.", "asks for posix system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", r"asks for posix\.system"),
        (b"\x80\x02", "cannot be read"),
        (b"", "cannot be read"),
        (b"\x80\x02]q\x00.", "expected a dictionary of tensors by name, found list"),
    ],
)
def test_pickles_by_hand(tmp_path, content, found):
    path = tmp_path / "w.pth"
    torch.save(state(), path)
    rewritten(path, lambda _: content)
    before = peak_bytes()
    with pytest.raises(WeightsError, match=found):
        read_torch(path)
    assert peak_bytes() - before < 2**27


def test_compressed_parts_are_not_unpacked(tmp_path):
    path = tmp_path / "w.pth"
    torch.save(state(), path)
    with zipfile.ZipFile(path) as archive:
        members = [(member.filename, archive.read(member)) for member in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    with pytest.raises(WeightsError, match="compressed parts"):
        read_torch(path)


def test_scripted_programs_and_other_archives(tmp_path):
    with pytest.warns(DeprecationWarning, match="jit"):
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "w.pt"))
    with pytest.raises(WeightsError, match="TorchScript"):
        read_torch(tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "w.zip", "w") as archive:
        archive.writestr("readme.txt", "no weights")
    with pytest.raises(WeightsError, match="another archive; unpack it first"):
        read_torch(tmp_path / "w.zip")
    with zipfile.ZipFile(tmp_path / "w.keras", "w") as archive:
        archive.writestr("model.weights.h5", "x")
    with pytest.raises(WeightsError, match=r"a saved Keras model; unpack its model\.weights\.h5"):
        open_foreign(tmp_path / "w.keras")


@pytest.mark.parametrize("is_zip", [True, False])
def test_cut_off_anywhere(tmp_path, is_zip):
    path = tmp_path / "w.pth"
    torch.save(state(), path, _use_new_zipfile_serialization=is_zip)
    whole = path.read_bytes()
    for length in range(2, len(whole) - 1, 13):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError) as caught:
            read_torch(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty one"),
        (b"<!DOCTYPE html><title>404</title>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "a pointer of Git LFS"),
        (b"\x1f\x8b\x08\x00rest of a tar", "an archive; unpack it"),
        (b"\xffnothing known", "something else"),
    ],
)
def test_what_is_no_file_of_weights(tmp_path, content, found):
    path = tmp_path / "weights.bin"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=found):
        open_foreign(path)


def test_a_folder_and_nothing(tmp_path):
    for path, found in ((tmp_path, "a folder"), (tmp_path / "none.pth", "found none")):
        with pytest.raises(WeightsError, match=found):
            open_foreign(path)


def test_a_safetensors_header_of_two_gigabytes(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 2**31) + b"{" + b" " * 100)
    os.truncate(path, 2**31 + 4096)  # a hole: it takes no place on the disk
    before = peak_bytes()
    with pytest.raises(WeightsError, match=r"expected a header of at most 16,777,216 bytes.*found one of 2,147,483,648"):
        open_foreign(path)
    assert peak_bytes() - before < 2**27
