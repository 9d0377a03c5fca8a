"""The queue of long work. A worker owns a job while its lease lasts; whoever dies loses it to the next.

A lease that ran out still is its worker's until somebody else takes the job, and nobody does at first sight: who finds
such a job notes until when its worker may still say that it lives. So a database that was away, a machine that slept
and a clock that runs ahead take no job from anybody who is there again within that time.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from stream_ad.adapters.database import Transactions
from stream_ad.adapters.repositories.audit import write_audit
from stream_ad.adapters.repositories.evaluations import save_evaluation
from stream_ad.adapters.repositories.feedback import follow_job
from stream_ad.adapters.tables import JobRow
from stream_ad.domain.decision import OVERRIDE, Judgement, Override
from stream_ad.domain.evaluation import Evaluation
from stream_ad.domain.feedback import Became
from stream_ad.domain.job import AFTER, THEN, Job, JobKind, JobState, learns_all
from stream_ad.domain.task import TaskId
from stream_ad.errors import JobError

MAX_ATTEMPTS = 3
#: how long a worker has to say that it lives once its lease was seen to have run out: this share of the lease, two
#: heartbeats of a short one, or so many seconds, in which also a heartbeat that waits for a connection comes through
LAST_CALL, LAST_CALL_S = 0.5, 20.0
#: of a job's log, characters
MAX_LOG = 40_000
#: how a job ended that may run again
AGAIN = (JobState.FAILED, JobState.REJECTED, JobState.CANCELLED)
#: what of a job ends with its lease
RELEASED: Mapping[str, Any] = {"lease_until": None, "placed_until": None, "cancel_requested": False}
#: what of a job ends with an attempt
IDLE: Mapping[str, Any] = {
    "worker": None,
    "device": None,
    "lease_until": None,
    "placed_until": None,
    "stage": None,
    "progress": 0.0,
}


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

    def claim(self, worker: str, device: str, lease_s: float, at: datetime, *, job_id: int | None = None) -> Job | None:
        with self._transactions.write() as session:
            _call(session, at)
            _end_hopeless(session, at)
            free = or_(_waiting(at), _placed(worker), _abandoned(at))
            # one statement: choosing and taking cannot come apart. SKIP LOCKED is PostgreSQL's; SQLite has one writer
            chosen = select(JobRow.id).where(free).order_by(JobRow.created_at, JobRow.id).limit(1)
            # a job that is wanted by its number is waited for: who holds its row may only be looking after it
            chosen = chosen.where(JobRow.id == job_id) if job_id is not None else chosen
            row = session.scalar(
                update(JobRow)
                .where(JobRow.id == chosen.with_for_update(skip_locked=job_id is None).scalar_subquery())
                .values(
                    state=JobState.RUNNING,
                    worker=worker,
                    device=device,
                    attempts=JobRow.attempts + 1,
                    started_at=at,
                    heartbeat_at=at,
                    lease_until=at + timedelta(seconds=lease_s),
                    placed_until=None,
                    stage=None,
                    progress=0.0,
                    message=None,
                )
                .returning(JobRow)
                .execution_options(synchronize_session=False)
            )
            return None if row is None else job_of(row)

    def place(self, worker: str, until: datetime, at: datetime) -> Job | None:
        with self._transactions.write() as session:
            _sweep(session, at)
            oldest = select(JobRow.id).where(_waiting(at)).order_by(JobRow.created_at, JobRow.id).limit(1)
            row = session.scalar(
                update(JobRow)
                .where(JobRow.id == oldest.with_for_update(skip_locked=True).scalar_subquery())
                .values(worker=worker, placed_until=until)
                .returning(JobRow)
                .execution_options(synchronize_session=False, populate_existing=True)
            )
            return None if row is None else job_of(row)

    def keep_placed(self, job_id: int, worker: str, until: datetime) -> bool:
        with self._transactions.write() as session:
            return _changed(session, and_(JobRow.id == job_id, _placed(worker)), placed_until=until)

    def release(
        self, job_id: int, worker: str, at: datetime, *, how: str | None, attempt: int | None = None
    ) -> Job | None:
        with self._transactions.write() as session:
            row = _row(session, job_id)
            if row.worker != worker or not row.state.open or attempt not in (None, row.attempts):
                return None
            if row.state is JobState.QUEUED:
                row.worker = row.placed_until = None
            else:
                _let_go(session, row, at, how=how, counted=how is not None)
            session.flush()
            return job_of(row)

    def sweep(self, at: datetime) -> list[Job]:
        with self._transactions.write() as session:
            return _sweep(session, at)

    def heartbeat(
        self, job_id: int, worker: str, attempt: int, *, stage: str, progress: float, lease_s: float, at: datetime
    ) -> bool:
        with self._transactions.write() as session:
            return _changed(
                session,
                and_(_held(job_id, worker, attempt), JobRow.cancel_requested.is_(False)),
                stage=stage,
                progress=min(max(progress, 0.0), 1.0),
                heartbeat_at=at,
                lease_until=at + timedelta(seconds=lease_s),
                placed_until=None,
            )

    def write_log(self, job_id: int, worker: str, attempt: int, log_tail: str) -> bool:
        with self._transactions.write(durable=False) as session:
            mine = and_(JobRow.id == job_id, JobRow.worker == worker, JobRow.attempts == attempt)
            return _changed(session, mine, log_tail=log_tail[-MAX_LOG:])

    def write_checkpoint(self, job_id: int, worker: str, attempt: int, values: Mapping[str, Any]) -> bool:
        with self._transactions.write() as session:
            row = _row(session, job_id)
            if not _is_held(row, worker, attempt):
                return False
            row.checkpoint = {**(row.checkpoint or {}), **values}
            return True

    def finish(
        self,
        job_id: int,
        worker: str,
        attempt: int,
        state: JobState,
        message: str,
        at: datetime,
        log_tail: str | None = None,
        *,
        evaluations: Iterable[Evaluation] = (),
        checkpoint: Mapping[str, Any] | None = None,
        feedback: Mapping[int, Became] | None = None,
    ) -> bool:
        if state.open or state is JobState.PUBLISHED:
            raise JobError(
                f"a job ends as done, rejected, failed or cancelled, not as {state}; banks publish their own job"
            )
        with self._transactions.write() as session:
            row = _row(session, job_id)
            if not _is_held(row, worker, attempt):
                return False
            row.state, row.message, row.finished_at = state, message, at
            row.log_tail = row.log_tail if log_tail is None else log_tail[-MAX_LOG:]
            row.checkpoint = {**(row.checkpoint or {}), **(checkpoint or {})}
            for name, value in RELEASED.items():
                setattr(row, name, value)
            session.flush()
            for evaluation in evaluations:
                save_evaluation(session, evaluation)
            follow_job(session, job_id, state, message, feedback or {})
            _queue_rest(session, row, at)
            return True

    def give_back(
        self, job_id: int, worker: str, attempt: int, at: datetime, *, counted: bool, log_tail: str | None = None
    ) -> bool:
        with self._transactions.write() as session:
            return _changed(
                session,
                _held(job_id, worker, attempt),
                state=JobState.QUEUED,
                attempts=JobRow.attempts - (0 if counted else 1),
                heartbeat_at=at,
                **({} if log_tail is None else {"log_tail": log_tail[-MAX_LOG:]}),
                **IDLE,
            )

    def requeue(self, job_id: int, at: datetime) -> Job:
        with self._transactions.write() as session:
            row = _row(session, job_id)
            if row.state not in AGAIN:
                raise JobError(f"job {job_id} is {row.state}; only a failed, rejected or cancelled job can run again")
            _refuse_overtaken(session, row)
            # who overrode the gate did so for that run; another retry is judged like any job
            row.checkpoint = {name: value for name, value in (row.checkpoint or {}).items() if name != OVERRIDE}
            _queue_again(session, row)
            return job_of(row)

    def override(self, job_id: int, who: str, reason: str, at: datetime) -> Job:
        with self._transactions.write() as session:
            row = _row(session, job_id)
            if row.state is not JobState.REJECTED:
                raise JobError(f"job {job_id} is {row.state}; only a job that the gate rejected can be overridden")
            _refuse_overtaken(session, row)
            judged = Judgement.of_checkpoint(row.checkpoint or {})
            if judged is None:
                raise JobError(
                    f"job {job_id} was rejected by a version that did not keep what the gate measured; let it be judged"
                    f" anew with `stream-ad jobs retry {job_id}`, and override that"
                )
            override = Override(who=who, reason=reason, at=at, accepted=judged)
            row.checkpoint = {**row.checkpoint, OVERRIDE: override.as_json()}
            _queue_again(session, row)
            write_audit(
                session, at=at, who=who, action="override", subject=f"job {job_id}", reason=reason,
                details={"task": row.task_id, "kind": row.kind, "gate": judged.as_json()},
            )  # fmt: skip
            return job_of(row)

    def cancel(self, job_id: int, at: datetime) -> Job:
        with self._transactions.write() as session:
            row = _row(session, job_id)
            if row.state is JobState.QUEUED:
                row.state, row.finished_at, row.message = JobState.CANCELLED, at, "cancelled before it started"
                row.placed_until = None
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
    condition = and_(_held(job.id, worker, job.attempts), JobRow.cancel_requested.is_(False))
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
    _queue_rest(session, _row(session, job.id), at)


def _queue_rest(session: Session, row: JobRow, at: datetime) -> None:
    """What learns all pictures, once the job that learned a few of them has ended: well or not, but not cancelled."""
    if THEN not in row.payload or row.state not in (JobState.PUBLISHED, JobState.REJECTED, JobState.FAILED):
        return
    session.flush()  # one open job per task
    kind = JobKind.READAPT if row.state is JobState.PUBLISHED else JobKind.ADAPT
    payload = {**learns_all(row.payload), AFTER: row.id}
    session.add(queued(row.task_id, kind, payload, row.max_attempts, at))
    session.flush()


def _row(session: Session, job_id: int, *, lock: bool = True) -> JobRow:
    row = session.get(JobRow, job_id, with_for_update=lock)
    if row is None:
        raise JobError(f"there is no job {job_id}; see `stream-ad jobs list`")
    return row


def _refuse_overtaken(session: Session, row: JobRow) -> None:
    """Raises: JobError: the job learns a few pictures, and one that learned more has published its task since."""
    published = (JobRow.task_id == row.task_id, JobRow.id > row.id, JobRow.state == JobState.PUBLISHED)
    later = session.scalar(select(JobRow.id).where(*published).limit(1)) if THEN in row.payload else None
    if later is not None:
        raise JobError(f"job {row.id} learns a few pictures of a task that job {later} has published with all of them")


def _queue_again(session: Session, row: JobRow) -> None:
    """An ended job once more, from the start but for its checkpoint."""
    row.state = JobState.QUEUED
    row.attempts, row.progress, row.cancel_requested = 0, 0.0, False
    row.worker = row.device = row.stage = row.message = None
    row.started_at = row.finished_at = row.heartbeat_at = row.lease_until = row.placed_until = None
    _flush_open(session, row)


def _flush_open(session: Session, row: JobRow) -> None:
    """Write a job that is open now. Raises: JobError: there is another one, of its task or of its kind for all."""
    about = f"task {row.task_id!r} has another open job" if row.task_id else f"another {row.kind} job is open"
    try:
        session.flush()
    except IntegrityError as error:
        raise JobError(f"{about} already; wait for it or cancel it: see `stream-ad jobs list`") from error


def _held(job_id: int, worker: str, attempt: int) -> Any:
    """By the worker of that name, and not by a later process that is called the same: containers count alike."""
    own = and_(JobRow.worker == worker, JobRow.attempts == attempt)
    return and_(JobRow.id == job_id, own, JobRow.state == JobState.RUNNING)


def _is_held(row: JobRow, worker: str, attempt: int) -> bool:
    return (row.state, row.worker, row.attempts) == (JobState.RUNNING, worker, attempt)


def _overdue(at: datetime) -> Any:
    return and_(JobRow.state == JobState.RUNNING, JobRow.lease_until <= at)


def _abandoned(at: datetime) -> Any:
    """Overdue, and its worker did not answer the last call either."""
    return and_(_overdue(at), JobRow.placed_until <= at)


def _waiting(at: datetime) -> Any:
    """Queued, and no process on its way."""
    free = or_(JobRow.placed_until.is_(None), JobRow.placed_until <= at)
    return and_(JobRow.state == JobState.QUEUED, free)


def _placed(worker: str) -> Any:
    return and_(JobRow.state == JobState.QUEUED, JobRow.worker == worker)


def _changed(session: Session, condition: Any, **values: Any) -> bool:
    """Whether the one job that meets the condition was there to change."""
    statement = update(JobRow).where(condition).values(**values).returning(JobRow.id)
    return session.scalar(statement.execution_options(synchronize_session=False)) is not None


def _call(session: Session, at: datetime) -> None:
    """Note of jobs that are overdue until when their workers may still prolong the lease."""
    for row in _locked(session, and_(_overdue(at), JobRow.placed_until.is_(None))):
        assert row.lease_until is not None, "a running job has a lease"
        lease = row.lease_until - (row.heartbeat_at or row.lease_until)
        row.placed_until = at + min(LAST_CALL * lease, timedelta(seconds=LAST_CALL_S))
    session.flush()


def _end_hopeless(session: Session, at: datetime) -> None:
    """End abandoned jobs that nobody shall take up again."""
    hopeless = or_(JobRow.cancel_requested.is_(True), JobRow.attempts >= JobRow.max_attempts)
    for row in _locked(session, and_(_abandoned(at), hopeless)):
        _let_go(session, row, at, how=None, counted=True)
    session.flush()


def _sweep(session: Session, at: datetime) -> list[Job]:
    _call(session, at)
    rows = _locked(session, _abandoned(at))
    for row in rows:
        _let_go(session, row, at, how=None, counted=True)
    session.flush()
    return [job_of(row) for row in rows]


def _locked(session: Session, condition: Any) -> Sequence[JobRow]:
    # what another session holds is being seen to
    chosen = select(JobRow).where(condition).order_by(JobRow.id).with_for_update(skip_locked=True)
    return session.scalars(chosen.execution_options(populate_existing=True)).all()


def _let_go(session: Session, row: JobRow, at: datetime, *, how: str | None, counted: bool) -> None:
    """A running job whose worker is no more: queued again, or ended when nobody shall take it up again.

    `how` the worker died, if that is known.
    """
    died = how or "its worker fell silent: dead, hung, or its machine is gone"
    if how is not None:
        row.log_tail = f"{row.log_tail or ''}\nattempt {row.attempts}: {how}".strip()[-MAX_LOG:]
    if row.cancel_requested:
        row.state, row.finished_at, row.message = JobState.CANCELLED, at, "cancelled; its worker had died"
    elif counted and row.attempts >= row.max_attempts:
        row.state, row.finished_at = JobState.FAILED, at
        row.message = (
            f"its worker died in each of {row.attempts} attempts; the last time {_first_line(died)}; see"
            f" `stream-ad jobs logs {row.id}`"
        )
    else:
        row.state, row.message = JobState.QUEUED, f"attempt {row.attempts}: {_first_line(died)}" if counted else None
        row.attempts -= 0 if counted else 1
        for name, value in IDLE.items():
            setattr(row, name, value)
    for name, value in RELEASED.items():
        setattr(row, name, value)
    _queue_rest(session, row, at)


def _first_line(how: str) -> str:
    return how.partition("\n")[0]
