"""Product lines, each born together with its first job, and the jobs that people ask for later."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.repositories.jobs import MAX_ATTEMPTS, job_of, queued
from stream_ad.adapters.tables import ActiveBankRow, BankEntryRow, FeedbackRow, JobRow, TaskRow
from stream_ad.domain.bank import MemoryBank
from stream_ad.domain.feedback import FeedbackState
from stream_ad.domain.job import Job, JobKind
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import JobError, TaskExists, UnknownTask

ACTIVE, RETIRED = "active", "retired"


class SqlTaskRepository:
    """`domain.ports.TaskRepository` on SQL."""

    def __init__(self, transactions: Transactions, *, max_attempts: int = MAX_ATTEMPTS) -> None:
        self._transactions = transactions
        self._max_attempts = max_attempts

    def add(self, task: Task, kind: JobKind, payload: Mapping[str, Any], at: datetime) -> Job:
        with self._transactions.write() as session:
            return job_of(add_task(session, task, kind, payload, self._max_attempts, at))

    def queue(
        self,
        task: TaskId | None,
        kind: JobKind,
        payload: Mapping[str, Any],
        at: datetime,
        *,
        feedback: Sequence[int] = (),
    ) -> Job:
        with self._transactions.write() as session:
            row = queue_job(session, task, kind, payload, self._max_attempts, at)
            if feedback:
                session.execute(
                    update(FeedbackRow)
                    # what was withdrawn since it was looked at is not taken along
                    .where(FeedbackRow.id.in_(feedback), FeedbackRow.state == FeedbackState.QUARANTINED)
                    .values(job_id=row.id)
                    .execution_options(synchronize_session=False)
                )
            return job_of(row)

    def get(self, task: str) -> Task:
        with self._transactions.read() as session:
            return task_of(_row(session, task))

    def all(self) -> list[Task]:
        with self._transactions.read() as session:
            return [task_of(row) for row in session.scalars(select(TaskRow).order_by(TaskRow.id))]

    def retired(self) -> frozenset[TaskId]:
        with self._transactions.read() as session:
            return frozenset(map(TaskId, session.scalars(select(TaskRow.id).where(TaskRow.state == RETIRED))))


def add_task(
    session: Session, task: Task, kind: JobKind, payload: Mapping[str, Any], max_attempts: int, at: datetime
) -> JobRow:
    """Task and queued job, inside a transaction that may do more. A name that no bank in use has is free again.

    Raises:
        TaskExists: the active bank has a task of that name, or an open job makes one.
    """
    # a job that publishes holds this row too: nobody learns or retires the task between the look and the job
    active = session.scalars(select(ActiveBankRow).with_for_update()).one()
    row = session.get(TaskRow, task.id, with_for_update=True)
    if row is not None and session.get(BankEntryRow, (active.version, task.id)) is not None:
        raise TaskExists(task.id, f"or teach it more pictures with `stream-ad tasks add-images {task.id} --images DIR`")
    if row is None:
        row = TaskRow(id=task.id, created_at=at)
        session.add(row)
    row.class_name = task.class_name
    row.product_ids, row.cameras = list(task.product_ids), list(task.cameras)
    row.false_alarm_rate = task.false_alarm_rate
    row.state = ACTIVE
    job = queued(task.id, kind, payload, max_attempts, at)
    try:
        session.flush()
        session.add(job)
        session.flush()
    except IntegrityError as error:  # the task came this very moment, or has an open job
        raise TaskExists(task.id, "or wait for its open job: see `stream-ad jobs list --open`") from error
    return job


def queue_job(
    session: Session,
    task: TaskId | None,
    kind: JobKind,
    payload: Mapping[str, Any],
    max_attempts: int,
    at: datetime,
) -> JobRow:
    """A queued job about a task that is there, or about all, inside a transaction that may do more.

    Raises:
        UnknownTask: there is no such task.
        JobError: the task has an open job already; or one of this kind is open, where it is about all.
    """
    if task is not None:
        _row(session, task)
    job = queued(task, kind, payload, max_attempts, at)
    session.add(job)
    try:
        session.flush()
    except IntegrityError as error:
        whose = f"a {kind} job is open already" if task is None else f"task {task!r} has an open job already"
        raise JobError(f"{whose}; wait for it or cancel it: see `stream-ad jobs list --open`") from error
    return job


def follow(session: Session, job: Job, bank: MemoryBank) -> None:
    """What tasks become when a job publishes this bank: retired when it was left out, active when it is there."""
    if job.task is not None:
        state = ACTIVE if job.task in bank.entries else RETIRED
        session.execute(update(TaskRow).where(TaskRow.id == job.task).values(state=state))


def revive(session: Session, version: int) -> None:
    """Tasks of a bank that is taken into use again are no longer retired."""
    inside = select(BankEntryRow.task_id).where(BankEntryRow.version == version)
    session.execute(
        update(TaskRow).where(TaskRow.id.in_(inside)).values(state=ACTIVE).execution_options(synchronize_session=False)
    )


def _row(session: Session, task: str) -> TaskRow:
    row = session.get(TaskRow, task)
    if row is None:
        raise UnknownTask(task, list(session.scalars(select(TaskRow.id).order_by(TaskRow.id))))
    return row


def task_of(row: TaskRow) -> Task:
    return Task(
        id=TaskId(row.id),
        class_name=row.class_name,
        product_ids=tuple(row.product_ids),
        cameras=tuple(row.cameras),
        false_alarm_rate=row.false_alarm_rate,
    )
