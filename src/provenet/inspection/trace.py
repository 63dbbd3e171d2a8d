"""What runs in a network, in which order, how large it is and what it costs: one pass without numbers (on the meta device).

Every operation that the library carries out is seen, so functional ones count too. What runs is a list of *steps*: a call of a layer
(a module without parts), or one functional operation inside a module that has parts. Any torch module will do; one that cannot run
without numbers is run with them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

from provenet.errors import ModelError
from provenet.inspection.costs import COMPUTES_NOTHING, NAMES, count_elementwise, count_macs, is_pointwise, operation_of
from provenet.inspection.fields import Field, field_of_picture, follow
from provenet.inspection.meta import run_operation, tensors_in, window_of
from provenet.models.blocks import FlattenMaps, ResponseNorm, ZeroPadding
from provenet.models.classifier import Classifier
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


class _Training(nn.Module):
    """A forward pass that runs what only training uses, too."""

    def __init__(self, net: Classifier) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """Images [N, C, H, W] -> pairs of weight and logits."""
        return self.net.training_logits(images)


def trace(net: nn.Module, *inputs: tuple[int, ...] | Tensor, training: bool = False) -> Trace:
    """What runs for one sample: of a `Classifier` of its own size, else for inputs of these shapes (without the batch) or these tensors.

    With `training` as in training: with dropout and the statistics of the batch, with what only training uses, and with what is kept for
    the backward pass. Raises ModelError where the network does not run on such inputs.

    >>> from provenet.models.catalog import build_on_meta
    >>> trace(build_on_meta("alexnet")).modules["conv1.conv"]
    Traced(output=(96, 55, 55), macs=105415200, reads=None)
    """
    if not inputs:
        if not isinstance(net, Classifier):
            raise ModelError(f"{type(net).__name__}: expected the shape of an input, such as (3, 224, 224), found none; name it")
        inputs = ((net.input_spec.channels, net.input_spec.size, net.input_spec.size),)
    tensors = {name: tensor for pairs in (net.named_parameters, net.named_buffers) for name, tensor in pairs(remove_duplicate=False)}
    if any(isinstance(tensor, (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)) for tensor in tensors.values()):
        raise ModelError(f"{type(net).__name__}: expected layers with weights, found lazy ones; run the network once before")
    try:
        return _run(net, inputs, tensors, torch.device("meta"), training=training)
    except Exception as error:  # whatever a stranger's network raises
        real = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
        try:
            if real.type == "meta" or isinstance(net, Classifier):
                raise error
            return _run(net, inputs, tensors, real, training=training)  # it asks for numbers
        except Exception as last:
            if isinstance(last, ModelError):
                raise
            shapes = " and ".join("x".join(map(str, _shape(given))) for given in inputs)
            first_line = next(iter(str(last).strip().splitlines()), type(last).__name__)
            name = net.name if isinstance(net, Classifier) else type(net).__name__
            raise ModelError(f"{name}: expected to run on an input of {shapes}, found: {first_line}; name another input") from last


def loss_weights(net: Classifier) -> list[float]:
    """The weights of the pairs that `training_logits` gives."""
    spec = net.input_spec
    weightless = {f"net.{name}": tensor.to("meta") for name, tensor in net.state_dict().items()}
    images = torch.empty(2, spec.channels, spec.size, spec.size, device="meta")
    with torch.no_grad():
        return [weight for weight, _ in torch.func.functional_call(_Training(net), weightless, images)]


def count_operations(net: Classifier) -> dict[str, int]:
    """How often each operation runs for one picture in training, by its name; the auxiliary heads apart.

    >>> from provenet.models.catalog import build_on_meta
    >>> count_operations(build_on_meta("alexnet"))
    {'convolution': 5, 'dropout': 2, 'linear': 3, 'max_pool': 3, 'relu': 7, 'response_norm': 2}
    """
    steps = [step for step in trace(net, training=True).steps if step.module.partition(".")[0] not in net.training_parts]
    return dict(sorted(Counter(kind for step in steps for kind in step.operations if kind not in ("identity", "flatten")).items()))


def _shape(given: tuple[int, ...] | Tensor) -> tuple[int, ...]:
    return tuple(given.shape[1:]) if isinstance(given, Tensor) else tuple(given)


def _run(
    net: nn.Module, inputs: tuple[tuple[int, ...] | Tensor, ...], tensors: Mapping[str, Tensor], device: torch.device, *, training: bool
) -> Trace:
    """One pass over a batch of one; the network's own tensors, modes and hooks stay as they are."""
    root: nn.Module = _Training(net) if training and isinstance(net, Classifier) else net
    prefix = "net." if root is not net else ""
    is_meta = device.type == "meta"
    stand_ins: dict[int, Tensor] = {}  # a tensor of two names stays one
    for tensor in tensors.values():
        if id(tensor) not in stand_ins:
            copy = tensor.detach().to("meta") if is_meta else tensor.detach().clone()
            stand_ins[id(tensor)] = copy.requires_grad_(training and isinstance(tensor, nn.Parameter) and copy.is_floating_point())
    weights = {prefix + name: stand_ins[id(tensor)] for name, tensor in tensors.items()}
    dtype = next((tensor.dtype for tensor in weights.values() if tensor.is_floating_point()), torch.get_default_dtype())
    given = [value[:1].to(device) if isinstance(value, Tensor) else torch.zeros(1, *value, dtype=dtype, device=device) for value in inputs]
    tracer = _Tracer(root, prefix, given, weights.values())
    with ExitStack() as stack:
        stack.enter_context(_as_in(root, training=training))
        stack.enter_context(tracer.watching())
        stack.enter_context(torch.set_grad_enabled(training))
        if not is_meta:
            stack.enter_context(torch.random.fork_rng())
        stack.enter_context(device)
        if training:
            stack.enter_context(torch.autograd.graph.saved_tensors_hooks(tracer.keep, lambda kept: kept))
        stack.enter_context(tracer)
        output = torch.func.functional_call(root, weights, tuple(given), tie_weights=False, strict=False)
    return tracer.finish(output)


@contextmanager
def _as_in(root: nn.Module, *, training: bool) -> Iterator[None]:
    """All modules in one mode; batch norm of a single picture without the library's check, its statistics left alone."""
    modes = {module: module.training for module in root.modules()}
    norms = [module for module in modes if isinstance(module, nn.modules.batchnorm._BatchNorm) and "forward" not in vars(module)]
    try:
        root.train(training)
        for norm in norms:
            norm.forward = _normaliser(norm, training=training)  # type: ignore[assignment, method-assign]
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for norm in norms:
            del norm.forward


def _normaliser(norm: "nn.modules.batchnorm._BatchNorm", *, training: bool) -> Callable[[Tensor], Tensor]:
    def normalise(maps: Tensor) -> Tensor:
        mean, var = (None, None) if training else (norm.running_mean, norm.running_var)
        is_of_batch = training or mean is None
        return torch.native_batch_norm(maps, norm.weight, norm.bias, mean, var, is_of_batch, norm.momentum or 0.0, norm.eps)[0]

    return normalise


class _Tracer(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes every operation at the step in which it runs. What is known of a tensor is written on it, and views hand it on."""

    def __init__(self, root: nn.Module, prefix: str, given: list[Tensor], weights: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.paths = {module: path.removeprefix(prefix) for path, module in root.named_modules() if module is not root or not prefix}
        self.steps: list[Step] = []
        self.modules: dict[str, Traced] = {}
        self.names: Counter[str] = Counter(self.paths.values())
        self.stack: list[_Frame] = []
        self.leaf: Step | None = None
        self.outside = {_key(tensor) for tensor in weights}
        self.seen_parameters: set[int] = set()
        self.makers: dict[int, int] = {}
        """Storage -> number of the step that last wrote it."""
        self.origins: dict[int, int] = {}
        """Storage -> number of the step that asked for it."""
        self.alive: dict[int, tuple[Any, int]] = {}
        self.kept: dict[int, Any] = {}
        self.worst = 0
        for tensor in given:
            self._note_storage(tensor, -1)
            if tensor.is_floating_point() and tensor.ndim >= 3:
                tensor._field = field_of_picture(tensor.ndim - 2)  # type: ignore[attr-defined]
            tensor._step = -1  # type: ignore[attr-defined]

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
        results = [number for tensor in tensors_in(output) if (number := self._maker(tensor)) is not None]
        return Trace(self.steps, self.modules, self.worst, list(dict.fromkeys(results)))

    def keep(self, tensor: Tensor) -> None:
        """A tensor that the backward pass will need: its bytes count once, at the step that made it."""
        key = _key(tensor)
        if key in self.outside or key in self.kept or not self.steps:
            return
        self.kept[key] = _weak(tensor)  # which keeps the number from being given again
        maker = self.origins.get(key, -1)
        self.steps[maker if maker >= 0 else len(self.steps) - 1].training_bytes += tensor.untyped_storage().nbytes()

    def _enter(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        path = self.paths[module]
        tensors = list(tensors_in(inputs))
        self.stack.append(_Frame(path, getattr(tensors[0], "_path", None) if tensors else None))
        if self.leaf is None and not any(True for _ in module.children()):
            self.leaf = self._begin(path, path)
            self.leaf.reads = [number for tensor in tensors if (number := self._maker(tensor)) is not None]
            self.leaf.parameters = self._count_parameters(module)

    def _leave(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        frame = self.stack.pop()
        if self.stack:
            self.stack[-1].macs += frame.macs
        tensors = list(tensors_in(output))
        if self.leaf is not None and self.leaf.name.partition(" (")[0] == frame.path and not any(True for _ in module.children()):
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
        step.settings = step.settings if len(step.operations) == 1 else _settings(module)
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

    def _count_parameters(self, module: nn.Module) -> int:
        own = {_key(parameter): parameter.numel() for parameter in module.parameters()}
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

    def _note_storage(self, tensor: Tensor, number: int) -> None:
        key = _key(tensor)
        if key not in self.alive and key not in self.outside:
            storage = tensor.untyped_storage()
            self.alive[key] = (_weak(tensor), storage.nbytes())
            self.origins[key] = number
        self.makers[key] = number

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
        computes = operation not in COMPUTES_NOTHING and any(tensor.is_floating_point() for tensor in outputs)
        makers = [number for tensor in given if (number := self._maker(tensor)) is not None]
        is_step = self.leaf is None and computes and bool(makers)
        step = self._begin_functional(NAMES.get(operation, operation)) if is_step else self.leaf
        number = len(self.steps) - 1
        if operation not in COMPUTES_NOTHING or operation in ("empty_like", "clone", "zeros_like"):
            for tensor in outputs:
                self._note_storage(tensor, number)
        first = outputs[0]
        fields = [(tensor, tensor._field) for tensor in given if getattr(tensor, "_field", None) is not None]  # type: ignore[attr-defined]
        if fields and (found := follow(operation, args, fields, first, is_pointwise=is_pointwise(func))):
            for tensor in outputs:
                tensor._field = found  # type: ignore[attr-defined]
        elif hasattr(first, "_field") and operation.endswith("_"):
            del first._field
        if step is not None and (is_step or computes):
            self._count(step, count_macs(operation, args, first))
            step.elementwise += count_elementwise(operation, func, args, first)
            if is_step:
                step.reads = makers
                step.output = tuple(first.shape[1:])
                step.settings = _settings_of(operation, args)
                step.receptive_field = getattr(first, "_field", None)
                step.activation_bytes = first.untyped_storage().nbytes() if self.origins.get(_key(first)) == number else 0
            else:
                step.operations.append(NAMES.get(operation, operation))
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
        self.steps.append(Step(name, path, kind=kind, operations=[kind]))
        return self.steps[-1]

    def _measure(self, step: Step | None) -> None:
        """What is alive now, while the operation's inputs still are."""
        for key in [key for key, (storage, _) in self.alive.items() if storage.expired()]:
            del self.alive[key]
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


def _plain(values: list[int]) -> int | tuple[int, ...]:
    """One number where all sides have the same."""
    return values[0] if len(set(values)) == 1 else tuple(values)


def _settings(module: nn.Module) -> dict[str, Any]:
    """What a layer says of itself."""
    text = module.extra_repr()
    return {"settings": text} if text else {}
