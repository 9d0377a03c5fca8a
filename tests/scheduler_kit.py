"""Schedulers without waiting: a timetable that is rung by hand, and leases in a dictionary."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from stream_ad.domain.duty import DutyRun, Lease
from stream_ad.errors import Unavailable


class Bell:
    """A timetable that calls when it is rung."""

    def __init__(self) -> None:
        self.call: Callable[[str], object] | None = None
        #: how often it began
        self.starts = 0
        self.last: Mapping[str, DutyRun] = {}

    def start(self, call: Callable[[str], object], last: Mapping[str, DutyRun], now: datetime) -> None:
        self.call, self.last = call, last
        self.starts += 1

    def stop(self) -> None:
        self.call = None

    def ring(self, name: str) -> None:
        assert self.call is not None, "nothing is due while it stands still"
        self.call(name)


class Leases:
    """`LeaseRepository` in memory; raises Unavailable while `away`, and after the change while `answers_are_lost`."""

    def __init__(self) -> None:
        self.rows: dict[str, Lease] = {}
        self.away = self.answers_are_lost = False

    def read(self, name: str) -> Lease | None:
        self._check()
        return self.rows.get(name)

    def take(self, name: str, holder: str, *, seen: Lease | None, until: datetime) -> Lease | None:
        self._check()
        there = self.rows.get(name)
        if (there and (there.holder, there.beat)) != (seen and (seen.holder, seen.beat)):
            return None
        beat = 1 if there is None else there.beat + 1
        self.rows[name] = Lease(name=name, holder=holder, beat=beat, until=until)
        if self.answers_are_lost:
            raise Unavailable("the connection broke during the commit")
        return replace(self.rows[name])

    def drop(self, lease: Lease) -> None:
        self._check()
        if self.rows.get(lease.name) == lease:
            del self.rows[lease.name]

    def _check(self) -> None:
        if self.away:
            raise Unavailable("the database is away")
