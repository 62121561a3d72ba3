"""What goes out and comes in by HTTP, schedules, and actions in bulk."""

from __future__ import annotations

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

_TABLES = (
    "schedules",
    "schedule_runs",
    "end_watchers",
    "webhooks",
    "deliveries",
    "inbound_hooks",
    "inbound_events",
    "bulk_jobs",
    "bulk_items",
)


def upgrade() -> None:
    """Add the tables and columns."""
    _schedules()
    _webhooks()
    _inbound()
    _bulk()
    _waits()


def _text(length: int | None = None) -> sa.String:
    """Return the type of a text: on PostgreSQL in the order of its bytes and without a length."""
    plain = sa.Text() if length is None else sa.String(length=length)
    return plain.with_variant(sa.TEXT(collation="C"), "postgresql")


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns), unique=False)


def _partial(name: str, table: str, condition: str, *columns: str) -> None:
    where = sa.text(condition)
    op.create_index(name, table, list(columns), unique=False, sqlite_where=where, postgresql_where=where)


def _schedules() -> None:
    op.create_table(
        "schedules",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("name", _text(255), nullable=False),
        sa.Column("task", _text(400), nullable=False),
        sa.Column("body", _text(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("note", _text(), nullable=False),
        sa.Column("origin_id", _text(64), nullable=False),
        sa.Column("origin_place", sa.Integer(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("applied_rev", sa.Integer(), nullable=False),
        sa.Column("limit_rev", sa.Integer(), nullable=False),
        sa.Column("problem", _text(), nullable=False),
        sa.Column("deleted_us", sa.BigInteger(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_schedules_tenant_name")),
    )
    _index("schedules", "origin_id")
    op.create_table(
        "schedule_runs",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("schedule_id", _text(64), nullable=False),
        sa.Column("nominal_us", sa.BigInteger(), nullable=False),
        sa.Column("started_id", _text(64), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("outcome", _text(16), nullable=False),
        sa.Column("error", _text(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "schedule_id", "nominal_us", name=op.f("pk_schedule_runs")),
    )
    op.create_table(
        "end_watchers",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("execution_id", _text(64), nullable=False),
        sa.Column("workflow_id", _text(400), nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "execution_id", "workflow_id", name=op.f("pk_end_watchers")),
    )
    _index("end_watchers", "ended_us")


def _webhooks() -> None:
    op.create_table(
        "webhooks",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("url", _text(), nullable=False),
        sa.Column("statuses", _text(), nullable=False),
        sa.Column("tasks", _text(), nullable=False),
        sa.Column("labels", _text(), nullable=False),
        sa.Column("root_only", sa.Boolean(), nullable=False),
        sa.Column("execution_id", _text(64), nullable=False),
        sa.Column("secret", _text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("off_reason", _text(), nullable=False),
        sa.Column("note", _text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_webhooks")),
    )
    _index("webhooks", "tenant", "execution_id")
    op.create_table(
        "deliveries",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("webhook_id", _text(64), nullable=False),
        sa.Column("execution_id", _text(64), nullable=False),
        sa.Column("status", _text(32), nullable=False),
        sa.Column("mark", sa.BigInteger(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("state", _text(16), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_status", sa.Integer(), nullable=True),
        sa.Column("last_answer", _text(), nullable=False),
        sa.Column("last_error", _text(), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("lease_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_deliveries")),
    )
    _index("deliveries", "created_us")
    _partial("ix_deliveries_pending", "deliveries", "state = 'pending'", "created_us", "id")
    _index("deliveries", "tenant", "webhook_id", "created_us", "id")


def _inbound() -> None:
    op.create_table(
        "inbound_hooks",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("name", _text(255), nullable=False),
        sa.Column("event", _text(255), nullable=False),
        sa.Column("key_of", _text(), nullable=False),
        sa.Column("only_if", _text(), nullable=False),
        sa.Column("kind", _text(16), nullable=False),
        sa.Column("secret", _text(), nullable=False),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column("last_us", sa.BigInteger(), nullable=True),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_inbound_hooks")),
        sa.UniqueConstraint("id", name=op.f("uq_inbound_hooks_id")),
    )
    op.create_table(
        "inbound_events",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(255), nullable=False),
        sa.Column("name", _text(255), nullable=False),
        sa.Column("key", _text(), nullable=False),
        sa.Column("value", _text(), nullable=False),
        sa.Column("execution_id", _text(64), nullable=False),
        sa.Column("hook_id", _text(64), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.Column("received_us", sa.BigInteger(), nullable=False),
        sa.Column("done_us", sa.BigInteger(), nullable=True),
        sa.Column("result", _text(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_inbound_events")),
    )
    _index("inbound_events", "received_us")
    _partial("ix_inbound_events_undone", "inbound_events", "done_us IS NULL", "received_us")


def _bulk() -> None:
    op.create_table(
        "bulk_jobs",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("action", _text(16), nullable=False),
        sa.Column("filter", _text(), nullable=False),
        sa.Column("options", _text(), nullable=False),
        sa.Column("rate", sa.Integer(), nullable=False),
        sa.Column("state", _text(16), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("refused", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("cursor", _text(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("closed_us", sa.BigInteger(), nullable=True),
        sa.Column("actor", _text(255), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_bulk_jobs")),
    )
    _index("bulk_jobs", "tenant", "created_us")
    op.create_table(
        "bulk_items",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("job_id", _text(64), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("item_id", _text(64), nullable=False),
        sa.Column("outcome", _text(16), nullable=False),
        sa.Column("code", _text(), nullable=False),
        sa.Column("message", _text(), nullable=False),
        sa.Column("new_id", _text(64), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "job_id", "place", name=op.f("pk_bulk_items")),
        sa.UniqueConstraint("tenant", "job_id", "item_id", name=op.f("uq_bulk_items_tenant_job_id_item_id")),
    )
    _index("bulk_items", "tenant", "job_id", "outcome", "place")


def _waits() -> None:
    """Let waits for events be found by what they wait for; the open ones that are there too."""
    op.add_column("waits", sa.Column("event_hash", _text(32), nullable=False, server_default=""))
    _partial("ix_waits_event", "waits", "event_hash != ''", "tenant", "event_hash", "closed_seq")
    waits = sa.table(
        "waits",
        *(sa.column(name) for name in ("tenant", "execution_id", "wait_id", "info", "event_hash", "closed_seq")),
    )
    connection = op.get_bind()
    rows = connection.execute(
        sa.select(waits.c.tenant, waits.c.execution_id, waits.c.wait_id, waits.c.info).where(
            waits.c.closed_seq.is_(None), waits.c.info.like('{"event":%')
        )
    ).all()
    for tenant, execution_id, wait_id, info in rows:
        told = json.loads(info)
        if not isinstance(told, dict) or set(told) != {"event", "key"}:
            continue
        text = json.dumps([told["event"], told["key"]], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        mine = (waits.c.tenant == tenant) & (waits.c.execution_id == execution_id) & (waits.c.wait_id == wait_id)
        hashed = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        connection.execute(sa.update(waits).where(mine).values(event_hash=hashed))


def downgrade() -> None:
    """Drop them again."""
    op.drop_index("ix_waits_event", table_name="waits")
    op.drop_column("waits", "event_hash")
    for table in reversed(_TABLES):
        op.drop_table(table)
