"""The real time."""

import time
from datetime import UTC, datetime


class SystemClock:
    """`domain.ports.Clock` on the machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def elapsed(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
