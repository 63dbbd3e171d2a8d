"""Many shards that are elsewhere: their servers are asked about several at a time, since each answer is a journey there and back."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import islice

from provenet.data.remote import PATIENCE, Patience, RemoteShard
from provenet.progress import Progress

ASKED_AT_ONCE = 8


def ask_several(addresses: Iterable[str], progress: Progress | None, patience: Patience = PATIENCE) -> Iterator[Future[RemoteShard]]:
    """Each shard, asked about, in the order of the addresses; taking its result raises what asking raised, DataError with one line.

    The first one is asked alone: where there is no way to a server, one question is enough to find that out.
    """
    coming = iter(addresses)
    waiting = deque(_ask(address, progress, patience) for address in islice(coming, 1))
    while waiting:
        answer = waiting.popleft()
        answer.exception()  # waits, and raises nothing
        waiting.extend(_ask(address, progress, patience) for address in islice(coming, ASKED_AT_ONCE - len(waiting)))
        yield answer


def _ask(address: str, progress: Progress | None, patience: Patience) -> Future[RemoteShard]:
    """Begin to ask, in a thread that nobody has to wait for: it may stand still for half a minute, and people stop what they began."""
    answer: Future[RemoteShard] = Future()

    def ask(shard: RemoteShard) -> None:
        try:
            shard.ask()
        except BaseException as error:
            answer.set_exception(error)
        else:
            answer.set_result(shard)

    try:
        shard = RemoteShard(address, progress, patience)
    except Exception as error:
        answer.set_exception(error)
        return answer
    if getattr(shard.system, "async_impl", False):
        threading.Thread(target=ask, args=(shard,), name="ask", daemon=True).start()
    else:  # not made to be used by several threads
        ask(shard)
    return answer
