"""Conversations of agents, the registry of models, secrets, documents, budgets and kept replies."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def _text(length: int) -> sa.types.TypeEngine[str]:
    if op.get_bind().dialect.name == "postgresql":
        return sa.TEXT(collation="C")
    return sa.String(length=length)


def upgrade() -> None:
    """Add the tables."""
    _add_conversations()


def downgrade() -> None:
    """Drop them again."""
    op.drop_index("ix_conversations_at_us", "conversations")
    op.drop_table("conversations")


def _add_conversations() -> None:
    op.create_table(
        "conversations",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("execution_id", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("hash", _text(64), nullable=False),
        sa.Column("before", _text(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("messages", sa.Text(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "execution_id", "id", "hash", name=op.f("pk_conversations")),
    )
    op.create_index("ix_conversations_at_us", "conversations", ["at_us"], unique=False)
