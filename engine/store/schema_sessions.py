"""Tables of sessions: who talks with whom, what was said, and the turns in which it was said."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from engine.store.schema import ByteText, truth

sessions = Table(
    "sessions",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    # NULL = the client said nothing of it
    Column("situation", Text),
    Column("system_template", Text),
    # what a summary of older entries says; NULL = there is none
    Column("summary", Text),
    Column("render_templates", Boolean, nullable=False),
    Column("token_budget", Integer),
    # truncate, adaptive; NULL = what is too long is refused
    Column("context_overflow", String(16)),
    Column("auto_run_tools", Boolean, nullable=False),
    Column("forward_tool_calls", Boolean, nullable=False),
    # JSON; NULL = nothing is looked up
    Column("recall_options", Text),
    Column("metadata", Text, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Index("ix_sessions_created_us", "tenant", "created_us", "id"),
)

# Who takes part, in the order in which the client named them; the first agent answers unless another is asked.
session_members = Table(
    "session_members",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("session_id", String(64), primary_key=True),
    # agent, user
    Column("kind", String(16), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("member_id", String(64), nullable=False),
    Index("ix_session_members_member_id", "tenant", "kind", "member_id"),
)

# What was said, one row for each message.
entries = Table(
    "entries",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("session_id", String(64), primary_key=True),
    # order in the session, from 1
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False),
    Column("turn_id", String(64), nullable=False),
    Column("role", String(32), nullable=False),
    Column("name", String(255)),
    # JSON: a text, or a list of parts
    Column("content", Text, nullable=False),
    # JSON; NULL = none
    Column("tool_calls", Text),
    Column("tool_call_id", String(255)),
    # api_request, api_response, tool_response, internal, summarizer, meta
    Column("source", String(32), nullable=False),
    Column("model", String(255), nullable=False),
    Column("tokenizer", String(64), nullable=False),
    Column("token_count", Integer, nullable=False),
    # the entry that stands for it since it was summarised; NULL = it is part of the history
    Column("summary_id", String(64)),
    Column("created_us", BigInteger, nullable=False),
    Index("ix_entries_id", "tenant", "session_id", "id", unique=True),
)

# Requests to a session, from the moment they were taken. `id` is that of the execution which asks the model.
chat_turns = Table(
    "chat_turns",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("session_id", String(64), nullable=False),
    # order in the session: turns that are kept run one after another
    Column("number", Integer, nullable=False),
    # accepted, running, done, failed
    Column("state", String(16), nullable=False),
    # whether what is said becomes part of the history
    Column("saved", Boolean, nullable=False),
    # JSON: what the client asked for
    Column("request", Text, nullable=False),
    # JSON: what the model is asked, the documents that were found; NULL = nobody has made it yet
    Column("prepared", Text),
    # JSON: what the client is told; NULL = there is no answer yet
    Column("answer", Text),
    # JSON {code, message, hint, status}; NULL = it has not failed
    Column("error", Text),
    # whoever is about to begin it has until then
    Column("lease_us", BigInteger, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Index("ix_chat_turns_session_id", "tenant", "session_id", "number", unique=True),
    Index("ix_chat_turns_state", "state", "lease_us"),
)

for _table in (sessions, session_members, entries, chat_turns):
    for _column in _table.columns:
        if isinstance(_column.type, String):
            _column.type = _column.type.with_variant(ByteText(), "postgresql")
