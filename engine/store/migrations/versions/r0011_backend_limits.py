"""What LLM backends are asked by all workers together."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def _text(length: int) -> sa.types.TypeEngine[str]:
    if op.get_bind().dialect.name == "postgresql":
        return sa.TEXT(collation="C")
    return sa.String(length=length)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "backend_limits",
        sa.Column("backend", _text(128), nullable=False),
        sa.Column("requests_us", sa.BigInteger(), nullable=False),
        sa.Column("tokens_us", sa.BigInteger(), nullable=False),
        sa.Column("places_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("backend", name=op.f("pk_backend_limits")),
    )
    op.create_table(
        "backend_sent",
        sa.Column("backend", _text(128), nullable=False),
        sa.Column("slot_us", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("backend", "slot_us", name=op.f("pk_backend_sent")),
    )
    op.create_table(
        "backend_calls",
        sa.Column("id", _text(64), nullable=False),
        sa.Column("backend", _text(128), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backend_calls")),
    )
    op.create_index("ix_backend_calls_backend", "backend_calls", ["backend", "until_us"], unique=False)


def downgrade() -> None:
    """Drop them again."""
    op.drop_index("ix_backend_calls_backend", "backend_calls")
    op.drop_table("backend_calls")
    op.drop_table("backend_sent")
    op.drop_table("backend_limits")
