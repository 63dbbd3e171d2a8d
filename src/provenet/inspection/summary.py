"""A network as a table: what runs, how large it is, what it costs, and what part of the picture it sees."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from provenet.errors import ModelError
from provenet.inspection.fields import Field
from provenet.inspection.trace import trace
from provenet.inspection.tracer import Step
from provenet.models.catalog import build_on_meta
from provenet.models.classifier import Classifier

Input = tuple[int, ...] | Tensor
"""Shape of an input without the batch, or a tensor with it."""
Depth = Literal["stage", "block", "layer"]
Names = Literal["ours", "authors"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One layer or functional operation, or several of them together."""

    name: str
    """Its path; `res4d_branch2a` and so on where the authors' names were asked for, and gave it one."""
    stage: str
    kind: str
    """What it does: convolution, relu, add …; of several together, the name of the block."""
    settings: dict[str, Any]
    """What it was told: kernel, stride, padding, groups and so on."""
    output: tuple[int, ...]
    """Shape of one sample's output: (C, H, W), or (F,)."""
    parameters: int
    macs: int
    """Multiply-adds of convolutions and matrix products, for one sample; biases are not counted."""
    elementwise: int
    """Other arithmetic: one for each number written, and of pools and sums one for each number read."""
    activation_bytes: int
    """Of its output, where it is not only another look at its input."""
    inference_bytes: int
    """All activations alive at the worst moment while it runs, the picture with them; nothing is kept for a backward pass."""
    training_bytes: int
    """Of what it makes, what is kept for the backward pass; the picture counts at the first layer that keeps it."""
    receptive_field: int | tuple[int, ...] | None
    """Side in pixels of the square that one output number depends on, as if the picture had no edge; (height, width) of no square."""
    stride: int | tuple[int, ...] | None
    """Pixels of the picture between neighbours in its output; None where no places are left."""
    path: str
    """The module: the layer, or the one around a functional operation."""
    reads: tuple[str, ...]
    """Names of the rows whose output it is given; `input` is the picture."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "name": self.name,
            "kind": self.kind,
            "output": list(self.output),
            "parameters": self.parameters,
            "macs": self.macs,
            "activation_bytes": self.activation_bytes,
            "receptive_field": self.receptive_field,
            "stride": self.stride,
            "stage": self.stage,
            "settings": self.settings,
            "elementwise": self.elementwise,
            "inference_bytes": self.inference_bytes,
            "training_bytes": self.training_bytes,
        }


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All that runs for one sample, row by row, and the sums."""

    name: str
    input: tuple[tuple[int, ...], ...]
    """Shape of each input, without the batch."""
    rows: tuple[Row, ...]
    only_in_training: tuple[Row, ...]
    """What training runs beside them, such as GoogLeNet's auxiliary heads; counted in `training_bytes` and in no other sum."""
    inference_bytes: int
    blocks: dict[str, str]
    """Name of each row -> path of the block it is in."""
    types: dict[str, str]
    """Path of each module that has parts -> what it is."""

    @property
    def parameters(self) -> int:
        """Of all rows."""
        return sum(row.parameters for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds of all rows."""
        return sum(row.macs for row in self.rows)

    @property
    def elementwise(self) -> int:
        """Other arithmetic of all rows."""
        return sum(row.elementwise for row in self.rows)

    @property
    def activation_bytes(self) -> int:
        """All outputs together, though inference frees most of them early."""
        return sum(row.activation_bytes for row in self.rows)

    @property
    def training_bytes(self) -> int:
        """What one sample keeps for the backward pass."""
        return sum(row.training_bytes for row in (*self.rows, *self.only_in_training))

    @property
    def stages(self) -> tuple[Row, ...]:
        """Subtotals by stage."""
        return self.at("stage")

    def at(self, depth: Depth) -> tuple[Row, ...]:
        """The rows at a depth: one for each stage, for each block (a residual block, an Inception module), or for each layer."""
        if depth == "layer":
            return self.rows
        if depth == "stage":
            return tuple(_together(self.rows, lambda row: row.stage, self.types))
        return tuple(_together(self.rows, lambda row: self.blocks[row.name], self.types))

    def to_dict(self, depth: Depth = "layer") -> dict[str, Any]:
        """Plain values."""
        shapes = [list(shape) for shape in self.input]
        return {
            "name": self.name,
            "input": shapes[0] if len(shapes) == 1 else shapes,
            "parameters": self.parameters,
            "macs": self.macs,
            "activation_bytes": self.activation_bytes,
            "elementwise": self.elementwise,
            "inference_bytes": self.inference_bytes,
            "training_bytes": self.training_bytes,
            "layers": [row.to_dict() for row in self.at(depth)],
            "stages": [row.to_dict() for row in self.stages],
            "only_in_training": [row.to_dict() for row in self.only_in_training],
        }

    def __str__(self) -> str:
        from provenet.inspection.tables import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from provenet.inspection.tables import as_html

        return as_html(self)


def summarize(net: nn.Module | str, input: Input | list[Input] | None = None, *, names: Names = "ours") -> Summary:
    """What runs in a network for one sample, with sizes, parameters, multiply-adds, memory and receptive fields. Nothing is computed.

    Args:
        net: A network, any torch module, or a name of the catalog.
        input: Shape of the input without the batch, or a tensor with it; of several inputs a list. By default the network's own size.
        names: Our names of the layers, or those of the authors' release (`res4d_branch2a`) where it has one.

    Raises ModelError where it does not run on such an input.

    >>> summary = summarize("vgg16")
    >>> summary.parameters, summary.macs
    (138357544, 15470264320)
    >>> [(row.name, row.output, row.receptive_field) for row in summary.stages[:2]]
    [('conv1', (64, 112, 112), 6), ('conv2', (128, 56, 56), 16)]
    """
    if names not in ("ours", "authors"):
        raise ModelError(f"expected names 'ours' or 'authors', found {names!r}")
    module = build_on_meta(net) if isinstance(net, str) else getattr(net, "_orig_mod", net)  # of a compiled one, what it was made of
    inputs = input if isinstance(input, list) else [] if input is None else [input]
    inference, training = trace(module, *inputs), trace(module, *inputs, training=True)
    kept = {step.name: step.training_bytes for step in training.steps}
    shown = _names(module, inference.steps + training.steps, names)
    ran = {step.name for step in inference.steps}

    def make_rows(steps: list[Step], numbered: list[Step]) -> tuple[Row, ...]:
        return tuple(_row(replace(step, training_bytes=kept.get(step.name, 0)), numbered, shown) for step in steps)

    parents = {path: part for path, part in module.named_modules() if any(True for _ in part.children())}
    sequences = {
        path
        for path, part in parents.items()
        if isinstance(part, nn.Sequential) and any(True for inner in part.children() for _ in inner.children())
    }
    extra = [step for step in training.steps if step.name not in ran]
    shapes = [tuple(given.shape[1:]) if isinstance(given, Tensor) else tuple(given) for given in inputs]
    if isinstance(module, Classifier) and not shapes:
        shapes = [(module.input_spec.channels, module.input_spec.size, module.input_spec.size)]
    return Summary(
        name=module.name if isinstance(module, Classifier) else type(module).__name__,
        input=tuple(shapes),
        rows=make_rows(inference.steps, inference.steps),
        only_in_training=make_rows(extra, training.steps),
        inference_bytes=inference.inference_bytes,
        blocks={shown[step.name]: _block(sequences, step) for step in inference.steps},
        types={path: type(part).__name__ for path, part in parents.items()},
    )


def _row(step: Step, steps: list[Step], shown: dict[str, str]) -> Row:
    return Row(
        name=shown[step.name],
        stage=step.module.partition(".")[0] or shown[step.name],
        kind=step.kind,
        settings=step.settings,
        output=step.output,
        parameters=step.parameters,
        macs=step.macs,
        elementwise=step.elementwise,
        activation_bytes=step.activation_bytes,
        inference_bytes=step.inference_bytes,
        training_bytes=step.training_bytes,
        receptive_field=_sides(step.receptive_field, "length"),
        stride=_sides(step.receptive_field, "stride"),
        path=step.module,
        reads=tuple(shown[steps[number].name] if number >= 0 else "input" for number in dict.fromkeys(step.reads)),
    )


def _sides(field: Field | None, what: str) -> int | tuple[int, ...] | None:
    values = [getattr(side, what) for side in field or ()]
    if not values or None in values:
        return None
    return values[0] if len(set(values)) == 1 else tuple(values)


def _names(net: nn.Module, steps: Iterable[Step], names: Names) -> dict[str, str]:
    theirs: dict[str, str] = {}
    if names == "authors":
        if not isinstance(net, Classifier) or not net.authors_names:
            named = net.name if isinstance(net, Classifier) else type(net).__name__
            raise ModelError(f"{named}: expected a network whose authors gave its layers names, found none; leave --names out")
        for name, path in (net.authors_names | net.authors_operations).items():
            theirs.setdefault(path, name)
    return {step.name: theirs.get(step.name, step.name) for step in steps}


def _block(sequences: Set[str], step: Step) -> str:
    """The block a step is in: the part below its stage where a stage is a plain sequence of parts that have parts, else the stage."""
    names = (step.module or step.name).split(".")
    depth = 1
    while depth < len(names) and ".".join(names[:depth]) in sequences:
        depth += 1
    return ".".join(names[:depth])


def _together(rows: Iterable[Row], key: Callable[[Row], str], types: Mapping[str, str]) -> Iterator[Row]:
    """Rows of one key as one, in the order in which the keys first come."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    for name, group in groups.items():
        inside, last = {row.name for row in group}, group[-1]
        reads = dict.fromkeys(source for row in group for source in row.reads if source not in inside)
        yield replace(
            last,
            name=name,
            kind=last.kind if len(group) == 1 else _kind(types.get(name, ""), len(group)),
            settings=last.settings if len(group) == 1 else {},
            parameters=sum(row.parameters for row in group),
            macs=sum(row.macs for row in group),
            elementwise=sum(row.elementwise for row in group),
            activation_bytes=sum(row.activation_bytes for row in group),
            inference_bytes=max(row.inference_bytes for row in group),
            training_bytes=sum(row.training_bytes for row in group),
            path=name,
            reads=tuple(reads),
        )


def _kind(type_name: str, num_rows: int) -> str:
    """Of several rows together: what the module calls itself, or how many they are."""
    return type_name if type_name and type_name not in ("Sequential", "ModuleList", "ModuleDict") else f"{num_rows} layers"
