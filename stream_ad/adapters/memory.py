"""Memory that the allocator holds though nothing uses it, given back to the operating system.

glibc keeps what was freed between two things that are in use. It is used again, but never in quite the same places, so
resident memory creeps up for days towards the most that was ever held at once (docs/reliability.md has the figures).
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

EVERY_S = 60.0


def give_back() -> bool:
    """Give back what is free; False where the C library has no way to. Takes milliseconds, for other threads none."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it
    return trim is not None and trim(ctypes.c_size_t(0)) is not None


@contextmanager
def giving_back(*, every_s: float = EVERY_S) -> Iterator[None]:
    """Meanwhile, what is free is given back every so often."""
    stop = threading.Event()

    def keep_giving() -> None:
        while not stop.wait(every_s) and give_back():
            pass

    threading.Thread(target=keep_giving, name="gives memory back", daemon=True).start()
    try:
        yield
    finally:
        stop.set()
