"""Who leads, and how the duties went."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, text, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.tables import Base, DutyRow, LeaseRow
from stream_ad.domain.duty import DutyRun, Found, Lease

#: between two statements of one change pass microseconds
IDLE_MS = 3_000


class SqlLeaseRepository:
    """`domain.duty.LeaseRepository` on SQL: each change is one statement that names what it changes."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def read(self, name: str) -> Lease | None:
        with self._transactions.read() as session:
            row = session.get(LeaseRow, name)
            return None if row is None else _lease_of(row)

    def take(self, name: str, holder: str, *, seen: Lease | None, until: datetime) -> Lease | None:
        # after a loss of power nobody leads, whatever the row says: who was silent is followed
        with self._transactions.write(durable=False) as session:
            if session.get_bind().dialect.name == "postgresql":
                # who is stopped just here must not keep the row locked for those who would follow it
                session.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_MS}"))
            if seen is None:
                taken = _insert_unless_there(session, LeaseRow, name=name, holder=holder, until=until, beat=1)
            else:
                taken = session.scalar(
                    update(LeaseRow)
                    .where(*_is(seen))
                    .values(holder=holder, until=until, beat=LeaseRow.beat + 1)
                    .returning(LeaseRow)
                    .execution_options(synchronize_session=False)
                )
            return None if taken is None else _lease_of(taken)

    def drop(self, lease: Lease) -> None:
        with self._transactions.write() as session:
            session.execute(delete(LeaseRow).where(*_is(lease)))


class SqlDutyRepository:
    """`domain.duty.DutyRepository` on SQL. What a loss of power undoes is done again."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def begin(self, name: str, leader: str, at: datetime) -> DutyRun:
        with self._transactions.write(durable=False) as session:
            new = _insert_unless_there(
                session, DutyRow, name=name, leader=leader, started_at=at, tries=1, failed=False, figures={}
            )
            if new is not None:
                return _run_of(new)
            row = session.get(DutyRow, name, with_for_update=True)
            assert row is not None  # duties are never deleted
            row.tries = 1 if row.ended_at is not None else row.tries + 1
            row.leader, row.started_at, row.ended_at = leader, at, None
            session.flush()
            return _run_of(row)

    def end(self, name: str, leader: str, found: Found, at: datetime, *, failed: bool) -> bool:
        values: dict[str, Any] = {"ended_at": at, "failed": failed, "outcome": found.text}
        if not failed:  # figures of the last good run stay
            values |= {"figures": dict(found.figures), "good_at": at}
        statement = update(DutyRow).where(DutyRow.name == name, DutyRow.leader == leader, DutyRow.ended_at.is_(None))
        with self._transactions.write(durable=False) as session:
            ended = session.scalar(
                statement.values(**values).returning(DutyRow.name).execution_options(synchronize_session=False)
            )
            return ended is not None

    def all(self) -> Mapping[str, DutyRun]:
        with self._transactions.read() as session:
            return {row.name: _run_of(row) for row in session.query(DutyRow).order_by(DutyRow.name)}


def _insert_unless_there(session: Session, table: type[Base], **values: Any) -> Any:
    """The new row; None: there was one of that key."""
    dialect = sqlite if session.get_bind().dialect.name == "sqlite" else postgresql
    return session.scalar(dialect.insert(table).values(**values).on_conflict_do_nothing().returning(table))


def _is(lease: Lease) -> tuple[Any, ...]:
    return (LeaseRow.name == lease.name, LeaseRow.holder == lease.holder, LeaseRow.beat == lease.beat)


def _lease_of(row: LeaseRow) -> Lease:
    return Lease(name=row.name, holder=row.holder, beat=row.beat, until=row.until)


def _run_of(row: DutyRow) -> DutyRun:
    return DutyRun(
        name=row.name,
        leader=row.leader,
        started_at=row.started_at,
        ended_at=row.ended_at,
        tries=row.tries,
        failed=row.failed,
        outcome=row.outcome,
        figures=row.figures or {},
        good_at=row.good_at,
    )
