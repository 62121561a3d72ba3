"""Starts that wait to be let in, and the places that running executions hold."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

_STARTS = (
    ("ix_starts_due", ["state", "due_us"]),
    ("ix_starts_lane", ["state", "tenant", "lane", "priority", "due_us", "id"]),
    ("ix_starts_task", ["tenant", "task_id", "state"]),
    ("ix_starts_deadline", ["state", "deadline_us"]),
    ("ix_starts_claimed", ["state", "claimed_until_us"]),
)


def _text(name: str, *, length: int | None = None, nullable: bool = False) -> sa.Column[str]:
    """Return a column of texts, which PostgreSQL keeps without lengths and in the order of their bytes."""
    kind: sa.types.TypeEngine[str] = sa.Text() if length is None else sa.String(length=length)
    return sa.Column(name, kind.with_variant(sa.TEXT(collation="C"), "postgresql"), nullable=nullable)


def _number(name: str, *, nullable: bool = False, big: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger() if big else sa.Integer(), nullable=nullable)


def upgrade() -> None:
    """Add the tables."""
    op.create_table(
        "starts",
        _text("tenant", length=64),
        _text("id", length=64),
        _text("state", length=16),
        _text("task_id", length=64),
        _text("lane", length=128),
        _number("priority"),
        _number("created_us", big=True),
        _number("due_us", big=True),
        _number("until_us", big=True, nullable=True),
        _number("deadline_us", big=True, nullable=True),
        _number("deadline_after_us", big=True, nullable=True),
        _text("gathering", length=16),
        _text("gather_key", length=128),
        _number("gathered"),
        _number("gathered_chars", big=True),
        _number("size"),
        _number("task_limit", nullable=True),
        _number("key_limit", nullable=True),
        _text("limit_key", length=128),
        _text("busy", length=16),
        _text("single_key", length=128),
        _text("params"),
        _text("input"),
        _text("claimed_by", length=64),
        _number("claimed_until_us", big=True, nullable=True),
        _text("withdrawn", nullable=True),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_starts")),
    )
    for name, columns in _STARTS:
        op.create_index(name, "starts", columns, unique=False)
    op.create_table(
        "start_requests",
        _text("tenant", length=64),
        _text("id", length=64),
        _text("execution_id", length=64),
        _number("number"),
        _text("fingerprint", length=64),
        _text("input"),
        _number("created_us", big=True),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_start_requests")),
    )
    columns = ["tenant", "execution_id", "number"]
    op.create_index(op.f(f"ix_start_requests_{'_'.join(columns)}"), "start_requests", columns, unique=False)
    op.create_table(
        "start_turns",
        _text("tenant", length=64),
        _text("lane", length=128),
        _number("at_us", big=True),
        sa.PrimaryKeyConstraint("tenant", "lane", name=op.f("pk_start_turns")),
    )
    op.create_index(op.f("ix_start_turns_at_us"), "start_turns", ["at_us"], unique=False)


def downgrade() -> None:
    """Drop them again; what waits is lost with them."""
    for table in ("start_turns", "start_requests", "starts"):
        op.drop_table(table)
