"""The queue of long work. A worker owns a job while its lease lasts; whoever dies loses it to the next.

A lease that ran out still is its worker's until somebody else claims the job: a machine that slept may go on.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.tables import JobRow
from stream_ad.domain.job import Job, JobKind, JobState
from stream_ad.domain.task import TaskId
from stream_ad.errors import JobError

MAX_ATTEMPTS = 3
#: what of a job ends with its lease
RELEASED: Mapping[str, Any] = {"lease_until": None, "cancel_requested": False}


class SqlJobRepository:
    """`domain.ports.JobRepository` on SQL."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def get(self, job_id: int) -> Job:
        with self._transactions.read() as session:
            return job_of(_row(session, job_id, lock=False))

    def all(self) -> list[Job]:
        with self._transactions.read() as session:
            return [job_of(row) for row in session.scalars(select(JobRow).order_by(JobRow.id.desc()))]

    def counts(self) -> Mapping[JobState, int]:
        """How many jobs are in each state; states without one are left out."""
        with self._transactions.read() as session:
            rows = session.execute(select(JobRow.state, func.count()).group_by(JobRow.state))
            return {JobState(state): count for state, count in rows}

    def claim(self, worker: str, device: str, lease_s: float, at: datetime) -> Job | None:
        with self._transactions.write() as session:
            _end_hopeless(session, at)
            # one statement: choosing and taking cannot come apart. SKIP LOCKED is PostgreSQL's; SQLite has one writer
            oldest = (
                select(JobRow.id)
                .where(or_(JobRow.state == JobState.QUEUED, _abandoned(at)))
                .order_by(JobRow.created_at, JobRow.id)
                .limit(1)
                .with_for_update(skip_locked=True)
                .scalar_subquery()
            )
            row = session.scalar(
                update(JobRow)
                .where(JobRow.id == oldest)
                .values(
                    state=JobState.RUNNING,
                    worker=worker,
                    device=device,
                    attempts=JobRow.attempts + 1,
                    started_at=at,
                    heartbeat_at=at,
                    lease_until=at + timedelta(seconds=lease_s),
                    stage=None,
                    progress=0.0,
                    message=None,
                )
                .returning(JobRow)
                .execution_options(synchronize_session=False)
            )
            return None if row is None else job_of(row)

    def heartbeat(self, job_id: int, worker: str, *, stage: str, progress: float, lease_s: float, at: datetime) -> bool:
        with self._transactions.write() as session:
            return _changed(
                session,
                and_(_held(job_id, worker), JobRow.cancel_requested.is_(False)),
                stage=stage,
                progress=min(max(progress, 0.0), 1.0),
                heartbeat_at=at,
                lease_until=at + timedelta(seconds=lease_s),
            )

    def finish(
        self, job_id: int, worker: str, state: JobState, message: str, at: datetime, log_tail: str | None = None
    ) -> bool:
        if state.open or state is JobState.PUBLISHED:
            raise JobError(f"a job ends as rejected, failed or cancelled, not as {state}; banks publish their own job")
        with self._transactions.write() as session:
            return _changed(
                session,
                _held(job_id, worker),
                state=state,
                message=message,
                log_tail=log_tail,
                finished_at=at,
                **RELEASED,
            )

    def give_back(self, job_id: int, worker: str, at: datetime, *, counted: bool, log_tail: str | None = None) -> bool:
        with self._transactions.write() as session:
            return _changed(
                session,
                _held(job_id, worker),
                state=JobState.QUEUED,
                attempts=JobRow.attempts - (0 if counted else 1),
                worker=None,
                device=None,
                lease_until=None,
                heartbeat_at=at,
                stage=None,
                progress=0.0,
                log_tail=log_tail,
            )

    def requeue(self, job_id: int, at: datetime) -> Job:
        with self._transactions.write() as session:
            row = _row(session, job_id)
            if row.state.open or row.state is JobState.PUBLISHED:
                raise JobError(f"job {job_id} is {row.state}; only a failed, rejected or cancelled job can run again")
            row.state = JobState.QUEUED
            row.attempts, row.progress, row.cancel_requested = 0, 0.0, False
            row.worker = row.device = row.stage = row.message = row.log_tail = None
            row.started_at = row.finished_at = row.heartbeat_at = row.lease_until = None
            task = row.task_id
            try:
                session.flush()
            except IntegrityError as error:
                raise JobError(
                    f"task {task!r} has another open job already; wait for it or cancel it: see `stream-ad jobs list`"
                ) from error
            return job_of(row)

    def cancel(self, job_id: int, at: datetime) -> Job:
        with self._transactions.write() as session:
            row = _row(session, job_id)
            if row.state is JobState.QUEUED:
                row.state, row.finished_at, row.message = JobState.CANCELLED, at, "cancelled before it started"
            elif row.state is JobState.RUNNING:
                row.cancel_requested = True
            else:
                raise JobError(f"job {job_id} is {row.state} already; only a queued or running job can be cancelled")
            session.flush()
            return job_of(row)


def queued(task: str | None, kind: JobKind, payload: Mapping[str, Any], max_attempts: int, at: datetime) -> JobRow:
    """A row for a new job, not yet added."""
    return JobRow(
        kind=kind,
        task_id=task,
        state=JobState.QUEUED,
        payload=dict(payload),
        attempts=0,
        max_attempts=max_attempts,
        created_at=at,
        progress=0.0,
        cancel_requested=False,
        checkpoint={},
    )


def job_of(row: JobRow) -> Job:
    return Job(
        id=row.id,
        kind=row.kind,
        task=None if row.task_id is None else TaskId(row.task_id),
        state=row.state,
        payload=row.payload,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        worker=row.worker,
        device=row.device,
        lease_until=row.lease_until,
        heartbeat_at=row.heartbeat_at,
        stage=row.stage,
        progress=row.progress,
        message=row.message,
        log_tail=row.log_tail,
        bank_version=row.bank_version,
        cancel_requested=row.cancel_requested,
        placed_until=row.placed_until,
        checkpoint=row.checkpoint or {},
    )


def end_as_published(session: Session, job: Job, worker: str, *, version: int, message: str, at: datetime) -> None:
    """End a job inside the transaction that publishes its bank.

    Raises:
        JobError: another worker or attempt has the job, or somebody asked to cancel it.
    """
    condition = and_(_held(job.id, worker), JobRow.attempts == job.attempts, JobRow.cancel_requested.is_(False))
    ended = _changed(
        session,
        condition,
        state=JobState.PUBLISHED,
        stage="publish",
        progress=1.0,
        message=message,
        bank_version=version,
        finished_at=at,
        **RELEASED,
    )
    if not ended:
        now = _row(session, job.id)
        cancelled = ", and somebody asked to cancel it" if now.cancel_requested else ""
        raise JobError(
            f"job {job.id} must be running as attempt {job.attempts} of worker {worker!r} to publish; it is"
            f" {now.state} as attempt {now.attempts} of {now.worker!r}{cancelled}; nothing was published"
        )


def _row(session: Session, job_id: int, *, lock: bool = True) -> JobRow:
    row = session.get(JobRow, job_id, with_for_update=lock)
    if row is None:
        raise JobError(f"there is no job {job_id}; see `stream-ad jobs list`")
    return row


def _held(job_id: int, worker: str) -> Any:
    return and_(JobRow.id == job_id, JobRow.worker == worker, JobRow.state == JobState.RUNNING)


def _abandoned(at: datetime) -> Any:
    return and_(JobRow.state == JobState.RUNNING, JobRow.lease_until <= at)


def _changed(session: Session, condition: Any, **values: Any) -> bool:
    """Whether the one job that meets the condition was there to change."""
    statement = update(JobRow).where(condition).values(**values).returning(JobRow.id)
    return session.scalar(statement.execution_options(synchronize_session=False)) is not None


def _end_hopeless(session: Session, at: datetime) -> None:
    """Abandoned jobs that nobody shall take up again."""
    cancelled = and_(_abandoned(at), JobRow.cancel_requested.is_(True))
    session.execute(
        update(JobRow)
        .where(cancelled)
        .values(state=JobState.CANCELLED, message="cancelled; its worker had died", finished_at=at, **RELEASED)
        .execution_options(synchronize_session=False)
    )
    session.execute(
        update(JobRow)
        .where(_abandoned(at), JobRow.attempts >= JobRow.max_attempts)
        .values(
            state=JobState.FAILED,
            message="its worker died or hung in every attempt; see the worker's log, then `stream-ad jobs`",
            finished_at=at,
            **RELEASED,
        )
        .execution_options(synchronize_session=False)
    )
