"""What the model says of a batch, by the bank that is active when the batch begins. Runs in the model's thread."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.images import Picture
from stream_ad.domain.ports import BankRepository, Clock
from stream_ad.domain.result import Inspection, Verdict
from stream_ad.errors import DataError, StreamAdError, Unavailable
from stream_ad.services.counters import Counters
from stream_ad.services.deadlines import Deadlines
from stream_ad.services.intake import Arrival, Prepared
from stream_ad.services.verdicts import not_scored

log = logging.getLogger(__name__)


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


@dataclass(frozen=True, kw_only=True)
class JudgingOptions:
    #: pictures in a row that may make the model fail; one more, and the fault is not with the pictures
    max_failures_in_a_row: int = 32
    #: how often to look for another bank while nothing comes
    bank_poll_s: float = 1.0
    #: wait after a bank that could not be had
    bank_retry_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Judged:
    """Per record of a batch its inspection, or what went wrong; None for one that is a dead letter already."""

    outcomes: Sequence[Inspection | Exception | None]
    seconds: float


class Judge:
    """An inspector that follows the active bank and never says OK in doubt."""

    def __init__(
        self,
        inspector: Inspector,
        banks: BankRepository,
        clock: Clock,
        *,
        counters: Counters,
        deadlines: Deadlines,
        options: JudgingOptions,
    ) -> None:
        self._inspector, self._banks, self._clock, self._options = inspector, banks, clock, options
        self._counters, self._deadlines = counters, deadlines
        self._failures_in_a_row = 0
        self._bank_due = self._bank_retry = clock.elapsed()

    @property
    def bank_version(self) -> int:
        return self._inspector.bank.version

    @property
    def bank_is_due(self) -> bool:
        """Whether it is time to look for another bank, though there is nothing to judge."""
        now = self._clock.elapsed()
        return now >= self._bank_due and now >= self._bank_retry

    def judge(self, batch: Sequence[Arrival]) -> Judged:
        """What is to be said of each record.

        Raises:
            Unavailable: the model failed on so many pictures in a row that it is not the pictures.
        """
        began, now = time.perf_counter(), self._clock.now()
        self.take_other_bank()
        outcomes: list[Inspection | Exception | None] = [None] * len(batch)
        asked: list[tuple[int, Prepared]] = []
        for row, arrival in enumerate(batch):
            if isinstance(one := arrival.outcome, Prepared):
                if self._deadlines.skip and self._deadlines.late(one.message.camera, one.message.captured_at, now):
                    outcomes[row] = not_scored(self._deadlines.told, self.bank_version)
                else:
                    asked.append((row, one))
        for (row, _), answer in zip(asked, self._ask([one for _, one in asked]), strict=True):
            outcomes[row] = answer
        return Judged(outcomes, time.perf_counter() - began)

    def _ask(self, prepared: Sequence[Prepared]) -> Sequence[Inspection | Exception]:
        """The model's answers; where it fails on a batch, one by one, so that only the culprit pays."""
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

    def take_other_bank(self) -> None:
        """Follow the active bank, forwards or back. One that cannot be had leaves the present one in use."""
        now = self._clock.elapsed()
        if now < self._bank_retry:
            return
        self._bank_due = now + self._options.bank_poll_s
        try:
            version = self._banks.active_version()
            if version == self.bank_version:
                return
            self._inspector.use(self._banks.load(version))
        except Exception as error:  # what cannot be used must not end what can
            unforeseen = not isinstance(error, StreamAdError)
            log.error("bank %d stays in use: %s", self.bank_version, error, exc_info=unforeseen)
            self._counters.retries["bank"] += 1
            self._bank_retry = now + self._options.bank_retry_s
            return
        self._counters.bank_swaps += 1
        log.info("bank %d is in use", version)

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
