"""The machine in words: what a result depends on, and not whose it is."""

import getpass
import platform

import torch

from provenet.runtime import count_cores, describe_machine


def test_the_machine_is_described_and_its_owner_is_not():
    described = describe_machine("cpu")
    assert described["cores"] == count_cores()
    assert described["threads"] == torch.get_num_threads()
    assert described["device"] == "cpu"
    assert platform.system() in described["system"]
    assert described["processor"]
    words = " ".join(map(str, described.values())).split()
    assert platform.node() not in words
    assert getpass.getuser() not in words


def test_the_memory_is_what_the_system_says():
    memory = describe_machine().get("memory", "")
    if platform.system() == "Linux":
        with open("/proc/meminfo", encoding="ascii") as file:
            kilobytes = int(file.readline().split()[1])
        assert 1 <= int(memory.split()[0]) <= kilobytes / 2**20 + 1
        assert memory.endswith(" GiB")
