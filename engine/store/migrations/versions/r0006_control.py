"""Executions know whose recorded steps they began with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_FORKED = sa.text("forked_from != ''")
_INDEX = "ix_executions_forked"


def upgrade() -> None:
    """Add the columns, and the index by which the forks of an execution are found."""
    kinds: dict[str, sa.String] = {"forked_from": sa.String(64), "fork_kind": sa.String(16), "fork_path": sa.Text()}
    for name, kind in kinds.items():
        # on PostgreSQL all texts are in the order of their bytes and without a length
        text = kind.with_variant(sa.TEXT(collation="C"), "postgresql")
        op.add_column("executions", sa.Column(name, text, nullable=False, server_default=""))
    columns = ["tenant", "forked_from", "created_us"]
    op.create_index(_INDEX, "executions", columns, unique=False, sqlite_where=_FORKED, postgresql_where=_FORKED)


def downgrade() -> None:
    """Drop them again."""
    op.drop_index(_INDEX, table_name="executions")
    for column in ("fork_path", "fork_kind", "forked_from"):
        op.drop_column("executions", column)
