"""The whole story: attempts, tags, usage, actors, what is stuck or gone; API keys; answers to repeated requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_INDEXES = (
    ("tenant", "updated_us", "id"),
    ("tenant", "status", "created_us"),
    ("tenant", "agent_id", "created_us"),
    ("tenant", "error_code", "created_us"),
    ("tenant", "closed_us", "id"),
    ("tenant", "cost_nano", "id"),
    ("tenant", "total_tokens", "id"),
)
_LISTING = (
    "tenant",
    "created_us",
    "id",
    "status",
    "task_id",
    "task_name",
    "agent_id",
    "parent_id",
    "actor",
    "error_code",
    "updated_us",
    "closed_us",
    "cost_nano",
    "total_tokens",
)
_STUCK = sa.text("stuck IS NOT NULL")
_TABLES = (
    "agents",
    "tasks",
    "task_aliases",
    "api_keys",
    "idempotency",
    "executions",
    "execution_tags",
    "events",
    "attempts",
    "pulses",
    "waits",
)


def upgrade() -> None:
    """Add tables, columns and indexes."""
    _extend_executions()
    _extend_waits()
    op.add_column("agents", sa.Column("actor", sa.String(length=255), nullable=False, server_default=""))
    op.add_column("tasks", sa.Column("actor", sa.String(length=255), nullable=False, server_default=""))
    _create_attempts()
    op.create_table(
        "execution_tags",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("execution_id", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("value", sa.String(length=200), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "execution_id", "kind", "name", "value", name=op.f("pk_execution_tags")),
        sqlite_with_rowid=False,
    )
    _index("execution_tags", "tenant", "kind", "name", "value", "created_us", "execution_id")
    op.create_table(
        "pulses",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("info", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_pulses")),
    )
    _create_truth()
    _order_by_bytes()


def _order_by_bytes() -> None:
    """Give all texts on PostgreSQL the order of their bytes and no lengths, as on SQLite."""
    connection = op.get_bind()
    if connection.dialect.name != "postgresql":
        return
    inspector = sa.inspect(connection)
    for table in _TABLES:
        texts = [column["name"] for column in inspector.get_columns(table) if isinstance(column["type"], sa.String)]
        changes = ", ".join(f'ALTER COLUMN "{name}" TYPE text COLLATE "C"' for name in texts)
        op.execute(f"ALTER TABLE {table} {changes}")


def _extend_executions() -> None:
    for name, type_, default in (
        ("actor", sa.String(length=255), ""),
        ("labels", sa.Text(), "[]"),
        ("trace_id", sa.String(length=32), ""),
        ("error_code", sa.Text(), ""),
        ("llm_calls", sa.Integer(), "0"),
        ("tool_calls", sa.Integer(), "0"),
        ("failed_attempts", sa.Integer(), "0"),
        ("prompt_tokens", sa.BigInteger(), "0"),
        ("completion_tokens", sa.BigInteger(), "0"),
        ("total_tokens", sa.BigInteger(), "0"),
        ("unpriced_calls", sa.Integer(), "0"),
    ):
        op.add_column("executions", sa.Column(name, type_, nullable=False, server_default=default))
    for name, type_ in (
        ("cost_nano", sa.BigInteger()),
        ("stuck", sa.Text()),
        ("gone_us", sa.BigInteger()),
        ("checked_events", sa.BigInteger()),
    ):
        op.add_column("executions", sa.Column(name, type_, nullable=True))
    for columns in _INDEXES:
        _index("executions", *columns)
    op.create_index("ix_executions_listing", "executions", list(_LISTING), unique=False)
    op.create_index(
        "ix_executions_stuck",
        "executions",
        ["tenant", "created_us", "id"],
        unique=False,
        sqlite_where=_STUCK,
        postgresql_where=_STUCK,
    )
    op.drop_index(op.f("ix_executions_tenant_created_us"), table_name="executions")


def _extend_waits() -> None:
    op.add_column("waits", sa.Column("closed_us", sa.BigInteger(), nullable=True))
    op.add_column("waits", sa.Column("outcome", sa.String(length=16), nullable=False, server_default=""))
    op.add_column("waits", sa.Column("actor", sa.String(length=255), nullable=False, server_default=""))
    op.add_column("waits", sa.Column("answer", sa.Text(), nullable=True))


def _create_attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("execution_id", sa.String(length=64), nullable=False),
        sa.Column("effect_id", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started_seq", sa.BigInteger(), nullable=True),
        sa.Column("started_us", sa.BigInteger(), nullable=True),
        sa.Column("ended_seq", sa.BigInteger(), nullable=True),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("failed_seq", sa.BigInteger(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=False),
        sa.Column("pause_us", sa.BigInteger(), nullable=True),
        sa.Column("deliveries", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("backend", sa.Text(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=True),
        sa.Column("completion_tokens", sa.BigInteger(), nullable=True),
        sa.Column("total_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cost_nano", sa.BigInteger(), nullable=True),
        sa.Column("child_id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "execution_id", "effect_id", name=op.f("pk_attempts")),
    )
    _index("attempts", "tenant", "started_us")


def _create_truth() -> None:
    op.create_table(
        "api_keys",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=255), nullable=False),
        sa.Column("expires_us", sa.BigInteger(), nullable=True),
        sa.Column("revoked_us", sa.BigInteger(), nullable=True),
        sa.Column("last_used_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("id", name=op.f("uq_api_keys_id")),
    )
    _index("api_keys", "tenant", "created_us")
    op.create_table(
        "idempotency",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "key", name=op.f("pk_idempotency")),
    )
    _index("idempotency", "created_us")


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns), unique=False)


def downgrade() -> None:
    """Drop them again."""
    for table in ("idempotency", "api_keys", "pulses", "execution_tags", "attempts"):
        op.drop_table(table)
    op.drop_column("tasks", "actor")
    op.drop_column("agents", "actor")
    for name in ("closed_us", "outcome", "actor", "answer"):
        op.drop_column("waits", name)
    _index("executions", "tenant", "created_us")
    for name in ("ix_executions_listing", "ix_executions_stuck"):
        op.drop_index(name, table_name="executions")
    for columns in _INDEXES:
        op.drop_index(op.f(f"ix_executions_{'_'.join(columns)}"), table_name="executions")
    for name in (
        "actor",
        "labels",
        "trace_id",
        "error_code",
        "llm_calls",
        "tool_calls",
        "failed_attempts",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "unpriced_calls",
        "cost_nano",
        "stuck",
        "gone_us",
        "checked_events",
    ):
        op.drop_column("executions", name)
