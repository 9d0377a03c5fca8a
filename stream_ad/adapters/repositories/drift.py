"""What drift is judged by: windows of results, and how far they were compared."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import and_, exists, select
from sqlalchemy.dialects import postgresql, sqlite

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.tables import (
    OPEN_TASK,
    ActiveBankRow,
    BankEntryRow,
    BankVersionRow,
    DriftRow,
    JobRow,
    ProposalRow,
    ResultRow,
)
from stream_ad.domain.drift import DriftState, Readaption, Window
from stream_ad.domain.job import JobState
from stream_ad.domain.proposal import ProposalKind, ProposalState
from stream_ad.domain.result import Verdict
from stream_ad.domain.task import TaskId

#: results of one moment, one batch of each scorer; more than these beyond a window are not looked at
TIES = 1_000


class SqlDriftRepository:
    """`domain.drift.DriftRepository` on SQL."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def states(self) -> Mapping[TaskId, DriftState]:
        with self._transactions.read() as session:
            return {TaskId(row.task_id): _state_of(row) for row in session.scalars(select(DriftRow))}

    def save(self, state: DriftState) -> None:
        with self._transactions.write() as session:
            session.merge(
                DriftRow(
                    task_id=state.task,
                    entry_sha256=state.entry_sha256,
                    seen_until=state.seen_until,
                    windows=state.windows,
                    first={name: list(values) for name, values in state.first.items()},
                    streaks=dict(state.streaks),
                    latest=dict(state.latest),
                    calibrated=state.calibrated,
                    updated_at=state.updated_at,
                )
            )

    def entries(self) -> Mapping[TaskId, str]:
        statement = (
            select(BankEntryRow.task_id, BankEntryRow.entry_sha256)
            .join(ActiveBankRow, ActiveBankRow.version == BankEntryRow.version)
            .order_by(BankEntryRow.task_id)
        )
        with self._transactions.read() as session:
            return {TaskId(task): sha256 for task, sha256 in session.execute(statement)}

    def since(self, task: TaskId, entry_sha256: str) -> datetime:
        with self._transactions.read() as session:
            return session.scalars(
                select(BankVersionRow.created_at)
                .where(BankVersionRow.version.in_(_versions(task, entry_sha256)))
                .order_by(BankVersionRow.version)
                .limit(1)
            ).one()

    def window(self, task: TaskId, entry_sha256: str, after: datetime, until: datetime, count: int) -> Window | None:
        statement = (
            select(ResultRow.score, ResultRow.margin, ResultRow.verdict, ResultRow.scored_at)
            .where(
                ResultRow.task == task,
                ResultRow.scored_at > after,
                ResultRow.scored_at <= until,
                ResultRow.verdict.in_((Verdict.OK, Verdict.NG)),
                ResultRow.score.is_not(None),
                ResultRow.bank_version.in_(_versions(task, entry_sha256)),
            )
            .order_by(ResultRow.scored_at)
            .limit(count + TIES)
        )
        with self._transactions.read() as session:
            rows = session.execute(statement).all()
        if len(rows) < count:
            return None
        last_at = rows[count - 1].scored_at
        rows = [row for row in rows if row.scored_at <= last_at]
        return Window(
            scores=[row.score for row in rows],
            margins=[row.margin for row in rows if row.margin is not None],
            ng=sum(row.verdict is Verdict.NG for row in rows) / len(rows),
            first_at=rows[0].scored_at,
            last_at=last_at,
        )

    def last_proposal(self, task: TaskId) -> Readaption | None:
        statement = (
            select(ProposalRow)
            .where(ProposalRow.kind == ProposalKind.READAPT, ProposalRow.task_id == task)
            .order_by(ProposalRow.id.desc())
            .limit(1)
        )
        with self._transactions.read() as session:
            row = session.scalar(statement)
            return None if row is None else Readaption(row.state, row.created_at, row.decided_at)

    def propose(self, task: TaskId, reason: str, details: Mapping[str, Any], size: int, at: datetime) -> bool:
        with self._transactions.write() as session:
            states = tuple(state for state in JobState if state.open)
            busy = select(exists().where(and_(JobRow.task_id == task, JobRow.state.in_(states))))
            if session.scalar(busy):  # one that begins right after is no harm: the proposal is a question to a person
                return False
            dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
            made = session.scalar(
                dialect.insert(ProposalRow)
                .values(
                    kind=ProposalKind.READAPT,
                    state=ProposalState.OPEN,
                    task_id=task,
                    reason=reason,
                    details=dict(details),
                    size=size,
                    created_at=at,
                    updated_at=at,
                )
                # two schedulers for a moment: the index of open proposals lets one through
                .on_conflict_do_nothing(index_elements=["task_id"], index_where=OPEN_TASK)
                .returning(ProposalRow.id)
            )
            return made is not None


def _versions(task: TaskId, entry_sha256: str) -> Any:
    """Banks that have this entry for the task."""
    return select(BankEntryRow.version).where(BankEntryRow.task_id == task, BankEntryRow.entry_sha256 == entry_sha256)


def _state_of(row: DriftRow) -> DriftState:
    return DriftState(
        task=TaskId(row.task_id),
        entry_sha256=row.entry_sha256,
        seen_until=row.seen_until,
        windows=row.windows,
        first=row.first,
        streaks=row.streaks,
        latest=row.latest,
        calibrated=row.calibrated,
        updated_at=row.updated_at,
    )
