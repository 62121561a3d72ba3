"""Payload files, who refers to them, and what was purged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_GOING = sa.text("going")


def _text(length: int) -> sa.types.TypeEngine[str]:
    if op.get_bind().dialect.name == "postgresql":
        return sa.TEXT(collation="C")
    return sa.String(length=length)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "blobs",
        sa.Column("digest", _text(64), nullable=False),
        sa.Column("made_us", sa.BigInteger(), nullable=False),
        sa.Column("going", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "made_us", name=op.f("pk_blobs")),
    )
    op.create_index(
        "ix_blobs_going", "blobs", ["digest", "made_us"], unique=False, sqlite_where=_GOING, postgresql_where=_GOING
    )
    op.create_table(
        "blob_holders",
        sa.Column("digest", _text(64), nullable=False),
        sa.Column("made_us", sa.BigInteger(), nullable=False),
        sa.Column("holder", _text(255), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "made_us", "holder", name=op.f("pk_blob_holders")),
    )
    op.create_index(op.f("ix_blob_holders_holder"), "blob_holders", ["holder"], unique=False)
    op.create_table(
        "purged",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("done_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_purged")),
        sa.UniqueConstraint("id", name=op.f("uq_purged_id")),
    )
    op.create_index(op.f("ix_purged_done_us"), "purged", ["done_us"], unique=False)


def downgrade() -> None:
    """Drop them again."""
    for table in ("purged", "blob_holders", "blobs"):
        op.drop_table(table)
