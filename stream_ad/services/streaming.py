"""`stream-ad serve`: a stream of records in, verdicts out, each exactly once in the database.

    source -> begin -> decode -> model -> write -> commit -> relay
              (database)  pool    one thread  one thread   (source)  one thread

One thread, the loop, owns the source and moves records from stage to stage; every stage works at the same time as the
others on its own batch, and each holds a bounded number of them. So the source is polled while a batch is scored.

- *begin* notes in the database that records are about to be worked on. One that has its row already goes no further;
  one that a process died on before goes alone, and after `max_attempts` it is a dead letter.
- *write* is ONE transaction {results, dead letters, outbox, end of the tries}.
- *commit* moves the source to the first record of each partition that has no row yet.
- *relay* sends the outbox to the sinks.

A crash between any two of these loses nothing and shows nothing twice: what was not committed comes again and is known
by its row; what was not relayed is still in the outbox.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from stream_ad.domain.message import DeadLetter, Place, Record, Standing
from stream_ad.domain.ports import BankRepository, Clock, ResultRepository, Sink, Source
from stream_ad.domain.result import Inspection, InspectionResult
from stream_ad.errors import DataError, StreamAdError, Unavailable
from stream_ad.services.counters import Counters
from stream_ad.services.deadlines import Deadlines
from stream_ad.services.health import Health
from stream_ad.services.intake import Arrival, Decode, Intake, IntakeOptions, Measure, Prepared
from stream_ad.services.judging import Inspector, Judge, JudgingOptions
from stream_ad.services.messages import References, dead_letter
from stream_ad.services.outgoing import outbox_of
from stream_ad.services.relay import Relay
from stream_ad.services.verdicts import Overlays, not_scored, rows_of
from stream_ad.services.watermark import Watermark

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction wrote."""

    results: Sequence[InspectionResult]
    dead_letters: Sequence[DeadLetter]
    #: how long "decode" (of all pictures together), "model" and "write" took
    seconds: Mapping[str, float]


OnBatch = Callable[[Batch], None]
"""Told of every batch after it was committed: the live display, the metrics."""

Guard = Callable[[], None]
"""Raises Unavailable while nothing more should be taken in: the disk is full."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions(IntakeOptions, JudgingOptions):
    #: how long to wait for a first record
    poll_timeout_s: float = 0.5
    #: how long the source may be left alone while there is no room: group membership hangs on it
    keep_alive_s: float = 3.0
    #: tries after which a record that lets the process die is put aside
    max_attempts: int = 3
    #: wait after a failure of database or source; doubles up to `backoff_max_s`
    backoff_s: float = 0.5
    backoff_max_s: float = 10.0
    #: how long the batches in hand may take after a stop
    drain_s: float = 20.0
    #: how often the disk, the lag and the outbox are looked at
    look_s: float = 1.0
    lag_s: float = 5.0


class Stopping(StreamAdError):
    """The stream ends while something is away; what was not saved comes again."""


@dataclass(slots=True, eq=False)
class _Work:
    """A batch from the model to its rows."""

    batch: list[Arrival]
    judged: "Future[_Judged]"
    written: "Future[_Written] | None" = None


@dataclass(frozen=True, slots=True)
class _Judged:
    outcomes: Sequence[Inspection | Exception | None]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Written:
    batch: Batch
    late: int


class _Staff:
    """A thread per stage that must not run twice at once."""

    def __init__(self, drawing_threads: int) -> None:
        self.books = ThreadPoolExecutor(1, thread_name_prefix="begin")
        self.model = ThreadPoolExecutor(1, thread_name_prefix="model")
        self.writer = ThreadPoolExecutor(1, thread_name_prefix="write")
        self.relay = ThreadPoolExecutor(1, thread_name_prefix="relay")
        # not the decoders: those may all wait for the memory that a batch gives back after its overlays
        self.drawing = ThreadPoolExecutor(drawing_threads, thread_name_prefix="overlay")

    def dismiss(self, *, wait: bool) -> None:
        for pool in (self.books, self.model, self.writer, self.drawing, self.relay):
            pool.shutdown(wait=wait, cancel_futures=True)


class Stream:
    """One scorer on one source. One thread runs it; others may set the stop event, read counters and health."""

    def __init__(
        self,
        *,
        source: Source,
        inspector: Inspector,
        banks: BankRepository,
        results: ResultRepository,
        decode: Decode,
        clock: Clock,
        measure: Measure | None = None,
        sinks: Sequence[Sink] = (),
        references: References | None = None,
        overlays: Overlays | None = None,
        guard: Guard | None = None,
        deadlines: Deadlines = Deadlines(),
        on_batch: OnBatch | None = None,
        options: StreamOptions = StreamOptions(),
    ) -> None:
        self.counters = Counters()
        self.health = Health(ticked_at=clock.now(), bank_version=inspector.bank.version)
        self._source, self._results, self._clock = source, results, clock
        self._decode, self._measure, self._references = decode, measure, references
        self._overlays, self._guard, self._deadlines, self._on_batch = overlays, guard, deadlines, on_batch
        self._options = options
        self._judge = Judge(inspector, banks, clock, self.counters, options)
        self._publishes = bool(sinks)
        self._relay = Relay(results, sinks, clock=clock)

    def run(self, stop: threading.Event, *, idle_s: float | None = None) -> Counters:
        """Work until `stop` is set, or until nothing came for `idle_s`; batches in hand are finished.

        Source and sinks stay open: whoever opened them closes them.

        Raises:
            Unavailable: more than `max_failures_in_a_row` pictures in a row made the model fail.
            DatabaseError: the database is damaged or of another revision; nothing was committed.
        """
        self._begin_shift()
        try:
            last = self._clock.now()
            while not stop.is_set():
                if self._turn():
                    last = self._clock.now()
                elif idle_s is not None and (self._clock.now() - last).total_seconds() >= idle_s:
                    break
            self._drain()
        except Exception:
            self._save_what_was_judged()
            # an orderly end, so nobody may take these records for what killed a process
            self._release([place for work in self._works for place in _places(work.batch)] + self._put_down())
            raise
        finally:
            self._give_up.set()
            self._intake.close()
            self._staff.dismiss(wait=not self.counters.abandoned)
        return self.counters

    def _begin_shift(self) -> None:
        now = self._clock.now()
        self._intake = Intake(
            references=self._references,
            decode=self._decode,
            measure=self._measure,
            clock=self._clock,
            options=self._options,
        )
        self._staff = _Staff(self._options.decode_threads)
        self._watermark = Watermark()
        self._give_up = threading.Event()
        # polled and not yet noted in the database, and the note that is being made of them
        self._polled: list[Arrival] = []
        self._beginning: Future[list[Standing]] | None = None
        # each of them may be what killed a process before: they go one by one, with nothing else in hand
        self._suspects: deque[Arrival] = deque()
        self._alone = False
        self._works: deque[_Work] = deque()
        self._relaying: Future[int] | None = None
        self._bank_look: Future[None] | None = None
        self._paused = False
        self._polled_at = self._relay_due = self._guard_due = self._lag_due = now
        self._backoff = {what: _Backoff(self._options) for what in ("source", "begin", "commit")}
        self._database_away = self._disk_full = False

    # --- the loop ---------------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Move everything on by one step; whether there is anything in hand."""
        self._look_around()
        came = self._poll()
        self._collect()
        self._dispatch()
        self._commit()
        if not came:
            self._rest()
        return self._busy

    @property
    def _busy(self) -> bool:
        return bool(self._polled or self._suspects or len(self._intake) or self._works or self._pending())

    def _pending(self) -> list[Future[Any]]:
        """What other threads are at with records in hand."""
        futures: list[Future[Any]] = [*self._intake.decoding]
        futures += [work.written or work.judged for work in self._works]
        return futures + ([] if self._beginning is None else [self._beginning])

    def _look_around(self) -> None:
        now = self._clock.now()
        health, options = self.health, self._options
        health.ticked_at = now
        if self._guard is not None and now >= self._guard_due:
            self._guard_due = now + timedelta(seconds=options.look_s)
            self._check_disk(self._guard)
        if now >= self._lag_due:
            self._lag_due = now + timedelta(seconds=options.lag_s)
            with suppress(Unavailable):
                health.lag = self._source.lag()
        if lost := self._source.lost():
            self._release(self._forget(lost))
        health.assigned = self._source.assigned
        self.counters.stalls = getattr(self._source, "stalls", 0)  # a folder has none
        self._look_at_sinks()
        health.bank_version = self._judge.bank_version
        outside = (*self._polled, *self._suspects)
        health.buffered = len(self._intake) + len(outside)
        health.buffered_bytes = self._intake.waiting.bytes + sum(arrival.size for arrival in outside)
        health.in_flight = sum(len(work.batch) for work in self._works)
        health.waiting_for = self._waits_for(now)

    def _look_at_sinks(self) -> None:
        self.health.sinks_away = self._relay.away
        self.counters.left_out = Counter(self._relay.left_out)

    def _waits_for(self, now: datetime) -> str | None:
        if self._disk_full:
            return "disk"
        if self._database_away or not self._backoff["begin"].is_over(now):
            return "database"
        if not self._backoff["source"].is_over(now):
            return "source"
        return "reference" if self._intake.store_away else None

    def _check_disk(self, guard: Guard) -> None:
        try:
            guard()
        except Unavailable as error:
            if not self._disk_full:
                log.error("nothing more is taken in: %s", error)
                self.counters.retries["disk"] += 1
            self._disk_full = True
        else:
            if self._disk_full:
                log.warning("there is room on the disk again, the stream goes on")
            self._disk_full = False

    def _poll(self) -> bool:
        """Take what came, if there is room; else keep the source alive. Whether something came."""
        now = self._clock.now()
        room = 0 if self._held_up or self._disk_full else self._intake.room
        if not self._backoff["source"].is_over(now):
            return False
        if room <= 0:
            self._keep_alive(now)
            return False
        try:
            if self._paused:
                self._source.resume()
                self._paused = False
            records = self._source.poll(room, self._patience_s())
            self._backoff["source"].reset()
        except Unavailable as error:
            self._source_is_away(error)
            return False
        self._polled_at = self._clock.now()
        self._polled = [Arrival(record, self._polled_at) for record in records if self._watermark.take(record)]
        return bool(self._polled)

    def _patience_s(self) -> float:
        """How long the source may let us wait: not at all while others work."""
        if self._pending() or self._polled:
            return 0.0
        due_s = self._intake.due_in()
        return self._options.poll_timeout_s if due_s is None else min(due_s, self._options.poll_timeout_s)

    def _keep_alive(self, now: datetime) -> None:
        if (now - self._polled_at).total_seconds() < self._options.keep_alive_s:
            return
        self._polled_at = now
        try:
            self._source.pause()
            self._paused = True
            self._polled += [
                Arrival(record, now) for record in self._source.poll(1, 0.0) if self._watermark.take(record)
            ]
        except Unavailable as error:
            self._source_is_away(error)

    def _source_is_away(self, error: Unavailable) -> None:
        self.counters.retries["source"] += 1
        delay_s = self._backoff["source"].begin(self._clock.now())
        log.warning("the source is away, tried again in %.1f s: %s", delay_s, error)

    def _rest(self) -> None:
        """Wait for the other threads, or for time to pass."""
        if pending := self._pending():
            wait(pending, timeout=0.01, return_when=FIRST_COMPLETED)
        elif self._disk_full or not self._intake.room or self._held_up or not self._source_answers:  # no poll waited
            due_s = self._intake.due_in()
            self._clock.sleep(0.05 if due_s is None else min(due_s, 0.05))

    @property
    def _held_up(self) -> bool:
        """Whether something must be begun, or go alone, before anything else is taken."""
        return bool(self._polled or self._suspects) or self._alone

    @property
    def _source_answers(self) -> bool:
        return self._backoff["source"].is_over(self._clock.now())

    # --- what the other threads have done -----------------------------------------------------------

    def _collect(self) -> None:
        self._collect_begun()
        for work in self._works:
            if work.written is None and work.judged.done():
                work.written = self._staff.writer.submit(self._write, work.batch, work.judged.result())
        while self._works and (written := self._works[0].written) is not None and written.done():
            self._finish(self._works.popleft(), written)
        if self._relaying is not None and self._relaying.done():
            future, self._relaying = self._relaying, None
            self.counters.relayed += future.result()
        if self._bank_look is not None and self._bank_look.done():
            future, self._bank_look = self._bank_look, None
            future.result()

    def _collect_begun(self) -> None:
        now = self._clock.now()
        nothing_in_hand = not (self._polled or self._works or len(self._intake))
        if nothing_in_hand:
            self._alone = bool(self._suspects)
            if self._alone:
                self._polled = [self._suspects.popleft()]
        if self._beginning is None:
            if self._polled and self._backoff["begin"].is_over(now):
                records = [arrival.record for arrival in self._polled]
                self._beginning = self._staff.books.submit(self._results.begin, records, now)
            return
        if not self._beginning.done():
            return
        future, self._beginning = self._beginning, None
        try:
            standings = future.result()
        except Unavailable as error:
            self.counters.retries["database"] += 1
            delay_s = self._backoff["begin"].begin(now)
            log.warning("the database is away, tried again in %.1f s: %s", delay_s, error)
            return
        self._backoff["begin"].reset()
        arrivals, self._polled = self._polled, []
        suspects = []
        for arrival, standing in zip(arrivals, standings, strict=True):
            if standing.done:
                self.counters.repeated += 1
                self._watermark.done(arrival.record.place)
            elif standing.tries and not self._alone:
                suspects.append(arrival)
            else:
                self._admit(arrival, standing.tries, now)
        # their turn has not come yet, and a death until then is not theirs
        self._release(_places(suspects))
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
            log.warning("%s was begun before and never ended; it goes alone", record.default_id, extra=_where(record))
        self._intake.add(arrival)

    def _finish(self, work: _Work, written: "Future[_Written]") -> None:
        self._intake.finished(work.batch)
        try:
            done = written.result()
        except Stopping as stopping:
            log.warning("%s", stopping)
            return
        self._count(done)
        for arrival in work.batch:
            self._watermark.done(arrival.record.place)
        self._commit()
        self._relay_due = self._clock.now()
        if self._on_batch is not None:
            self._on_batch(done.batch)

    def _count(self, done: _Written) -> None:
        batch, counters = done.batch, self.counters
        for letter in batch.dead_letters:
            record = letter.record
            log.warning(
                "%s is a dead letter (%s): %s", _name(record), letter.stage, letter.reason, extra=_where(record)
            )
        counters.received += len(batch.results) + len(batch.dead_letters)
        counters.scored += len(batch.results)
        counters.batches += 1
        counters.late += done.late
        counters.verdicts.update(result.verdict for result in batch.results)
        counters.dead_letters.update(letter.stage for letter in batch.dead_letters)
        counters.retries["reference"] = self._intake.references_away

    # --- what is given to the other threads ---------------------------------------------------------

    def _dispatch(self) -> None:
        self._intake.feed()
        # one batch with the model and a full one waiting for it; as many with the writer
        while sum(work.written is None for work in self._works) < 2 and len(self._works) < 4:
            idle = all(work.written is not None for work in self._works)
            batch = self._intake.next(partial=idle, at_once=self._alone or bool(self._suspects))
            if not batch:
                break
            self._works.append(_Work(batch, self._staff.model.submit(self._judged, batch)))
            self._intake.feed()
        now = self._clock.now()
        if self._publishes and self._relaying is None and now >= self._relay_due:
            self._relay_due = now + timedelta(seconds=self._options.look_s)
            self._relaying = self._staff.relay.submit(self._relay.flush)
        if not self._works and self._bank_look is None and self._judge.bank_is_due:
            self._bank_look = self._staff.model.submit(self._judge.take_other_bank)

    def _judged(self, batch: Sequence[Arrival]) -> _Judged:
        """In the model's thread: one inspection, or what went wrong, per record; None for a dead letter."""
        began, now = time.perf_counter(), self._clock.now()
        self.health.batch_since = now
        try:
            prepared = [arrival.outcome for arrival in batch if isinstance(arrival.outcome, Prepared)]
            skipped = {id(one) for one in prepared if self._deadlines.skip and self._is_late(one, now)}
            answers = iter(self._judge.judge([one for one in prepared if id(one) not in skipped]))
            outcomes: list[Inspection | Exception | None] = []
            for arrival in batch:
                if not isinstance(arrival.outcome, Prepared):
                    outcomes.append(None)
                elif id(arrival.outcome) in skipped:
                    outcomes.append(not_scored(arrival.outcome.message, self._deadlines, self._judge.bank_version))
                else:
                    outcomes.append(next(answers))
            return _Judged(outcomes, time.perf_counter() - began)
        finally:
            self.health.batch_since = None

    def _is_late(self, one: Prepared, now: datetime) -> bool:
        return self._deadlines.late(one.message.camera, one.message.captured_at, now)

    def _write(self, batch: Sequence[Arrival], judged: _Judged) -> _Written:
        """In the writer's thread: overlays, then the one transaction, however long the database is away."""
        began = time.perf_counter()
        overlays = list(self._staff.drawing.map(self._overlay, batch, judged.outcomes))
        results, letters, late = rows_of(
            batch, judged.outcomes, overlays=overlays, deadlines=self._deadlines, clock=self._clock
        )
        outbox = outbox_of(results, letters) if self._publishes else []
        self._patiently(lambda: self._results.save_batch(results, letters, outbox))
        seconds = {
            "decode": sum(arrival.decode_s for arrival in batch),
            "model": judged.seconds,
            "write": time.perf_counter() - began,
        }
        return _Written(Batch(results, letters, seconds), late)

    def _overlay(self, arrival: Arrival, inspection: Inspection | Exception | None) -> str | None:
        one = arrival.outcome
        if self._overlays is None or not isinstance(one, Prepared) or not isinstance(inspection, Inspection):
            return None
        try:
            return self._overlays(one.message, one.picture, inspection)
        except Exception:  # a full disk must not cost the verdict
            log.exception("no overlay for %s", one.message.message_id, extra=_where(arrival.record))
            self.counters.overlays_failed += 1
            return None

    def _patiently(self, action: Callable[[], T]) -> T:
        """The action's outcome, however long the database is away.

        Raises:
            Stopping: the stream ended before.
        """
        backoff = _Backoff(self._options)
        while True:
            try:
                outcome = action()
                self._database_away = False
                return outcome
            except Unavailable as error:
                self._database_away = True
                self.counters.retries["database"] += 1
                delay_s = backoff.begin(self._clock.now())
                log.warning("the database is away, tried again in %.1f s: %s", delay_s, error)
            while not backoff.is_over(self._clock.now()):
                if self._give_up.is_set():
                    raise Stopping("stopped while the database was away; what was not saved comes again")
                self._clock.sleep(0.25)

    # --- offsets --------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Commit the source; when that fails, later. The rows are there, so repeats do no harm."""
        up_to = self._watermark.committable()
        now = self._clock.now()
        if not up_to or not self._backoff["commit"].is_over(now):
            return
        try:
            self._source.commit(up_to)
        except Unavailable as error:
            delay_s = self._backoff["commit"].begin(now)
            log.warning("not committed, tried again in %.1f s: %s", delay_s, error)
            self.counters.retries["commit"] += 1
            return
        self._backoff["commit"].reset()
        self._watermark.committed(up_to)
        self.counters.last_commit_at = now

    def _forget(self, lost: set[tuple[str, int]]) -> list[Place]:
        """Put down what was taken of partitions that others have now; the places that a try was noted for."""
        log.info("%d partitions are others' now", len(lost))
        for partition in lost:
            self._watermark.forget(partition)
        self._suspects = deque(arrival for arrival in self._suspects if arrival.record.place[:2] not in lost)
        if self._beginning is None:
            self._polled = [arrival for arrival in self._polled if arrival.record.place[:2] not in lost]
        return self._intake.drop(lost)

    def _release(self, places: Sequence[Place]) -> None:
        """Take back the tries of records that were put down untouched."""
        if not places:
            return
        try:
            self._staff.books.submit(self._results.release, list(places)).result()
        except Unavailable as error:  # they are begun again alone, which is slower and harmless
            log.warning("%d records stay noted as tried: %s", len(places), error)

    # --- the end --------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Finish the batches in hand, put the rest down, commit, and send what waits, all within `drain_s`."""
        self.health.draining = True
        until = self._clock.now() + timedelta(seconds=self._options.drain_s)
        self._release(self._put_down())
        while self._works:
            self.health.ticked_at = self._clock.now()
            self._collect()
            if self._works:
                wait([work.written or work.judged for work in self._works], 0.01, FIRST_COMPLETED)
            if self._works and self._clock.now() >= until:
                self._give_up.set()
                wait([work.written or work.judged for work in self._works], 1.0)
                self._collect()
                if self._works:
                    log.error("%d batches did not end within %g s", len(self._works), self._options.drain_s)
                    self.counters.abandoned = True
                    return
        self._backoff["commit"].reset()
        self._commit()
        if self._publishes:
            left_s = max(1.0, (until - self._clock.now()).total_seconds())
            futures = [self._relaying] if self._relaying is not None else []
            futures.append(self._staff.relay.submit(self._relay.flush, left_s))
            wait(futures, timeout=left_s)
            self.counters.relayed += sum(future.result() for future in futures if future.done())
            self.counters.abandoned = not all(future.done() for future in futures)
            self._relaying = None
            self._look_at_sinks()

    def _save_what_was_judged(self) -> None:
        """Before a failure is told: what went well before it is kept."""
        while self._works and (written := self._works[0].written) is not None:
            wait([written], timeout=self._options.drain_s)
            if not written.done() or written.exception() is not None:
                break
            self._finish(self._works.popleft(), written)

    def _put_down(self) -> list[Place]:
        """Of everything that waits before the model; its tries are to be taken back."""
        places = self._intake.places()
        if self._beginning is not None:
            future, self._beginning = self._beginning, None
            with suppress(Unavailable):
                begun = zip(self._polled, future.result(), strict=True)
                places += [arrival.record.place for arrival, standing in begun if not standing.done]
        self._polled = []
        self._suspects.clear()
        self._intake.close()
        return places


class _Backoff:
    """When to try again: after a delay that doubles."""

    def __init__(self, options: StreamOptions) -> None:
        self._first_s, self._most_s = options.backoff_s, options.backoff_max_s
        self.reset()

    def reset(self) -> None:
        self._next_s = self._first_s
        self._until: datetime | None = None

    def begin(self, now: datetime) -> float:
        """The delay that begins now, in seconds."""
        delay_s, self._next_s = self._next_s, min(2 * self._next_s, self._most_s)
        self._until = now + timedelta(seconds=delay_s)
        return delay_s

    def is_over(self, now: datetime) -> bool:
        return self._until is None or now >= self._until


def _places(batch: Sequence[Arrival]) -> list[Place]:
    return [arrival.record.place for arrival in batch]


def _where(record: Record) -> dict[str, Any]:
    """For logs that are read by machines."""
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}


def _name(record: Record) -> str:
    """What people call a record: the sender's name for it, and its place in the stream."""
    subject = record.headers.get("ce_subject", b"").decode(errors="replace")
    return f"{subject} ({record.default_id})" if subject else record.default_id
