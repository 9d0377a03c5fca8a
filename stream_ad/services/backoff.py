"""When to try again what failed: after a delay that doubles."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BackoffOptions:
    #: wait after a first failure of database or source; doubles up to `backoff_max_s`
    backoff_s: float = 0.5
    backoff_max_s: float = 10.0


class Backoff:
    """Times are seconds of `Clock.elapsed`."""

    def __init__(self, options: BackoffOptions) -> None:
        self._first_s, self._most_s = options.backoff_s, options.backoff_max_s
        self.reset()

    def reset(self) -> None:
        """It went well."""
        self._next_s = self._first_s
        self._until: float | None = None

    def begin(self, now: float) -> float:
        """The delay that begins now, in seconds."""
        delay_s, self._next_s = self._next_s, min(2 * self._next_s, self._most_s)
        self._until = now + delay_s
        return delay_s

    def is_over(self, now: float) -> bool:
        return self._until is None or now >= self._until
