"""Threads that decode pictures; the decoder releases the interpreter's lock. Whoever waits for them notices when one dies."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from provenet.errors import DataError

J = TypeVar("J")
T = TypeVar("T")
BATCHES_AHEAD = 2
SECONDS_BETWEEN_LOOKS = 1.0


class DecodingThreads:
    """A pool of them. Python's own does not notice that a thread of it died, and what that one was at would never come."""

    def __init__(self, num_threads: int) -> None:
        self._threads: list[threading.Thread] = []
        self._pool = ThreadPoolExecutor(
            num_threads, thread_name_prefix="decode", initializer=lambda: self._threads.append(threading.current_thread())
        )

    def start(self, work: Callable[..., T], *arguments: object) -> Future[T]:
        """Have it done by the next thread that is free."""
        return self._pool.submit(work, *arguments)

    def wait_for(self, future: Future[T]) -> T:
        """Its result. Raises what the work raised, and DataError if a thread has died."""
        while not future.done():
            with contextlib.suppress(TimeoutError):
                future.result(timeout=SECONDS_BETWEEN_LOOKS)
            if not future.done() and not all(thread.is_alive() for thread in self._threads):
                raise DataError("expected the threads that decode pictures to be alive, found one that died (out of memory?); start again")
        return future.result()

    def close(self) -> None:
        """What is still waiting is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def decoding_threads(num_threads: int) -> Iterator[DecodingThreads]:
    """So many threads, for a `with` block."""
    threads = DecodingThreads(num_threads)
    try:
        yield threads
    finally:
        threads.close()


@contextlib.contextmanager
def in_order(work: Callable[[J], T], jobs: Iterable[J], num_threads: int, *, most_ahead: int) -> Iterator[Iterator[T]]:
    """What `work` returns for each job, in the jobs' order, by threads that end with the `with` block.

    At most `most_ahead` jobs are begun whose result has not been taken: however many there are, so many results are in memory.
    """

    def results(threads: DecodingThreads) -> Iterator[T]:
        coming = iter(jobs)
        waiting = deque(threads.start(work, job) for job in islice(coming, most_ahead))
        while waiting:
            result = threads.wait_for(waiting.popleft())
            waiting.extend(threads.start(work, job) for job in islice(coming, 1))
            yield result

    with decoding_threads(num_threads) as threads:
        yield results(threads)


def fill_ahead(
    batches: Iterator[Sequence[J]], fill: Callable[[NDArray[np.uint8], J], T], shape: tuple[int, ...], num_threads: int
) -> Iterator[tuple[NDArray[np.uint8], list[T]]]:
    """For each batch of jobs [B], an array uint8 [B, *shape] whose rows `fill` has written, and what it returned for each [B].

    In order, by threads some batches ahead; without threads (0) nothing is done before it is asked for.
    """
    if num_threads == 0:
        for jobs in batches:
            rows = np.empty((len(jobs), *shape), np.uint8)
            yield rows, [fill(row, job) for row, job in zip(rows, jobs, strict=True)]
        return
    with decoding_threads(num_threads) as threads:

        def start(jobs: Sequence[J]) -> tuple[NDArray[np.uint8], list[Future[T]]]:
            rows = np.empty((len(jobs), *shape), np.uint8)
            return rows, [threads.start(fill, row, job) for row, job in zip(rows, jobs, strict=True)]

        waiting = deque(start(jobs) for jobs in islice(batches, BATCHES_AHEAD))
        while waiting:
            rows, filling = waiting.popleft()
            results = [threads.wait_for(future) for future in filling]
            waiting.extend(start(jobs) for jobs in islice(batches, 1))
            yield rows, results
