"""What a job is given, and how it ends."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from stream_ad.domain.bank import BankEntry, MemoryBank
from stream_ad.domain.evaluation import TaskEvaluation
from stream_ad.domain.feedback import Became
from stream_ad.domain.images import HeldoutSet, ImageSet, Mask, Picture
from stream_ad.domain.job import Job, JobState
from stream_ad.domain.ports import (
    BankRepository,
    Clock,
    EntryStore,
    EvaluationRepository,
    FeedbackRepository,
    JobRepository,
    Progress,
    TaskRepository,
)
from stream_ad.domain.result import Inspection
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import JobStopped
from stream_ad.services.gate import GateBudgets


class Heldout(NamedTuple):
    """The two halves of a task's held-out pictures."""

    regression: HeldoutSet
    test: HeldoutSet


@dataclass(frozen=True, slots=True, eq=False)
class TaskImages:
    """What the payload of a job names, opened."""

    #: pictures that a detector may learn from; the reserved ones are not among them
    normals: ImageSet
    heldout: Heldout
    roi: Mask | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a job needs that is not storage. Bound to folders, detectors and a backbone by `app`."""

    #: all pictures that a payload names
    read: Callable[[Task, Mapping[str, Any]], TaskImages]
    #: an entry, not yet stored
    learn: Callable[[Task, TaskImages, Mapping[str, Any], Progress], BankEntry]
    #: every given task of a bank through its router
    evaluate: Callable[[MemoryBank, Mapping[TaskId, HeldoutSet], Progress], Mapping[TaskId, TaskEvaluation]]
    #: a task's entry with what it lacks of pictures of good parts; not yet stored
    patch: Callable[[BankEntry, ImageSet], BankEntry]
    #: an entry with fewer rows, its scores brought back to their scale by pictures that it was learned from
    shrink: Callable[[BankEntry, int, ImageSet], BankEntry]
    #: what a bank says of pictures, each alone and with nothing declared
    judge: Callable[[MemoryBank, Sequence[Picture]], Sequence[Inspection]]
    #: a picture that feedback is about, by its name in the store
    marked: Callable[[str], Picture]
    budgets: GateBudgets
    #: what every number of an evaluation carries: code version, weights, configuration, device ...
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """What a job reads and writes."""

    tasks: TaskRepository
    jobs: JobRepository
    banks: BankRepository
    evaluations: EvaluationRepository
    entries: EntryStore
    feedback: FeedbackRepository


class Outcome(NamedTuple):
    """How a job ended."""

    state: JobState
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A claimed job with all that it takes to do it."""

    job: Job
    #: the name by which the lease is held
    worker: str
    storage: Storage
    work: Work
    clock: Clock
    progress: Progress


def done(desk: Desk, message: str, feedback: Mapping[int, Became] | None = None) -> Outcome:
    """End a job that has nothing to publish, and say what became of feedback, by number.

    Raises:
        JobStopped: the lease was lost meanwhile.
    """
    job, now = desk.job, desk.clock.now()
    if not desk.storage.jobs.finish(job.id, desk.worker, job.attempts, JobState.DONE, message, now, feedback=feedback):
        raise JobStopped(f"job {job.id} is another worker's by now; its end was not written")
    return Outcome(JobState.DONE, message)
