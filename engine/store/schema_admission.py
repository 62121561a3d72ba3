"""Tables of starts that wait to be let in, and of the places that executions hold while they run."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from engine.store.schema import ByteText, truth

# One row for each execution that is not started at once, or that holds a place while it runs.
# state `waiting`: not let in yet; `admitted`: let in, its workflow is being started; `started`: its workflow was
# started, the row stands for its place until the end of the execution is stored; `ended`: it ended before it was let
# in, so that Temporal never heard of it.
starts = Table(
    "starts",
    truth,
    Column("tenant", String(64), primary_key=True),
    # id of the execution
    Column("id", String(64), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("task_id", String(64), nullable=False),
    # what takes turns with others of the tenant: the task, and its keys if it has any
    Column("lane", String(128), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    # it is not let in before
    Column("due_us", BigInteger, nullable=False),
    # the latest `due_us` to which others that join it may move it; NULL = any
    Column("until_us", BigInteger),
    # when it is out of time; NULL = never
    Column("deadline_us", BigInteger),
    # how long it has from when it is let in; NULL = any time
    Column("deadline_after_us", BigInteger),
    # debounce, collect; empty = others do not join it
    Column("gathering", String(16), nullable=False),
    Column("gather_key", String(128), nullable=False),
    Column("gathered", Integer, nullable=False),
    Column("gathered_chars", BigInteger, nullable=False),
    Column("size", Integer, nullable=False),
    Column("task_limit", Integer),
    Column("key_limit", Integer),
    Column("limit_key", String(128), nullable=False),
    # queue, skip, replace; empty = any number may run
    Column("busy", String(16), nullable=False),
    Column("single_key", String(128), nullable=False),
    # what its workflow is started with, as JSON; empty once it is
    Column("params", Text, nullable=False),
    Column("input", Text, nullable=False),
    # the process that starts its workflow, and until when nobody else tries
    Column("claimed_by", String(64), nullable=False),
    Column("claimed_until_us", BigInteger),
    # how it is to be ended as soon as its workflow can be told: JSON {kind, reason, actor}
    Column("withdrawn", Text),
    Index("ix_starts_due", "state", "due_us"),
    Index("ix_starts_lane", "state", "tenant", "lane", "priority", "due_us", "id"),
    Index("ix_starts_task", "tenant", "task_id", "state"),
    Index("ix_starts_deadline", "state", "deadline_us"),
    Index("ix_starts_claimed", "state", "claimed_until_us"),
)

# Requests that became part of an execution that others asked for as well, or that one of its own might have joined.
# `id` is the id that their own execution would have had.
start_requests = Table(
    "start_requests",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("execution_id", String(64), nullable=False),
    Column("number", Integer, nullable=False),
    # hash of what was asked for: the same key with another request is a mistake of the caller
    Column("fingerprint", String(64), nullable=False),
    # of one that is gathered, until the execution begins
    Column("input", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Index(None, "tenant", "execution_id", "number"),
)

# When a tenant (empty lane), or a lane of it, was last let in: whoever was longest ago comes next.
start_turns = Table(
    "start_turns",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("lane", String(128), primary_key=True),
    Column("at_us", BigInteger, nullable=False),
    Index(None, "at_us"),
)

for _table in (starts, start_requests, start_turns):
    for _column in _table.columns:
        if isinstance(_column.type, String):
            _column.type = _column.type.with_variant(ByteText(), "postgresql")
