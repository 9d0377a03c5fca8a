"""What happened to the bank, in order: what jobs did to it, and what people decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stream_ad.domain.decision import Override
from stream_ad.domain.job import Job, JobKind, JobState

#: actions of the audit table that are people's decisions about banks
BY_PEOPLE = {"use": "took into use", "override": "overrode the gate"}
#: how jobs end, where another word says it better than the state's own
_OUTCOMES = {JobState.REJECTED: "refused", JobState.DONE: "measured"}
#: characters of a job's message that are told
TOLD = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    at: datetime
    #: "learned gasket"
    what: str
    #: "bank 3", "refused", "nothing changed" ...
    outcome: str
    #: more of it, in a sentence; "" when there is no more
    detail: str
    job_id: int | None = None
    #: of a person's decision
    who: str | None = None
    harmless: bool = True


def events(jobs: Sequence[Job], audit: Sequence[Mapping[str, Any]], earlier: Sequence[Event] = ()) -> tuple[Event, ...]:
    """Jobs that ended and decisions of people, oldest first, with what jobs that were queued again came to before."""
    told = [*earlier]
    told += [_of_job(job) for job in jobs if not job.state.open and job.finished_at is not None]
    told += [_of_person(row, _carried_out(row, jobs)) for row in audit if row["action"] in BY_PEOPLE]
    return tuple(sorted(told, key=lambda event: event.at))


def what(job: Job) -> str:
    """What a job was to do, in two or three words."""
    match job.kind:
        case JobKind.ADAPT:
            return f"learn {job.task}"
        case JobKind.READAPT:
            return f"learn {job.task} again"
        case JobKind.PATCH:
            return f"patch {job.task}"
        case JobKind.RETIRE:
            return f"retire {job.task}"
        case JobKind.SQUEEZE:
            return "squeeze all products"
        case JobKind.EVALUATE:
            return "measure the bank in use again"


def _of_job(job: Job) -> Event:
    assert job.finished_at is not None
    return Event(
        at=job.finished_at,
        what=what(job),
        outcome=f"bank {job.bank_version}" if job.state is JobState.PUBLISHED else _OUTCOMES.get(job.state, job.state),
        detail=_told(job),
        job_id=job.id,
        harmless=job.state in (JobState.PUBLISHED, JobState.DONE),
    )


def _told(job: Job) -> str:
    """A job's message without what stands in the other columns already."""
    message = " ".join((job.message or "").split())
    for start in (f"bank {job.bank_version} published ", "rejected, "):
        message = message.removeprefix(start)
    message = message.removeprefix(f"with {job.task!r}: ")
    if job.state is JobState.REJECTED:  # why is told elsewhere, and at length
        message = message.partition(": ")[0]
    return message if len(message) <= TOLD else message[: TOLD - 2].rsplit(" ", 1)[0].rstrip(",;:") + " …"


def _carried_out(row: Mapping[str, Any], jobs: Sequence[Job]) -> str:
    """What came of a person's decision."""
    if row["action"] == "use":
        return str(row["subject"])
    job = next((job for job in jobs if f"job {job.id}" == row["subject"]), None)
    if job is None:
        return "asked for"
    latest = Override.of_checkpoint(job.checkpoint)
    if latest is None or latest.at != row["at"]:
        return "came to nothing"  # the job was refused, cancelled or asked for again since
    if job.state is JobState.PUBLISHED:
        return f"let in, bank {job.bank_version}"
    return "asked for; not yet published" if job.state.open else f"not published: {_OUTCOMES.get(job.state, job.state)}"


def _of_person(row: Mapping[str, Any], outcome: str) -> Event:
    action, subject, details = row["action"], row["subject"], row["details"] or {}
    about = f" for {details['task']}" if details.get("task") else ""
    return Event(
        at=row["at"],
        what=f"{BY_PEOPLE[action]} {subject}" if action == "use" else f"{BY_PEOPLE[action]}{about}, {subject}",
        outcome=outcome,
        detail=str(row["reason"]),
        who=str(row["who"]),
        harmless=False,
    )
