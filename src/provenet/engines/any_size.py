"""The engine for images of many sizes, as fully convolutional networks see them: by torch alone, which is compiled for none of them."""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from provenet.engines.engine import Engine, reference, relative_error
from provenet.engines.ways import AUTO, LARGEST_ERROR, REFERENCE, WAYS, EngineWish, Way
from provenet.engines.with_torch import folded
from provenet.errors import EngineError

LIBRARIES = ("eager", "folded")
TRIES = 2
LONG_SECONDS = 20.0
"""Work that takes the network itself so long is worth trying three ways for."""


def open_for_any_size(
    net: nn.Module, images: Tensor, num_batches: int, wish: EngineWish, note: Callable[[str], None] | None = None
) -> Engine:
    """The network, in evaluation mode and placed, run on `num_batches` of about the size of `images` [B, C, H, W].

    The fastest of eager and folded, in the precisions that are allowed, whose answers on these images are right; the reference where there
    is little to do. Raises EngineError where one that was asked for cannot do this.
    """
    ways = [way for way in WAYS if wish.allows(way) and way.engine in LIBRARIES]
    if not ways:
        raise EngineError(
            f"--engine {wish.engine} --precision {wish.precision}: expected eager or folded in float32 or bfloat16, which take images of "
            "any size, as these views are; leave it out, or choose views of one size (center, mirror, ten, 144, 150)"
        )
    started_at = time.perf_counter()
    expected = reference(net)(images)
    if ways == [REFERENCE] or (wish == AUTO and (time.perf_counter() - started_at) * num_batches < LONG_SECONDS):
        return reference(net)
    seconds: dict[Way, tuple[float, Engine]] = {}
    for way in ways:
        engine = reference(net) if way == REFERENCE else Engine(way, folded(net, images.device, way.precision), None)
        error = relative_error(engine(images), expected)
        if error <= LARGEST_ERROR[way.precision]:
            seconds[way] = min(_seconds(engine, images) for _ in range(TRIES)), engine
        elif wish != AUTO:
            raise EngineError(f"{way}: its answers on these pictures differ by {error:.1e} of their length")
    fastest = min(seconds, key=lambda way: seconds[way][0])
    if note and fastest != REFERENCE:
        gain = f": {seconds[REFERENCE][0] / seconds[fastest][0]:.1f} times as fast as {REFERENCE} on maps" if REFERENCE in seconds else ""
        note(f"engine {fastest}{gain}")
    return seconds[fastest][1]


def _seconds(engine: Engine, images: Tensor) -> float:
    started_at = time.perf_counter()
    engine(images)
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - started_at
