"""What people say of verdicts, and what becomes of it."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import ColumnElement, and_, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.repositories.audit import write_audit
from stream_ad.adapters.repositories.results import result_of
from stream_ad.adapters.tables import FeedbackRow, JobRow, ResultRow
from stream_ad.domain.feedback import Became, Feedback, FeedbackKind, FeedbackState
from stream_ad.domain.job import JobState
from stream_ad.domain.message import Place
from stream_ad.domain.result import InspectionResult
from stream_ad.domain.task import TaskId
from stream_ad.errors import DataError

SHOWN = 20  # results that one name may stand for


class SqlFeedbackRepository:
    """`domain.ports.FeedbackRepository` on SQL."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    def add(
        self,
        *,
        place: Place,
        kind: FeedbackKind,
        who: str,
        reason: str,
        task: TaskId | None,
        path: str,
        sha256: str,
        at: datetime,
    ) -> Feedback:
        topic, partition, offset = place
        with self._transactions.write() as session:
            row = FeedbackRow(
                topic=topic,
                partition=partition,
                offset=offset,
                kind=kind,
                who=who,
                reason=reason,
                at=at,
                state=FeedbackState.QUARANTINED,
                task=task,
                path=path,
                sha256=sha256,
            )
            session.add(row)
            try:
                session.flush()
            except IntegrityError as error:
                raise DataError(f"of {topic}/{partition}/{offset} was said before that it is a {kind}") from error
            write_audit(
                session, at=at, who=who, action="feedback", subject=f"feedback {row.id}", reason=reason,
                details={"result": f"{topic}/{partition}/{offset}", "kind": kind, "task": task},
            )  # fmt: skip
            return _feedback(row)

    def get(self, feedback_id: int) -> Feedback:
        with self._transactions.read() as session:
            return _feedback(_row(session, feedback_id))

    def at(self, place: Place, kind: FeedbackKind) -> Feedback | None:
        topic, partition, offset = place
        there = and_(
            FeedbackRow.topic == topic,
            FeedbackRow.partition == partition,
            FeedbackRow.offset == offset,
            FeedbackRow.kind == kind,
        )
        with self._transactions.read() as session:
            row = session.scalar(select(FeedbackRow).where(there))
            return None if row is None else _feedback(row)

    def recent(
        self,
        limit: int,
        *,
        task: TaskId | None = None,
        kind: FeedbackKind | None = None,
        state: FeedbackState | None = None,
    ) -> list[Feedback]:
        wanted: list[ColumnElement[bool]] = []
        for column, value in ((FeedbackRow.task, task), (FeedbackRow.kind, kind), (FeedbackRow.state, state)):
            if value is not None:
                wanted.append(column == value)
        return self._all(*wanted, limit=limit)

    def of_job(self, job_id: int) -> list[Feedback]:
        return self._all(FeedbackRow.job_id == job_id)[::-1]

    def of_pictures(self, hashes: Collection[str]) -> list[Feedback]:
        return self._all(FeedbackRow.sha256.in_(hashes))[::-1] if hashes else []

    def settle(self, state: FeedbackState, outcomes: Mapping[int, str]) -> None:
        with self._transactions.write() as session:
            for feedback_id, outcome in outcomes.items():
                row = _row(session, feedback_id)
                row.state, row.outcome, row.job_id = state, outcome, None

    def withdraw(self, feedback_id: int, *, who: str, reason: str, at: datetime) -> Feedback:
        with self._transactions.write() as session:
            # the job's row before the feedback's, as where a job ends: in the other order each would wait for the other
            seen = _row(session, feedback_id).job_id
            job = None if seen is None else session.get(JobRow, seen, with_for_update=True)
            row = _row(session, feedback_id, lock=True)
            if row.state is not FeedbackState.QUARANTINED:
                raise DataError(
                    f"needed feedback that nothing followed yet; {feedback_id} is {row.state}: {row.outcome or '-'}"
                )
            # a job that came between the two looks has only just been queued
            if row.job_id != seen or (job is not None and job.state.open):
                raise DataError(f"job {row.job_id} is taking feedback {feedback_id} in; cancel that first")
            row.state, row.outcome, row.job_id = FeedbackState.REFUSED, f"withdrawn by {who}: {reason}", None
            write_audit(
                session, at=at, who=who, action="withdraw feedback", subject=f"feedback {feedback_id}", reason=reason,
                details={},
            )  # fmt: skip
            return _feedback(row)

    def results(self, name: str) -> list[InspectionResult]:
        topic, *numbers = name.rsplit("/", 2)
        with self._transactions.read() as session:
            if len(numbers) == 2 and all(number.isascii() and number.isdigit() for number in numbers):
                row = session.get(ResultRow, (topic, *map(int, numbers)))
                if row is not None:
                    return [result_of(row)]
            for said in (ResultRow.message_id == name, ResultRow.subject == name):
                newest = select(ResultRow).where(said).order_by(ResultRow.scored_at.desc()).limit(SHOWN)
                if rows := session.scalars(newest).all():
                    return [result_of(row) for row in rows]
        return []

    def _all(self, *wanted: ColumnElement[bool], limit: int | None = None) -> list[Feedback]:
        with self._transactions.read() as session:
            newest = select(FeedbackRow).where(*wanted).order_by(FeedbackRow.id.desc()).limit(limit)
            return [_feedback(row) for row in session.scalars(newest)]


def follow_job(session: Session, job_id: int, state: JobState, message: str, became: Mapping[int, Became]) -> None:
    """What feedback becomes in the transaction that ends a job: what the job found, by number.

    What a failed or cancelled one had taken on itself waits for another; what a rejected one could not take in is
    refused, but a missed defect stays as it is: nothing was to be taken in.
    """
    rows = update(FeedbackRow).execution_options(synchronize_session=False)
    for feedback_id in sorted(became):
        # what was withdrawn while the job looked at it stays so
        ours = or_(FeedbackRow.state == FeedbackState.QUARANTINED, FeedbackRow.job_id == job_id)
        session.execute(
            rows.where(FeedbackRow.id == feedback_id, ours).values(
                state=became[feedback_id].state, outcome=became[feedback_id].outcome, job_id=job_id
            )
        )
    if state is JobState.REJECTED:
        refused = rows.where(
            FeedbackRow.job_id == job_id,
            FeedbackRow.kind == FeedbackKind.FALSE_ALARM,
            FeedbackRow.state == FeedbackState.QUARANTINED,
        )
        session.execute(refused.values(state=FeedbackState.REFUSED, outcome=f"job {job_id}: {message}"))


def _row(session: Session, feedback_id: int, *, lock: bool = False) -> FeedbackRow:
    row = session.get(FeedbackRow, feedback_id, with_for_update=lock, populate_existing=lock)
    if row is None:
        raise DataError(f"there is no feedback {feedback_id}; see `stream-ad feedback list`")
    return row


def _feedback(row: FeedbackRow) -> Feedback:
    return Feedback(
        id=row.id,
        place=(row.topic, row.partition, row.offset),
        kind=row.kind,
        who=row.who,
        reason=row.reason,
        at=row.at,
        state=row.state,
        task=None if row.task is None else TaskId(row.task),
        path=row.path,
        sha256=row.sha256,
        job_id=row.job_id,
        outcome=row.outcome,
    )
