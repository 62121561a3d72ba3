"""Tables of what goes out and comes in: schedules, webhooks, events from outside, jobs over many executions."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text, UniqueConstraint, text

from engine.store.schema import ByteText, truth

# --- schedules -------------------------------------------------------------------------------------------------------

# What Temporal's schedules are made of. `rev` counts changes, `applied_rev` is the last one that Temporal has.
schedules = Table(
    "schedules",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    # id, name, NAME@3 or NAME@ALIAS; resolved when it fires
    Column("task", String(400), nullable=False),
    Column("body", Text, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("note", Text, nullable=False),
    # the task whose `dispatch` made it, and the place of its cron there; empty = somebody made it by hand
    Column("origin_id", String(64), nullable=False),
    Column("origin_place", Integer, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("applied_rev", Integer, nullable=False),
    # the change that last set the number of runs that are left; later ones leave that to Temporal
    Column("limit_rev", Integer, nullable=False),
    # why Temporal does not have the last change; empty = it has it, or was not asked yet
    Column("problem", Text, nullable=False),
    # removed here, and in Temporal as soon as that can be reached; then the row goes
    Column("deleted_us", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("actor", String(255), nullable=False),
    UniqueConstraint("tenant", "name"),
    Index(None, "origin_id"),
)

schedule_runs = Table(
    "schedule_runs",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("schedule_id", String(64), primary_key=True),
    # the time for which it was meant
    Column("nominal_us", BigInteger, primary_key=True, autoincrement=False),
    # the execution; another name than elsewhere, since a purge takes all rows that have an `execution_id`, and a time
    # for which something was started once must not be made up for again
    Column("started_id", String(64), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    # started, refused; empty = under way
    Column("outcome", String(16), nullable=False),
    Column("error", Text),
)

# Workflows of ours that go on when an execution ends. `ended_us` is written with the end, then they are told.
end_watchers = Table(
    "end_watchers",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("execution_id", String(64), primary_key=True),
    Column("workflow_id", String(400), primary_key=True),
    Column("ended_us", BigInteger),
    Index(None, "ended_us"),
)

# --- webhooks --------------------------------------------------------------------------------------------------------

webhooks = Table(
    "webhooks",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("url", Text, nullable=False),
    Column("statuses", Text, nullable=False),
    Column("tasks", Text, nullable=False),
    Column("labels", Text, nullable=False),
    Column("root_only", Boolean, nullable=False),
    # the one execution that it is for; empty = all of the tenant
    Column("execution_id", String(64), nullable=False),
    Column("secret", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("off_reason", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("actor", String(255), nullable=False),
    Index(None, "tenant", "execution_id"),
)

_PENDING = text("state = 'pending'")

deliveries = Table(
    "deliveries",
    truth,
    Column("tenant", String(64), primary_key=True),
    # made of webhook, execution, status and mark: what is told of again has the same id
    Column("id", String(64), primary_key=True),
    Column("webhook_id", String(64), nullable=False),
    Column("execution_id", String(64), nullable=False),
    Column("status", String(32), nullable=False),
    # number of the event, or the time of the end, by which the execution came to the status
    Column("mark", BigInteger, nullable=False),
    # when the execution came to it
    Column("at_us", BigInteger, nullable=False),
    # pending, sending, delivered, failed
    Column("state", String(16), nullable=False),
    # how often it was asked for again
    Column("round", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("last_status", Integer),
    Column("last_answer", Text, nullable=False),
    Column("last_error", Text, nullable=False),
    Column("last_us", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    # until when a process that begins to send it has it for itself
    Column("lease_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Index(None, "tenant", "webhook_id", "created_us", "id"),
    Index(None, "created_us"),
    Index("ix_deliveries_pending", "created_us", "id", sqlite_where=_PENDING, postgresql_where=_PENDING),
)

# --- events from outside ---------------------------------------------------------------------------------------------

inbound_hooks = Table(
    "inbound_hooks",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("event", String(255), nullable=False),
    # expressions over the body; empty = no key, and any body
    Column("key_of", Text, nullable=False),
    Column("only_if", Text, nullable=False),
    # key, github, standard
    Column("kind", String(16), nullable=False),
    # the hash of the key, or the secret that signatures are made with
    Column("secret", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("taken", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("last_us", BigInteger),
    Column("created_us", BigInteger, nullable=False),
    Column("actor", String(255), nullable=False),
    # whoever calls one names no tenant
    UniqueConstraint("id"),
)

_UNDONE = text("done_us IS NULL")

inbound_events = Table(
    "inbound_events",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(255), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("key", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("execution_id", String(64), nullable=False),
    Column("hook_id", String(64), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Column("done_us", BigInteger),
    Column("result", Text, nullable=False),
    Index(None, "received_us"),
    Index("ix_inbound_events_undone", "received_us", sqlite_where=_UNDONE, postgresql_where=_UNDONE),
)

# --- many at once ----------------------------------------------------------------------------------------------------

bulk_jobs = Table(
    "bulk_jobs",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("action", String(16), nullable=False),
    Column("filter", Text, nullable=False),
    Column("options", Text, nullable=False),
    Column("rate", Integer, nullable=False),
    # collecting, running, paused, done, aborted
    Column("state", String(16), nullable=False),
    Column("total", Integer, nullable=False),
    Column("done", Integer, nullable=False),
    Column("refused", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    # where the next page of its set begins
    Column("cursor", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("closed_us", BigInteger),
    Column("actor", String(255), nullable=False),
    Index(None, "tenant", "created_us"),
)

bulk_items = Table(
    "bulk_items",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("job_id", String(64), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    # the execution; another name than elsewhere, so that what a job did can be told after a purge
    Column("item_id", String(64), nullable=False),
    # done, refused, failed; empty = not yet
    Column("outcome", String(16), nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    # the execution that a retry or fork made
    Column("new_id", String(64), nullable=False),
    Column("at_us", BigInteger),
    UniqueConstraint("tenant", "job_id", "item_id"),
    Index(None, "tenant", "job_id", "outcome", "place"),
)

TABLES = (
    schedules,
    schedule_runs,
    end_watchers,
    webhooks,
    deliveries,
    inbound_hooks,
    inbound_events,
    bulk_jobs,
    bulk_items,
)

for _table in TABLES:
    for _column in _table.columns:
        if isinstance(_column.type, String):
            _column.type = _column.type.with_variant(ByteText(), "postgresql")
