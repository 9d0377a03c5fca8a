"""Published banks and the pointer to the one in use."""

import dataclasses
from collections.abc import Iterable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.repositories.audit import write_audit
from stream_ad.adapters.repositories.evaluations import save_evaluation
from stream_ad.adapters.repositories.feedback import follow_job
from stream_ad.adapters.repositories.jobs import end_as_published
from stream_ad.adapters.repositories.tasks import follow, revive
from stream_ad.adapters.tables import ActiveBankRow, BankEntryRow, BankVersionRow, EntryRow
from stream_ad.domain.bank import MemoryBank, left_behind
from stream_ad.domain.evaluation import Evaluation
from stream_ad.domain.feedback import Became
from stream_ad.domain.job import Job, JobState
from stream_ad.domain.ports import EntryStore
from stream_ad.domain.task import TaskId
from stream_ad.errors import BankError


class SqlBankRepository:
    """`domain.ports.BankRepository` on SQL; the entries' arrays come from an `EntryStore`."""

    def __init__(self, transactions: Transactions, entries: EntryStore) -> None:
        self._transactions = transactions
        self._entries = entries

    def active_version(self) -> int:
        with self._transactions.read() as session:
            return session.scalars(select(ActiveBankRow.version)).one()

    def generation(self) -> int:
        """Rises with every change of the active version, also back to one used before."""
        with self._transactions.read() as session:
            return session.scalars(select(ActiveBankRow.generation)).one()

    def load(self, version: int | None = None) -> MemoryBank:
        with self._transactions.read() as session:
            if version is None:
                version = session.scalars(select(ActiveBankRow.version)).one()
            _published(session, version)
            hashes = _contents(session, version)
        # outside the transaction: files take long and never change
        entries = {task: self._entries.get(sha256) for task, sha256 in hashes.items()}
        return MemoryBank(version=version, entries=MappingProxyType(entries))

    def contents(self, version: int) -> Mapping[TaskId, str]:
        with self._transactions.read() as session:
            _published(session, version)
            return _contents(session, version)

    def next_version(self) -> int:
        with self._transactions.read() as session:
            return session.scalars(select(func.max(BankVersionRow.version))).one() + 1

    def publish(
        self,
        bank: MemoryBank,
        *,
        parent: int,
        job: Job,
        worker: str,
        evaluations: Iterable[Evaluation],
        message: str,
        at: datetime,
        feedback: Mapping[int, Became] | None = None,
    ) -> None:
        for entry in bank:
            if not entry.sha256:
                raise BankError(f"the entry of task {entry.task.id!r} must be stored before its bank is published")
        with self._transactions.write() as session:
            active = session.scalars(select(ActiveBankRow).with_for_update()).one()
            if active.version != parent:
                raise BankError(
                    f"bank {bank.version} was made from version {parent}, but version {active.version} is active"
                    " by now; make it from that one and evaluate again"
                )
            if bank.version < 1 or session.get(BankVersionRow, bank.version) is not None:
                raise BankError(f"version {bank.version} is taken; take the next number and evaluate again")
            session.add(
                BankVersionRow(
                    version=bank.version,
                    parent=parent,
                    created_at=at,
                    task_id=job.task,
                    job_id=job.id,
                    message=message,
                    sha256=bank.sha256,
                )
            )
            session.flush()
            _add_entries(session, bank, at)
            end_as_published(session, job, worker, version=bank.version, message=message, at=at)
            follow(session, job, bank)
            follow_job(session, job.id, JobState.PUBLISHED, message, feedback or {})
            for evaluation in evaluations:
                save_evaluation(session, dataclasses.replace(evaluation, published=True))
            _activate(session, active, bank.version)
            write_audit(
                session, at=at, who=worker, action="publish", subject=f"bank {bank.version}", reason=message,
                details={"parent": parent, "job": job.id, "task": job.task},
            )  # fmt: skip

    def use(self, version: int, *, who: str, reason: str, at: datetime) -> None:
        with self._transactions.write() as session:
            active = session.scalars(select(ActiveBankRow).with_for_update()).one()
            _published(session, version)
            before = active.version
            behind = left_behind(_contents(session, before), _contents(session, version))
            _activate(session, active, version)
            revive(session, version)
            write_audit(
                session, at=at, who=who, action="use", subject=f"bank {version}", reason=reason,
                details={"before": before, "dropped": behind.dropped, "otherwise": behind.otherwise},
            )  # fmt: skip

    def versions(self) -> list[Mapping[str, Any]]:
        with self._transactions.read() as session:
            active = session.scalars(select(ActiveBankRow.version)).one()
            published = select(BankVersionRow).where(BankVersionRow.version > 0).order_by(BankVersionRow.version)
            return [
                {
                    "version": row.version,
                    "parent": row.parent,
                    "created_at": row.created_at,
                    "task": row.task_id,
                    "job_id": row.job_id,
                    "active": row.version == active,
                    "sha256": row.sha256,
                    "message": row.message,
                }
                for row in session.scalars(published)
            ]


def _contents(session: Session, version: int) -> dict[TaskId, str]:
    """By task, in order of their names."""
    chosen = select(BankEntryRow.task_id, BankEntryRow.entry_sha256).where(BankEntryRow.version == version)
    # sorted here: databases order letters in ways of their own
    return {TaskId(task): sha256 for task, sha256 in sorted(map(tuple, session.execute(chosen)))}


def _published(session: Session, version: int) -> None:
    row = session.get(BankVersionRow, version)
    if row is None:
        last = session.scalars(select(func.max(BankVersionRow.version))).one()
        raise BankError(f"there is no bank version {version}; versions go from 0 (empty) to {last}")
    there = session.scalar(select(BankEntryRow.task_id).where(BankEntryRow.version == version).limit(1))
    # a bank whose last task was retired is empty as well, and its hash says so
    if there is None and version and row.sha256 != MemoryBank(version=0).sha256:
        raise BankError(
            f"retention has removed the entries of bank version {version}: it can no longer be used; see"
            " `retention.bank_versions`"
        )


def _activate(session: Session, active: ActiveBankRow, version: int) -> None:
    active.version = version
    active.generation += 1


def _add_entries(session: Session, bank: MemoryBank, at: datetime) -> None:
    hashes = [entry.sha256 for entry in bank]
    known = set(session.scalars(select(EntryRow.sha256).where(EntryRow.sha256.in_(hashes))))
    session.add_all(
        EntryRow(
            sha256=entry.sha256,
            task_id=entry.task.id,
            detector=entry.detector,
            features=dataclasses.asdict(entry.features),
            shared_weights=entry.shared_weights,
            splits=dict(entry.splits),
            created_at=at,
        )
        for entry in bank
        if entry.sha256 not in known
    )
    session.flush()
    session.add_all(
        BankEntryRow(version=bank.version, task_id=task, entry_sha256=entry.sha256)
        for task, entry in bank.entries.items()
    )
    session.flush()
