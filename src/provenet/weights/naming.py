"""How a library names the parameters of one of our networks, and in which layout it keeps them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from provenet.weights.foreign import Array, ForeignTensor


def _same(tensor: ForeignTensor) -> ForeignTensor:
    return tensor


@dataclass(frozen=True)
class Place:
    """Where one parameter of ours is in a file."""

    name: str
    to_ours: Callable[[ForeignTensor], ForeignTensor] = _same
    """Their layout -> ours."""
    to_theirs: Callable[[Array], Array] = np.ascontiguousarray
    """Our layout -> theirs."""
    is_optional: bool = False
    """Whether a file may lack it, such as a bias that only some ages have."""


@dataclass(frozen=True)
class Naming:
    """The names of one dialect for one network."""

    dialect: str
    layers: dict[str, dict[str, Place]]
    """Path of our layer -> weight, bias, running_mean, running_var -> its place. A bias may be there that ours has not."""
    eps: float | None = None
    """Of the dialect's batch norms; None as in ours."""
    leave_out: tuple[str, ...] = field(default=())
    """Glob patterns of what a file may hold besides, and is dropped on purpose."""


def as_it_is(name: str, *, is_optional: bool = False) -> Place:
    """The same layout on both sides."""
    return Place(name, is_optional=is_optional)


def reshaped(name: str, theirs: tuple[int, ...]) -> Place:
    """A fully connected layer that is a convolution there: ours is [O, I], theirs [O, *theirs]."""
    return Place(
        name,
        lambda tensor: tensor.arranged(
            (tensor.shape[0], tensor.num_values // max(1, tensor.shape[0])), lambda array: array.reshape(len(array), -1)
        ),
        lambda array: np.ascontiguousarray(array.reshape(len(array), *theirs)),
    )
