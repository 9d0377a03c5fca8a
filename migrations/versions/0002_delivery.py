"""Tries of records, so that one that kills the process is found; when pictures were taken; dead letters sent again.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", BIG, autoincrement=False, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("tries > 0", name=op.f("ck_attempts_tries")),
        sa.PrimaryKeyConstraint("topic", "partition", "offset", name=op.f("pk_attempts")),
    )
    op.create_index(op.f("ix_attempts_at"), "attempts", ["at"])
    op.add_column("results", sa.Column("subject", sa.Text()))
    op.add_column("results", sa.Column("captured_at", sa.DateTime(timezone=True)))
    op.add_column("results", sa.Column("traceparent", sa.Text()))
    op.add_column("dead_letters", sa.Column("trace", sa.Text()))
    op.add_column("dead_letters", sa.Column("retried_at", sa.DateTime(timezone=True)))
    op.add_column("outbox", sa.Column("has", sa.Text(), server_default="", nullable=False))
    untouched = sa.text("has = ''")
    op.create_index("ix_outbox_untouched", "outbox", ["row"], sqlite_where=untouched, postgresql_where=untouched)


def downgrade() -> None:
    op.drop_index("ix_outbox_untouched", "outbox")
    with op.batch_alter_table("outbox") as table:
        table.drop_column("has")
    with op.batch_alter_table("dead_letters") as table:
        table.drop_column("retried_at")
        table.drop_column("trace")
    with op.batch_alter_table("results") as table:
        table.drop_column("traceparent")
        table.drop_column("captured_at")
        table.drop_column("subject")
    op.drop_table("attempts")
