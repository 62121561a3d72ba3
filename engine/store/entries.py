"""Keeps what was said in sessions, one row for each message."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, insert, select, update

from engine.core.values import Json
from engine.store.database import Database
from engine.store.schema_sessions import entries, sessions
from engine.store.sessions import IN_CHUNK, lock_session
from engine.store.texts import plain

SUMMARIZER = "summarizer"
"""Source of entries that stand for others."""

_OWN = (
    "tenant",
    "session_id",
    "number",
    "id",
    "turn_id",
    "role",
    "name",
    "tool_call_id",
    "source",
    "model",
    "tokenizer",
    "token_count",
    "summary_id",
    "created_us",
)
"""Columns that stand in the facts as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFacts:
    """A message of a session as it is stored.

    Attributes:
        tenant: Tenant of the session.
        session_id: The session.
        number: Its place in the session, from 1, of summaries below 0; 0 = it is not stored yet.
        id: Its id.
        turn_id: The turn in which it was said.
        role: user, assistant, system, tool.
        name: Who said it; None = nobody was named.
        content: A text, or a list of parts.
        tool_calls: What the model wants to have called; None = nothing.
        tool_call_id: Which call of a tool it answers; None = none.
        source: Where it comes from: api_request, api_response, tool_response, internal, summarizer, meta.
        model: The model that said it, or was asked.
        tokenizer: What its tokens were counted with.
        token_count: How many they are.
        summary_id: The entry that stands for it since it was summarised; None = it is part of the history.
        created_us: When it was said, Unix microseconds.
    """

    tenant: str
    session_id: str
    number: int = 0
    id: str
    turn_id: str
    role: str
    name: str | None = None
    content: Json
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    source: str
    model: str = ""
    tokenizer: str = ""
    token_count: int = 0
    summary_id: str | None = None
    created_us: int


class EntryStore:
    """Reads and writes what was said.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def history(self, session_id: str, *, tenant: str, limit: int | None = None) -> list[EntryFacts]:
        """Return what counts as said, in order; what a summary stands for is left out.

        Args:
            session_id: The session.
            tenant: Its tenant.
            limit: Only so many of the latest; None = all.
        """
        mine = and_(_of(session_id, tenant), entries.c.summary_id.is_(None))
        query = select(entries).where(mine).order_by(entries.c.number.desc())
        query = query if limit is None else query.limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_facts(row) for row in reversed(rows)]

    async def every(self, session_id: str, *, tenant: str) -> list[EntryFacts]:
        """Return all that was said, in order, with what a summary stands for."""
        query = select(entries).where(_of(session_id, tenant)).order_by(entries.c.number)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_facts(row) for row in rows]

    async def clear(self, session_id: str, *, tenant: str) -> int:
        """Delete all that was said in a session, and what sums it up; return how many entries that were."""

        def work(connection: Connection) -> int:
            lock_session(connection, tenant, session_id)
            mine = and_(sessions.c.tenant == tenant, sessions.c.id == session_id)
            connection.execute(update(sessions).where(mine).values(summary=None))
            return connection.execute(delete(entries).where(_of(session_id, tenant))).rowcount

        return await self.database.run(work, write=True)


def append_entries(connection: Connection, said: Sequence[EntryFacts]) -> None:
    """Add entries behind those that a session has.

    Args:
        connection: A transaction that may write, and holds the lock of the session.
        said: Entries of one session, in order.
    """
    if not said:
        return
    query = select(func.max(entries.c.number)).where(_of(said[0].session_id, said[0].tenant))
    last = connection.execute(query).scalar() or 0
    connection.execute(insert(entries), [_values(one, number) for number, one in enumerate(said, start=last + 1)])


def put_summary(connection: Connection, summary: EntryFacts, ids: Sequence[str]) -> bool:
    """Put an entry in the place of others, which stay but count as said no more; it stands in front of all.

    Args:
        connection: A transaction that may write, and holds the lock of the session.
        summary: The entry.
        ids: The entries that it stands for.

    Returns:
        Whether all of them were there and counted as said; if not nothing is written.
    """
    mine = _of(summary.session_id, summary.tenant)
    marked = 0
    for begin in range(0, len(ids), IN_CHUNK):
        said = and_(mine, entries.c.summary_id.is_(None), entries.c.id.in_(ids[begin : begin + IN_CHUNK]))
        count = select(func.count()).select_from(entries).where(said)
        marked += connection.execute(count).scalar() or 0
    if marked < len(ids):
        return False
    for begin in range(0, len(ids), IN_CHUNK):
        said = and_(mine, entries.c.id.in_(ids[begin : begin + IN_CHUNK]))
        connection.execute(update(entries).where(said).values(summary_id=summary.id))
    first = connection.execute(select(func.min(entries.c.number)).where(mine)).scalar() or 0
    connection.execute(insert(entries).values(_values(summary, min(first, 0) - 1)))
    return True


def _of(session_id: str, tenant: str) -> ColumnElement[bool]:
    return and_(entries.c.tenant == tenant, entries.c.session_id == session_id)


def _values(facts: EntryFacts, number: int) -> dict[str, Any]:
    return {
        **{name: getattr(facts, name) for name in _OWN},
        "number": number,
        "name": None if facts.name is None else plain(facts.name, 255),
        "tool_call_id": None if facts.tool_call_id is None else plain(facts.tool_call_id, 255),
        "model": plain(facts.model, 255),
        # escaped, since models send halves of characters that no database takes
        "content": json.dumps(facts.content, separators=(",", ":")),
        "tool_calls": None if facts.tool_calls is None else json.dumps(facts.tool_calls, separators=(",", ":")),
    }


def _facts(row: Row[Any]) -> EntryFacts:
    return EntryFacts(
        content=json.loads(row.content),
        tool_calls=None if row.tool_calls is None else json.loads(row.tool_calls),
        **{name: getattr(row, name) for name in _OWN},
    )
