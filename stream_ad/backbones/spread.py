"""CPU work spread over threads, each of which computes pictures of its own with operations that are not split.

torch splits an operation over its threads, and between operations these wait by spinning. Where a core is busy with
something else, a small model then burns ten times the work (measured: deit-tiny to block 5 with two threads on two busy
cores 310 core-ms a picture, spread 28). Whole pictures need no waiting for each other.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")


class Spread:
    """As many threads as torch has when this is made, each with operations on one thread."""

    def __init__(self) -> None:
        self.threads = torch.get_num_threads()
        self._narrow: ThreadPoolExecutor | None = None
        self._wide: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """The function of each item, in order; gradients are off. Always on those threads, however many items."""
        if self._narrow is None:
            with self._lock:
                self._narrow = self._narrow or _started(self.threads, operations=1)
        return list(self._narrow.map(_without_gradients(function), items))

    def alone(self, function: Callable[[T], R], item: T) -> R:
        """The function of one item with its operations split over all threads: sooner, and for more work."""
        if self._wide is None:
            with self._lock:
                self._wide = self._wide or _started(1, operations=self.threads)
        return self._wide.submit(_without_gradients(function), item).result()


@contextmanager
def unsplit() -> Iterator[None]:
    """torch does not split operations of this thread: small ones lose more by waiting than they gain."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _without_gradients(function: Callable[[T], R]) -> Callable[[T], R]:
    def run(item: T) -> R:
        with torch.no_grad():  # each thread has a switch of its own
            return function(item)

    return run


def _started(threads: int, *, operations: int) -> ThreadPoolExecutor:
    """Threads whose operations use so many threads each; all of them run when this returns."""
    before = torch.get_num_threads()
    ready = threading.Barrier(threads + 1)

    def begin() -> None:
        torch.get_num_threads()  # only the first look takes over the number of all; later than ours it would undo it
        torch.set_num_threads(operations)

    pool = ThreadPoolExecutor(threads, "pictures", begin)
    for _ in range(threads):
        pool.submit(ready.wait)
    ready.wait()
    # setting the number in one thread also sets what threads to come begin with
    torch.set_num_threads(before)
    return pool
