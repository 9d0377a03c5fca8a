"""How far the results of a task have been compared with what they were."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, runtime_checkable

from stream_ad.domain.proposal import ProposalState
from stream_ad.domain.task import TaskId


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftState:
    """Where the comparison of one task stands; a new entry begins anew."""

    task: TaskId
    entry_sha256: str
    #: results after this are still to be looked at
    seen_until: datetime
    #: windows compared
    windows: int = 0
    #: scores and margins of the first window; empty: it is still to come
    first: Mapping[str, Sequence[float]] = field(default_factory=dict)
    #: by signal, in how many windows in a row, up to the latest, it was there
    streaks: Mapping[str, int] = field(default_factory=dict)
    #: what the latest window gave: for people
    latest: Mapping[str, Any] = field(default_factory=dict)
    #: whether alarms are compared with what calibration promised
    calibrated: bool = True
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """Results of one task by one entry, oldest first, of parts that were recognised as it."""

    scores: Sequence[float]
    #: of those that were routed
    margins: Sequence[float]
    #: share of NG among them
    ng: float
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Readaption:
    """The last proposal to adapt a task again."""

    state: ProposalState
    created_at: datetime
    decided_at: datetime | None


@runtime_checkable
class DriftRepository(Protocol):
    def states(self) -> Mapping[TaskId, DriftState]: ...

    def save(self, state: DriftState) -> None: ...

    def entries(self) -> Mapping[TaskId, str]:
        """The hash of every entry of the active bank."""
        ...

    def since(self, task: TaskId, entry_sha256: str) -> datetime:
        """When the first bank with this entry of the active one was published."""
        ...

    def window(self, task: TaskId, entry_sha256: str, after: datetime, until: datetime, count: int) -> Window | None:
        """The first `count` results after a moment, with those of the very same moment as the last; None: too few.

        Results of banks with another entry, unknown products and late verdicts are left out.
        """
        ...

    def last_proposal(self, task: TaskId) -> Readaption | None:
        """None: there never was one."""
        ...

    def propose(self, task: TaskId, reason: str, details: Mapping[str, Any], size: int, at: datetime) -> bool:
        """Propose to adapt the task again. False: that is proposed already, or a job of the task is open."""
        ...
