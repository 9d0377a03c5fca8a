"""Jobs of every kind, proposals, kept pictures, feedback with its picture, and who leads the scheduler.

Nothing ever wrote to the first tables of refused pictures and of feedback, so they are made anew.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
OPEN = "state IN ('queued', 'running')"


def upgrade() -> None:
    _jobs(
        kinds="'adapt', 'readapt', 'patch', 'retire', 'squeeze', 'evaluate'",
        states="'queued', 'running', 'published', 'done', 'rejected', 'failed', 'cancelled'",
        task_may_be_null=True,
    )
    op.add_column("jobs", sa.Column("placed_until", sa.DateTime(timezone=True)))
    op.add_column("jobs", sa.Column("checkpoint", sa.JSON(), server_default="{}", nullable=False))
    _index("uq_jobs_open_kind", "jobs", "kind", f"task_id IS NULL AND {OPEN}")
    op.drop_table("feedback")
    op.drop_table("refused_images")
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
        sa.Column("task", sa.String(100)),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("job_id", BIG),
        sa.Column("outcome", sa.Text()),
        sa.CheckConstraint("kind IN ('false alarm', 'missed', 'wrong product')", name=op.f("ck_feedback_kind")),
        sa.CheckConstraint("state IN ('quarantined', 'applied', 'refused')", name=op.f("ck_feedback_state")),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_feedback_job_id_jobs")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
        sa.UniqueConstraint("topic", "partition", "offset", "kind", name=op.f("uq_feedback_topic")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_feedback_state_at"), "feedback", ["state", "at"])
    op.create_index(op.f("ix_feedback_task"), "feedback", ["task"])
    op.create_table(
        "proposals",
        sa.Column("id", BIG, nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(32), nullable=False),
        sa.Column("task_id", sa.String(100)),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("center", sa.LargeBinary()),
        sa.Column("radius", sa.Double()),
        sa.Column("features", sa.Text()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True)),
        sa.Column("decided_by", sa.Text()),
        sa.Column("remark", sa.Text()),
        sa.CheckConstraint("kind IN ('product', 'readapt')", name=op.f("ck_proposals_kind")),
        sa.CheckConstraint("state IN ('open', 'approved', 'rejected')", name=op.f("ck_proposals_state")),
        sa.CheckConstraint("kind <> 'readapt' OR task_id IS NOT NULL", name=op.f("ck_proposals_task")),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_proposals_task_id_tasks")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_proposals")),
        sqlite_autoincrement=True,
    )
    _index("uq_proposals_open_task", "proposals", "task_id", "kind = 'readapt' AND state = 'open'")
    op.create_index(op.f("ix_proposals_state_id"), "proposals", ["state", "id"])
    op.create_table(
        "kept_images",
        sa.Column("id", BIG, nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("offset", BIG, nullable=False),
        sa.Column("camera", sa.Text()),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("embedding", sa.LargeBinary(), nullable=False),
        sa.Column("features", sa.Text(), nullable=False),
        sa.Column("proposal_id", BIG),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["proposal_id"], ["proposals.id"], name=op.f("fk_kept_images_proposal_id_proposals")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kept_images")),
        sa.UniqueConstraint("sha256", name=op.f("uq_kept_images_sha256")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_kept_images_camera_at"), "kept_images", ["camera", "at"])
    op.create_index(op.f("ix_kept_images_proposal_id"), "kept_images", ["proposal_id"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("beat", BIG, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )
    op.create_table(
        "duties",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("leader", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.Column("figures", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("good_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_duties")),
    )
    op.create_table(
        "drift",
        sa.Column("task_id", sa.String(100), nullable=False),
        sa.Column("entry_sha256", sa.String(64), nullable=False),
        sa.Column("seen_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("windows", sa.Integer(), nullable=False),
        sa.Column("first", sa.JSON(), nullable=False),
        sa.Column("streaks", sa.JSON(), nullable=False),
        sa.Column("latest", sa.JSON(), nullable=False),
        sa.Column("calibrated", sa.Boolean(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name=op.f("fk_drift_task_id_tasks")),
        sa.PrimaryKeyConstraint("task_id", name=op.f("pk_drift")),
    )


def downgrade() -> None:
    for table in ("drift", "duties", "leases", "kept_images", "proposals", "feedback"):
        op.drop_table(table)
    op.drop_index("uq_jobs_open_kind", "jobs")
    # jobs that the older program does not know; what they published stays
    op.execute("UPDATE evaluations SET job_id = NULL WHERE job_id IN (SELECT id FROM jobs WHERE kind <> 'adapt')")
    op.execute("DELETE FROM jobs WHERE kind <> 'adapt'")
    with op.batch_alter_table("jobs") as table:
        table.drop_column("checkpoint")
        table.drop_column("placed_until")
    _jobs(
        kinds="'adapt'",
        states="'queued', 'running', 'published', 'rejected', 'failed', 'cancelled'",
        task_may_be_null=False,
    )
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
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_feedback_state_at"), "feedback", ["state", "at"])
    op.create_index(op.f("ix_feedback_topic_partition_offset"), "feedback", ["topic", "partition", "offset"])
    op.create_table(
        "refused_images",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", BIG, autoincrement=False, nullable=False),
        sa.Column("camera", sa.Text()),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("embedding_sha256", sa.String(64)),
        sa.Column("proposal", sa.String(100)),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("topic", "partition", "offset", name=op.f("pk_refused_images")),
    )
    op.create_index(op.f("ix_refused_images_at"), "refused_images", ["at"])
    op.create_index(op.f("ix_refused_images_proposal"), "refused_images", ["proposal"])


def _jobs(*, kinds: str, states: str, task_may_be_null: bool) -> None:
    # SQLite copies the table, and what it tells of an index's condition is not enough to make that again
    op.drop_index("uq_jobs_open_task", "jobs")
    with op.batch_alter_table("jobs") as table:
        table.drop_constraint(op.f("ck_jobs_kind"), type_="check")
        table.drop_constraint(op.f("ck_jobs_state"), type_="check")
        table.alter_column("task_id", existing_type=sa.String(100), nullable=task_may_be_null)
        table.create_check_constraint(op.f("ck_jobs_kind"), f"kind IN ({kinds})")
        table.create_check_constraint(op.f("ck_jobs_state"), f"state IN ({states})")
    _index("uq_jobs_open_task", "jobs", "task_id", OPEN)


def _index(name: str, table: str, column: str, condition: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, [column], unique=True, sqlite_where=where, postgresql_where=where)
