"""What the library really allocates and saves while something runs: the other road of the tests of summaries."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

ALLOCATING = {f"aten::{name}" for name in ("empty", "empty_strided", "empty_like", "to", "_to_copy", "contiguous", "clone", "resize_")}
"""Operations that ask for memory on behalf of another one."""


class Block(NamedTuple):
    """What the allocator gave out while something ran."""

    size: int
    born: float
    died: float | None
    """None: not while it ran."""
    is_scratch: bool
    """Whether it died within the operation that asked for it: working space of a kernel, which no tensor that leaves it has."""
    is_constant: bool
    """Whether it is a plain number in Python, which the library makes a tensor of eight bytes before it calls an operation."""

    @property
    def is_activation(self) -> bool:
        return not self.is_scratch and not self.is_constant


def record_blocks(run: Callable[[], object], folder: Path) -> list[Block]:
    """Every block of memory that the library's allocator gives out while `run` runs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = run()  # kept until the recording ends
    profiler.export_chrome_trace(str(folder / "trace.json"))
    del result
    events = json.loads((folder / "trace.json").read_text())["traceEvents"]
    operations = [(event["ts"], event["ts"] + event["dur"], event["name"]) for event in events if event.get("cat") == "cpu_op"]
    operations = [operation for operation in operations if operation[2] not in ALLOCATING]
    alive: dict[int, Block] = {}
    makers: dict[int, Any] = {}
    blocks = []
    for event in sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"]):
        size, address, moment = event["args"]["Bytes"], event["args"]["Addr"], event["ts"]
        within = [operation for operation in operations if operation[0] <= moment <= operation[1]]
        if size > 0:
            alive[address] = Block(size, moment, None, is_scratch=False, is_constant=size == 8 and not within)
            makers[address] = max(within, default=None)  # the innermost
        elif address in alive:  # else it was there before
            blocks.append(alive.pop(address)._replace(died=moment, is_scratch=makers[address] in within))
    return [*blocks, *alive.values()]


def worst_moment(blocks: list[Block]) -> int:
    """Bytes that are there at most at one time."""
    changes = [(block.born, block.size) for block in blocks]
    changes += [(block.died, -block.size) for block in blocks if block.died is not None]
    now = worst = 0
    for _, size in sorted(changes):
        now += size
        worst = max(worst, now)
    return worst


class Saved(NamedTuple):
    """What autograd saves in one forward pass: bytes of storages by the stage that made them, and how many there are."""

    by_stage: dict[str, int]
    num_storages: int

    @property
    def total(self) -> int:
        return sum(self.by_stage.values())


class _Makers(TorchDispatchMode):
    """Notes in which stage each storage appears first."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.stage = ""
        self.storages: dict[int, tuple[str, Any]] = {}  # with the storage itself, so that no other gets its number
        self.hooks = [child.register_forward_pre_hook(lambda *_, name=name: self.enter(name)) for name, child in net.named_children()]
        for head in getattr(net, "auxiliary", nn.ModuleDict()).values():  # a dictionary is never called itself
            self.hooks.append(head.register_forward_pre_hook(lambda *_: self.enter("auxiliary")))

    def enter(self, name: str) -> None:
        self.stage = name

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple | list) else (output,):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                self.storages.setdefault(storage._cdata, (self.stage, storage))
        return output


def record_saved(net: nn.Module, run: Callable[[], object]) -> Saved:
    """Everything that `run` saves for a backward pass, each storage once, without parameters and buffers."""
    own = {tensor.untyped_storage()._cdata for tensor in [*net.parameters(), *net.buffers()]}
    makers = _Makers(net)
    saved: dict[int, tuple[str, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own | saved.keys():  # the image appears at whoever keeps it first
            maker, _ = makers.storages.get(storage._cdata, (makers.stage, None))
            saved[storage._cdata] = (maker, storage.nbytes())
        return tensor.detach()

    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), makers:
            result = run()
    finally:
        for hook in makers.hooks:
            hook.remove()
    del result
    by_stage: dict[str, int] = {}
    for stage, size in saved.values():
        by_stage[stage] = by_stage.get(stage, 0) + size
    return Saved(by_stage, len(saved))
