"""Product lines, each born together with its first job."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.repositories.jobs import MAX_ATTEMPTS, job_of, queued
from stream_ad.adapters.tables import TaskRow
from stream_ad.domain.job import Job, JobKind
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import TaskExists, UnknownTask


class SqlTaskRepository:
    """`domain.ports.TaskRepository` on SQL."""

    def __init__(self, transactions: Transactions, *, max_attempts: int = MAX_ATTEMPTS) -> None:
        self._transactions = transactions
        self._max_attempts = max_attempts

    def add(self, task: Task, kind: JobKind, payload: Mapping[str, Any], at: datetime) -> Job:
        with self._transactions.write() as session:
            session.add(
                TaskRow(
                    id=task.id,
                    class_name=task.class_name,
                    product_ids=list(task.product_ids),
                    cameras=list(task.cameras),
                    false_alarm_rate=task.false_alarm_rate,
                    created_at=at,
                )
            )
            try:
                session.flush()
            except IntegrityError as error:
                raise TaskExists(task.id) from error
            row = queued(task.id, kind, payload, self._max_attempts, at)
            session.add(row)
            session.flush()
            return job_of(row)

    def get(self, task: str) -> Task:
        with self._transactions.read() as session:
            row = session.get(TaskRow, task)
            if row is None:
                raise UnknownTask(task, list(session.scalars(select(TaskRow.id).order_by(TaskRow.id))))
            return task_of(row)

    def all(self) -> list[Task]:
        with self._transactions.read() as session:
            return [task_of(row) for row in session.scalars(select(TaskRow).order_by(TaskRow.id))]


def task_of(row: TaskRow) -> Task:
    return Task(
        id=TaskId(row.id),
        class_name=row.class_name,
        product_ids=tuple(row.product_ids),
        cameras=tuple(row.cameras),
        false_alarm_rate=row.false_alarm_rate,
    )
