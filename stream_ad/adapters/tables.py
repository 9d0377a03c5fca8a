"""The tables. What may never happen is forbidden here, by keys and constraints, not by the code that writes.

A change needs a migration beside it: `tests/test_migrations.py` compares both.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    false,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from stream_ad.adapters.column_types import (
    FreeText,
    Headers,
    Json,
    PathText,
    Real,
    Serial,
    UtcDateTime,
    is_one_of,
    one_of,
)
from stream_ad.domain.evaluation import Half
from stream_ad.domain.feedback import FeedbackKind, FeedbackState
from stream_ad.domain.job import JobKind, JobState
from stream_ad.domain.proposal import ProposalKind, ProposalState
from stream_ad.domain.result import Verdict

#: the migration that makes these tables; looked up here, because asking Alembic takes as long as a light command
REVISION = "0003"

OPEN_JOB = text(is_one_of("state", tuple(state for state in JobState if state.open)))
OPEN_TASK = text("kind = 'readapt' AND state = 'open'")
OPEN_FOR_ALL = text(f"task_id IS NULL AND {OPEN_JOB.text}")


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime,
        float: Real,
        str: Text,
        bytes: LargeBinary,
        dict[str, Any]: Json,
        list[str]: Json,
        Mapping[str, bytes]: Headers,
        JobState: one_of(JobState),
        JobKind: one_of(JobKind),
        FeedbackKind: one_of(FeedbackKind),
        FeedbackState: one_of(FeedbackState),
        ProposalKind: one_of(ProposalKind),
        ProposalState: one_of(ProposalState),
        Half: one_of(Half),
        Verdict: one_of(Verdict),
    }


class TaskRow(Base):
    __tablename__ = "tasks"
    __table_args__ = (
        CheckConstraint("false_alarm_rate > 0 AND false_alarm_rate < 1", "false_alarm_rate"),
        CheckConstraint(is_one_of("state", ("active", "retired")), "state"),
    )

    id: Mapped[str] = mapped_column(String(100), primary_key=True)
    class_name: Mapped[str] = mapped_column(FreeText)
    product_ids: Mapped[list[str]]
    cameras: Mapped[list[str]]
    false_alarm_rate: Mapped[float]
    state: Mapped[str] = mapped_column(String(32), default="active")
    created_at: Mapped[datetime]


class JobRow(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(is_one_of("state", JobState), "state"),
        CheckConstraint(is_one_of("kind", JobKind), "kind"),
        CheckConstraint("attempts >= 0 AND max_attempts > 0", "attempts"),
        CheckConstraint("state <> 'running' OR (worker IS NOT NULL AND lease_until IS NOT NULL)", "lease"),
        CheckConstraint("state <> 'published' OR bank_version IS NOT NULL", "published"),
        # never two open jobs of one task; of those for all tasks, never two of one kind
        Index("uq_jobs_open_task", "task_id", unique=True, sqlite_where=OPEN_JOB, postgresql_where=OPEN_JOB),
        Index("uq_jobs_open_kind", "kind", unique=True, sqlite_where=OPEN_FOR_ALL, postgresql_where=OPEN_FOR_ALL),
        Index(None, "state", "lease_until"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    kind: Mapped[JobKind]
    #: NULL: about every task
    task_id: Mapped[str | None] = mapped_column(ForeignKey("tasks.id"))
    state: Mapped[JobState]
    payload: Mapped[dict[str, Any]]
    attempts: Mapped[int]
    max_attempts: Mapped[int]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    worker: Mapped[str | None] = mapped_column(FreeText)
    device: Mapped[str | None] = mapped_column(FreeText)
    lease_until: Mapped[datetime | None]
    heartbeat_at: Mapped[datetime | None]
    stage: Mapped[str | None]
    progress: Mapped[float]
    message: Mapped[str | None] = mapped_column(FreeText)
    log_tail: Mapped[str | None] = mapped_column(FreeText)
    bank_version: Mapped[int | None] = mapped_column(ForeignKey("bank_versions.version"))
    cancel_requested: Mapped[bool]
    #: queued: an executor has started a process for it; running: its worker's last call. Left alone until then
    placed_until: Mapped[datetime | None]
    #: what earlier attempts finished, so that the next one need not do it again
    checkpoint: Mapped[dict[str, Any]] = mapped_column(server_default="{}")


class EntryRow(Base):
    """One stored entry. Its arrays are the file of that hash."""

    __tablename__ = "entries"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), index=True)
    detector: Mapped[str]
    features: Mapped[dict[str, Any]]
    shared_weights: Mapped[str | None] = mapped_column(String(64))
    splits: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class BankVersionRow(Base):
    """A published bank. Version 0, the empty one, comes with the first migration and has no parent."""

    __tablename__ = "bank_versions"
    __table_args__ = (
        CheckConstraint("version >= 0 AND (version > 0 OR parent IS NULL)", "version"),
        CheckConstraint("version = 0 OR (parent IS NOT NULL AND parent < version)", "parent"),
    )

    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    parent: Mapped[int | None] = mapped_column(ForeignKey("bank_versions.version"))
    created_at: Mapped[datetime]
    task_id: Mapped[str | None] = mapped_column(ForeignKey("tasks.id"))
    job_id: Mapped[int | None] = mapped_column(Serial)  # no foreign key: jobs point here, and a circle helps nobody
    message: Mapped[str] = mapped_column(FreeText)
    sha256: Mapped[str] = mapped_column(String(64))


class BankEntryRow(Base):
    __tablename__ = "bank_entries"

    version: Mapped[int] = mapped_column(ForeignKey("bank_versions.version"), primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    entry_sha256: Mapped[str] = mapped_column(ForeignKey("entries.sha256"), index=True)


class ActiveBankRow(Base):
    """The one pointer that scorers poll. `generation` rises with every change, rollbacks too."""

    __tablename__ = "active_bank"
    __table_args__ = (CheckConstraint("id = 1", "single"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[int] = mapped_column(ForeignKey("bank_versions.version"))
    generation: Mapped[int]


class EvaluationRow(Base):
    """One bank, or a refused candidate, on one half. A job that runs again replaces what it measured before."""

    __tablename__ = "evaluations"
    __table_args__ = (
        CheckConstraint(is_one_of("half", Half), "half"),
        UniqueConstraint("job_id", "half", "bank_version"),
        Index(None, "half", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    half: Mapped[Half]
    bank_version: Mapped[int]  # no foreign key: a refused candidate has a number that was never published
    published: Mapped[bool]
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    learned_task: Mapped[str | None] = mapped_column(ForeignKey("tasks.id"))
    provenance: Mapped[dict[str, Any]]
    at: Mapped[datetime]


class TaskEvaluationRow(Base):
    """Numbers of one task; NULL is "not measured" (NaN)."""

    __tablename__ = "evaluation_tasks"

    evaluation_id: Mapped[int] = mapped_column(ForeignKey("evaluations.id", ondelete="CASCADE"), primary_key=True)
    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    position: Mapped[int]
    routed: Mapped[dict[str, Any]]
    oracle: Mapped[dict[str, Any]]
    routing_accuracy: Mapped[float | None]
    refused_rate: Mapped[float | None]
    false_alarm_rate: Mapped[float | None]
    detection_rate: Mapped[float | None]
    n_normal: Mapped[int]
    n_defective: Mapped[int]
    synthetic: Mapped[bool]
    notes: Mapped[list[str]]


class ImageOutcomeRow(Base):
    __tablename__ = "evaluation_images"
    __table_args__ = (
        ForeignKeyConstraint(
            ["evaluation_id", "task_id"],
            ["evaluation_tasks.evaluation_id", "evaluation_tasks.task_id"],
            ondelete="CASCADE",
        ),
        CheckConstraint(is_one_of("routed_verdict", Verdict), "routed_verdict"),
        CheckConstraint(is_one_of("oracle_verdict", Verdict), "oracle_verdict"),
    )

    evaluation_id: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=False)
    task_id: Mapped[str] = mapped_column(String(100), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    image_id: Mapped[str] = mapped_column(PathText)
    defective: Mapped[bool]
    kind: Mapped[str] = mapped_column(PathText)
    synthetic: Mapped[bool]
    routed_task: Mapped[str] = mapped_column(String(100))
    refused: Mapped[bool]
    margin: Mapped[float | None]
    routed_score: Mapped[float | None]
    oracle_score: Mapped[float | None]
    routed_verdict: Mapped[Verdict]
    oracle_verdict: Mapped[Verdict]


class ResultRow(Base):
    """A log: no foreign keys, so that a verdict is never lost to bookkeeping."""

    __tablename__ = "results"
    __table_args__ = (
        CheckConstraint(is_one_of("verdict", Verdict), "verdict"),
        Index(None, "scored_at"),
        Index(None, "task", "scored_at"),
        Index(None, "message_id"),
    )

    topic: Mapped[str] = mapped_column(PathText, primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    offset: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=False)
    message_id: Mapped[str] = mapped_column(FreeText)
    camera: Mapped[str | None] = mapped_column(FreeText)
    declared_product: Mapped[str | None] = mapped_column(FreeText)
    task: Mapped[str | None] = mapped_column(String(100))
    detector: Mapped[str | None]
    score: Mapped[float | None]
    p_value: Mapped[float | None]
    threshold: Mapped[float | None]
    verdict: Mapped[Verdict]
    bank_version: Mapped[int]
    features: Mapped[str]
    margin: Mapped[float | None]
    alarm: Mapped[str | None] = mapped_column(FreeText)
    latency_ms: Mapped[float]
    scored_at: Mapped[datetime]
    overlay: Mapped[str | None] = mapped_column(PathText)
    subject: Mapped[str | None] = mapped_column(FreeText)
    captured_at: Mapped[datetime | None]
    traceparent: Mapped[str | None] = mapped_column(FreeText)


class AttemptRow(Base):
    """A record that somebody works on; a row that stays was left by a process that died."""

    __tablename__ = "attempts"
    __table_args__ = (CheckConstraint("tries > 0", "tries"), Index(None, "at"))

    topic: Mapped[str] = mapped_column(PathText, primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    offset: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=False)
    tries: Mapped[int]
    at: Mapped[datetime]


class DeadLetterRow(Base):
    """`attempts` counts how often the record was tried; one that was sent again has `retried_at`."""

    __tablename__ = "dead_letters"
    __table_args__ = (Index(None, "at"),)

    topic: Mapped[str] = mapped_column(PathText, primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    offset: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=False)
    key: Mapped[bytes | None]
    value: Mapped[bytes | None]
    headers: Mapped[Mapping[str, bytes]]
    timestamp: Mapped[datetime | None]
    stage: Mapped[str]
    error_class: Mapped[str]
    reason: Mapped[str] = mapped_column(FreeText)
    attempts: Mapped[int]
    at: Mapped[datetime]
    trace: Mapped[str | None] = mapped_column(FreeText)
    retried_at: Mapped[datetime | None]


class OutboxRow(Base):
    """Row numbers are never used twice, so a relay can only delete what it has sent."""

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("channel", "message_id"),
        # what a sink lacks that was away for days must not be searched for what is new
        Index("ix_outbox_untouched", "row", sqlite_where=text("has = ''"), postgresql_where=text("has = ''")),
        {"sqlite_autoincrement": True},
    )

    row: Mapped[int] = mapped_column(Serial, primary_key=True)
    channel: Mapped[str] = mapped_column(String(32))
    message_id: Mapped[str] = mapped_column(FreeText)
    key: Mapped[bytes | None]
    value: Mapped[bytes]
    headers: Mapped[Mapping[str, bytes]]
    #: "|kafka|webhook|": the sinks that have it while others lack it
    has: Mapped[str] = mapped_column(FreeText, server_default="")


class FileRow(Base):
    __tablename__ = "files"
    __table_args__ = (
        UniqueConstraint("topic", "path", "sha256"),
        CheckConstraint('"offset" >= 0', "offset"),
        Index("ix_files_pending", "topic", "offset", sqlite_where=text("NOT done"), postgresql_where=text("NOT done")),
    )

    topic: Mapped[str] = mapped_column(PathText, primary_key=True)
    offset: Mapped[int] = mapped_column(Serial, primary_key=True, autoincrement=False)
    path: Mapped[str] = mapped_column(PathText)
    sha256: Mapped[str] = mapped_column(String(64))
    done: Mapped[bool] = mapped_column(server_default=false())
    at: Mapped[datetime]


class FeedbackRow(Base):
    """What a person says of a verdict. Quarantined until a job has taken it in or refused it."""

    __tablename__ = "feedback"
    __table_args__ = (
        CheckConstraint(is_one_of("kind", FeedbackKind), "kind"),
        CheckConstraint(is_one_of("state", FeedbackState), "state"),
        # said twice is said once
        UniqueConstraint("topic", "partition", "offset", "kind"),
        Index(None, "state", "at"),
        Index(None, "task"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    topic: Mapped[str] = mapped_column(PathText)
    partition: Mapped[int]
    offset: Mapped[int] = mapped_column(Serial)
    kind: Mapped[FeedbackKind]
    who: Mapped[str] = mapped_column(FreeText)
    reason: Mapped[str] = mapped_column(FreeText)
    at: Mapped[datetime]
    state: Mapped[FeedbackState] = mapped_column(default=FeedbackState.QUARANTINED)
    #: the task that had judged the picture; no foreign key: what was said is never lost to bookkeeping
    task: Mapped[str | None] = mapped_column(String(100))
    #: the picture, copied at once, because where it came from forgets; its name within the folder of feedback
    path: Mapped[str] = mapped_column(PathText)
    sha256: Mapped[str] = mapped_column(String(64))
    #: the job that took it in or refused it
    job_id: Mapped[int | None] = mapped_column(ForeignKey("jobs.id"))
    #: what became of it, in a sentence
    outcome: Mapped[str | None] = mapped_column(FreeText)


class ProposalRow(Base):
    """Something that the program thinks a person should decide: a new product, or one to adapt again."""

    __tablename__ = "proposals"
    __table_args__ = (
        CheckConstraint(is_one_of("kind", ProposalKind), "kind"),
        CheckConstraint(is_one_of("state", ProposalState), "state"),
        CheckConstraint("kind <> 'readapt' OR task_id IS NOT NULL", "task"),
        # never two open proposals to adapt one task again
        Index("uq_proposals_open_task", "task_id", unique=True, sqlite_where=OPEN_TASK, postgresql_where=OPEN_TASK),
        Index(None, "state", "id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    kind: Mapped[ProposalKind]
    state: Mapped[ProposalState]
    #: readapt: the task that drifted; product: what it became
    task_id: Mapped[str | None] = mapped_column(ForeignKey("tasks.id"))
    #: why, in a sentence
    reason: Mapped[str] = mapped_column(FreeText)
    #: cameras, cohesion, statistics ...: what a person may want to see
    details: Mapped[dict[str, Any]]
    #: pictures that it stands for
    size: Mapped[int]
    #: product: mean direction of its pictures' embeddings, float32, and how far they lie from it
    center: Mapped[bytes | None]
    radius: Mapped[float | None]
    #: the features that `center` is made of
    features: Mapped[str | None] = mapped_column(FreeText)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    decided_at: Mapped[datetime | None]
    decided_by: Mapped[str | None] = mapped_column(FreeText)
    #: what the person said
    remark: Mapped[str | None] = mapped_column(FreeText)


class KeptImageRow(Base):
    """A picture of no known product, kept for the discovery of new ones."""

    __tablename__ = "kept_images"
    __table_args__ = (
        UniqueConstraint("sha256"),
        Index(None, "camera", "at"),
        Index(None, "proposal_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    topic: Mapped[str] = mapped_column(PathText)
    partition: Mapped[int]
    offset: Mapped[int] = mapped_column(Serial)
    camera: Mapped[str | None] = mapped_column(FreeText)
    #: within the folder of kept pictures
    path: Mapped[str] = mapped_column(PathText)
    #: of the decoded pixels: the same picture is kept once
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int]
    #: final embedding, float32, and the features that it is made of
    embedding: Mapped[bytes]
    features: Mapped[str] = mapped_column(FreeText)
    proposal_id: Mapped[int | None] = mapped_column(ForeignKey("proposals.id"))
    at: Mapped[datetime]


class LeaseRow(Base):
    """Who may do what only one may do: "scheduler"."""

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    holder: Mapped[str] = mapped_column(FreeText)
    #: by the holder's time of day, for people; a lease is over when `beat` stands still
    until: Mapped[datetime]
    #: rises whenever the lease is taken or prolonged
    beat: Mapped[int] = mapped_column(Serial)


class DutyRow(Base):
    """How a duty of the scheduler went the last time; begun and not ended: its leader died or lost the lease."""

    __tablename__ = "duties"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    leader: Mapped[str] = mapped_column(FreeText)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    #: how often in a row it was begun and not ended
    tries: Mapped[int]
    failed: Mapped[bool] = mapped_column(server_default=false())
    #: what came of it, in a sentence
    outcome: Mapped[str | None] = mapped_column(FreeText)
    #: numbers of that, by name, for metrics
    figures: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    good_at: Mapped[datetime | None]


class DriftRow(Base):
    """How far a task's results have been compared with those that came first; one entry at a time."""

    __tablename__ = "drift"

    task_id: Mapped[str] = mapped_column(ForeignKey("tasks.id"), primary_key=True)
    #: the entry that gave these results; another one begins anew
    entry_sha256: Mapped[str] = mapped_column(String(64))
    #: results after this are still to be looked at
    seen_until: Mapped[datetime]
    #: windows compared
    windows: Mapped[int]
    #: scores and margins of the first window
    first: Mapped[dict[str, Any]]
    #: by signal, how many windows in a row it was there
    streaks: Mapped[dict[str, Any]]
    #: what the latest window gave
    latest: Mapped[dict[str, Any]]
    #: whether alarms are compared with what calibration promised; not after a person said that they may differ
    calibrated: Mapped[bool]
    updated_at: Mapped[datetime]


class AuditRow(Base):
    """Who did what, and why. Only ever added to."""

    __tablename__ = "audit"
    __table_args__ = (Index(None, "at"), Index(None, "subject"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Serial, primary_key=True)
    at: Mapped[datetime]
    who: Mapped[str] = mapped_column(FreeText)
    action: Mapped[str] = mapped_column(String(64))
    subject: Mapped[str] = mapped_column(FreeText)
    reason: Mapped[str] = mapped_column(FreeText)
    details: Mapped[dict[str, Any]]
