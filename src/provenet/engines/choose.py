"""The engine for some work: what was asked for, or the fastest that is right, where the work is long enough to find out."""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from provenet.engines.engine import Engine, reference, relative_error
from provenet.engines.findings import Probe
from provenet.engines.memory import recall, remember, what_it_depends_on
from provenet.engines.probe import Pictures, measure, open_way
from provenet.engines.ways import AUTO, ENGINES, LARGEST_ERROR, PRECISIONS, REFERENCE, WAYS, EngineWish, Way, why_absent
from provenet.errors import EngineError, ImageError, SettingsError, suggest
from provenet.progress import Progress

LONG_SECONDS = 60.0
"""Work that takes the network itself so long is worth measuring for, which takes about half as long, once."""
FEW_IMAGES = 4
LEAST_INT8_IMAGES, MOST_INT8_IMAGES = 150, 384

T = TypeVar("T")
Sample = Callable[[int], Tensor]
"""So many of the pictures that the work is about, or all where there are fewer: normalised, [_, C, S, S]."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the network is to do."""

    num_images: int
    batch_size: int
    sample: Sample


def open_engine(
    net: nn.Module,
    work: Work,
    wish: EngineWish = AUTO,
    *,
    progress: Progress | None = None,
    note: Callable[[str], None] | None = None,
) -> Engine:
    """The network, in evaluation mode and placed, run as was asked for.

    With `auto`, the reference for short work; else the way that is soonest done by what was measured, now or before, and whose answers on
    some of these pictures are the reference's; which is said in a line. What does not start, or answers otherwise, is named, and the next
    one is taken. Raises EngineError where one way was asked for and cannot be had.
    """
    note = note or (lambda _: None)
    ways = [way for way in WAYS if wish.allows(way)]
    if ways == [REFERENCE] or (wish == AUTO and not _is_worth_it(net, work)):
        return reference(net)
    device = str(next(net.parameters()).device)
    absent = [why for why in (why_absent(way, device, work.batch_size) for way in ways) if why]
    if len(absent) == len(ways):
        raise EngineError(f"--engine {wish.engine} --precision {wish.precision}: {absent[0]}")
    try:
        with tempfile.TemporaryDirectory(prefix="provenet-engine-", ignore_cleanup_errors=True) as folder:
            return _fastest(net, work, wish, ways, Path(folder), progress, note)
    except (EngineError, OSError) as error:
        if REFERENCE not in ways:
            raise EngineError(str(error)) from error
        note(f"engine: {error}; {REFERENCE} is used")
        return reference(net)


def make_wish(engine: str, precision: str) -> EngineWish:
    """The wish of these names. Raises SettingsError for names that are none, and for an engine that has no such precision."""
    wish = EngineWish(engine=engine, precision=precision)  # type: ignore[arg-type]  # checked now
    for option, value, known in (("engine", wish.engine, ENGINES), ("precision", wish.precision, PRECISIONS)):
        if value != "auto" and value not in known:
            raise SettingsError(f"--{option}: expected auto, {' or '.join(known)}, found {value!r}; {suggest(str(value), known)}")
    if not any(wish.allows(way) for way in WAYS):
        there = ", ".join(way.precision for way in WAYS if way.engine == wish.engine)
        raise SettingsError(f"--precision {wish.precision}: expected one that --engine {wish.engine} has, which are: {there}")
    return wish


def _fastest(
    net: nn.Module, work: Work, wish: EngineWish, ways: list[Way], folder: Path, progress: Progress | None, note: Callable[[str], None]
) -> Engine:
    images = filled_up(work.sample(work.batch_size), work.batch_size)
    known = recall(what_it_depends_on(net, images))
    tried = {trial.way for trial in known.trials} if known else set()
    is_known = known is not None and wish.precision != "int8" and tried.issuperset(_worth_trying(ways, wish))
    if known is None or not is_known:
        known = _measured(net, work, images, wish, _worth_trying(ways, wish), folder, progress)
    for trial in known.trials:
        if trial.way in ways and (trial.has_died if is_known else trial.has_failed):
            note(f"engine {trial.way}: {trial.why_not}{', when it was tried; `provenet probe` tries again' if is_known else ''}")
    num_batches = work.num_images // work.batch_size if wish == AUTO else math.inf
    for trial in known.ranking(num_batches):
        if trial.way not in ways:
            continue
        if trial.way == REFERENCE:
            break
        try:
            engine = open_way(trial.way, net, images, folder)
            error = _check(engine, net, images)
        except EngineError as failed:
            note(f"engine {failed}; the next one is used")
            continue
        words = f", and {trial.agreement_in_words}" if trial.agreement is not None else ""
        note(
            f"engine {trial.way}: {known.gain(trial.way):.1f} times as fast as {REFERENCE}, measured on this machine in batches of "
            f"{work.batch_size}; its answers on these pictures differ by {error:.1e} of their length{words}"
        )
        return engine
    if REFERENCE in ways:
        return reference(net)
    reasons = "; ".join(f"{trial.way}: {trial.why_not}" for trial in known.trials if trial.way in ways and trial.why_not)
    raise EngineError(f"--engine {wish.engine} --precision {wish.precision}: {reasons or 'no way that was asked for works here'}")


def _worth_trying(ways: list[Way], wish: EngineWish) -> list[Way]:
    """In the middle of other work nobody waits for compilers: they are tried where they are asked for."""
    return [way for way in ways if way.engine != "compiled" or wish.engine == "compiled"]


def _measured(
    net: nn.Module, work: Work, images: Tensor, wish: EngineWish, ways: list[Way], folder: Path, progress: Progress | None
) -> Probe:
    some = work.sample(MOST_INT8_IMAGES) if wish.precision == "int8" else None
    probe = measure(net, pictures_for(images, some), ways, folder=folder, progress=progress)
    remember(probe)
    return probe


def pictures_for(images: Tensor, some: Tensor | None) -> Pictures:
    """A batch to measure on, and `some` pictures for int8: a third of them to fit it to, the others to compare its labels on."""
    if some is None:
        return Pictures(images=images)
    if len(some) < LEAST_INT8_IMAGES:
        raise EngineError(
            f"--precision int8: expected at least {LEAST_INT8_IMAGES} pictures, to fit it to a third and compare labels on the others, "
            f"found {len(some)}; take --precision bfloat16"
        )
    is_fitted_to = torch.arange(len(some)) % 3 == 0
    return Pictures(images=images, calibration=some[is_fitted_to].cpu(), others=some[~is_fitted_to].cpu())


def _check(engine: Engine, net: nn.Module, images: Tensor) -> float:
    """How far its answers on some pictures are from the network's own. Raises EngineError where that is too far."""
    few = images[:FEW_IMAGES]
    error = relative_error(engine(images)[: len(few)], reference(net)(few))
    largest = LARGEST_ERROR[engine.way.precision]
    if not error <= largest:
        raise EngineError(f"{engine.way}: its answers on these pictures differ by {error:.1e} of their length, more than {largest:g}")
    return error


def _is_worth_it(net: nn.Module, work: Work) -> bool:
    """Whether to look for a faster way: it was looked for before, or the network itself would take long, as a few images tell."""
    if work.num_images <= work.batch_size:
        return False
    image = work.sample(1)
    if recall(what_it_depends_on(net, image.expand(work.batch_size, -1, -1, -1))) is not None:
        return True
    few, run = image.expand(FEW_IMAGES, -1, -1, -1).contiguous(), reference(net)
    run(few)
    started_at = time.perf_counter()
    run(few)
    if few.device.type == "cuda":
        torch.cuda.synchronize(few.device)
    return (time.perf_counter() - started_at) / FEW_IMAGES * work.num_images > LONG_SECONDS


def of_sound_ones(num_pictures: int, count: int, decode: Callable[[int], T]) -> list[T]:
    """What `decode` makes of `count` pictures by their numbers, evenly spread over so many.

    Those that it raises ImageError for are passed over; where that is all of them, the first other one that it does not is taken.
    """
    numbers = dict.fromkeys(np.linspace(0, num_pictures - 1, min(count, num_pictures)).astype(int).tolist())
    found: list[T] = []
    for number in [*numbers, *(number for number in range(num_pictures) if number not in numbers)]:
        if found and number not in numbers:
            break
        try:
            found.append(decode(number))
        except ImageError:
            continue
    return found


def filled_up(images: Tensor, batch_size: int) -> Tensor:
    """As many images as in every batch, again from the first."""
    return images.repeat(-(-batch_size // len(images)), 1, 1, 1)[:batch_size]
