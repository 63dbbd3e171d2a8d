"""The wire format: written by hand from its description, damaged in every way, and meant to do harm."""

import tracemalloc

import numpy as np
import pytest
from protobuf_writer import integer, integers, packed_integers, packed_reals, real, sized, varint

from provenet.errors import WeightsError
from provenet.weights.formats.protobuf import DEEPEST, MOST_FIELDS, Message, Source, open_message


@pytest.fixture
def message(tmp_path):
    def message(content):
        path = tmp_path / "file.pb"
        path.write_bytes(content)
        return open_message(path, "a test")

    return message


def refused(read):
    """The one line with which something is refused, which takes next to no memory."""
    tracemalloc.start()
    try:
        with pytest.raises(WeightsError) as caught:
            read()
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert "file.pb: expected a test" in str(caught.value)
    assert most_bytes < 1_000_000
    return str(caught.value)


def test_the_examples_of_the_description(message):
    # https://protobuf.dev/programming-guides/encoding: a = 150; b = "testing"; a message in a message; packed 3, 270, 86942
    assert message(bytes.fromhex("089601")).integer(1) == 150
    assert message(bytes.fromhex("120774657374696e67")).text(2) == "testing"
    assert message(bytes.fromhex("1a03089601")).message(3).integer(1) == 150
    assert message(bytes.fromhex("3206038e029ea705")).integers(6) == [3, 270, 86942]


def test_numbers_of_every_kind(message):
    read = message(
        integer(1, -2) + integer(2, 2**63 - 1) + real(3, 1.5) + packed_reals(4, [1, 2.5]) + packed_reals(5, [0.1], "<f8") + integer(1, -1)
    )
    assert read.integer(1) == -1  # the last one counts
    assert read.integer(2) == 2**63 - 1
    assert read.real(3) == 1.5
    assert read.reals(4) == [1, 2.5]
    assert read.numbers(5, "<f8")[1]().tolist() == [0.1]
    assert 9 not in read
    assert (read.integer(9, 7), read.real(9, 0.5), read.text(9, "none"), read.integers(9), read.reals(9)) == (7, 0.5, "none", [], [])
    assert read.message(9).integer(1) == 0


def test_packed_or_not_and_in_pieces_is_the_same(message):
    values = [0, -1, 127, 128, 2**62, -(2**63), 300]
    for written in (packed_integers(1, values), integers(1, values), packed_integers(1, values[:3]) + packed_integers(1, values[3:])):
        assert message(written).integers(1) == values
    for written in (packed_reals(2, [1, 2]), real(2, 1) + real(2, 2)):
        assert message(written).reals(2) == [1, 2]


def test_many_packed_numbers_are_counted_before_they_are_read(message):
    values = np.random.default_rng(0).integers(-(2**62), 2**62, 300_000) >> np.arange(300_000) % 62  # more than a megabyte, of all lengths
    count, read = message(packed_integers(1, values.tolist())).numbers(1, "varint")
    assert count == 300_000
    np.testing.assert_array_equal(read(), values)


def test_fields_nobody_asks_for_are_passed_over(message):
    read = message(sized(7, b"\xff" * 100) + real(8, 1) + varint(9 << 3 | 1) + b"12345678" + integer(1, 5))
    assert read.integer(1) == 5


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\x0a\x05abc", "cut short"),
        (b"\x08", "a number that is cut short"),
        (b"\x08\x96", "a number that is cut short"),
        (b"\x0d\x00\x00", "cut short"),
        (b"\x09\x00\x00", "cut short"),
        (b"\x0b\x0c", "no protobuf message"),  # a group
        (b"\x00\x00", "no protobuf message"),  # field 0
        (b"\x0f", "no protobuf message"),  # wire type 7
        (b"\x08" + b"\xff" * 10 + b"\x01", "no protobuf message"),
        (b"\x0a" + varint(2**63) + b"abc", "9,223,372,036,854,775,808 bytes where 3 are left"),
        (b"\x0a" + varint(2**64 - 1), "where 0 are left"),
    ],
)
def test_bytes_that_break_the_format(message, content, found):
    assert found in refused(lambda: message(content).integer(1))


def test_lists_that_break_the_format(message):
    assert "multiple of 4" in refused(lambda: message(sized(1, b"abc")).reals(1))
    assert "cut short" in refused(lambda: message(sized(1, b"\x80")).integers(1))
    assert "ten bytes" in refused(lambda: message(sized(1, b"\x80" * 11 + b"\x01")).integers(1))
    assert "where a few belong" in refused(lambda: message(sized(1, b"\x01" * 5000)).integers(1))
    assert "where a few belong" in refused(lambda: message(sized(1, b"\x01" * 40_000)).reals(1))
    assert "a name of 20,000 bytes" in refused(lambda: message(sized(1, b"\x01" * 20_000)).text(1))


def test_ten_million_messages_inside_one_another():
    source = Source("file.pb", "a test")
    deep = Message(memoryview(b"\x0a\x7f" * 64), source)

    def descend():
        inner = deep
        for _ in range(10_000_000):
            inner = Message(deep.content, source, inner.depth + 1)

    assert f"deeper than {DEEPEST}" in refused(descend)


def test_millions_of_tiny_fields(tmp_path):
    path = tmp_path / "file.pb"
    path.write_bytes(b"\x08\x01" * (MOST_FIELDS + 1))
    with pytest.raises(WeightsError, match=f"more than {MOST_FIELDS:,} fields"):
        open_message(path, "a test").integer(1)
    path.write_bytes(b"\x08\x01" * MOST_FIELDS)
    assert open_message(path, "a test").integer(1) == 1


def test_what_is_no_file(tmp_path, message):
    path = tmp_path / "file.pb"
    assert "found nothing; check the path" in refused(lambda: open_message(path, "a test"))
    assert "an empty file" in refused(lambda: message(b""))
    path.unlink()
    path.mkdir()
    assert "something that is no file" in refused(lambda: open_message(path, "a test"))


def test_a_file_above_the_limit_is_refused_unread(tmp_path):
    path = tmp_path / "file.pb"
    with path.open("wb") as file:
        file.truncate(2**31 + 1)  # a hole: it takes no room
    assert "at most 2,147,483,648 bytes" in refused(lambda: open_message(path, "a test"))


def test_values_are_slices_of_the_file(message):
    content = sized(1, bytes(5_000_000))
    read = message(content)
    tracemalloc.start()
    assert len(read.bytes_of(1)) == 5_000_000
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
