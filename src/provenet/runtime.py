"""The machine: which device, how many threads, which seed, and an allocator that keeps large activations."""

import contextlib
import ctypes
import gc
import logging
import os
import platform
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from provenet.errors import SettingsError

DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str = "auto") -> torch.device:
    """`auto` takes the accelerator where there is one; a device that is not there is an error, not a slow surprise."""
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if available[device]))
    if name not in available:
        raise SettingsError(f"--device: expected one of {', '.join(DEVICES)}, found {name!r}")
    if not available[name]:
        here = ", ".join(device for device, there in available.items() if there)
        raise SettingsError(f"--device {name}: this machine (torch {torch.__version__}) has none; here there is: {here}")
    return torch.device(name)


def place(net: nn.Module, device: torch.device) -> None:
    """Move a network to the device, its weights in the memory layout in which convolutions are fastest (channels last)."""
    net.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]


def count_cores() -> int:
    """Cores this process may use: the affinity mask and the container's quota, whichever is less.

    `os.cpu_count()` sees neither and oversubscribes shared machines.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def describe_machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """What a time or a result depends on, for people; nothing that tells whose machine it is."""
    described: dict[str, Any] = {
        "processor": _processor(),
        "cores": count_cores(),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "device": str(device),
        "threads": torch.get_num_threads(),
    }
    if torch.device(device).type == "cuda":
        described["accelerator"] = torch.cuda.get_device_name(device)
    return {name: value for name, value in described.items() if value}


def _processor() -> str:
    with contextlib.suppress(OSError):  # platform.processor() says nothing on Linux
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return " ".join(line.partition(":")[2].split())
    return platform.processor() or platform.machine()


def _memory() -> str:
    """What this process may have: the machine's, or its container's where that is less."""
    memory_bytes = 0
    with contextlib.suppress(OSError, ValueError, AttributeError):
        memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory_bytes = min(memory_bytes, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return f"{memory_bytes / 2**30:.0f} GiB" if memory_bytes > 0 else ""


def prepare_process() -> None:
    """What the command line sets once when it starts, and a library must not set on import.

    Threads (unless OMP_NUM_THREADS says how many), the allocator, and which of other libraries' remarks are not worth a line.
    """
    gc.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(count_cores())
    keep_large_blocks()
    warnings.filterwarnings("ignore", module="PIL")  # odd metadata of pictures that decode; those that do not are named
    logging.getLogger("PIL").addHandler(logging.NullHandler())


def keep_large_blocks() -> None:
    """Tell glibc to reuse large blocks instead of returning them to the system.

    By default every large activation is mapped and its pages are faulted in anew at each step, which can double a step's time.
    """
    if not sys.platform.startswith("linux"):
        return
    trim_threshold, mmap_max = -1, -4  # M_TRIM_THRESHOLD, M_MMAP_MAX of malloc.h
    with contextlib.suppress(OSError, AttributeError):  # another C library has no mallopt
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(mmap_max, 0)
        mallopt(trim_threshold, 2**31 - 1)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread inside, for many short operations.

    To share one out takes longer than a short one itself; and where other work has the second core, each waits for it, a thousand times.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global random state set to `seed` inside, and put back afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
