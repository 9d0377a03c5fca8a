"""Does the duties that come again and again, as long as this process leads.

Every duty is safe to do twice, by what the database allows; that one leader does it once saves work. It begins only
after the database confirmed who leads, and asks between its pieces of work whether that still holds.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, runtime_checkable

from stream_ad.domain.duty import DutyRepository, DutyRun, Found
from stream_ad.domain.ports import Clock
from stream_ad.errors import LeadershipLost, StreamAdError, Unavailable
from stream_ad.services.leadership import Leadership

log = logging.getLogger(__name__)

#: the time of day against even time; a larger difference, and somebody has set it
JUMP_S = 5.0

Still = Callable[[], None]
"""Called between pieces of work. Raises: LeadershipLost: stop here."""


@dataclass(frozen=True, slots=True)
class Duty:
    """Something that comes again and again."""

    name: str
    #: what it does, for people
    about: str
    do: Callable[[Still], Found]


@runtime_checkable
class Timetable(Protocol):
    """Says when duties are due; `adapters.schedules.Timetable`."""

    def start(self, call: Callable[[str], object], last: Mapping[str, DutyRun], now: datetime) -> None:
        """Call each duty by its name when it is due, in a thread of its own."""
        ...

    def stop(self) -> None:
        """Call none any more."""
        ...


class Scheduler:
    """One of any number of processes; the one that leads does the duties."""

    def __init__(
        self,
        duties: Sequence[Duty],
        timetable: Timetable,
        leadership: Leadership,
        runs: DutyRepository,
        clock: Clock,
    ) -> None:
        self._duties = {duty.name: duty for duty in duties}
        self._timetable, self.leadership, self._runs, self._clock = timetable, leadership, runs, clock
        self._stopping = threading.Event()
        self._at_work = {duty.name: threading.Lock() for duty in duties}
        self._started = False
        self._offset_s = self._offset()
        #: when the loop last went round: for probes and metrics
        self.ticked_at = clock.now()
        #: what this process did, by duty and how it ended: "done", "failed", "left"
        self.counts = Counter[tuple[str, str]]()

    @property
    def leads(self) -> bool:
        return self.leadership.leads

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stopping.is_set()

    @property
    def busy(self) -> list[str]:
        """Duties that run now."""
        return [name for name, lock in self._at_work.items() if lock.locked()]

    def stop(self) -> None:
        """Begin no duty any more, and leave those that run at their next step. May be called by a signal."""
        self._stopping.set()

    def run(self, *, drain_s: float = 20.0) -> bool:
        """Lead or stand by until stopped; then wait up to `drain_s` for the duties in hand. False: some hang."""
        try:
            while not self._stopping.is_set():
                self.ticked_at = self._clock.now()
                self.tick()
                self._stopping.wait(self.leadership.every_s)
        finally:
            self._stopping.set()
            self._stand_by()
            # whoever hangs must not be followed by one who does the same at once
            if drained := self._drained(drain_s):
                self._resign()
        return drained

    def tick(self) -> None:
        """Prolong or seek the lease, and do the duties as long as it holds."""
        try:
            leads = self.leadership.seek()
        except Unavailable as error:
            leads = self.leadership.leads
            log.warning("%s; %s", error, "leading on until the lease is over" if leads else "standing by")
        jumped = self._clock_was_set()
        if self._started and (jumped or not leads):
            self._stand_by()
        if leads and not self._started:
            self._lead()

    def do(self, name: str) -> None:
        """Do a duty now, if this process leads and is not at it already."""
        lock = self._at_work[name]
        if self._stopping.is_set() or not lock.acquire(blocking=False):
            return
        try:
            if self.leadership.confirmed():
                self._runs.begin(name, self.leadership.holder, self._clock.now())
                self._do(self._duties[name])
        except StreamAdError as error:
            log.warning("duty %s is not done now: %s", name, error)
        finally:
            lock.release()

    def _do(self, duty: Duty) -> None:
        began = time.monotonic()
        failed = True
        try:
            found, failed = duty.do(self._still), False
        except LeadershipLost as lost:
            self.counts[duty.name, "left"] += 1
            log.info("duty %s is left: %s", duty.name, lost)
            return  # not ended: who leads next does it again
        except StreamAdError as error:
            found = Found(str(error))
        except Exception as error:  # the process boundary of a duty: a bug in one must not end the others
            log.exception("duty %s: unexpected error", duty.name)
            found = Found(f"unexpected {type(error).__name__}: {error}")
        self.counts[duty.name, "failed" if failed else "done"] += 1
        level = logging.WARNING if failed else logging.INFO if found.news else logging.DEBUG
        log.log(level, "duty %s, %.1f s: %s", duty.name, time.monotonic() - began, found.text)
        self._runs.end(duty.name, self.leadership.holder, found, self._clock.now(), failed=failed)

    def _still(self) -> None:
        if self._stopping.is_set():
            raise LeadershipLost("this scheduler was asked to stop; the next leader does it again")
        self.leadership.check()

    def _lead(self) -> None:
        try:
            last = self._runs.all()
        except Unavailable as error:
            log.warning("%s; leading as soon as it is known what was done", error)
            return
        self._timetable.start(self.do, last, self._clock.now())
        self._started = True
        log.info("leading as %s", self.leadership.holder)

    def _stand_by(self) -> None:
        if self._started:
            self._timetable.stop()
            self._started = False
            log.info("no duty begins here for now")

    def _resign(self) -> None:
        try:
            self.leadership.resign()
        except StreamAdError as error:
            log.warning("the lease could not be given up, so another takes over when it is over: %s", error)

    def _drained(self, within_s: float) -> bool:
        """Whether all duties have ended, waiting for those that run."""
        give_up = time.monotonic() + within_s
        return all(_free(lock, give_up - time.monotonic()) for lock in self._at_work.values())

    def _offset(self) -> float:
        return self._clock.now().timestamp() - self._clock.elapsed()

    def _clock_was_set(self) -> bool:
        """Whether somebody has set the time of day, so that what is due must be found anew."""
        before, self._offset_s = self._offset_s, self._offset()
        if abs(self._offset_s - before) < JUMP_S:
            return False
        log.warning("the time of day was set by %+.0f s; schedules begin anew", self._offset_s - before)
        return True


def _free(lock: threading.Lock, within_s: float) -> bool:
    if lock.acquire(timeout=max(0.0, within_s)):
        lock.release()
        return True
    return False
