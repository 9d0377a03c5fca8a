"""`stream-ad serve`: a stream of records in, verdicts out, each exactly once in the database.

poll -> decode -> take a newer bank, if there is one -> inspect -> overlays -> ONE transaction {results, dead letters,
outbox} -> commit the source -> relay the outbox -> poll ...

A crash between any two of these loses nothing: what was not committed comes again and overwrites its own rows; what
was not relayed is still in the outbox.
"""

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, TypeVar, runtime_checkable

from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.images import Picture
from stream_ad.domain.message import DeadLetter, ImageMessage, Record
from stream_ad.domain.ports import BankRepository, Clock, ResultRepository, Sink, Source
from stream_ad.domain.result import Inspection, InspectionResult, Verdict
from stream_ad.errors import BankError, DatabaseError, DataError, StreamAdError, Unavailable
from stream_ad.services.intake import Arrival, Decode, Intake, IntakeOptions, Prepared
from stream_ad.services.messages import References, dead_letter
from stream_ad.services.outgoing import outbox_of
from stream_ad.services.relay import Relay

log = logging.getLogger(__name__)

T = TypeVar("T")


@runtime_checkable
class Inspector(Protocol):
    """What judges pictures; `services.scoring.Scorer`."""

    @property
    def bank(self) -> MemoryBank: ...

    def use(self, bank: MemoryBank) -> None:
        """Judge by this bank from now on. Raises: BankError: it does not fit."""
        ...

    def inspect(
        self, pictures: Sequence[Picture], *, declared: Sequence[str | None], cameras: Sequence[str | None]
    ) -> list[Inspection]:
        """One inspection per picture, in order, whatever else is in the batch."""
        ...


Overlays = Callable[[ImageMessage, Picture, Inspection], str | None]
"""Draws and keeps an overlay; the name of its file, or None when this one needs none. Called from threads."""

OnBatch = Callable[[Sequence[InspectionResult]], None]
"""Told of every batch after it was committed: the live display."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions(IntakeOptions):
    #: wait after a failure of database or source; doubles up to `backoff_max_s`
    backoff_s: float = 0.5
    backoff_max_s: float = 10.0
    #: pictures in a row that may make the model fail; one more, and the fault is not with the pictures
    max_failures_in_a_row: int = 32
    #: how often to look for another bank
    bank_poll_s: float = 1.0


@dataclass(slots=True)
class Counters:
    """What a stream did since it began."""

    received: int = 0
    scored: int = 0
    batches: int = 0
    relayed: int = 0
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    #: by stage
    dead_letters: Counter[str] = field(default_factory=Counter)
    #: waits for what was away, by "source", "reference", "database", "commit", "bank"
    retries: Counter[str] = field(default_factory=Counter)
    overlays_failed: int = 0
    bank_swaps: int = 0
    last_commit_at: datetime | None = None


class Stopping(StreamAdError):
    """The stop event was set while something was away; what was not saved comes again."""


class Stream:
    """One scorer on one source. One thread runs it; another may set the stop event and read the counters."""

    def __init__(
        self,
        *,
        source: Source,
        inspector: Inspector,
        banks: BankRepository,
        results: ResultRepository,
        decode: Decode,
        clock: Clock,
        sinks: Sequence[Sink] = (),
        references: References | None = None,
        overlays: Overlays | None = None,
        on_batch: OnBatch | None = None,
        options: StreamOptions = StreamOptions(),
    ) -> None:
        self.counters = Counters()
        self._source, self._inspector, self._banks, self._results = source, inspector, banks, results
        self._decode, self._clock, self._references = decode, clock, references
        self._overlays, self._on_batch, self._options = overlays, on_batch, options
        self._publishes = bool(sinks)
        self._relay = Relay(results, sinks, clock=clock)
        self._uncommitted: dict[tuple[str, int], int] = {}
        self._failures_in_a_row = 0
        self._bank_due = clock.now()
        self._bank_retry = clock.now()
        self._stop = threading.Event()

    def run(self, stop: threading.Event, *, idle_s: float | None = None) -> Counters:
        """Work until `stop` is set, or until nothing came for `idle_s`; the batch in hand is finished.

        Source and sinks stay open: whoever opened them closes them.

        Raises:
            Unavailable: more than `max_failures_in_a_row` pictures in a row made the model fail.
            DatabaseError: the database is damaged or of another revision; nothing was committed.
        """
        self._stop = stop
        last = self._clock.now()
        with Intake(
            self._source,
            references=self._references,
            decode=self._decode,
            clock=self._clock,
            options=self._options,
        ) as intake:
            try:
                while not stop.is_set():
                    if self._step(intake):
                        last = self._clock.now()
                    elif idle_s is not None and (self._clock.now() - last).total_seconds() >= idle_s:
                        break
            except Stopping as stopping:
                log.warning("%s", stopping)
        self._commit()
        self.counters.relayed += self._relay.flush()
        return self.counters

    def _step(self, intake: Intake) -> int:
        batch = self._patiently("source", intake.next, intake)
        # after the wait, not before it: a bank published meanwhile judges what came after it
        self._take_other_bank(at_once=bool(batch))
        if batch:
            intake.ahead()
            results, letters = self._judge(batch, intake)
            outbox = outbox_of(results, letters) if self._publishes else []
            self._patiently("database", lambda: self._results.save_batch(results, letters, outbox), intake)
            for arrival in batch:
                place = (arrival.record.topic, arrival.record.partition)
                self._uncommitted[place] = max(self._uncommitted.get(place, 0), arrival.record.offset + 1)
            self._count(results, letters)
        self._commit()
        self.counters.relayed += self._relay.flush()
        if batch and self._on_batch is not None:
            self._on_batch(results)
        return len(batch)

    def _judge(self, batch: Sequence[Arrival], intake: Intake) -> tuple[list[InspectionResult], list[DeadLetter]]:
        outcomes = [self._patiently("reference", arrival.outcome, intake) for arrival in batch]
        letters = [outcome for outcome in outcomes if isinstance(outcome, DeadLetter)]
        arrived = {id(outcome): arrival.at for outcome, arrival in zip(outcomes, batch, strict=True)}
        prepared = [outcome for outcome in outcomes if isinstance(outcome, Prepared)]

        judged: list[tuple[Prepared, Inspection]] = []
        for one, inspection in zip(prepared, self._inspect(prepared), strict=True):
            if isinstance(inspection, Exception):
                letters.append(dead_letter(one.message.record, "score", inspection, at=self._clock.now()))
            else:
                judged.append((one, inspection))
        at = self._clock.now()
        overlays = intake.map(lambda pair: self._overlay(*pair), judged)
        results = [
            result_of(one.message, inspection, at=at, since=arrived[id(one)], overlay=overlay)
            for (one, inspection), overlay in zip(judged, overlays, strict=True)
        ]
        return results, letters

    def _inspect(self, prepared: Sequence[Prepared]) -> Sequence[Inspection | Exception]:
        """What the model says; where it fails on a batch, one by one, so that only the culprit pays."""
        if not prepared:
            return []
        try:
            inspections = self._call(prepared)
            self._failures_in_a_row = 0
            return inspections
        except Exception as error:
            log.warning("the model failed on a batch of %d, now one by one: %s", len(prepared), error)
        outcomes: list[Inspection | Exception] = []
        for one in prepared:
            try:
                outcomes += self._call([one])
                self._failures_in_a_row = 0
            except Exception as error:
                log.exception("the model failed on %s", one.message.message_id)
                outcomes.append(error)
                self._failures_in_a_row += 1
                if self._failures_in_a_row > self._options.max_failures_in_a_row:
                    raise Unavailable(
                        f"the model failed on {self._failures_in_a_row} pictures in a row, so it is not the pictures"
                        f" (last: {type(error).__name__}: {error}); nothing of this batch was committed;"
                        " check the device and the bank, then start again"
                    ) from error
        return outcomes

    def _call(self, prepared: Sequence[Prepared]) -> list[Inspection]:
        inspections = self._inspector.inspect(
            [one.picture for one in prepared],
            declared=[one.message.declared_product for one in prepared],
            cameras=[one.message.camera for one in prepared],
        )
        if len(inspections) != len(prepared):
            raise DataError(f"needed {len(prepared)} inspections, the model gave {len(inspections)}")
        for inspection in inspections:
            # a scorer in doubt never says OK, and no comparison with NaN is ever true
            if inspection.verdict == Verdict.OK and (inspection.score is None or not math.isfinite(inspection.score)):
                raise DataError(f"needed a finite score for OK, the model gave {inspection.score}")
        return inspections

    def _overlay(self, one: Prepared, inspection: Inspection) -> str | None:
        if self._overlays is None:
            return None
        try:
            return self._overlays(one.message, one.picture, inspection)
        except Exception:  # a full disk must not cost the verdict
            log.exception("no overlay for %s", one.message.message_id)
            self.counters.overlays_failed += 1
            return None

    def _count(self, results: Sequence[InspectionResult], letters: Sequence[DeadLetter]) -> None:
        for letter in letters:
            log.warning("%s is a dead letter (%s): %s", _name(letter.record), letter.stage, letter.reason)
        self.counters.received += len(results) + len(letters)
        self.counters.scored += len(results)
        self.counters.batches += 1
        self.counters.verdicts.update(result.verdict for result in results)
        self.counters.dead_letters.update(letter.stage for letter in letters)

    def _commit(self) -> None:
        """Commit the source; when that fails, with the next batch. The rows are there, so repeats do no harm."""
        if not self._uncommitted:
            return
        try:
            self._source.commit(dict(self._uncommitted))
        except Unavailable as error:
            log.warning("not committed, tried again with the next batch: %s", error)
            self.counters.retries["commit"] += 1
            return
        self._uncommitted.clear()
        self.counters.last_commit_at = self._clock.now()

    def _take_other_bank(self, *, at_once: bool) -> None:
        """Follow the active bank, forwards or back. One that cannot be had leaves the present one in use.

        Asked before every batch, and once in `bank_poll_s` while nothing comes.
        """
        now = self._clock.now()
        if now < self._bank_retry or (now < self._bank_due and not at_once):
            return
        self._bank_due = now + timedelta(seconds=self._options.bank_poll_s)
        try:
            version = self._banks.active_version()
            if version == self._inspector.bank.version:
                return
            self._inspector.use(self._banks.load(version))
        except (Unavailable, BankError, DatabaseError) as error:
            log.error("bank %d stays in use: %s", self._inspector.bank.version, error)
            self.counters.retries["bank"] += 1
            self._bank_retry = now + timedelta(seconds=self._options.backoff_max_s)
            return
        self.counters.bank_swaps += 1
        log.info("bank %d is in use", version)

    def _patiently(self, what: str, action: Callable[[], T], intake: Intake) -> T:
        """The action's outcome, however long what it needs is away; meanwhile the source is kept alive."""
        delay_s = self._options.backoff_s
        while True:
            try:
                return action()
            except Unavailable as error:
                self.counters.retries[what] += 1
                log.warning("%s is away, tried again in %.1f s: %s", what, delay_s, error)
                self._wait(delay_s, f"stopped while the {what} was away; what was not saved comes again", intake)
            delay_s = min(2 * delay_s, self._options.backoff_max_s)

    def _wait(self, seconds: float, stopped: str, intake: Intake) -> None:
        until = self._clock.now() + timedelta(seconds=seconds)
        try:
            while (left_s := (until - self._clock.now()).total_seconds()) > 0:
                if self._stop.is_set():
                    raise Stopping(stopped)
                intake.hold()
                self._clock.sleep(min(left_s, 0.25))
        finally:
            intake.release()


def result_of(
    message: ImageMessage, inspection: Inspection, *, at: datetime, since: datetime, overlay: str | None
) -> InspectionResult:
    """An inspection tied to its message; `since` is when the record was polled."""
    record = message.record
    return InspectionResult(
        message_id=message.message_id,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        camera=message.camera,
        declared_product=message.declared_product,
        task=inspection.task,
        detector=inspection.detector,
        score=inspection.score,
        p_value=inspection.p_value,
        threshold=inspection.threshold,
        verdict=inspection.verdict,
        bank_version=inspection.bank_version,
        features=inspection.features,
        margin=inspection.margin,
        alarm=inspection.alarm,
        latency_ms=(at - since).total_seconds() * 1000,
        scored_at=at,
        overlay=overlay,
    )


def _name(record: Record) -> str:
    """What people call a record: the sender's name for it, and its place in the stream."""
    subject = record.headers.get("ce_subject", b"").decode(errors="replace")
    place = f"{record.topic}/{record.partition}/{record.offset}"
    return f"{subject} ({place})" if subject else place
