"""What runs in a network, in which order, how large it is and what it costs: one pass without numbers (on the meta device).

Every operation that the library carries out is seen, so functional ones count too. What runs is a list of *steps*: a call of a layer
(a module without parts), or one functional operation inside a module that has parts. Any torch module will do; one that cannot run
without numbers is run with them.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TypeGuard

import torch
from torch import Tensor, nn

from provenet.errors import ModelError
from provenet.inspection.tracer import Trace, Tracer
from provenet.models.classifier import Classifier


class _StoppedError(Exception):
    """A network raised, in the module of that path; its own error is the cause."""

    def __init__(self, where: str) -> None:
        super().__init__(where)
        self.where = where


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
    if any(isinstance(module, torch.jit.ScriptModule) for module in net.modules()):
        raise ModelError(f"{type(net).__name__}: expected a module of Python, found a scripted one; give the one that it was made of")
    if not inputs:
        if not isinstance(net, Classifier):
            raise ModelError(f"{type(net).__name__}: expected the shape of an input, such as (3, 224, 224), found none; name it")
        inputs = ((net.input_spec.channels, net.input_spec.size, net.input_spec.size),)
    for shape in inputs:
        if not isinstance(shape, Tensor) and not all(isinstance(side, int) and side > 0 for side in shape):
            raise ModelError(
                f"{type(net).__name__}: expected an input's shape in whole numbers above 0, such as (3, 224, 224), found {shape}"
            )
    tensors = {name: tensor for pairs in (net.named_parameters, net.named_buffers) for name, tensor in pairs(remove_duplicate=False)}
    if any(isinstance(tensor, (nn.parameter.UninitializedParameter, nn.parameter.UninitializedBuffer)) for tensor in tensors.values()):
        raise ModelError(f"{type(net).__name__}: expected layers with weights, found lazy ones; run the network once before")
    try:
        return _run(net, inputs, tensors, torch.device("meta"), training=training)
    except _StoppedError as stopped:
        stop = stopped
    real = next((tensor.device for tensor in tensors.values()), torch.device("cpu"))
    if real.type != "meta" and not isinstance(net, Classifier):  # perhaps it asks for numbers
        try:
            return _run(net, inputs, tensors, real, training=training)
        except _StoppedError as stopped:
            stop = stopped
    reason = stop.__cause__
    if isinstance(reason, ModelError):
        raise reason
    shapes = " and ".join("x".join(map(str, _shape(given))) for given in inputs)
    first_line = next(iter(str(reason).strip().splitlines()), type(reason).__name__)
    name = net.name if isinstance(net, Classifier) else type(net).__name__
    where = f" in {stop.where}" if stop.where else ""
    raise ModelError(f"{name}: expected to run on an input of {shapes}, found{where}: {first_line}; name another input") from reason


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
            stand_ins[id(tensor)] = copy.requires_grad_(training and tensor.requires_grad)
    parameters = [stand_ins[id(tensor)] for tensor in tensors.values() if isinstance(tensor, nn.Parameter)]
    weights = {prefix + name: stand_ins[id(tensor)] for name, tensor in tensors.items()}
    dtype = next((tensor.dtype for tensor in weights.values() if tensor.is_floating_point()), torch.get_default_dtype())
    given = [value[:1].to(device) if isinstance(value, Tensor) else torch.zeros(1, *value, dtype=dtype, device=device) for value in inputs]
    tracer = Tracer(root, prefix, given, parameters, weights.values())
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
        try:
            output = torch.func.functional_call(root, weights, tuple(given), tie_weights=False, strict=False)
        except Exception as error:
            raise _StoppedError(tracer.where) from error
    return tracer.finish(output)


@contextmanager
def _as_in(root: nn.Module, *, training: bool) -> Iterator[None]:
    """All modules in one mode; batch norm of a single picture without the library's check, its statistics left alone."""
    modes = {module: module.training for module in root.modules()}
    norms = [module for module in modes if _is_plain_norm(module)]
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


def _is_plain_norm(module: nn.Module) -> TypeGuard[nn.modules.batchnorm._BatchNorm]:
    """The library's own; others may do more in theirs."""
    plain = nn.modules.batchnorm._BatchNorm
    return isinstance(module, plain) and type(module).forward is plain.forward and "forward" not in vars(module)


def _normaliser(norm: "nn.modules.batchnorm._BatchNorm", *, training: bool) -> Callable[[Tensor], Tensor]:
    def normalise(maps: Tensor) -> Tensor:
        mean, var = (None, None) if training else (norm.running_mean, norm.running_var)
        is_of_batch = training or mean is None
        return torch.native_batch_norm(maps, norm.weight, norm.bias, mean, var, is_of_batch, norm.momentum or 0.0, norm.eps)[0]

    return normalise
