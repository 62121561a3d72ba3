"""Executions know the execution that started them, and the step of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns, and the index by which the children of an execution are found."""
    op.add_column("executions", sa.Column("parent_id", sa.String(length=64), nullable=False, server_default=""))
    op.add_column("executions", sa.Column("parent_path", sa.Text(), nullable=False, server_default=""))
    op.create_index(op.f("ix_executions_tenant_parent_id"), "executions", ["tenant", "parent_id"], unique=False)


def downgrade() -> None:
    """Drop them again."""
    op.drop_index(op.f("ix_executions_tenant_parent_id"), table_name="executions")
    op.drop_column("executions", "parent_path")
    op.drop_column("executions", "parent_id")
