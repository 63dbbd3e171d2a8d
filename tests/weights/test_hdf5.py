"""Keras' HDF5 files that are broken, or made to do harm: each is refused with one line, before anything is allocated."""

import json
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from provenet.errors import WeightsError
from provenet.weights.formats import hdf5
from provenet.weights.formats.hdf5 import read_hdf5
from provenet.weights.formats.hdf5_header import claimed_text_bytes
from provenet.weights.formats.opening import open_foreign
from provenet.weights.importer import import_weights

h5py = pytest.importorskip("h5py")

KERNEL = np.arange(54, dtype=np.float32).reshape(3, 3, 3, 2)
HUNDRED_GB = (25_000, 1_000_000)
PLACE = "model_weights/conv1/conv1/kernel:0"


def write(path, **more):
    """A small file as Keras writes it, and what else is asked for."""
    with h5py.File(path, "w") as file:
        file[PLACE] = KERNEL
        file["model_weights/conv1/conv1/bias:0"] = KERNEL[0, 0, 0]
        for name, value in more.items():
            file.attrs[name] = value
    return path


def outside(path):
    """A file of somebody's, which is not to be read."""
    found = path.parent / "secret.h5"
    with h5py.File(found, "w") as file:
        file["kernel:0"] = KERNEL
    return found.name


def external_link(file, path):
    file["conv2/kernel:0"] = h5py.ExternalLink(outside(path), "kernel:0")


def soft_link(file, path):
    file["conv2/kernel:0"] = h5py.SoftLink(f"/{PLACE}")


def loop_of_soft_links(file, path):
    file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")


def loop_of_groups(file, path):
    file["model_weights/conv1/again"] = file["model_weights"]


def external_storage(file, path):
    (path.parent / "secret").write_bytes(bytes(24))
    file.create_dataset("conv2/bias:0", (6,), "<f4", external=[(path.parent / "secret", 0, 24)])


def virtual(file, path):
    layout = h5py.VirtualLayout((3, 3, 3, 2), "<f4")
    layout[:] = h5py.VirtualSource(outside(path), "kernel:0", (3, 3, 3, 2))
    file.create_virtual_dataset("conv2/kernel:0", layout)


def never_written(file, path):
    file.create_dataset("fc/kernel:0", (10_000, 1_000), "<f4")


def chunks_never_written(file, path):
    file.create_dataset("fc/kernel:0", HUNDRED_GB, "<f4", chunks=(1000, 1000))


def compressed_zeros(file, path):
    file.create_dataset("fc/kernel:0", (4000, 4000), "<f4", chunks=(4000, 4000), compression="gzip", data=np.zeros((4000, 4000), "<f4"))


def words(file, path):
    file.create_dataset("fc/kernel:0", (3,), h5py.string_dtype())


def references(file, path):
    file.create_dataset("fc/kernel:0", (3,), h5py.ref_dtype)


def compounds(file, path):
    file.create_dataset("fc/kernel:0", (3,), np.dtype([("a", "<f4"), ("b", "<f8")]))


def complex_numbers(file, path):
    file["fc/kernel:0"] = np.ones(3, complex)


def no_numbers(file, path):
    file["fc/kernel:0"] = h5py.Empty("<f4")


def many_groups(file, path):
    group = file.create_group("group")
    for number in range(hdf5.LARGEST_NUM_OBJECTS):
        file[f"group{number}"] = group


def groups_in_groups(file, path):
    """A few names that lead to 10^7 places."""
    group = file.create_group("z7")
    for depth in range(7):
        above = file.create_group(f"z{depth}")
        for number in range(10):
            above[f"{number}"] = group
        group = above


def depths(file, path):
    file["/".join("abcdefghijklmnopqrstuvwxyz")] = KERNEL


HARM = {
    external_link: "points elsewhere; do not trust it",
    soft_link: "points elsewhere; do not trust it",
    loop_of_soft_links: "points elsewhere; do not trust it",
    loop_of_groups: "objects and more; do not trust it",
    external_storage: "conv2/bias:0 in another; do not trust it",
    virtual: "conv2/kernel:0 in another; do not trust it",
    never_written: "fc/kernel:0 says it is 10000x1000, the file holds 0 bytes of it",
    chunks_never_written: "fc/kernel:0 says it is 25000x1000000, the file holds 0 bytes of it",
    compressed_zeros: "fc/kernel:0 compressed, as Keras never does",
    words: "expected numbers, found fc/kernel:0 of object",
    references: "expected numbers, found fc/kernel:0 of object",
    compounds: "expected numbers, found fc/kernel:0 of",
    complex_numbers: "expected numbers, found fc/kernel:0 of complex128",
    no_numbers: "expected numbers, found fc/kernel:0 of",
    many_groups: "objects and more; do not trust it",
    groups_in_groups: "objects and more; do not trust it",
    depths: "objects and more; do not trust it",
}


def rewrite(path, *changes):
    """Put other bytes into a file, as no library writes them: each change is what is there, and what is to be."""
    content = path.read_bytes()
    for old, new in changes:
        assert old in content
        assert len(old) == len(new)
        content = content.replace(old, new)
    path.write_bytes(content)
    return path


def chunks_that_claim_much(path):
    """Its one chunk says that it is 400 MB; the file has 36 kB."""
    with h5py.File(write(path), "a") as file:
        file.create_dataset("fc/kernel:0", data=np.ones((9, 1009), "<f4"), chunks=(9, 1009))
    sizes = (
        (struct.pack("<QQ", 9, 1009), struct.pack("<QQ", 10_000, 10_000)),
        (struct.pack("<II", 9, 1009), struct.pack("<II", 10_000, 10_000)),
    )
    return rewrite(path, *sizes, (struct.pack("<I", 9 * 1009 * 4), struct.pack("<I", 400_000_000)))


def one_text_a_thousand_times(path):
    """A list of texts, all of which are the one of 8 MB."""
    text, count = "Z" * 2**23, 1000
    with h5py.File(write(path), "a") as file:
        file.attrs["model_config"] = [text] + [f"{number:06}" for number in range(count - 1)]
    content = path.read_bytes()
    start = content.index(struct.pack("<I", len(text)))  # of 16 bytes for each: length, where, number
    references = content[start : start + 16 * count]
    assert references[16:20] == struct.pack("<I", 6)
    return rewrite(path, (references, references[:16] * count))


def a_text_of_gigabytes(path):
    """A file of ten kilobytes: the library would allocate all that before it looks."""
    text = json.dumps({"config": {"name": "x" * 12_000}})
    write(path, model_config=text)
    start = path.read_bytes().index(struct.pack("<I", len(text)))
    reference = path.read_bytes()[start : start + 16]
    return rewrite(path, (reference, struct.pack("<I", 4_000_000_000) + reference[4:]))


def brackets(path):
    """JSON that takes twenty times its length."""
    return write(path, model_config="[" + "[]," * 3_000_000 + "[]]")


CRAFTED = {
    chunks_that_claim_much: "fc/kernel:0 says it is 10000x10000, the file holds",
    one_text_a_thousand_times: "expected the configuration of a model as one text, found something else; do not trust it",
    a_text_of_gigabytes: "expected a configuration of at most 2,097,152 bytes, found one that claims 4,000,000,000",
    brackets: "expected a configuration of at most 2,097,152 bytes, found one that claims 9,000,004",
}


def harmful(harm, folder):
    path = write(folder / f"{harm.__name__}.h5")
    with h5py.File(path, "a") as file:
        harm(file, path)
    return path


def refusal(path):
    with pytest.raises(WeightsError) as caught:
        open_foreign(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_small_file(tmp_path):
    model = {"class_name": "Functional", "config": {"layers": [{"class_name": "BatchNormalization", "config": {"epsilon": 0.002}}] * 2}}
    file = read_hdf5(write(tmp_path / "net.h5", model_config=json.dumps(model)))
    assert {name: tensor.shape for name, tensor in file.tensors.items()} == {"conv1/kernel": (3, 3, 3, 2), "conv1/bias": (2,)}
    np.testing.assert_array_equal(file.tensors["conv1/kernel"].read(), KERNEL)
    assert file.metadata == {"epsilon": "0.002"}


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_what_would_do_harm_is_refused(harm, tmp_path):
    assert HARM[harm] in refusal(harmful(harm, tmp_path))


@pytest.mark.parametrize("is_ordered", [False, True])
@pytest.mark.parametrize("libver", ["earliest", "latest"])
@pytest.mark.parametrize("as_", [str, np.bytes_])
@pytest.mark.parametrize("num_attributes", [0, 3, 30])
def test_a_configuration_wherever_the_library_puts_it(num_attributes, as_, libver, is_ordered, tmp_path):
    """Beside other attributes, which fill more than one block of a header; of the newest format many are no longer in it."""
    path = write(tmp_path / "net.h5")
    with h5py.File(tmp_path / "net.h5", "w", libver=libver, track_order=is_ordered) as file:
        file[PLACE] = KERNEL
        for number in range(num_attributes):
            file.attrs[f"before {number}"] = "model_config"
        file.attrs["model_config"] = as_(of_a_norm(0.002))
        file.attrs["training_config"] = "{}"
    if num_attributes == 30 and as_ is str and (is_ordered or libver == "latest"):
        assert "cannot be read (attributes outside of the header of their object)" in refusal(path)
        return
    assert read_hdf5(path).metadata == {"epsilon": "0.002"}


def header(kind, body, flags=0):
    """An object header of version 1 at the beginning of a file, with one message."""
    message = struct.pack("<HHB3x", kind, len(body), flags) + body
    return struct.pack("<BxHII4x", 1, 1, 1, len(message)) + message


def attribute(name, length):
    return struct.pack("<BxHHH", 1, len(name) + 1, 8, 8) + name.ljust(8, b"\0") + bytes(16) + struct.pack("<I12x", length)


def test_a_header_that_is_read_by_hand(tmp_path):
    (tmp_path / "net.h5").write_bytes(header(0x0C, attribute(b"config", 1234)))
    assert claimed_text_bytes(tmp_path / "net.h5", 0, "config") == 1234
    with pytest.raises(ValueError, match="no model in the header"):
        claimed_text_bytes(tmp_path / "net.h5", 0, "model")


HEADERS = {
    "a header of megabytes": header(0x10, struct.pack("<QQ", 16, 24)),  # which goes on at its own beginning
    "beyond the end of the file": header(0x10, struct.pack("<QQ", 2**40, 24)),
    "that several objects share": header(0x0C, attribute(b"config", 1), flags=2),
    "an attribute that is cut": header(0x0C, attribute(b"config", 1)[:-8]),
    "outside of the header": header(0x15, struct.pack("<BBQQ", 0, 0, 4096, 8192)),
}


@pytest.mark.parametrize("found", HEADERS)
def test_a_header_that_no_library_writes(found, tmp_path):
    (tmp_path / "net.h5").write_bytes(HEADERS[found])
    with pytest.raises(ValueError, match=found):
        claimed_text_bytes(tmp_path / "net.h5", 0, "config")


def test_a_header_of_the_newest_format_that_says_when_attributes_leave_it(tmp_path):
    message = struct.pack("<BHB", 0x0C, len(attribute(b"config", 1234)), 0) + attribute(b"config", 1234)
    (tmp_path / "net.h5").write_bytes(b"OHDR" + struct.pack("<BB16xHHB", 2, 0x30, 8, 6, len(message)) + message)
    assert claimed_text_bytes(tmp_path / "net.h5", 0, "config") == 1234


@pytest.mark.parametrize("craft", CRAFTED, ids=lambda craft: craft.__name__)
def test_what_was_crafted_is_refused(craft, tmp_path):
    assert CRAFTED[craft] in refusal(craft(tmp_path / "net.h5"))


def test_no_harm_takes_memory_or_time(tmp_path):
    """In a process that may have a quarter of a gigabyte more than it has when all is imported."""
    for harm in HARM:
        harmful(harm, tmp_path)
    for craft in CRAFTED:
        craft(tmp_path / f"{craft.__name__}.h5")
    (tmp_path / "secret.h5").unlink()
    code = f"""
import resource, time
from pathlib import Path
import h5py
from provenet.errors import WeightsError
from provenet.weights.formats.opening import open_foreign
has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (has + 2**28, has + 2**28))
for path in sorted(Path({str(tmp_path)!r}).glob("*.h5")):
    started = time.process_time()
    try:
        open_foreign(path)
    except WeightsError:
        print(path.stem, time.process_time() - started)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    seconds = dict(line.split() for line in done.stdout.splitlines())
    assert set(seconds) == {harm.__name__ for harm in (*HARM, *CRAFTED)}
    assert max(map(float, seconds.values())) < 2


def test_too_many_objects_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(hdf5, "LARGEST_NUM_OBJECTS", 100)
    path = write(tmp_path / "net.h5")
    with h5py.File(path, "a") as file:
        for number in range(200):
            file.create_group(f"group{number}")
    assert "objects and more; do not trust it" in refusal(path)


def test_numbers_that_are_not_where_the_file_says(tmp_path):
    """What cannot be read is seen only when it is read."""
    path = tmp_path / "net.h5"
    with h5py.File(path, "w") as file:
        place = file.create_dataset(PLACE, data=KERNEL, chunks=KERNEL.shape).id.get_chunk_info(0).byte_offset
    rewrite(path, (struct.pack("<Q", place), struct.pack("<Q", 2**40)))
    tensor = read_hdf5(path).tensors["conv1/kernel"]
    with pytest.raises(WeightsError, match="conv1/kernel:0: expected numbers, found none that can be read") as caught:
        tensor.read()
    assert "\n" not in str(caught.value)


def test_lists_of_names_are_not_followed(tmp_path):
    """Keras finds weights by two lists; here only what is in the file counts."""
    path = write(tmp_path / "net.h5", layer_names=[b"nowhere", b"../.."])
    outside(path)
    with h5py.File(path, "a") as file:
        file["model_weights/conv1"].attrs["weight_names"] = [b"../../secret.h5", b"/etc/passwd"]
    assert set(read_hdf5(path).tensors) == {"conv1/kernel", "conv1/bias"}
    with pytest.raises(WeightsError, match="found 2 tensors of another") as caught:
        import_weights(path)
    assert "\n" not in str(caught.value)


def of_a_norm(epsilon):
    return json.dumps({"class_name": "BatchNormalization", "config": {"epsilon": epsilon}})


NO_CONFIGURATIONS = {
    "cut": "{",
    "deep": "[" * 100_000,
    "words": of_a_norm("much"),
    "below zero": of_a_norm(-5),
    "zero": of_a_norm(0.0),
    "no number": of_a_norm(float("nan")),
    "infinite": of_a_norm(float("inf")),
    "400 digits": of_a_norm(10**400),
}


@pytest.mark.parametrize("config", NO_CONFIGURATIONS.values(), ids=NO_CONFIGURATIONS)
def test_a_configuration_that_is_none_is_refused(config, tmp_path):
    path = write(tmp_path / "net.h5")
    with h5py.File(path, "a", libver="latest") as file:
        file.attrs["model_config"] = config
    assert "expected an HDF5 file of Keras, found one that cannot be read" in refusal(path)


@pytest.mark.parametrize("config", ["1", "[]", '{"class_name": "Lambda", "config": "import os"}'])
def test_a_configuration_that_says_nothing_of_norms_is_passed_over(config, tmp_path):
    file = open_foreign(write(tmp_path / "net.h5", model_config=config))
    assert set(file.tensors) == {"conv1/kernel", "conv1/bias"}
    assert not file.metadata


def test_files_that_are_damaged(tmp_path):
    whole = write(tmp_path / "net.h5").read_bytes()
    for name, content in {"cut": whole[:1500], "begun": whole[:10], "none": b"", "words": b"no HDF5 at all\n"}.items():
        path = tmp_path / f"{name}.h5"
        path.write_bytes(content)
        assert str(path) in refusal(path)


def test_an_archive_of_keras_says_what_to_do(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("model.weights.h5", b"")
    assert "unpack its model.weights.h5" in refusal(tmp_path / "net.keras")


@pytest.mark.slow
def test_damage_anywhere_is_a_line_or_none(tmp_path):
    """In processes of their own: the library is C."""
    write(tmp_path / "net.h5", model_config=json.dumps({"config": {}}))
    code = f"""
import random, sys
from pathlib import Path
from provenet.errors import WeightsError
from provenet.weights.formats.hdf5 import read_hdf5
whole, generator = Path({str(tmp_path / "net.h5")!r}).read_bytes(), random.Random(int(sys.argv[1]))
path = Path({str(tmp_path)!r}) / f"{{sys.argv[1]}}.h5"
refused = 0
for _ in range(400):
    content = bytearray(whole)
    for _ in range(generator.choice((1, 1, 2, 8))):
        content[generator.randrange(len(content))] = generator.randrange(256)
    path.write_bytes(content)
    try:
        for tensor in read_hdf5(path).tensors.values():
            tensor.read()
    except WeightsError as error:
        assert "\\n" not in str(error)
        refused += 1
print(refused)
"""
    for seed in range(3):
        done = subprocess.run([sys.executable, "-c", code, str(seed)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 10


@pytest.mark.parametrize("broken", ["sys.modules['h5py'] = None", "sys.meta_path.insert(0, Broken())"])
def test_without_the_library_the_line_names_what_to_install(broken, tmp_path):
    path = write(tmp_path / "net.h5")
    code = f"""
import sys
class Broken:
    def find_spec(self, name, *_):
        if name == "h5py":
            raise RuntimeError("compiled for another world")
{broken}
from provenet.errors import WeightsError
from provenet.weights.formats.hdf5 import read_hdf5
from pathlib import Path
try:
    read_hdf5(Path({str(path)!r}))
except WeightsError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = done.stdout.splitlines()
    assert line.endswith("install provenet[keras]")
