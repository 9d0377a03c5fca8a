"""The first tables, the empty bank (version 0) and the pointer to it.

Revision: 0001, the first.
"""

import hashlib
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TABLES = (
    "audit",
    "dead_letters",
    "feedback",
    "files",
    "outbox",
    "refused_images",
    "results",
    "tasks",
    "bank_versions",
    "entries",
    "active_bank",
    "bank_entries",
    "jobs",
    "evaluations",
    "evaluation_tasks",
    "evaluation_images",
)


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", BIG, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_subject", "audit", ["subject"])
    op.create_table(
        "dead_letters",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", BIG, autoincrement=False, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("value", sa.LargeBinary(), nullable=True),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.Column("timestamp", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("error_class", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", "offset", name="pk_dead_letters"),
    )
    op.create_index("ix_dead_letters_at", "dead_letters", ["at"])
    op.create_table(
        "feedback",
        sa.Column("id", BIG, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", BIG, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.CheckConstraint("kind IN ('false_alarm', 'missed', 'wrong_product')", name=op.f("ck_feedback_kind")),
        sa.CheckConstraint("state IN ('quarantined', 'applied', 'rejected')", name=op.f("ck_feedback_state")),
        sa.PrimaryKeyConstraint("id", name="pk_feedback"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_feedback_state_at", "feedback", ["state", "at"])
    op.create_index("ix_feedback_topic_partition_offset", "feedback", ["topic", "partition", "offset"])
    op.create_table(
        "files",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("offset", BIG, autoincrement=False, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("done", sa.Boolean(), nullable=False, server_default=sa.false()),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint('"offset" >= 0', name=op.f("ck_files_offset")),
        sa.PrimaryKeyConstraint("topic", "offset", name="pk_files"),
        sa.UniqueConstraint("topic", "path", "sha256", name="uq_files_topic"),
    )
    op.create_index(
        "ix_files_pending",
        "files",
        ["topic", "offset"],
        sqlite_where=sa.text("NOT done"),
        postgresql_where=sa.text("NOT done"),
    )
    op.create_table(
        "outbox",
        sa.Column("row", BIG, nullable=False),
        sa.Column("channel", sa.String(32), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=True),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.Column("headers", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("row", name="pk_outbox"),
        sa.UniqueConstraint("channel", "message_id", name="uq_outbox_channel"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "refused_images",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", BIG, autoincrement=False, nullable=False),
        sa.Column("camera", sa.Text(), nullable=True),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("embedding_sha256", sa.String(64), nullable=True),
        sa.Column("proposal", sa.String(100), nullable=True),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", "offset", name="pk_refused_images"),
    )
    op.create_index("ix_refused_images_at", "refused_images", ["at"])
    op.create_index("ix_refused_images_proposal", "refused_images", ["proposal"])
    op.create_table(
        "results",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", BIG, autoincrement=False, nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("camera", sa.Text(), nullable=True),
        sa.Column("declared_product", sa.Text(), nullable=True),
        sa.Column("task", sa.String(100), nullable=True),
        sa.Column("detector", sa.Text(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("p_value", sa.Double(), nullable=True),
        sa.Column("threshold", sa.Double(), nullable=True),
        sa.Column("verdict", sa.String(32), nullable=False),
        sa.Column("bank_version", sa.Integer(), nullable=False),
        sa.Column("features", sa.Text(), nullable=False),
        sa.Column("margin", sa.Double(), nullable=True),
        sa.Column("alarm", sa.Text(), nullable=True),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("scored_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("overlay", sa.Text(), nullable=True),
        sa.CheckConstraint("verdict IN ('OK', 'NG', 'unknown product', 'late')", name=op.f("ck_results_verdict")),
        sa.PrimaryKeyConstraint("topic", "partition", "offset", name="pk_results"),
    )
    op.create_index("ix_results_message_id", "results", ["message_id"])
    op.create_index("ix_results_scored_at", "results", ["scored_at"])
    op.create_index("ix_results_task_scored_at", "results", ["task", "scored_at"])
    op.create_table(
        "tasks",
        sa.Column("id", sa.String(100), nullable=False),
        sa.Column("class_name", sa.Text(), nullable=False),
        sa.Column("product_ids", sa.JSON(), nullable=False),
        sa.Column("cameras", sa.JSON(), nullable=False),
        sa.Column("false_alarm_rate", sa.Double(), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("false_alarm_rate > 0 AND false_alarm_rate < 1", name=op.f("ck_tasks_false_alarm_rate")),
        sa.CheckConstraint("state IN ('active', 'retired')", name=op.f("ck_tasks_state")),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
    )
    op.create_table(
        "bank_versions",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("task_id", sa.String(100), nullable=True),
        sa.Column("job_id", BIG, nullable=True),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.CheckConstraint(
            "version = 0 OR (parent IS NOT NULL AND parent < version)", name=op.f("ck_bank_versions_parent")
        ),
        sa.CheckConstraint("version >= 0 AND (version > 0 OR parent IS NULL)", name=op.f("ck_bank_versions_version")),
        sa.ForeignKeyConstraint(["parent"], ["bank_versions.version"], name="fk_bank_versions_parent_bank_versions"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_bank_versions_task_id_tasks"),
        sa.PrimaryKeyConstraint("version", name="pk_bank_versions"),
    )
    op.create_table(
        "entries",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("task_id", sa.String(100), nullable=False),
        sa.Column("detector", sa.Text(), nullable=False),
        sa.Column("features", sa.JSON(), nullable=False),
        sa.Column("shared_weights", sa.String(64), nullable=True),
        sa.Column("splits", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_entries_task_id_tasks"),
        sa.PrimaryKeyConstraint("sha256", name="pk_entries"),
    )
    op.create_index("ix_entries_task_id", "entries", ["task_id"])
    op.create_table(
        "active_bank",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_active_bank_single")),
        sa.ForeignKeyConstraint(["version"], ["bank_versions.version"], name="fk_active_bank_version_bank_versions"),
        sa.PrimaryKeyConstraint("id", name="pk_active_bank"),
    )
    op.create_table(
        "bank_entries",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("task_id", sa.String(100), nullable=False),
        sa.Column("entry_sha256", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["entry_sha256"], ["entries.sha256"], name="fk_bank_entries_entry_sha256_entries"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_bank_entries_task_id_tasks"),
        sa.ForeignKeyConstraint(["version"], ["bank_versions.version"], name="fk_bank_entries_version_bank_versions"),
        sa.PrimaryKeyConstraint("version", "task_id", name="pk_bank_entries"),
    )
    op.create_index("ix_bank_entries_entry_sha256", "bank_entries", ["entry_sha256"])
    op.create_table(
        "jobs",
        sa.Column("id", BIG, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("task_id", sa.String(100), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("stage", sa.Text(), nullable=True),
        sa.Column("progress", sa.Double(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("log_tail", sa.Text(), nullable=True),
        sa.Column("bank_version", sa.Integer(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.CheckConstraint("attempts >= 0 AND max_attempts > 0", name=op.f("ck_jobs_attempts")),
        sa.CheckConstraint("kind IN ('adapt')", name=op.f("ck_jobs_kind")),
        sa.CheckConstraint(
            "state <> 'running' OR (worker IS NOT NULL AND lease_until IS NOT NULL)", name=op.f("ck_jobs_lease")
        ),
        sa.CheckConstraint("state <> 'published' OR bank_version IS NOT NULL", name=op.f("ck_jobs_published")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'published', 'rejected', 'failed', 'cancelled')", name=op.f("ck_jobs_state")
        ),
        sa.ForeignKeyConstraint(["bank_version"], ["bank_versions.version"], name="fk_jobs_bank_version_bank_versions"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_jobs_task_id_tasks"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_jobs_state_lease_until", "jobs", ["state", "lease_until"])
    op.create_index(
        "uq_jobs_open_task",
        "jobs",
        ["task_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('queued', 'running')"),
        postgresql_where=sa.text("state IN ('queued', 'running')"),
    )
    op.create_table(
        "evaluations",
        sa.Column("id", BIG, nullable=False),
        sa.Column("half", sa.String(32), nullable=False),
        sa.Column("bank_version", sa.Integer(), nullable=False),
        sa.Column("published", sa.Boolean(), nullable=False),
        sa.Column("job_id", BIG, nullable=True),
        sa.Column("learned_task", sa.String(100), nullable=True),
        sa.Column("provenance", sa.JSON(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("half IN ('regression', 'test')", name=op.f("ck_evaluations_half")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_evaluations_job_id_jobs"),
        sa.ForeignKeyConstraint(["learned_task"], ["tasks.id"], name="fk_evaluations_learned_task_tasks"),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
        sa.UniqueConstraint("job_id", "half", "bank_version", name="uq_evaluations_job_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_evaluations_half_id", "evaluations", ["half", "id"])
    op.create_table(
        "evaluation_tasks",
        sa.Column("evaluation_id", BIG, autoincrement=False, nullable=False),
        sa.Column("task_id", sa.String(100), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("routed", sa.JSON(), nullable=False),
        sa.Column("oracle", sa.JSON(), nullable=False),
        sa.Column("routing_accuracy", sa.Double(), nullable=True),
        sa.Column("refused_rate", sa.Double(), nullable=True),
        sa.Column("false_alarm_rate", sa.Double(), nullable=True),
        sa.Column("detection_rate", sa.Double(), nullable=True),
        sa.Column("n_normal", sa.Integer(), nullable=False),
        sa.Column("n_defective", sa.Integer(), nullable=False),
        sa.Column("synthetic", sa.Boolean(), nullable=False),
        sa.Column("notes", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"],
            ["evaluations.id"],
            name="fk_evaluation_tasks_evaluation_id_evaluations",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_evaluation_tasks_task_id_tasks"),
        sa.PrimaryKeyConstraint("evaluation_id", "task_id", name="pk_evaluation_tasks"),
    )
    op.create_table(
        "evaluation_images",
        sa.Column("evaluation_id", BIG, autoincrement=False, nullable=False),
        sa.Column("task_id", sa.String(100), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("image_id", sa.Text(), nullable=False),
        sa.Column("defective", sa.Boolean(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("synthetic", sa.Boolean(), nullable=False),
        sa.Column("routed_task", sa.String(100), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
        sa.Column("margin", sa.Double(), nullable=True),
        sa.Column("routed_score", sa.Double(), nullable=True),
        sa.Column("oracle_score", sa.Double(), nullable=True),
        sa.Column("routed_verdict", sa.String(32), nullable=False),
        sa.Column("oracle_verdict", sa.String(32), nullable=False),
        sa.CheckConstraint(
            "oracle_verdict IN ('OK', 'NG', 'unknown product', 'late')",
            name=op.f("ck_evaluation_images_oracle_verdict"),
        ),
        sa.CheckConstraint(
            "routed_verdict IN ('OK', 'NG', 'unknown product', 'late')",
            name=op.f("ck_evaluation_images_routed_verdict"),
        ),
        sa.ForeignKeyConstraint(
            ["evaluation_id", "task_id"],
            ["evaluation_tasks.evaluation_id", "evaluation_tasks.task_id"],
            name="fk_evaluation_images_evaluation_id_evaluation_tasks",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("evaluation_id", "task_id", "position", name="pk_evaluation_images"),
    )
    op.bulk_insert(
        sa.table(
            "bank_versions",
            *(sa.column(name) for name in ("version", "message", "sha256")),
            sa.column("created_at", sa.DateTime(timezone=True)),
        ),
        [
            {
                "version": 0,
                "created_at": datetime.now(UTC),
                "message": "empty",
                "sha256": hashlib.sha256(b"").hexdigest(),
            }
        ],
    )
    op.bulk_insert(
        sa.table("active_bank", *(sa.column(name) for name in ("id", "version", "generation"))),
        [{"id": 1, "version": 0, "generation": 0}],
    )


def downgrade() -> None:
    for name in reversed(TABLES):
        op.drop_table(name)
