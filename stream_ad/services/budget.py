"""Memory that decoded pictures may take, shared by the threads that decode."""

import threading


class Budget:
    """So many bytes, taken before they are used. One picture is always let through, however large."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._taken = 0
        self._waiting = 0
        self._open = True
        self._changed = threading.Condition()

    @property
    def taken(self) -> int:
        return self._taken

    @property
    def blocked(self) -> bool:
        """Whether a thread waits for memory: what is decoded should move on."""
        return self._waiting > 0

    def take(self, count: int) -> None:
        """Waits until there is room for so many bytes, or until the budget is closed."""
        with self._changed:
            self._waiting += 1
            self._changed.wait_for(lambda: not self._open or not self._taken or self._taken + count <= self._size)
            self._waiting -= 1
            self._taken += count

    def give(self, count: int) -> None:
        with self._changed:
            self._taken -= count
            self._changed.notify_all()

    def close(self) -> None:
        """Let everybody through: what they hold is about to be dropped."""
        with self._changed:
            self._open = False
            self._changed.notify_all()
