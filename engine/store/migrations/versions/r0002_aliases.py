"""Aliases of task versions; tasks that can be removed, and that know the set of files they were applied from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the table and the columns."""
    op.create_table(
        "task_aliases",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("task_id", sa.String(length=64), nullable=False),
        sa.Column("alias", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "task_id", "alias", name=op.f("pk_task_aliases")),
    )
    op.add_column("tasks", sa.Column("applied_set", sa.String(length=255), nullable=False, server_default=""))
    op.add_column("tasks", sa.Column("deleted_us", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Drop them again."""
    op.drop_column("tasks", "deleted_us")
    op.drop_column("tasks", "applied_set")
    op.drop_table("task_aliases")
