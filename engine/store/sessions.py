"""Keeps sessions: who talks with whom, and how; made, changed, listed, deleted with all that was said."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, select, update

from engine.core.errors import Conflict
from engine.core.values import Json, canonical_json
from engine.store.database import Database
from engine.store.locks import lock_row
from engine.store.metadata import contains
from engine.store.schema_sessions import chat_turns, entries, session_members, sessions
from engine.store.schema_summaries import session_summaries
from engine.store.texts import plain

SORTS: Mapping[str, str] = {"created_at": "created_us", "updated_at": "updated_us"}
"""What lists can be sorted by, and the column of it."""
IN_CHUNK = 500
"""Most ids in one IN list."""

_OWN = (
    "id",
    "tenant",
    "situation",
    "system_template",
    "summary",
    "render_templates",
    "token_budget",
    "context_overflow",
    "auto_run_tools",
    "forward_tool_calls",
    "actor",
    "created_us",
    "updated_us",
)
"""Columns that stand in the facts as they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionFacts:
    """A session as it is stored; times in Unix microseconds.

    Attributes:
        id: Its id.
        tenant: Its tenant.
        agents: Ids of the agents that take part; the first answers unless another is asked.
        users: Ids of the users that take part.
        situation: What a system template can show of the occasion; None = nothing was said of it.
        system_template: The template of the system message; None = the agent's, or the engine's.
        summary: What stands for older entries; None = they all stand for themselves.
        render_templates: Whether messages of clients are templates.
        token_budget: Most tokens of a prompt; None = as many as the model takes.
        context_overflow: What happens to a prompt that is longer: truncate, adaptive; None = it is refused.
        auto_run_tools: Whether tools that the model calls are run, unless a request says otherwise.
        forward_tool_calls: As the client of Julep has it; means nothing here.
        recall_options: How documents are looked up; None = none are.
        metadata: The caller's metadata.
        actor: Who made it; empty = nobody was asked for a name.
        created_us: When it was made.
        updated_us: When it was last changed.
    """

    id: str
    tenant: str
    agents: list[str]
    users: list[str] = field(default_factory=list)
    situation: str | None = None
    system_template: str | None = None
    summary: str | None = None
    render_templates: bool = False
    token_budget: int | None = None
    context_overflow: str | None = None
    auto_run_tools: bool = False
    forward_tool_calls: bool = False
    recall_options: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    actor: str = ""
    created_us: int
    updated_us: int


class SessionStore:
    """Reads and writes sessions.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def add(self, facts: SessionFacts) -> None:
        """Add a session.

        Raises:
            Conflict: `session.exists` if there is one with its id.
        """

        def work(connection: Connection) -> None:
            lock_session(connection, facts.tenant, facts.id)
            if _read(connection, facts.id, facts.tenant) is not None:
                raise Conflict(f"there is a session with the id '{facts.id}'", code="session.exists")
            connection.execute(insert(sessions).values(_values(facts)))
            _add_members(connection, facts)

        await self.database.run(work, write=True)

    async def put(self, facts: SessionFacts) -> SessionFacts:
        """Make a session, or give the one with its id other values; what was said, its summary and its birth stay.

        Returns:
            The session as it is now.
        """

        def work(connection: Connection) -> SessionFacts:
            lock_session(connection, facts.tenant, facts.id)
            values = _values(facts)
            if _read(connection, facts.id, facts.tenant) is None:
                connection.execute(insert(sessions).values(values))
            else:
                kept = ("tenant", "id", "summary", "actor", "created_us")
                changes = {name: value for name, value in values.items() if name not in kept}
                connection.execute(update(sessions).where(_is(facts.id, facts.tenant)).values(changes))
                connection.execute(delete(session_members).where(_of(session_members, facts.id, facts.tenant)))
            _add_members(connection, facts)
            stored = _read(connection, facts.id, facts.tenant)
            assert stored is not None, "it was written in this transaction"
            return stored

        return await self.database.run(work, write=True)

    async def get(self, session_id: str, *, tenant: str) -> SessionFacts | None:
        """Return a session; None = there is none."""
        return await self.database.run(lambda connection: _read(connection, session_id, tenant))

    async def change(
        self, session_id: str, change: Callable[[SessionFacts], Mapping[str, Any]], *, tenant: str, now_us: int
    ) -> SessionFacts | None:
        """Give attributes of a session other values, in one transaction with the look at the present ones.

        Args:
            session_id: The session.
            change: Makes the new values by name of the attribute; not those of who takes part.
            tenant: Its tenant.
            now_us: Unix microseconds; the time of the change is in any case after the one before.

        Returns:
            The session as it is now; None = there is none.

        Raises:
            EngineError: What `change` raises.
        """

        def work(connection: Connection) -> SessionFacts | None:
            lock_session(connection, tenant, session_id)
            present = _read(connection, session_id, tenant)
            if present is None:
                return None
            values = {name: _stored(name, value) for name, value in change(present).items()}
            values["updated_us"] = max(now_us, present.updated_us + 1)
            connection.execute(update(sessions).where(_is(session_id, tenant)).values(values))
            return _read(connection, session_id, tenant)

        return await self.database.run(work, write=True)

    async def remove(self, session_id: str, *, tenant: str) -> bool:
        """Delete a session with its entries and turns; whether there was one."""

        def work(connection: Connection) -> bool:
            lock_session(connection, tenant, session_id)
            for table in (session_members, entries, chat_turns, session_summaries):
                connection.execute(delete(table).where(_of(table, session_id, tenant)))
            return connection.execute(delete(sessions).where(_is(session_id, tenant))).rowcount > 0

        return await self.database.run(work, write=True)

    async def page(
        self,
        *,
        tenant: str,
        id_prefix: str = "",
        metadata: Mapping[str, Any] | None = None,
        limit: int = 100,
        offset: int = 0,
        sort_by: str = "created_at",
        descending: bool = True,
    ) -> list[SessionFacts]:
        """Return one page of sessions.

        Args:
            tenant: Tenant id.
            id_prefix: How their ids begin.
            metadata: What their metadata must hold.
            limit: Most to return.
            offset: How many are passed over.
            sort_by: One of SORTS.
            descending: The newest first.
        """
        keys = (sessions.c[SORTS[sort_by]], sessions.c.id)
        query = select(sessions).where(
            sessions.c.tenant == tenant, sessions.c.id.startswith(id_prefix, autoescape=True)
        )
        query = query.order_by(*(key.desc() if descending else key.asc() for key in keys))
        query = query if metadata else query.limit(limit).offset(offset)

        def work(connection: Connection) -> list[SessionFacts]:
            rows = list(connection.execute(query))
            if metadata:
                passing = [row for row in rows if contains(json.loads(row._mapping["metadata"]), dict(metadata))]
                rows = passing[offset : offset + limit]
            members = _members(connection, tenant, [row.id for row in rows])
            return [_facts(row, members.get(row.id, [])) for row in rows]

        return await self.database.run(work)


def lock_session(connection: Connection, tenant: str, session_id: str) -> None:
    """Wait until no other transaction writes a session or what is said in it, and keep others out until the end."""
    lock_row(connection, sessions.name, f"{tenant}:{session_id}")


# --- rows ------------------------------------------------------------------------------------------------------------


def _is(session_id: str, tenant: str) -> ColumnElement[bool]:
    return and_(sessions.c.tenant == tenant, sessions.c.id == session_id)


def _of(table: Any, session_id: str, tenant: str) -> ColumnElement[bool]:
    return and_(table.c.tenant == tenant, table.c.session_id == session_id)


def _read(connection: Connection, session_id: str, tenant: str) -> SessionFacts | None:
    row = connection.execute(select(sessions).where(_is(session_id, tenant))).first()
    return None if row is None else _facts(row, _members(connection, tenant, [session_id]).get(session_id, []))


def _members(connection: Connection, tenant: str, ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    found: dict[str, list[Row[Any]]] = {}
    for begin in range(0, len(ids), IN_CHUNK):
        mine = (session_members.c.tenant == tenant, session_members.c.session_id.in_(ids[begin : begin + IN_CHUNK]))
        for row in connection.execute(select(session_members).where(*mine).order_by(session_members.c.number)):
            found.setdefault(row.session_id, []).append(row)
    return found


def _add_members(connection: Connection, facts: SessionFacts) -> None:
    named = (("agent", facts.agents), ("user", facts.users))
    rows = [
        {"tenant": facts.tenant, "session_id": facts.id, "kind": kind, "number": number, "member_id": member_id}
        for kind, ids in named
        for number, member_id in enumerate(ids)
    ]
    connection.execute(insert(session_members), rows)


def _stored(name: str, value: Any) -> Json:
    if name == "metadata" or (name == "recall_options" and value is not None):
        return canonical_json(value)
    return plain(value) if isinstance(value, str) else value


def _values(facts: SessionFacts) -> dict[str, Json]:
    return {name: _stored(name, getattr(facts, name)) for name in (*_OWN, "recall_options", "metadata")}


def _facts(row: Row[Any], members: Sequence[Row[Any]]) -> SessionFacts:
    return SessionFacts(
        agents=[one.member_id for one in members if one.kind == "agent"],
        users=[one.member_id for one in members if one.kind == "user"],
        recall_options=None if row.recall_options is None else json.loads(row.recall_options),
        metadata=json.loads(row._mapping["metadata"]),
        **{name: getattr(row, name) for name in _OWN},
    )
