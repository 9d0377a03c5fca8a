"""The outbox to the sinks: at least once each, whatever is away."""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta

from stream_ad.domain.ports import Clock, ResultRepository, Sink
from stream_ad.errors import Unavailable

log = logging.getLogger(__name__)

AT_ONCE = 100


class Relay:
    """Sends what transactions left in the outbox. A sink that is away holds up neither scoring nor the others."""

    def __init__(self, results: ResultRepository, sinks: Sequence[Sink], *, clock: Clock, retry_s: float = 1.0) -> None:
        self._results, self._sinks, self._clock = results, list(sinks), clock
        self._retry_s = retry_s
        self._not_before: datetime | None = None
        # rows that a sink has while another one lacks them: not sent to it again as long as this process lives
        self._has: list[set[int]] = [set() for _ in self._sinks]

    def flush(self) -> int:
        """How many messages every sink has now and the outbox no longer; the rest is tried again in `retry_s`."""
        if not self._sinks or (self._not_before is not None and self._clock.now() < self._not_before):
            return 0
        count = 0
        try:
            while rows := self._results.outbox(AT_ONCE):
                if not self._send(rows):
                    self._wait()
                    break
                self._results.relayed([row for row, _ in rows])
                for has in self._has:
                    has.difference_update(row for row, _ in rows)
                count += len(rows)
        except Unavailable as error:
            log.warning("the outbox could not be read or written, tried again in %s s: %s", self._retry_s, error)
            self._wait()
        return count

    def _send(self, rows: Sequence[tuple]) -> bool:
        complete = True
        for sink, has in zip(self._sinks, self._has, strict=True):
            missing = [(row, message) for row, message in rows if row not in has]
            try:
                if missing:
                    sink.send([message for _, message in missing])
                has.update(row for row, _ in missing)
            except Unavailable as error:
                log.warning("%s is away, %d messages wait: %s", type(sink).__name__, len(missing), error)
                complete = False
        return complete

    def _wait(self) -> None:
        self._not_before = self._clock.now() + timedelta(seconds=self._retry_s)
