"""Long work as a value; its row in the database owns every state."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from stream_ad.domain.task import TaskId


class JobState(StrEnum):
    QUEUED = "queued"  # waits for a worker
    RUNNING = "running"  # a worker holds its lease
    PUBLISHED = "published"  # done: a new bank version holds its entry
    REJECTED = "rejected"  # done: the gate refused the candidate
    FAILED = "failed"  # gave up: bad input, or too many attempts
    CANCELLED = "cancelled"

    @property
    def open(self) -> bool:
        return self in (JobState.QUEUED, JobState.RUNNING)


class JobKind(StrEnum):
    ADAPT = "adapt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    id: int
    kind: JobKind
    task: TaskId
    state: JobState
    #: what the job needs: images, heldout, roi (paths), detector
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
