"""Sessions, their entries and their turns."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def _text(length: int) -> sa.types.TypeEngine[str]:
    if op.get_bind().dialect.name == "postgresql":
        return sa.TEXT(collation="C")
    return sa.String(length=length)


def _long() -> sa.types.TypeEngine[str]:
    return sa.TEXT(collation="C") if op.get_bind().dialect.name == "postgresql" else sa.Text()


def upgrade() -> None:
    """Add them."""
    _add_sessions()
    _add_entries()
    _add_turns()
    _add_summaries()


def downgrade() -> None:
    """Take them away again."""
    op.drop_table("session_summaries")
    op.drop_index("ix_chat_turns_state", "chat_turns")
    op.drop_index("ix_chat_turns_session_id", "chat_turns")
    op.drop_table("chat_turns")
    op.drop_index("ix_entries_id", "entries")
    op.drop_table("entries")
    op.drop_index("ix_session_members_member_id", "session_members")
    op.drop_table("session_members")
    op.drop_index("ix_sessions_created_us", "sessions")
    op.drop_table("sessions")


def _add_sessions() -> None:
    op.create_table(
        "sessions",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("situation", _long(), nullable=True),
        sa.Column("system_template", _long(), nullable=True),
        sa.Column("summary", _long(), nullable=True),
        sa.Column("render_templates", sa.Boolean(), nullable=False),
        sa.Column("token_budget", sa.Integer(), nullable=True),
        sa.Column("context_overflow", _text(16), nullable=True),
        sa.Column("auto_run_tools", sa.Boolean(), nullable=False),
        sa.Column("forward_tool_calls", sa.Boolean(), nullable=False),
        sa.Column("recall_options", _long(), nullable=True),
        sa.Column("metadata", _long(), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_sessions")),
    )
    op.create_index("ix_sessions_created_us", "sessions", ["tenant", "created_us", "id"], unique=False)
    op.create_table(
        "session_members",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("session_id", _text(64), nullable=False),
        sa.Column("kind", _text(16), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("member_id", _text(64), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "session_id", "kind", "number", name=op.f("pk_session_members")),
    )
    op.create_index("ix_session_members_member_id", "session_members", ["tenant", "kind", "member_id"], unique=False)


def _add_entries() -> None:
    op.create_table(
        "entries",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("session_id", _text(64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("turn_id", _text(64), nullable=False),
        sa.Column("role", _text(32), nullable=False),
        sa.Column("name", _text(255), nullable=True),
        sa.Column("content", _long(), nullable=False),
        sa.Column("tool_calls", _long(), nullable=True),
        sa.Column("tool_call_id", _text(255), nullable=True),
        sa.Column("source", _text(32), nullable=False),
        sa.Column("model", _text(255), nullable=False),
        sa.Column("tokenizer", _text(64), nullable=False),
        sa.Column("token_count", sa.Integer(), nullable=False),
        sa.Column("summary_id", _text(64), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "session_id", "number", name=op.f("pk_entries")),
    )
    op.create_index("ix_entries_id", "entries", ["tenant", "session_id", "id"], unique=True)


def _add_turns() -> None:
    op.create_table(
        "chat_turns",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("session_id", _text(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", _text(16), nullable=False),
        sa.Column("saved", sa.Boolean(), nullable=False),
        sa.Column("request", _long(), nullable=False),
        sa.Column("prepared", _long(), nullable=True),
        sa.Column("answer", _long(), nullable=True),
        sa.Column("error", _long(), nullable=True),
        sa.Column("lease_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_chat_turns")),
    )
    op.create_index("ix_chat_turns_session_id", "chat_turns", ["tenant", "session_id", "number"], unique=True)
    op.create_index("ix_chat_turns_state", "chat_turns", ["state", "lease_us"], unique=False)


def _add_summaries() -> None:
    op.create_table(
        "session_summaries",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("session_id", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("request", _long(), nullable=False),
        sa.Column("entries", _long(), nullable=False),
        sa.Column("lease_us", sa.BigInteger(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "session_id", name=op.f("pk_session_summaries")),
    )
