"""The tables of the store: the truth (definitions) and the projection (derived from events, may be rebuilt)."""

from __future__ import annotations

from sqlalchemy import (
    TEXT,
    BigInteger,
    Boolean,
    Column,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


class ByteText(TypeDecorator[str]):
    """A text of PostgreSQL in byte order; it cannot hold NUL, which becomes the sign for what cannot be shown."""

    impl = TEXT(collation="C")
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the text as it is stored, or looked for."""
        del dialect
        return value.replace("\0", "\ufffd") if value is not None and "\0" in value else value


truth = MetaData(naming_convention=NAMING)
projection = MetaData(naming_convention=NAMING)

# JSON stands as exact text, not in a JSON column: digests are made of the bytes that the workflow wrote, and both
# SQLite and PostgreSQL give a text back unchanged. Times are Unix microseconds, since events count in them.

agents = Table(
    "agents",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("canonical_name", String(255)),
    Column("about", Text, nullable=False, default=""),
    Column("model", String(255), nullable=False, default=""),
    Column("instructions", Text, nullable=False, default='""'),
    Column("default_settings", Text, nullable=False, default="{}"),
    Column("metadata", Text, nullable=False, default="{}"),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    # who made it; empty = nobody was asked for a name
    Column("actor", String(255), nullable=False, default="", server_default=""),
    # first message of its sessions, a template; NULL = the client gave none
    Column("default_system_template", Text),
    # canonical name of a project; NULL = it belongs to none
    Column("project", String(255)),
    UniqueConstraint("tenant", "canonical_name"),
)

tasks = Table(
    "tasks",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("latest", Boolean, nullable=False),
    Column("agent_id", String(64), nullable=False, default=""),
    Column("name", String(255), nullable=False),
    Column("canonical_name", String(255)),
    Column("description", Text, nullable=False, default=""),
    Column("spec", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("plan_hash", String(64), nullable=False),
    Column("input_schema", Text, nullable=False, default="null"),
    Column("metadata", Text, nullable=False, default="{}"),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    # what `apply` may remove again: the name of the set of files it came from; empty = created in another way
    Column("applied_set", String(255), nullable=False, default="", server_default=""),
    # rows of a removed task stay, since executions of it and their views name them; NULL = not removed
    Column("deleted_us", BigInteger),
    # who wrote this version; empty = nobody was asked for a name
    Column("actor", String(255), nullable=False, default="", server_default=""),
    Index(None, "tenant", "name"),
    Index(None, "tenant", "agent_id"),
)

task_aliases = Table(
    "task_aliases",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("task_id", String(64), primary_key=True),
    Column("alias", String(64), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

api_keys = Table(
    "api_keys",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(32), primary_key=True),
    Column("name", String(255), nullable=False),
    # SHA-256 of the whole key, which is random enough to need no salt; the key itself is shown once and not kept
    Column("hash", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("created_by", String(255), nullable=False, default=""),
    Column("expires_us", BigInteger),
    Column("revoked_us", BigInteger),
    Column("last_used_us", BigInteger),
    # whoever sends a key names no tenant: the key tells it
    UniqueConstraint("id"),
    Index(None, "tenant", "created_us"),
)

idempotency = Table(
    "idempotency",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("key", String(255), primary_key=True),
    # hash of method, path and body: the same key with another request is a mistake of the caller
    Column("fingerprint", String(64), nullable=False),
    # NULL = the first request with this key is not answered yet
    Column("status", Integer),
    Column("body", Text),
    Column("created_us", BigInteger, nullable=False),
    Index(None, "created_us"),
)

LISTED = (
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
"""Columns of the index that lists are made from, after the tenant, the time of creation and the id."""

_STUCK = text("stuck IS NOT NULL")
_FORKED = text("forked_from != ''")
_EVENTS = text("event_hash != ''")

executions = Table(
    "executions",
    projection,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("task_id", String(64), nullable=False, default=""),
    Column("task_name", String(255), nullable=False, default=""),
    Column("task_version", Integer, nullable=False, default=1),
    Column("agent_id", String(64), nullable=False, default=""),
    Column("status", String(32), nullable=False),
    Column("input", Text, nullable=False, default="null"),
    Column("output", Text),
    Column("error", Text),
    Column("metadata", Text, nullable=False, default="{}"),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("closed_us", BigInteger),
    Column("transition_count", Integer, nullable=False, default=0),
    Column("last_seq", BigInteger, nullable=False, default=0),
    Column("last_run_id", String(64), nullable=False, default=""),
    Column("last_us", BigInteger, nullable=False, default=0),
    Column("open_waits", Integer, nullable=False, default=0),
    Column("terminal_seen", Boolean, nullable=False, default=False),
    Column("settled", Boolean, nullable=False, default=False),
    Column("verified", Boolean),
    Column("interpreter", Integer, nullable=False),
    # the execution that started this one, and the path of its step; empty = nobody's child
    Column("parent_id", String(64), nullable=False, default="", server_default=""),
    Column("parent_path", Text, nullable=False, default="", server_default=""),
    # the execution whose recorded steps it began with, `retry` or `fork`, and its first step; empty = it began anew
    Column("forked_from", String(64), nullable=False, default="", server_default=""),
    Column("fork_kind", String(16), nullable=False, default="", server_default=""),
    Column("fork_path", Text, nullable=False, default="", server_default=""),
    # who started it
    Column("actor", String(255), nullable=False, default="", server_default=""),
    Column("labels", Text, nullable=False, default="[]", server_default="[]"),
    Column("trace_id", String(32), nullable=False, default="", server_default=""),
    # code of `error`, so that lists can ask for it; empty = no error
    Column("error_code", Text, nullable=False, default="", server_default=""),
    # sums over its `attempts`
    Column("llm_calls", Integer, nullable=False, default=0, server_default="0"),
    Column("tool_calls", Integer, nullable=False, default=0, server_default="0"),
    Column("failed_attempts", Integer, nullable=False, default=0, server_default="0"),
    Column("prompt_tokens", BigInteger, nullable=False, default=0, server_default="0"),
    Column("completion_tokens", BigInteger, nullable=False, default=0, server_default="0"),
    Column("total_tokens", BigInteger, nullable=False, default=0, server_default="0"),
    # parts of these: what of the requests came from the providers' caches and went there, and thoughts
    Column("cached_tokens", BigInteger, nullable=False, default=0, server_default="0"),
    Column("cache_write_tokens", BigInteger, nullable=False, default=0, server_default="0"),
    Column("reasoning_tokens", BigInteger, nullable=False, default=0, server_default="0"),
    # thousand-millionths of a dollar over the calls whose price is known; NULL = there is none
    Column("cost_nano", BigInteger),
    Column("unpriced_calls", Integer, nullable=False, default=0, server_default="0"),
    # why it does not go on although it should: JSON {code, message, hint, since_us}; NULL = nothing is wrong
    Column("stuck", Text),
    # when Temporal was found to have it no longer; NULL = Temporal has it, as far as is known
    Column("gone_us", BigInteger),
    # length of the history at which the stored events of an open one were last found right. Not derived from events.
    Column("checked_events", BigInteger),
    # Temporal's workflow ids are unique over all tenants, and events arrive with the execution's id alone
    UniqueConstraint("id"),
    # all that lists filter and sort by: the rows themselves may hold megabytes, and lists look at many of them
    Index("ix_executions_listing", "tenant", "created_us", "id", *LISTED),
    # for filters that few rows pass; see engine.store.listing
    Index(None, "tenant", "task_id", "created_us"),
    Index(None, "tenant", "status", "created_us"),
    Index(None, "tenant", "agent_id", "created_us"),
    Index(None, "tenant", "error_code", "created_us"),
    Index("ix_executions_stuck", "tenant", "created_us", "id", sqlite_where=_STUCK, postgresql_where=_STUCK),
    # is used by queries that say `forked_from != ''` as well
    Index(
        "ix_executions_forked",
        "tenant",
        "forked_from",
        "created_us",
        sqlite_where=_FORKED,
        postgresql_where=_FORKED,
    ),
    # for lists in another order; time of creation and id lead into the index of lists, and into that of tags
    Index(None, "tenant", "updated_us", "id", "created_us"),
    Index(None, "tenant", "closed_us", "id", "created_us"),
    Index(None, "tenant", "cost_nano", "id", "created_us"),
    Index(None, "tenant", "total_tokens", "id", "created_us"),
    Index(None, "settled", "terminal_seen"),
    Index(None, "tenant", "parent_id"),
)

# What lists find executions by beside their columns. kind `label`: value = the label; `meta`: name = dotted path of a
# member of the metadata, value = its JSON text; `model` and `backend`: value = one that answered.
execution_tags = Table(
    "execution_tags",
    projection,
    Column("tenant", String(64), primary_key=True),
    Column("execution_id", String(64), primary_key=True),
    Column("kind", String(16), primary_key=True),
    Column("name", String(200), primary_key=True),
    Column("value", String(200), primary_key=True),
    Column("created_us", BigInteger, nullable=False),
    Index(None, "tenant", "kind", "name", "value", "created_us", "execution_id"),
    # nothing stands in a row but its key, and every execution writes several: one tree less to write
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    projection,
    Column("tenant", String(64), primary_key=True),
    Column("execution_id", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("run_id", String(64), primary_key=True),
    Column("now_us", BigInteger, nullable=False),
    Column("type", String(32), nullable=False),
    Column("is_transition", Boolean, nullable=False),
    Column("body", Text, nullable=False),
)

# One row for each attempt at a call (model, tool, task), from its `effect.started` on, and for each failed attempt at a
# block. Requests, replies and errors stand in the events; here are the numbers of those.
attempts = Table(
    "attempts",
    projection,
    Column("tenant", String(64), primary_key=True),
    Column("execution_id", String(64), primary_key=True),
    Column("effect_id", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("label", Text, nullable=False, default=""),
    Column("kind", String(32), nullable=False),
    # tool, asked model, or task
    Column("name", Text, nullable=False, default=""),
    Column("attempt", Integer, nullable=False),
    Column("started_seq", BigInteger),
    Column("started_us", BigInteger),
    Column("ended_seq", BigInteger),
    Column("ended_us", BigInteger),
    # running, ok, failed, cancelled
    Column("outcome", String(16), nullable=False),
    Column("failed_seq", BigInteger),
    Column("error_code", Text, nullable=False, default=""),
    # pause before the next attempt; NULL = there was none
    Column("pause_us", BigInteger),
    # how often Temporal handed it to a worker: more than once after a lost worker
    Column("deliveries", Integer, nullable=False, default=1),
    Column("model", Text, nullable=False, default=""),
    Column("backend", Text, nullable=False, default=""),
    Column("prompt_tokens", BigInteger),
    Column("completion_tokens", BigInteger),
    Column("total_tokens", BigInteger),
    # NULL = none, or not told
    Column("cached_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("cost_nano", BigInteger),
    Column("child_id", String(64), nullable=False, default=""),
    Index(None, "tenant", "started_us"),
)

# Signs of life of the processes that keep the projection fresh. Not derived from events.
pulses = Table(
    "pulses",
    projection,
    Column("name", String(128), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("info", Text, nullable=False, default="{}"),
)

waits = Table(
    "waits",
    projection,
    Column("tenant", String(64), primary_key=True),
    Column("execution_id", String(64), primary_key=True),
    Column("wait_id", Text, primary_key=True),
    Column("path", Text, nullable=False),
    Column("label", String(255), nullable=False),
    Column("info", Text, nullable=False),
    Column("schema", Text, nullable=False),
    Column("deadline_us", BigInteger),
    Column("opened_seq", BigInteger, nullable=False),
    Column("opened_us", BigInteger, nullable=False),
    Column("closed_seq", BigInteger),
    Column("closed_us", BigInteger),
    # answered, expired (its default was taken, or nothing was), stopped; empty = open
    Column("outcome", String(16), nullable=False, default="", server_default=""),
    Column("actor", String(255), nullable=False, default="", server_default=""),
    Column("answer", Text),
    # of a wait for an event: hash of the event's name and key (engine.store.rows.event_hash), by which it is found
    Column("event_hash", String(32), nullable=False, default="", server_default=""),
    Index("ix_waits_event", "tenant", "event_hash", "closed_seq", sqlite_where=_EVENTS, postgresql_where=_EVENTS),
)

# PostgreSQL gets one type for all texts: without lengths, which SQLite does not know either, and in the order of their
# bytes, as SQLite sorts and compares them; paging by `id > …` and the orders of lists depend on that.
for _table in (*truth.sorted_tables, *projection.sorted_tables):
    for _column in _table.columns:
        if isinstance(_column.type, String):
            _column.type = _column.type.with_variant(ByteText(), "postgresql")
