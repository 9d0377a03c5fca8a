"""Asks what may never answer, and gives up in time."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from stream_ad.errors import Unavailable

T = TypeVar("T")


class WithinSeconds(Generic[T]):
    """One question, e.g. to a database behind a dead network, where a driver waits for minutes.

    It is asked in a thread of its own, never twice at once: callers that come meanwhile wait for the same answer, so
    a probe every few seconds piles up nothing.
    """

    def __init__(self, ask: Callable[[], T], *, within_s: float, who: str) -> None:
        self._ask, self._within_s, self._who = ask, within_s, who
        self._lock = threading.Lock()
        self._asking: _Answer[T] | None = None

    def __call__(self) -> T:
        """The answer, or the error that it ended with. Raises: Unavailable: none came in time."""
        with self._lock:
            if self._asking is None or self._asking.there.is_set():
                self._asking = _Answer()
                threading.Thread(
                    target=self._fetch, args=(self._asking,), name=f"asks {self._who}", daemon=True
                ).start()
            answer = self._asking
        if not answer.there.wait(self._within_s):
            raise Unavailable(f"the {self._who} did not answer within {self._within_s:g} s")
        if answer.error is not None:
            raise answer.error
        return answer.value  # pyright: ignore[reportReturnType]

    def _fetch(self, answer: "_Answer[T]") -> None:
        try:
            answer.value = self._ask()
        except Exception as error:  # raised where it was asked for
            answer.error = error
        finally:
            answer.there.set()


class _Answer(Generic[T]):
    def __init__(self) -> None:
        self.there = threading.Event()
        self.value: T | None = None
        self.error: Exception | None = None
