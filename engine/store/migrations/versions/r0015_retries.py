"""Requests that clients repeat without a key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def _text(length: int) -> sa.types.TypeEngine[str]:
    if op.get_bind().dialect.name == "postgresql":
        return sa.TEXT(collation="C")
    return sa.String(length=length)


def upgrade() -> None:
    """Add their table."""
    op.create_table(
        "blind_retries",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("fingerprint", _text(64), nullable=False),
        sa.Column("key", _text(64), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "fingerprint", name=op.f("pk_blind_retries")),
    )
    op.create_index("ix_blind_retries_at_us", "blind_retries", ["at_us"], unique=False)


def downgrade() -> None:
    """Drop it again."""
    op.drop_index("ix_blind_retries_at_us", "blind_retries")
    op.drop_table("blind_retries")
