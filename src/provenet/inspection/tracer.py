"""A pass through a network, watched: every operation that the library carries out, noted at the layer in which it runs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from provenet.inspection.costs import COMPUTES_NOTHING, count_elementwise, count_macs, is_pointwise, kind_of, operation_of
from provenet.inspection.fields import Field, field_of_picture, follow
from provenet.inspection.meta import run_operation, tensors_in, window_of
from provenet.models.blocks import FlattenMaps, ResponseNorm, ZeroPadding
from provenet.models.lenet import RBFOutput, ScaledTanh, SparseConvolution, Subsampling

KINDS: dict[type[nn.Module], str] = {
    ResponseNorm: "response_norm",
    ZeroPadding: "zero_padding",
    Subsampling: "subsampling",
    SparseConvolution: "sparse_convolution",
    RBFOutput: "rbf",
    ScaledTanh: "squash",
    FlattenMaps: "flatten",
    nn.Flatten: "flatten",
    nn.Identity: "identity",
    nn.Linear: "linear",
    nn.Dropout: "dropout",
    nn.Dropout2d: "dropout",
    nn.LocalResponseNorm: "response_norm",
}
"""Layers that are one thing, whatever the library makes of them."""


@dataclass(eq=False)
class Step:
    """One thing that runs."""

    name: str
    """The layer's path (`conv1.conv`; called again: `relu (2)`), or that of the module around it and the kind (`conv2_x.block1.add`)."""
    module: str
    """Path of the layer, or of the module around a functional operation."""
    kind: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    """What it was told: kernel, stride, padding and so on."""
    output: tuple[int, ...] = ()
    """Shape of one sample's output: (C, H, W), or (F,)."""
    parameters: int = 0
    """Its own, 0 where an earlier step has them already."""
    macs: int = 0
    elementwise: int = 0
    activation_bytes: int = 0
    """Of what it hands on, what it had to ask memory for."""
    inference_bytes: int = 0
    """All activations alive at its worst moment, when nothing is kept for a backward pass."""
    training_bytes: int = 0
    """Of what it made, what is kept for the backward pass."""
    receptive_field: Field | None = None
    reads: list[int] = field(default_factory=list)
    """Numbers of the steps whose output it was given; -1 is the input."""
    operations: list[str] = field(default_factory=list)
    """What the library carried out in it, by kind; of a layer that is one thing, that."""


@dataclass(frozen=True)
class Traced:
    """One module that ran."""

    output: tuple[int, ...]
    """Shape of one picture's output: (C, H, W), or (F,)."""
    macs: int
    """Multiply-adds of convolutions and matrix products in it, as the papers count them."""
    reads: str | None = None
    """The path of the module whose output it was given, where it was given one as it stood."""


@dataclass(frozen=True)
class Trace:
    """All that ran for one sample."""

    steps: list[Step]
    modules: dict[str, Traced]
    """By path, in the order in which they end; a stage after its layers."""
    inference_bytes: int
    """The most that was alive at once, the input with it."""
    results: list[int]
    """Numbers of the steps that made the outputs."""


class Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation at the step in which it runs. What is known of a tensor is written on it, and views hand it on."""

    def __init__(self, root: nn.Module, prefix: str, given: list[Tensor], parameters: list[Tensor], weights: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.paths = {module: path.removeprefix(prefix) for path, module in root.named_modules() if module is not root or not prefix}
        self.steps: list[Step] = []
        self.modules: dict[str, Traced] = {}
        self.names: Counter[str] = Counter(self.paths.values())
        self.stack: list[_Frame] = []
        self.leaf: Step | None = None
        self.outside = {_key(tensor) for tensor in weights}
        self.parameters = {_key(tensor): tensor.numel() for tensor in parameters}
        self.seen_parameters: set[int] = set()
        self.makers: dict[int, int] = {}
        """Storage -> number of the step that last wrote it."""
        self.origins: dict[int, int] = {}
        """Storage -> number of the step that asked for it."""
        self.alive: dict[int, tuple[Any, int]] = {}
        self.kept: dict[int, Any] = {}
        self.waiting_weights: list[Tensor] = []
        """Of what no step has used yet: weights that are made of weights."""
        self.waiting_bytes = 0
        self.worst = 0
        for tensor in given:
            self._note_storage(tensor, -1)
            self.makers[_key(tensor)] = -1
            if tensor.is_floating_point() and tensor.ndim >= 3:
                tensor._field = field_of_picture(tensor.ndim - 2)  # type: ignore[attr-defined]
            tensor._step = -1  # type: ignore[attr-defined]

    @property
    def where(self) -> str:
        """Path of the module that is running."""
        return self.stack[-1].path if self.stack else ""

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Hooks on every module."""
        hooks = []
        try:
            for module in self.paths:
                hooks.append(module.register_forward_pre_hook(self._enter, prepend=True))
                hooks.append(module.register_forward_hook(self._leave))
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def finish(self, output: Any) -> Trace:
        """The whole."""
        if self.steps:
            self.steps[-1].training_bytes += self.waiting_bytes
        results = [number for tensor in tensors_in(output) if (number := self._maker(tensor)) is not None]
        return Trace(self.steps, self.modules, self.worst, list(dict.fromkeys(results)))

    def keep(self, tensor: Tensor) -> None:
        """A tensor that the backward pass will need: its bytes count once, at the step that made it."""
        key = _key(tensor)
        if key in self.outside or key in self.kept:
            return
        self.kept[key] = _weak(tensor)  # which keeps the number from being given again
        maker, nbytes = self.origins.get(key, -1), tensor.untyped_storage().nbytes()
        if maker >= 0:
            self.steps[maker].training_bytes += nbytes
        elif self.leaf is not None:
            self.leaf.training_bytes += nbytes
        else:
            self.waiting_bytes += nbytes  # inputs are kept before the operation is seen here

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        path = self.paths[module]
        tensors = list(tensors_in(inputs))
        self.stack.append(_Frame(path, getattr(tensors[0], "_path", None) if tensors else None))
        if self.leaf is None and not any(True for _ in module.children()):
            self.leaf = self._begin(path or type(module).__name__, path)
            self.leaf.reads = [number for tensor in tensors if (number := self._maker(tensor)) is not None]
            self.leaf.parameters = self._count_parameters([*module.parameters(), *tensors, *self.waiting_weights])
            self.waiting_weights.clear()

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        frame = self.stack.pop()
        if self.stack:
            self.stack[-1].macs += frame.macs
        tensors = list(tensors_in(output))
        if self.leaf is not None and not any(True for _ in module.children()):
            step, self.leaf = self.leaf, None
            if isinstance(output, Tensor) and any(output is tensor for tensor in tensors_in(inputs)):
                output = output.view_as(output)  # an own name for what went through unchanged
                tensors = [output]
            self._end_layer(step, module, tensors)
            if isinstance(module, SparseConvolution):  # runs as a dense one
                self._count(step, prod(tensors[0].shape[2:]) * module.weight.numel() - step.macs)
                frame.macs = step.macs
        if tensors and frame.path and frame.path not in self.modules:
            self.modules[frame.path] = Traced(tuple(tensors[0].shape[1:]), frame.macs, frame.reads)
        for tensor in tensors:
            tensor._path = frame.path  # type: ignore[attr-defined]
        return output

    def _begin(self, name: str, module: str) -> Step:
        self.steps.append(Step(name if not self._is_taken(name) else f"{name} ({self.names[f'call {name}'] + 1})", module))
        self.names[f"call {name}"] += 1
        return self.steps[-1]

    def _is_taken(self, name: str) -> bool:
        return bool(self.names[f"call {name}"])

    def _end_layer(self, step: Step, module: nn.Module, outputs: list[Tensor]) -> None:
        number = len(self.steps) - 1
        known = KINDS.get(type(module))
        known = None if known == "flatten" and step.operations else known  # maps of another size are averaged
        step.kind = known or (step.operations[0] if len(step.operations) == 1 else type(module).__name__)
        step.settings = (step.settings if len(step.operations) == 1 else {}) or _settings(module)
        step.operations = [known] if known is not None else step.operations
        if outputs:
            step.output = tuple(outputs[0].shape[1:])
            step.receptive_field = getattr(outputs[0], "_field", None) or self._field_of_window(module, step)
        for output in outputs:
            if self.origins.get(_key(output)) == number:
                step.activation_bytes += output.untyped_storage().nbytes()
            output._step = number  # type: ignore[attr-defined]
            if step.receptive_field is not None and not hasattr(output, "_field"):
                output._field = step.receptive_field  # type: ignore[attr-defined]

    def _field_of_window(self, module: nn.Module, step: Step) -> Field | None:
        """Of a layer that says what its window is, though its operations do not."""
        window = [getattr(module, name, None) for name in ("kernel_size", "stride", "padding")]
        before = next((self.steps[number].receptive_field for number in step.reads if number >= 0), None)
        if before is None or not all(isinstance(value, int) for value in window):
            return None
        return tuple(side.through_window(*window) for side in before)  # type: ignore[arg-type]

    def _count_parameters(self, tensors: Iterable[Tensor]) -> int:
        """Of those that are parameters, or views of some, what no earlier step has."""
        own = {key: self.parameters[key] for tensor in tensors if (key := _key(tensor)) in self.parameters}
        new = {key: numel for key, numel in own.items() if key not in self.seen_parameters}
        self.seen_parameters |= set(new)
        return sum(new.values())

    def _maker(self, tensor: Tensor) -> int | None:
        number = getattr(tensor, "_step", None)
        return number if number is not None else self.makers.get(_key(tensor))

    def _count(self, step: Step, macs: int) -> None:
        step.macs += macs
        if self.stack:
            self.stack[-1].macs += macs

    def _note_storage(self, tensor: Tensor, number: int, before: Set[int] = frozenset()) -> None:
        """Memory that is new, and nobody's from outside. Its number may have been another's, which is gone."""
        key = _key(tensor)
        if key not in self.alive and key not in self.outside and key not in before:
            self.alive[key] = (_weak(tensor), tensor.untyped_storage().nbytes())
            self.origins[key] = number
            self.makers.pop(key, None)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # the library asks; its answer for every other mode begins by importing the compiler, which takes seconds

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        operation = operation_of(func)
        given = list(tensors_in(args))
        result = run_operation(func, operation, args, kwargs)
        outputs = list(tensors_in(result))
        if not outputs:
            return result
        makers = [number for tensor in given if (number := self._maker(tensor)) is not None]
        is_of_weights = all(_key(tensor) in self.outside for tensor in given)
        computes = operation not in COMPUTES_NOTHING and not is_of_weights  # what is made of weights alone is no step
        if is_of_weights and self.leaf is None:
            self.waiting_weights += given
        is_step = self.leaf is None and computes
        step = self._begin_functional(kind_of(operation)) if is_step else self.leaf
        number = len(self.steps) - 1
        before = {_key(tensor) for tensor in given}
        for tensor in given:
            if tensor.is_meta:  # `torch.tensor` is no operation that is seen
                self._note_storage(tensor, number)
        for tensor in outputs:
            self._note_storage(tensor, number, before)
            if computes:
                self.makers[_key(tensor)] = number
        first = outputs[0]
        fields = [(tensor, tensor._field) for tensor in given if getattr(tensor, "_field", None) is not None]  # type: ignore[attr-defined]
        maps = given[:1] if operation == "convolution" else given  # its weights may be made by steps
        is_lost = any(not hasattr(tensor, "_field") and self._maker(tensor) is not None for tensor in maps)
        if fields and not is_lost and (found := follow(operation, args, fields, first, is_pointwise=is_pointwise(func))):
            for tensor in outputs:
                tensor._field = found  # type: ignore[attr-defined]
        elif hasattr(first, "_field") and operation.endswith("_"):
            del first._field
        if step is not None and computes:
            self._count(step, count_macs(operation, args, first))
            step.elementwise += count_elementwise(operation, func, args, first)
            if is_step:
                step.reads = makers
                step.parameters = self._count_parameters([*given, *self.waiting_weights])
                self.waiting_weights.clear()
                step.output = tuple(first.shape[1:])
                step.settings = _settings_of(operation, args) or _numbers(args)
                step.receptive_field = getattr(first, "_field", None)
                step.activation_bytes = first.untyped_storage().nbytes() if self.origins.get(_key(first)) == number else 0
            else:
                step.operations.append(kind_of(operation))
                step.settings |= _settings_of(operation, args)
        for tensor in outputs:
            if is_step:
                tensor._step = number  # type: ignore[attr-defined]
            elif makers and not computes:
                tensor._step = makers[0]  # type: ignore[attr-defined]
        self._measure(step or (self.steps[-1] if self.steps else None))
        return result

    def _begin_functional(self, kind: str) -> Step:
        path = self.stack[-1].path if self.stack else ""
        stem = f"{path}.{kind}" if path else kind
        self.names[f"operation {stem}"] += 1
        count = self.names[f"operation {stem}"]
        while (name := stem if count == 1 else f"{stem}_{count}") in self.names:
            count += 1
        self.steps.append(Step(name, path, kind=kind, operations=[kind], training_bytes=self.waiting_bytes))
        self.waiting_bytes = 0
        return self.steps[-1]

    def _measure(self, step: Step | None) -> None:
        """What is alive now, while the operation's inputs still are."""
        for key in [key for key, (storage, _) in self.alive.items() if storage.expired()]:
            del self.alive[key]
            self.origins.pop(key, None)  # its number may soon be another's
            self.makers.pop(key, None)
        total = sum(nbytes for _, nbytes in self.alive.values())
        self.worst = max(self.worst, total)
        if step is not None:
            step.inference_bytes = max(step.inference_bytes, total)


@dataclass
class _Frame:
    """A module that is running."""

    path: str
    reads: str | None
    macs: int = 0


def _key(tensor: Tensor) -> int:
    """A number that no other storage has, while something watches this one."""
    return int(tensor.untyped_storage()._cdata)


def _weak(tensor: Tensor) -> Any:
    """Watches a storage without keeping it."""
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _settings_of(operation: str, args: tuple[Any, ...]) -> dict[str, Any]:
    """What an operation was told, by the names of the layers that are told it."""
    if operation == "convolution":
        weight, bias, groups, is_transposed = args[1], args[2], args[8], args[6]
        kernel, stride, padding, dilation, _ = window_of(operation, args, weight.ndim - 2)
        return {
            "maps": int(weight.shape[1] * groups if is_transposed else weight.shape[0]), "kernel": _plain(kernel), "stride": _plain(stride),
            "padding": _plain(padding), "dilation": _plain(dilation), "groups": groups, "bias": bias is not None,
        }  # fmt: skip
    if operation.startswith(("max_pool", "avg_pool")):
        kernel, stride, padding, _, rounds_up = window_of(operation, args, int(operation.partition("pool")[2][0]))
        return {"kernel": _plain(kernel), "stride": _plain(stride), "padding": _plain(padding), "rounds up": rounds_up}
    if operation in ("addmm", "mm"):
        return {"features": int(args[-1].shape[-1]), "bias": operation == "addmm"}
    return {}


def _numbers(args: tuple[Any, ...]) -> dict[str, Any]:
    """The fractions that a functional operation was told, such as a slope; whole numbers are mostly sizes."""
    numbers = tuple(value for value in args if isinstance(value, float))
    return {"numbers": numbers} if numbers else {}


def _plain(values: list[int]) -> int | tuple[int, ...]:
    """One number where all sides have the same."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def _settings(module: nn.Module) -> dict[str, Any]:
    """What a layer says of itself, and of its window where it has one."""
    window = {name.removesuffix("_size"): getattr(module, name, None) for name in ("kernel_size", "stride", "padding")}
    text = module.extra_repr()
    return (window if all(isinstance(value, int) for value in window.values()) else {}) | ({"settings": text} if text else {})
