"""What was polled on its way into the intake: noted in the database first, and the suspects one by one.

A record that is noted as begun and has no row was in hand when a process died. It may be what killed it, so it goes
alone, with nothing else in hand; after `max_attempts` such deaths it is a dead letter.
"""

import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from stream_ad.domain.message import Place, Record, Standing
from stream_ad.domain.ports import Clock, ResultRepository
from stream_ad.errors import DataError, Unavailable
from stream_ad.services.backoff import Backoff, BackoffOptions
from stream_ad.services.counters import Counters
from stream_ad.services.intake import Arrival, Intake
from stream_ad.services.messages import dead_letter, where
from stream_ad.services.watermark import Partition, Watermark

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AdmissionOptions(BackoffOptions):
    #: tries after which a record that lets the process die is put aside
    max_attempts: int = 3


class Admission:
    """Belongs to the thread of the stream; the database is asked by one of its own."""

    def __init__(
        self,
        results: ResultRepository,
        intake: Intake,
        watermark: Watermark,
        *,
        clock: Clock,
        counters: Counters,
        options: AdmissionOptions,
    ) -> None:
        self._results, self._intake, self._watermark = results, intake, watermark
        self._clock, self._counters, self._options = clock, counters, options
        self._books = ThreadPoolExecutor(1, thread_name_prefix="begin")
        self._backoff = Backoff(options)
        # polled, and not yet noted
        self._polled: list[Arrival] = []
        # being noted
        self._begun: list[Arrival] = []
        self._beginning: Future[list[Standing | DataError]] | None = None
        self._suspects: deque[Arrival] = deque()
        self._alone = False

    @property
    def waiting(self) -> list[Arrival]:
        return [*self._polled, *self._begun, *self._suspects]

    @property
    def pending(self) -> "list[Future[list[Standing | DataError]]]":
        """What its thread is at."""
        return [] if self._beginning is None else [self._beginning]

    @property
    def holds_up(self) -> bool:
        """Whether something must be begun, or go alone, before anything else is taken."""
        return bool(self.waiting) or self._alone

    @property
    def ends_batches(self) -> bool:
        """Whether nothing joins a batch that waits for more."""
        return self._alone or bool(self._suspects)

    @property
    def database_away(self) -> bool:
        return not self._backoff.is_over(self._clock.elapsed())

    def take(self, records: Sequence[Record]) -> bool:
        """Take what was polled; whether anything of it is new."""
        now, since = self._clock.now(), self._clock.elapsed()
        new = [Arrival(record, now, since) for record in records if self._watermark.take(record)]
        self._polled += new
        return bool(new)

    def step(self, *, others_in_hand: bool) -> None:
        """Begin what can be begun, and let in what was."""
        if not others_in_hand and not self._polled and not self._begun:
            self._alone = bool(self._suspects)
            if self._alone:
                self._polled = [self._suspects.popleft()]
        if self._beginning is None:
            if self._polled and not self.database_away:
                self._begun, self._polled = self._polled, []
                records = [arrival.record for arrival in self._begun]
                self._beginning = self._books.submit(self._begin, records, self._clock.now())
        elif self._beginning.done():
            future, self._beginning = self._beginning, None
            arrivals, self._begun = self._begun, []
            try:
                self._let_in(arrivals, future.result())
                self._backoff.reset()
            except Unavailable as error:
                self._polled = arrivals + self._polled
                self._counters.retries["database"] += 1
                delay_s = self._backoff.begin(self._clock.elapsed())
                log.warning("the database is away, tried again in %.1f s: %s", delay_s, error)

    def forget(self, lost: set[Partition]) -> None:
        """Put down what was taken of partitions that others have now."""
        log.info("%d partitions are others' now", len(lost))
        for partition in lost:
            self._watermark.forget(partition)
        self._suspects = deque(arrival for arrival in self._suspects if arrival.record.place[:2] not in lost)
        self._polled = [arrival for arrival in self._polled if arrival.record.place[:2] not in lost]
        self.release(self._intake.drop(lost))

    def put_down(self) -> None:
        """Put down everything that has not reached the model; it comes again."""
        places = self._intake.places()
        if self._beginning is not None:
            future, self._beginning = self._beginning, None
            with suppress(Unavailable):
                begun = zip(self._begun, future.result(), strict=True)
                places += [arrival.record.place for arrival, standing in begun if _was_noted(standing)]
        self._polled, self._begun = [], []
        self._suspects.clear()
        self._intake.close()
        self.release(places)

    def release(self, places: Sequence[Place]) -> None:
        """Take back the tries of records that were put down untouched."""
        if not places:
            return
        try:
            self._books.submit(self._results.release, list(places)).result()
        except Unavailable as error:  # they are begun again alone, which is slower and harmless
            log.warning("%d records stay noted as tried: %s", len(places), error)

    def close(self, *, wait: bool) -> None:
        self._books.shutdown(wait=wait, cancel_futures=True)

    def _begin(self, records: Sequence[Record], at: datetime) -> list[Standing | DataError]:
        """In the database's thread; what it cannot store of one record does not keep the others out."""
        try:
            return list(self._results.begin(records, at))
        except DataError as error:
            return [error] if len(records) == 1 else [self._begin([record], at)[0] for record in records]

    def _let_in(self, arrivals: Sequence[Arrival], standings: Sequence[Standing | DataError]) -> None:
        now = self._clock.now()
        suspects = []
        for arrival, standing in zip(arrivals, standings, strict=True):
            if isinstance(standing, DataError):
                arrival.outcome = dead_letter(arrival.record, "store", standing, at=now)
                self._intake.add(arrival)
            elif standing.done:
                self._counters.repeated += 1
                self._watermark.done(arrival.record.place)
            elif standing.tries and not self._alone:
                suspects.append(arrival)
            else:
                self._admit(arrival, standing.tries, now)
        # their turn has not come yet, and a death until then is not theirs
        self.release([arrival.record.place for arrival in suspects])
        self._suspects += suspects

    def _admit(self, arrival: Arrival, tries: int, now: datetime) -> None:
        record = arrival.record
        if tries >= self._options.max_attempts:
            reason = DataError(
                f"needed a record that can be worked on, this one was begun {tries} times and the process"
                " died each time; look at the picture, then `stream-ad dlq retry`"
            )
            arrival.outcome = replace(dead_letter(record, "crash", reason, at=now), attempts=tries)
        elif tries:
            log.warning("%s was begun before and never ended; it goes alone", record.default_id, extra=where(record))
        self._intake.add(arrival)


def _was_noted(standing: Standing | DataError) -> bool:
    """Whether a try was noted."""
    return isinstance(standing, Standing) and not standing.done
