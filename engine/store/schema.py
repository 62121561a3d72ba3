"""The tables of the store: the truth (definitions) and the projection (derived from events, may be rebuilt)."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text, UniqueConstraint

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

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
    # Temporal's workflow ids are unique over all tenants, and events arrive with the execution's id alone
    UniqueConstraint("id"),
    Index(None, "tenant", "created_us"),
    Index(None, "tenant", "task_id", "created_us"),
    Index(None, "settled", "terminal_seen"),
    Index(None, "tenant", "parent_id"),
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
)
