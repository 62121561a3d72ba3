"""The orders of lists know when an execution was created, which leads into the indexes of everything else."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

_ORDERS = ("updated_us", "closed_us", "cost_nano", "total_tokens")


def upgrade() -> None:
    """Make the indexes anew, with one column more."""
    for column in _ORDERS:
        op.drop_index(op.f(f"ix_executions_tenant_{column}_id"), table_name="executions")
        columns = ["tenant", column, "id", "created_us"]
        op.create_index(op.f(f"ix_executions_{'_'.join(columns)}"), "executions", columns, unique=False)


def downgrade() -> None:
    """Make them as they were."""
    for column in _ORDERS:
        op.drop_index(op.f(f"ix_executions_tenant_{column}_id_created_us"), table_name="executions")
        columns = ["tenant", column, "id"]
        op.create_index(op.f(f"ix_executions_{'_'.join(columns)}"), "executions", columns, unique=False)
