"""What the program thinks a person should decide, and what was decided."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.repositories.audit import write_audit
from stream_ad.adapters.repositories.jobs import MAX_ATTEMPTS, job_of
from stream_ad.adapters.repositories.kept_images import FREE, among, forget_images, numbers_in
from stream_ad.adapters.repositories.tasks import add_task, queue_job
from stream_ad.adapters.tables import JobRow, KeptImageRow, ProposalRow
from stream_ad.domain.discovery import Group
from stream_ad.domain.job import Job, JobKind
from stream_ad.domain.proposal import Proposal, ProposalKind, ProposalState
from stream_ad.domain.task import Task, TaskId
from stream_ad.errors import DataError


class SqlProposalRepository:
    """`domain.discovery.ProposalRepository` on SQL."""

    def __init__(self, transactions: Transactions, *, max_attempts: int = MAX_ATTEMPTS) -> None:
        self._transactions = transactions
        self._max_attempts = max_attempts

    def get(self, proposal_id: int) -> Proposal:
        with self._transactions.read() as session:
            return _proposal_of(_row(session, proposal_id, lock=False))

    def all(self, kind: ProposalKind | None = None, state: ProposalState | None = None) -> list[Proposal]:
        statement = select(ProposalRow).order_by(ProposalRow.id)
        if kind is not None:
            statement = statement.where(ProposalRow.kind == kind)
        if state is not None:
            statement = statement.where(ProposalRow.state == state)
        with self._transactions.read() as session:
            return [_proposal_of(row) for row in session.scalars(statement)]

    def propose(self, group: Group, at: datetime) -> Proposal | None:
        with self._transactions.write() as session:
            row = ProposalRow(
                kind=ProposalKind.PRODUCT,
                state=ProposalState.OPEN,
                created_at=at,
                **_values(group, at, size=len(group.images)),
            )
            session.add(row)
            session.flush()
            # a picture is of one proposal: whoever proposes the same group at the same time gets none of them
            if _take(session, row.id, group) < len(group.images):
                session.rollback()
                return None
            return _proposal_of(row)

    def grow(self, proposal_id: int, group: Group, at: datetime) -> int:
        with self._transactions.write() as session:
            row = _open_row(session, proposal_id)
            taken = _take(session, row.id, group)
            for name, value in _values(group, at, size=row.size + taken).items():
                setattr(row, name, value)
            return taken

    def approve(
        self,
        proposal_id: int,
        task: Task,
        payload: Mapping[str, Any],
        *,
        who: str,
        remark: str,
        at: datetime,
        given: Sequence[int] | None = None,
    ) -> tuple[Job, list[str]]:
        def queue(session: Session) -> JobRow:
            return add_task(session, task, JobKind.ADAPT, payload, self._max_attempts, at)

        return self._approve(proposal_id, task.id, queue, who=who, remark=remark, at=at, given=given)

    def approve_into(
        self,
        proposal_id: int,
        task: TaskId,
        payload: Mapping[str, Any],
        *,
        who: str,
        remark: str,
        at: datetime,
        given: Sequence[int] | None = None,
    ) -> tuple[Job, list[str]]:
        def queue(session: Session) -> JobRow:
            return queue_job(session, task, JobKind.READAPT, payload, self._max_attempts, at)

        return self._approve(proposal_id, task, queue, who=who, remark=remark, at=at, given=given)

    def reject(self, proposal_id: int, *, who: str, reason: str, at: datetime) -> list[str]:
        with self._transactions.write() as session:
            row = _open_row(session, proposal_id)
            _end(session, row, ProposalState.REJECTED, who=who, remark=reason, at=at)
            return forget_images(session, row.id)

    def _approve(
        self,
        proposal_id: int,
        task: TaskId,
        queue: Callable[[Session], JobRow],
        *,
        who: str,
        remark: str,
        at: datetime,
        given: Sequence[int] | None,
    ) -> tuple[Job, list[str]]:
        with self._transactions.write() as session:
            row = _open_row(session, proposal_id)
            job = queue(session)
            row.task_id = task
            row.size = row.size if given is None else len(given)
            _end(session, row, ProposalState.APPROVED, who=who, remark=remark, at=at, job=job.id)
            return job_of(job), forget_images(session, row.id, given)


def _row(session: Session, proposal_id: int, *, lock: bool = True) -> ProposalRow:
    row = session.get(ProposalRow, proposal_id, with_for_update=lock)
    if row is None:
        raise DataError(f"there is no proposal {proposal_id}; see `stream-ad tasks proposals`")
    return row


def _open_row(session: Session, proposal_id: int) -> ProposalRow:
    row = _row(session, proposal_id)
    if row.state is not ProposalState.OPEN:
        by = f" by {row.decided_by}" if row.decided_by else ""
        became = f" as task {row.task_id!r}" if row.task_id and row.state is ProposalState.APPROVED else ""
        raise DataError(
            f"needed an open proposal, but {proposal_id} was {row.state}{by}{became}; see `stream-ad tasks proposals`"
        )
    return row


def _take(session: Session, proposal_id: int, group: Group) -> int:
    """Give free pictures to a proposal; how many it got."""
    statement = update(KeptImageRow).where(among(session), FREE).values(proposal_id=proposal_id)
    taken = session.scalars(
        statement.returning(KeptImageRow.id).execution_options(synchronize_session=False),
        {"ids": numbers_in(group.images)},
    )
    return len(taken.all())


def _values(group: Group, at: datetime, *, size: int) -> dict[str, Any]:
    return {
        "reason": group.reason,
        "details": dict(group.details),
        "size": size,
        "center": np.asarray(group.center, dtype="<f4").tobytes(),
        "radius": group.radius,
        "features": group.features,
        "updated_at": at,
    }


def _end(
    session: Session,
    row: ProposalRow,
    state: ProposalState,
    *,
    who: str,
    remark: str,
    at: datetime,
    job: int | None = None,
) -> None:
    row.state, row.decided_at, row.decided_by, row.remark, row.updated_at = state, at, who, remark, at
    write_audit(
        session,
        at=at,
        who=who,
        action="approve" if state is ProposalState.APPROVED else "reject",
        subject=f"proposal {row.id}",
        reason=remark,
        details={"kind": row.kind, "task": row.task_id, "size": row.size, "job": job},
    )


def _proposal_of(row: ProposalRow) -> Proposal:
    return Proposal(
        id=row.id,
        kind=row.kind,
        state=row.state,
        task=None if row.task_id is None else TaskId(row.task_id),
        reason=row.reason,
        details=row.details,
        size=row.size,
        center=None if row.center is None else np.frombuffer(row.center, dtype="<f4").astype(np.float32),
        radius=row.radius,
        features=row.features,
        created_at=row.created_at,
        updated_at=row.updated_at,
        decided_at=row.decided_at,
        decided_by=row.decided_by,
        remark=row.remark,
    )
