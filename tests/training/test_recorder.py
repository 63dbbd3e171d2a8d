"""The log: whole lines, once each, whatever the disk does."""

import json

import pytest

from provenet.training.recorder import Log, read_log


def test_a_full_disk_never_has_half_a_line(small_disk):
    told = []
    log = Log(small_disk / "log.jsonl", told.append)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(380_000))
    for number in range(300):
        log.write("step", step=number, text="x" * 300)
    assert log.is_behind
    there = (small_disk / "log.jsonl").read_text()
    assert there.endswith("}\n")
    assert len(there) == log.num_bytes > 3_000
    assert [json.loads(line)["step"] for line in there.splitlines()] == list(range(len(there.splitlines())))
    assert told == [f"{small_disk / 'log.jsonl'}: expected to write, found: No space left on device; its lines wait, the run goes on"]
    filler.unlink()
    log.write("end")
    log.close()
    assert not log.is_behind
    events = read_log(small_disk / "log.jsonl")
    assert [event.get("step") for event in events] == [*range(300), None]


def test_going_on_from_a_snapshot_forgets_what_was_logged_after_it(tmp_path):
    log = Log(tmp_path / "log.jsonl", pytest.fail)
    log.write("step", step=1)
    kept = log.num_bytes
    log.write("step", step=2)
    log.close()
    again = Log(tmp_path / "log.jsonl", pytest.fail, keep_bytes=kept)
    again.write("step", step=2.5)
    again.close()
    assert [event["step"] for event in read_log(tmp_path / "log.jsonl")] == [1, 2.5]
    longer = Log(tmp_path / "log.jsonl", pytest.fail, keep_bytes=10**9)  # a power cut took the rest
    longer.write("step", step=3)
    longer.close()
    assert [event["step"] for event in read_log(tmp_path / "log.jsonl")] == [1, 2.5, 3]


def test_what_is_no_event_is_passed_over(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"event": "start"}\n[1]\nrubbish \xff\n{"event": 3}\n{"even\n{"event": "end"}\n' + b"[" * 100_000)
    assert [event["event"] for event in read_log(path)] == ["start", "end"]
    assert read_log(tmp_path / "missing") == []
