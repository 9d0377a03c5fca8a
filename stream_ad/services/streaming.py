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
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from stream_ad.domain.ports import BankRepository, Clock, ResultRepository, Sink, Source
from stream_ad.errors import Unavailable
from stream_ad.services.admission import Admission, AdmissionOptions
from stream_ad.services.backoff import Backoff
from stream_ad.services.counters import Counters
from stream_ad.services.deadlines import Deadlines
from stream_ad.services.health import Health
from stream_ad.services.intake import Arrival, Decode, Intake, IntakeOptions, Measure
from stream_ad.services.judging import Inspector, Judge, Judged, JudgingOptions
from stream_ad.services.keeping import Keep
from stream_ad.services.messages import References, where
from stream_ad.services.relay import Relay
from stream_ad.services.watermark import Watermark
from stream_ad.services.writing import Batch, Overlays, Stopping, Writer

log = logging.getLogger(__name__)

OnBatch = Callable[[Batch], None]
"""Told of every batch after it was committed: the live display, the metrics."""

Guard = Callable[[], None]
"""Raises Unavailable while nothing more should be taken in: the disk is full."""


@dataclass(frozen=True, kw_only=True)
class StreamOptions(IntakeOptions, JudgingOptions, AdmissionOptions):
    #: how long to wait for a first record
    poll_timeout_s: float = 0.5
    #: how long the source may be left alone while there is no room: group membership hangs on it
    keep_alive_s: float = 3.0
    #: how long the batches in hand may take after a stop
    drain_s: float = 20.0
    #: how often disk and outbox are looked at
    look_s: float = 1.0
    #: how often the source is asked for its lag
    lag_s: float = 5.0


@dataclass(slots=True, eq=False)
class _Work:
    """A batch from the model to its rows."""

    batch: list[Arrival]
    judged: Future[Judged]
    written: Future[Batch] | None = None


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
        keep: Keep | None = None,
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
        self._keep = keep
        self._options = options
        self._judge = Judge(inspector, banks, clock, counters=self.counters, deadlines=deadlines, options=options)
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
            last = self._clock.elapsed()
            while not stop.is_set():
                if self._turn():
                    last = self._clock.elapsed()
                elif idle_s is not None and self._clock.elapsed() - last >= idle_s:
                    break
            self._drain()
        except Exception:
            self._save_what_was_judged()
            # an orderly end, so nobody may take these records for what killed a process
            self._admission.release([arrival.record.place for work in self._works for arrival in work.batch])
            self._admission.put_down()
            raise
        finally:
            self._dismiss(wait=not self.counters.abandoned)
        return self.counters

    def _begin_shift(self) -> None:
        now, options = self._clock.elapsed(), self._options
        self._intake = Intake(
            references=self._references,
            decode=self._decode,
            measure=self._measure,
            clock=self._clock,
            options=options,
        )
        self._watermark = Watermark()
        self._admission = Admission(
            self._results, self._intake, self._watermark, clock=self._clock, counters=self.counters, options=options
        )
        self._writer = Writer(
            self._results,
            overlays=self._overlays,
            keep=self._keep,
            deadlines=self._deadlines,
            publishes=self._publishes,
            drawing_threads=options.decode_threads,
            clock=self._clock,
            counters=self.counters,
            options=options,
        )
        # a thread per stage that must not run twice at once
        self._threads = {name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("model", "write", "relay")}
        self._works: deque[_Work] = deque()
        self._relaying: Future[int] | None = None
        self._bank_look: Future[None] | None = None
        self._paused = False
        self._polled_at = self._relay_due = self._guard_due = self._lag_due = now
        self._source_backoff, self._commit_backoff = Backoff(options), Backoff(options)
        self._disk_full = False

    def _dismiss(self, *, wait: bool) -> None:
        self._intake.close()
        self._admission.close(wait=wait)
        self._writer.close(wait=wait)
        for thread in self._threads.values():
            thread.shutdown(wait=wait, cancel_futures=True)

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
        return bool(self._admission.holds_up or len(self._intake) or self._works)

    def _look_around(self) -> None:
        now = self._clock.elapsed()
        health, options = self.health, self._options
        health.ticked_at = self._clock.now()
        if self._guard is not None and now >= self._guard_due:
            self._guard_due = now + options.look_s
            self._check_disk(self._guard)
        if now >= self._lag_due:
            self._lag_due = now + options.lag_s
            with suppress(Unavailable):
                health.lag = self._source.lag()
        if lost := self._source.lost():
            self._admission.forget(lost)
        health.assigned = self._source.assigned
        self.counters.stalls = self._source.stalls
        self.counters.retries["reference"] = self._intake.references_away
        self._look_at_sinks()
        health.bank_version = self._judge.bank_version
        outside = self._admission.waiting
        health.buffered = len(self._intake) + len(outside)
        health.buffered_bytes = self._intake.waiting.bytes + sum(arrival.size for arrival in outside)
        health.in_flight = sum(len(work.batch) for work in self._works)
        health.waiting_for = self._waits_for(now)

    def _look_at_sinks(self) -> None:
        self.health.sinks_away = self._relay.away
        self.counters.left_out = Counter(self._relay.left_out)

    def _waits_for(self, now: float) -> str | None:
        if self._disk_full:
            return "disk"
        if self._writer.database_away or self._admission.database_away:
            return "database"
        if not self._source_backoff.is_over(now):
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
        now = self._clock.elapsed()
        if not self._source_backoff.is_over(now):
            return False
        try:
            if not self._has_room:
                self._keep_alive(now)
                return False
            if self._paused:
                self._source.resume()
                self._paused = False
            came = self._admission.take(self._source.poll(self._intake.room, self._patience_s()))
            self._polled_at = self._clock.elapsed()
            self._source_backoff.reset()
            return came
        except Unavailable as error:
            self.counters.retries["source"] += 1
            delay_s = self._source_backoff.begin(self._clock.elapsed())
            log.warning("the source is away, tried again in %.1f s: %s", delay_s, error)
            return False

    @property
    def _has_room(self) -> bool:
        return not (self._disk_full or self._admission.holds_up) and self._intake.room > 0

    def _patience_s(self) -> float:
        """How long the source may let us wait: not at all while others work."""
        if self._pending():
            return 0.0
        due_s = self._intake.due_in()
        return self._options.poll_timeout_s if due_s is None else min(due_s, self._options.poll_timeout_s)

    def _keep_alive(self, now: float) -> None:
        """Raises: Unavailable."""
        if now - self._polled_at >= self._options.keep_alive_s:
            self._polled_at = now
            self._source.pause()
            self._paused = True
            self._admission.take(self._source.poll(1, 0.0))

    def _rest(self) -> None:
        """Wait for the other threads; or, when no poll has waited, for time to pass."""
        # a picture that is decoded while the model works changes nothing, so it does not wake the loop
        if pending := self._at_work() or self._pending():
            wait(pending, timeout=0.01, return_when=FIRST_COMPLETED)
        elif not self._has_room or not self._source_backoff.is_over(self._clock.elapsed()):
            due_s = self._intake.due_in()
            self._clock.sleep(0.05 if due_s is None else min(due_s, 0.05))

    def _pending(self) -> list[Future[Any]]:
        """What other threads are at with records in hand."""
        return [*self._intake.decoding, *self._admission.pending, *self._at_work()]

    def _at_work(self) -> list[Future[Any]]:
        """Model and writer, per batch."""
        return [work.written or work.judged for work in self._works]

    # --- what the other threads do ------------------------------------------------------------------

    def _collect(self) -> None:
        """Take what they have finished to its next stage."""
        self._admission.step(others_in_hand=bool(self._works or len(self._intake)))
        for work in self._works:
            if work.written is None and work.judged.done():
                work.written = self._threads["write"].submit(self._writer.write, work.batch, work.judged.result())
        while self._works and (written := self._works[0].written) is not None and written.done():
            self._finish(self._works.popleft(), written)
        if self._relaying is not None and self._relaying.done():
            future, self._relaying = self._relaying, None
            self.counters.relayed += future.result()
        if self._bank_look is not None and self._bank_look.done():
            future, self._bank_look = self._bank_look, None
            future.result()

    def _finish(self, work: _Work, written: Future[Batch]) -> None:
        self._intake.finished(work.batch)
        try:
            batch = written.result()
        except Stopping as stopping:
            log.warning("%s", stopping)
            return
        self._count(batch)
        for arrival in work.batch:
            self._watermark.done(arrival.record.place)
        self._commit()
        self._relay_due = self._clock.elapsed()
        if self._on_batch is not None:
            try:
                self._on_batch(batch)
            except Exception:  # a closed terminal must not cost verdicts
                log.exception("nobody was told of a batch of %d; it is in the database", len(work.batch))

    def _count(self, batch: Batch) -> None:
        counters = self.counters
        for letter in batch.dead_letters:
            shown, extra = letter.record.shown, where(letter.record)
            log.warning("%s is a dead letter (%s): %s", shown, letter.stage, letter.reason, extra=extra)
        counters.received += len(batch.results) + len(batch.dead_letters)
        counters.scored += len(batch.results)
        counters.batches += 1
        counters.verdicts.update(result.verdict for result in batch.results)
        counters.dead_letters.update(letter.stage for letter in batch.dead_letters)

    def _dispatch(self) -> None:
        """Give them what they have room for."""
        self._intake.feed()
        # one batch with the model and a full one waiting for it; as many with the writer
        while sum(work.written is None for work in self._works) < 2 and len(self._works) < 4:
            idle = all(work.written is not None for work in self._works)
            batch = self._intake.next(partial=idle, at_once=self._admission.ends_batches)
            if not batch:
                break
            self._works.append(_Work(batch, self._threads["model"].submit(self._judge_batch, batch)))
            self._intake.feed()
        now = self._clock.elapsed()
        if self._publishes and self._relaying is None and now >= self._relay_due:
            self._relay_due = now + self._options.look_s
            self._relaying = self._threads["relay"].submit(self._relay.flush)
        if not self._works and self._bank_look is None and self._judge.bank_is_due:
            self._bank_look = self._threads["model"].submit(self._judge.take_other_bank)

    def _judge_batch(self, batch: Sequence[Arrival]) -> Judged:
        self.health.batch_since = self._clock.now()
        try:
            return self._judge.judge(batch)
        finally:
            self.health.batch_since = None

    def _commit(self) -> None:
        """Commit the source; when that fails, later. The rows are there, so repeats do no harm."""
        up_to = self._watermark.committable()
        now = self._clock.elapsed()
        if not up_to or not self._commit_backoff.is_over(now):
            return
        try:
            self._source.commit(up_to)
        except Unavailable as error:
            delay_s = self._commit_backoff.begin(now)
            log.warning("not committed, tried again in %.1f s: %s", delay_s, error)
            self.counters.retries["commit"] += 1
            return
        self._commit_backoff.reset()
        self._watermark.committed(up_to)
        self.counters.last_commit_at = self._clock.now()

    # --- the end --------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Put down what the model has not, finish the rest, commit, and send what waits, all within `drain_s`."""
        self.health.draining = True
        until = self._clock.elapsed() + self._options.drain_s
        self._admission.put_down()
        while self._works and self._clock.elapsed() < until:
            self._work_off(0.01)
        if self._works:
            self._writer.give_up()
            while self._works and self._work_off(1.0):
                pass
        if self._works:
            log.error("%d batches did not end within %g s", len(self._works), self._options.drain_s)
            self.counters.abandoned = True
            return
        self._commit_backoff.reset()
        self._commit()
        if self._publishes:
            left_s = max(1.0, until - self._clock.elapsed())
            futures = [self._relaying] if self._relaying is not None else []
            futures.append(self._threads["relay"].submit(self._relay.flush, left_s))
            wait(futures, timeout=left_s)
            self.counters.relayed += sum(future.result() for future in futures if future.done())
            self.counters.abandoned = not all(future.done() for future in futures)
            self._relaying = None
            self._look_at_sinks()
        # a picture that never ends, or a share that hangs: its thread would keep the process alive
        left_s = max(0.0, until - self._clock.elapsed())
        self.counters.abandoned |= bool(wait(self._intake.decoding, left_s).not_done)

    def _work_off(self, timeout_s: float) -> bool:
        """Whether anything ended within that time."""
        self.health.ticked_at = self._clock.now()
        ended = wait(self._at_work(), timeout_s, FIRST_COMPLETED).done
        self._collect()
        return bool(ended)

    def _save_what_was_judged(self) -> None:
        """Before a failure is told: what went well before it is kept."""
        while self._works and (written := self._works[0].written) is not None:
            wait([written], timeout=self._options.drain_s)
            if not written.done() or written.exception() is not None:
                break
            self._finish(self._works.popleft(), written)
