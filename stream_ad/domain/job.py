"""Long work as a value; its row in the database owns every state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from stream_ad.domain.images import MIN_IMAGES
from stream_ad.domain.task import TaskId


class JobState(StrEnum):
    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker holds its lease
    PUBLISHED = "published"  # done: a new bank version holds what it made
    DONE = "done"  # done, and there was nothing to publish
    REJECTED = "rejected"  # done: the gate refused the candidate
    FAILED = "failed"  # gave up: bad input, or too many attempts
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        return self in (JobState.QUEUED, JobState.RUNNING)


class JobKind(StrEnum):
    """What a job does. All but the last end with a candidate bank that the gate judges."""

    ADAPT = "adapt"  # learn a new task
    READAPT = "readapt"  # learn a known task anew, from more or other pictures
    PATCH = "patch"  # take pictures of good parts that were called NG into a task's memory
    RETIRE = "retire"  # leave a task out
    SQUEEZE = "squeeze"  # shrink memories until the bank fits a budget of rows
    EVALUATE = "evaluate"  # measure the active bank again; nothing is published


#: of a payload: learn only so many of the pictures, with a detector that few suffice for; and the name of the one that
#: learns all of them afterwards, in a job of its own
FEW, THEN = "few", "then"
#: of a payload: the number of the job that learned a few of the pictures; its entry is no yardstick for this one's
AFTER = "after"


def first_few(payload: Mapping[str, Any], detector: str, few: int) -> dict[str, Any]:
    """The payload of a job that learns a few of the pictures, and is followed by the one that this payload is of."""
    return {**payload, "detector": detector, FEW: few, THEN: payload["detector"]}


def learns_all(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The payload of a job that learns all pictures: this one, or that of the job that follows it."""
    own = {name: value for name, value in payload.items() if name not in (FEW, THEN, AFTER)}
    return {**own, "detector": payload[THEN]} if THEN in payload else own


def learned_by(payload: Mapping[str, Any], detector: str | None) -> dict[str, Any]:
    """The payload of the same job by another detector; None: by the one that it has."""
    return {**payload, "detector": detector} if detector else dict(payload)


def learned_of(count: int, few: int) -> int:
    """How many of so many pictures are learned: `few`, if the others are enough for a threshold, else all."""
    return few if few and count - few >= MIN_IMAGES else count


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    id: int
    kind: JobKind
    #: None: about every task
    task: TaskId | None
    state: JobState
    #: what the job needs: images, heldout, roi (paths), detector; see `first_few`
    payload: Mapping[str, Any]
    attempts: int
    max_attempts: int
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: str | None = None
    device: str | None = None
    lease_until: datetime | None = None
    heartbeat_at: datetime | None = None
    #: "adapt", "calibrate", "evaluate", "gate", "publish"
    stage: str | None = None
    #: share done, 0 to 1
    progress: float = 0.0
    #: the outcome in a sentence: version published, why rejected, what failed
    message: str | None = None
    log_tail: str | None = None
    bank_version: int | None = None
    cancel_requested: bool = False
    #: while it is queued: an executor has started a process for it, and others leave it alone until then; while it is
    #: running: its lease was seen to have run out, and its worker may prolong it until then
    placed_until: datetime | None = None
    #: what earlier attempts finished, so that the next one need not do it again
    checkpoint: Mapping[str, Any] = field(default_factory=dict)

    def starting(self, at: datetime) -> bool:
        """Whether a process is on its way to take it."""
        return self.state is JobState.QUEUED and self.placed_until is not None and self.placed_until > at

    @property
    def about(self) -> str:
        """What it is about, for people."""
        return "all tasks" if self.task is None else f"task {self.task!r}"


class Ended(NamedTuple):
    """A process that an executor had started for a job, and that is no more."""

    job_id: int
    #: the name by which it held the job, or would have
    worker: str
    #: what is known of its death, with its last words, bounded; None: it ended in order (exit code 0)
    how: str | None
