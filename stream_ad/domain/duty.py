"""What must be done again and again by exactly one process: who leads, and how each duty went."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """Who leads, as it stands in the database."""

    name: str
    holder: str
    #: rises whenever it is taken or prolonged; one that stands still for long enough is over
    beat: int
    #: by the holder's time of day, for people
    until: datetime


@runtime_checkable
class LeaseRepository(Protocol):
    def read(self, name: str) -> Lease | None:
        """None: nobody holds it."""
        ...

    def take(self, name: str, holder: str, *, seen: Lease | None, until: datetime) -> Lease | None:
        """The lease with another beat, now `holder`'s, if it still is as it was `seen`; None: it is not."""
        ...

    def drop(self, lease: Lease) -> None:
        """Give it up, if it still is as it was."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What came of a duty."""

    #: in a sentence
    text: str
    #: the numbers of it, for metrics, by name
    figures: Mapping[str, int | float] = field(default_factory=dict)
    #: whether anybody wants to read of it
    news: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class DutyRun:
    """How a duty went the last time."""

    name: str
    leader: str
    started_at: datetime
    #: None: it runs, or its leader did not live to end it
    ended_at: datetime | None = None
    #: how often in a row it was begun and not ended
    tries: int = 1
    failed: bool = False
    outcome: str | None = None
    figures: Mapping[str, int | float] = field(default_factory=dict)
    #: when it last ended and had not failed
    good_at: datetime | None = None


@runtime_checkable
class DutyRepository(Protocol):
    def begin(self, name: str, leader: str, at: datetime) -> DutyRun:
        """Note that a duty begins."""
        ...

    def end(self, name: str, leader: str, found: Found, at: datetime, *, failed: bool) -> bool:
        """Note how it ended. False: another leader has begun it anew, and nothing was noted."""
        ...

    def all(self) -> Mapping[str, DutyRun]:
        """By name; duties that were never begun are not there."""
        ...
