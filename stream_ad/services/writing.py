"""A judged batch into its rows: overlays, then one transaction, however long the database is away."""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from stream_ad.domain.images import Picture
from stream_ad.domain.message import DeadLetter, ImageMessage
from stream_ad.domain.ports import Clock, ResultRepository
from stream_ad.domain.result import Inspection, InspectionResult
from stream_ad.errors import DatabaseError, DataError, StreamAdError, Unavailable
from stream_ad.services.backoff import Backoff, BackoffOptions
from stream_ad.services.counters import Counters
from stream_ad.services.deadlines import Deadlines
from stream_ad.services.intake import Arrival, Prepared
from stream_ad.services.judging import Judged
from stream_ad.services.keeping import Keep
from stream_ad.services.messages import dead_letter, where
from stream_ad.services.outgoing import outbox_of
from stream_ad.services.verdicts import as_told, rows_of

log = logging.getLogger(__name__)

Overlays = Callable[[ImageMessage, Picture, Inspection], str | None]
"""Draws and keeps an overlay; the name of its file, or None when this one needs none. Called from threads."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction wrote."""

    results: Sequence[InspectionResult]
    dead_letters: Sequence[DeadLetter]
    #: how long "decode" (of all pictures together), "model" and "write" took
    seconds: Mapping[str, float]


class Stopping(StreamAdError):
    """The stream ends while the database is away; what was not saved comes again."""


class Writer:
    """Works in a thread of its own, one batch at a time."""

    def __init__(
        self,
        results: ResultRepository,
        *,
        overlays: Overlays | None,
        keep: Keep | None = None,
        deadlines: Deadlines,
        publishes: bool,
        drawing_threads: int,
        clock: Clock,
        counters: Counters,
        options: BackoffOptions,
    ) -> None:
        self._results, self._overlays, self._deadlines, self._publishes = results, overlays, deadlines, publishes
        self._clock, self._counters, self._options, self._keep = clock, counters, options, keep
        # not the decoders: those may all wait for the memory that a batch gives back after its overlays
        self._drawing = ThreadPoolExecutor(drawing_threads, thread_name_prefix="overlay")
        self._give_up = threading.Event()
        #: whether it waits for the database
        self.database_away = False

    def write(self, batch: Sequence[Arrival], judged: Judged) -> Batch:
        """The rows of a batch, once they are safely there.

        Raises:
            Stopping: it was told to give up while the database was away.
            DatabaseError: the database is damaged or of another revision, or takes not even a dead letter.
        """
        began = time.perf_counter()
        overlays = list(self._drawing.map(self._overlay, batch, judged.outcomes))
        results, letters = rows_of(batch, judged.outcomes, overlays=overlays, at=self._clock.now())
        try:
            told = self._save(results, letters)
        except DataError as error:
            log.warning("a batch of %d cannot be stored, now one by one: %s", len(batch), error)
            told, letters = self._save_one_by_one(batch, results, letters)
        self._keep_unknown(batch, judged)
        seconds = {
            "decode": sum(arrival.decode_s for arrival in batch),
            "model": judged.seconds,
            "write": time.perf_counter() - began,
        }
        return Batch(told, letters, seconds)

    def give_up(self) -> None:
        """Wait for the database no longer."""
        self._give_up.set()

    def close(self, *, wait: bool) -> None:
        self.give_up()
        self._drawing.shutdown(wait=wait, cancel_futures=True)

    def _overlay(self, arrival: Arrival, inspection: Inspection | Exception | None) -> str | None:
        one = arrival.outcome
        if self._overlays is None or not isinstance(one, Prepared) or not isinstance(inspection, Inspection):
            return None
        try:
            return self._overlays(one.message, one.picture, inspection)
        except Exception:  # a full disk must not cost the verdict
            log.exception("no overlay for %s", one.message.message_id, extra=where(arrival.record))
            self._counters.overlays_failed += 1
            return None

    def _keep_unknown(self, batch: Sequence[Arrival], judged: Judged) -> None:
        """After the verdicts are safe: a picture that is kept and then comes again is kept once."""
        if self._keep is None:
            return
        for arrival, inspection in zip(batch, judged.outcomes, strict=True):
            if isinstance(one := arrival.outcome, Prepared) and isinstance(inspection, Inspection):
                self._keep(one.message, one.picture, inspection)

    def _save_one_by_one(
        self, batch: Sequence[Arrival], results: Sequence[InspectionResult], letters: Sequence[DeadLetter]
    ) -> tuple[list[InspectionResult], list[DeadLetter]]:
        """Put aside what the database cannot store; what was saved in the end."""
        records = {arrival.record.place: arrival.record for arrival in batch}
        stored: list[InspectionResult] = []
        put_aside = list(letters)
        for result in results:
            try:
                stored += self._save([result], [])
            except DataError as error:
                record = records[result.topic, result.partition, result.offset]
                put_aside.append(dead_letter(record, "store", error, at=self._clock.now()))
        for letter in put_aside:
            try:
                self._save([], [letter])
            except DataError as error:
                raise DatabaseError(
                    f"the database does not take even the dead letter of {letter.record.shown}: {error}; nothing after"
                    " it was committed"
                ) from error
        return stored, put_aside

    def _save(self, results: Sequence[InspectionResult], letters: Sequence[DeadLetter]) -> list[InspectionResult]:
        """The results as they were told in the end.

        Raises:
            Stopping, DatabaseError: as `write`.
            DataError: one of them cannot be stored.
        """
        backoff = Backoff(self._options)
        while True:
            if self._give_up.is_set():
                raise Stopping("stopped while the database was away; what was not saved comes again")
            # looked at before each try: while the database was away an OK may have become too late
            told = [as_told(result, self._deadlines, self._clock.now()) for result in results]
            try:
                self._results.save_batch(told, letters, outbox_of(told, letters) if self._publishes else [])
                self.database_away = False
                self._counters.late += sum(new is not old for new, old in zip(told, results, strict=True))
                return told
            except Unavailable as error:
                self.database_away = True
                self._counters.retries["database"] += 1
                delay_s = backoff.begin(self._clock.elapsed())
                log.warning("the database is away, tried again in %.1f s: %s", delay_s, error)
            while not (backoff.is_over(self._clock.elapsed()) or self._give_up.is_set()):
                self._clock.sleep(0.25)
