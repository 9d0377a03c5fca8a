"""A queue in which a busy camera does not keep the others waiting."""

from collections import deque
from collections.abc import Callable, Hashable, Iterator
from itertools import chain
from typing import Generic, TypeVar

T = TypeVar("T")


class FairQueue(Generic[T]):
    """First in, first out within a line; the lines take turns.

    >>> queue = FairQueue()
    >>> for camera, picture in [("a", 1), ("a", 2), ("a", 3), ("b", 4)]:
    ...     queue.put(camera, picture)
    >>> [queue.get() for _ in range(len(queue))]
    [1, 4, 2, 3]
    """

    def __init__(self) -> None:
        # the line whose turn it is stands first
        self._lines: dict[Hashable, deque[T]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        """Line by line."""
        return chain.from_iterable(self._lines.values())

    def put(self, line: Hashable, item: T) -> None:
        self._lines.setdefault(line, deque()).append(item)
        self._count += 1

    def get(self) -> T:
        """Raises: IndexError: it is empty."""
        if not self._lines:
            raise IndexError("the queue is empty")
        line, items = next(iter(self._lines.items()))
        item = items.popleft()
        self._count -= 1
        del self._lines[line]
        if items:
            self._lines[line] = items  # to the end: the others first
        return item

    def remove(self, wanted: Callable[[T], bool]) -> list[T]:
        """Take out all items of which `wanted` is true."""
        taken = [item for item in self if wanted(item)]
        self._lines = {
            line: kept
            for line, items in self._lines.items()
            if (kept := deque(item for item in items if not wanted(item)))
        }
        self._count -= len(taken)
        return taken
