"""Which network a file's weights are of: by the graph where it has one, else by the names and shapes of its tensors."""

from collections.abc import Sequence

from torch import nn

from provenet.errors import WeightsError, printable, show_path
from provenet.models.catalog import check_name
from provenet.weights.by_graph import find_by_graph
from provenet.weights.by_names import find_by_names, matches, with_reason
from provenet.weights.foreign import ForeignFile
from provenet.weights.found import Found, is_for_training, network_on_meta
from provenet.weights.naming import Naming


def recognise(file: ForeignFile, as_: str | None = None, without: Sequence[str] = ()) -> Found:
    """The network of a file, or that named by `as_`, with what of either side is left over.

    `without` are patterns of names that may be left over on either side; all others are an error. Raises WeightsError where no network
    fits, with the nearest and where it parts from the file.
    """
    if as_ is not None:
        check_name(as_)
    if file.graph:
        found = find_by_graph(file, as_)
        _check_left_out(found, file, without)
        return found
    if not file.tensors:
        raise WeightsError(f"{show_path(file.path)}: expected weights, found no tensor in it; get another file")
    candidates: list[Found] = []
    for found in find_by_names(file, as_):
        candidates.append(found)
        if not _badness(found)[0]:
            break  # all there is on both sides; dialects and networks come in the order of their likelihood
    best = with_reason(min(candidates, key=_badness), file, as_) if candidates else None
    if best is None:
        raise _unknown(file)
    theirs = [name for name in best.theirs_left if not matches(name, without)]
    ours = [name for name in best.ours_left if not matches(name, without)]
    if theirs or ours:
        num_places = sum(len(leaves) for leaves in (best.naming or Naming("", {})).layers.values())
        if len(ours) * 2 > num_places:
            raise _unknown(file)
        raise WeightsError(
            f"{show_path(file.path)}: nearest to {best.net.name} as {best.dialect} names it, but {_count(theirs, 'of its tensors')} "
            f"without a place ({_some(theirs)}) and {_count(ours, 'of ours')} not in it ({_some(ours)}); "
            "name what may be left with --without PATTERN"
        )
    return best


def _check_left_out(found: Found, file: ForeignFile, without: Sequence[str]) -> None:
    """Layers of a graph on which its answer does not rest are as many as the network's auxiliary classifiers have, or named."""
    net = network_on_meta(found.net.name)
    num_of_training = sum(is_for_training(net, path) for path, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear))
    left = [name for name in found.dropped if not matches(name, without)]
    if len(left) > num_of_training:
        raise WeightsError(
            f"{show_path(file.path)}: is {found.net.name}, but {_count(left, 'of its layers')} without a place, as its answer does not "
            f"rest on {'it' if len(left) == 1 else 'them'} ({_some(left)}); name what may be left with --without PATTERN"
        )


def _unknown(file: ForeignFile) -> WeightsError:
    return WeightsError(
        f"{show_path(file.path)}: expected names and shapes of a network here, found {len(file.tensors)} tensors of another "
        f"({_some(list(file.tensors))}); `provenet models` lists the networks, --as names one"
    )


def _badness(found: Found) -> tuple[int, int]:
    return len(found.theirs_left) + len(found.ours_left), len(found.dropped)


def _count(names: Sequence[str], what: str) -> str:
    return f"{len(names)} {what} {'is' if len(names) == 1 else 'are'}"


def _some(names: Sequence[str]) -> str:
    return printable(", ".join(names[:4]) + (" …" if len(names) > 4 else "") if names else "none")[:300]
