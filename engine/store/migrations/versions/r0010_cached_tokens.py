"""Tokens that came from the providers' caches and went there, and those that models thought with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_NAMES = ("cached_tokens", "cache_write_tokens", "reasoning_tokens")


def upgrade() -> None:
    """Add the columns; no event of before tells of such tokens."""
    for name in _NAMES:
        op.add_column("executions", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
        op.add_column("attempts", sa.Column(name, sa.BigInteger(), nullable=True))


def downgrade() -> None:
    """Drop them again."""
    for name in reversed(_NAMES):
        op.drop_column("attempts", name)
        op.drop_column("executions", name)
