"""Memory that pictures may take while they are decoded and after it, shared by the threads that decode."""

import threading
from collections import deque


class Budget:
    """So many bytes, taken before they are used, first come, first served: small ones do not keep a large one waiting.

    One picture is always let through, however large.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._queue = deque[object]()
        self._open = True
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def waiting(self) -> int:
        """How many threads wait."""
        return len(self._queue)

    @property
    def blocked(self) -> bool:
        """Whether a thread waits for memory: what is decoded should move on."""
        return bool(self._queue)

    def take(self, count: int) -> None:
        """Waits until there is room for so many bytes, or until the budget is closed."""
        with self._changed:
            ticket = object()
            self._queue.append(ticket)
            self._changed.wait_for(lambda: not self._open or (self._queue[0] is ticket and self._has_room(count)))
            self._queue.remove(ticket)
            self._taken += count
            self._changed.notify_all()  # the next one may fit, too

    def _has_room(self, count: int) -> bool:
        return not self._taken or self._taken + count <= self._size

    def give(self, count: int) -> None:
        with self._changed:
            self._taken -= count
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody through: what they hold is about to be dropped."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
