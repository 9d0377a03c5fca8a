"""One sink as the relay sees it: a thread that sends, how long it has been away, and what drives it away."""

import logging
import random
import threading
from collections import Counter
from collections.abc import Sequence, Set
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime
from queue import SimpleQueue

from stream_ad.domain.message import OutboxMessage
from stream_ad.domain.ports import Clock, Sink
from stream_ad.errors import DataError, Unavailable

log = logging.getLogger(__name__)

SUSPICIOUS = 3
"""Failures in a row after which messages are tried one by one."""
STRIKES = 3
"""How often a message fails while others pass before it is left out."""

Waiting = Sequence[tuple[int, OutboxMessage]]
"""Messages by row number, oldest first."""


@dataclass(slots=True)
class Outcome:
    """What came of an attempt."""

    sent: set[int] = field(default_factory=set)
    #: rows that the sink will never take, and why
    refused: dict[int, str] = field(default_factory=dict)
    #: rows that failed, each alone
    failed: list[int] = field(default_factory=list)
    error: Exception | None = None


class Post:
    """Belongs to the thread of the relay; its own thread, a daemon, does nothing but `sink.send`."""

    def __init__(self, name: str, sink: Sink, *, retry_s: float, retry_max_s: float) -> None:
        self.name, self._sink = name, sink
        self._retry_s, self._retry_max_s = retry_s, retry_max_s
        #: the attempt that goes on, and its rows
        self.job: Future[Outcome] | None = None
        self.rows: Set[int] = frozenset()
        #: whether others may have messages that it lacks
        self.behind = True
        self.away_since: datetime | None = None
        self.left_out = 0
        self._messages: dict[int, OutboxMessage] = {}
        self._failures = 0
        self._strikes = Counter[int]()
        self._not_before: float | None = None
        self._chance = random.Random(name)
        self._inbox: SimpleQueue[tuple[Waiting, Future[Outcome]]] | None = None

    @property
    def finished(self) -> bool:
        return self.job is not None and self.job.done()

    def may_send(self, now: float) -> bool:
        """Whether its wait is over; `now` is of `Clock.elapsed`."""
        return self.job is None and (self._not_before is None or now >= self._not_before)

    def send(self, rows: Waiting) -> "Future[Outcome] | None":
        """Begin with those of the rows that the sink lacks; None: it lacks none."""
        missing = [(row, message) for row, message in rows if self.name not in message.has]
        if not missing:
            return None
        self._messages = dict(missing)
        self.rows = self._messages.keys()
        self.job = Future()
        if self._inbox is None:
            self._inbox = SimpleQueue()
            # a daemon: a sink that hangs must not keep the process from ending
            threading.Thread(target=self._run, args=(self._inbox,), name=f"sink {self.name}", daemon=True).start()
        self._inbox.put((missing, self.job))
        return self.job

    def collect(self, clock: Clock) -> set[int]:
        """Rows that need not be sent to this sink again, after an attempt that has finished."""
        assert self.job is not None
        outcome, self.job, self.rows = self.job.result(), None, frozenset()
        done = outcome.sent | outcome.refused.keys()
        for row, reason in outcome.refused.items():
            self._leave_out(row, reason)
        if outcome.sent:  # so it is there, and what failed failed for a reason of its own
            self._strikes.update(outcome.failed)
            for row in [row for row in outcome.failed if self._strikes[row] >= STRIKES]:
                self._leave_out(row, str(outcome.error))
                done.add(row)
        for row in done:
            self._strikes.pop(row, None)
        if outcome.error is None:
            if self.away_since is not None:
                log.info("%s is back", self.name)
            self._failures, self._not_before, self.away_since = 0, None, None
        else:
            self._wait(outcome, clock)
        return done

    def _wait(self, outcome: Outcome, clock: Clock) -> None:
        self.behind = True
        self._failures += 1
        self.away_since = self.away_since or clock.now()
        # one message that fails among others that pass need not slow them down
        doublings = 0 if outcome.sent else min(self._failures - 1, 30)
        delay_s = min(self._retry_s * 2**doublings, self._retry_max_s)
        self._not_before = clock.elapsed() + delay_s
        left = len(self._messages) - len(outcome.sent)
        log.warning(
            "%s is away, %d messages or more wait, tried again in %g s: %s", self.name, left, delay_s, outcome.error
        )

    def _leave_out(self, row: int, reason: str) -> None:
        self.left_out += 1
        log.error("%s never gets %s, the database has it: %s", self.name, self._messages[row].id, reason)

    # --- in the sink's own thread

    def _run(self, inbox: "SimpleQueue[tuple[Waiting, Future[Outcome]]]") -> None:
        while True:
            rows, job = inbox.get()
            outcome = Outcome()
            try:
                if self._failures >= SUSPICIOUS or self._strikes:
                    self._send_one_by_one(rows, outcome)
                else:
                    self._send_in_bulk(rows, outcome)
            except Exception as error:  # a fault of a sink is its own; the others and the scoring go on
                log.exception("%s failed in a way that it should not", self.name)
                outcome.error = error
            except BaseException as error:  # the end of the process is told to whoever waits
                job.set_exception(error)
                return
            job.set_result(outcome)

    def _send_in_bulk(self, rows: Waiting, outcome: Outcome) -> None:
        size = self._sink.at_once
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            try:
                self._sink.send([message for _, message in some])
                outcome.sent.update(row for row, _ in some)
            except DataError:
                for one in some:
                    if not self._passes(one, outcome):
                        return
            except Unavailable as error:
                outcome.error = error
                return

    def _send_one_by_one(self, rows: Waiting, outcome: Outcome) -> None:
        """In order; when the first fails, go on from any other: is it the message or the sink?"""
        first, *others = rows
        if not self._passes(first, outcome) and others:
            start = self._chance.randrange(len(others))
            others = others[start:] + others[:start]
        for one in others:
            if len(outcome.failed) >= (STRIKES if outcome.sent else 2):
                return
            self._passes(one, outcome)

    def _passes(self, one: tuple[int, OutboxMessage], outcome: Outcome) -> bool:
        """Whether the sink is there: it took the message, or refused it for good."""
        row, message = one
        try:
            self._sink.send([message])
            outcome.sent.add(row)
        except DataError as error:
            outcome.refused[row] = str(error)
        except Unavailable as error:
            outcome.failed.append(row)
            outcome.error = error
            return False
        return True
