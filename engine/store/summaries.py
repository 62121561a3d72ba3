"""Keeps the summaries of sessions that are under way, and puts those that are made in the place of older entries."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, or_, select, update

from engine.store.database import Database
from engine.store.entries import EntryFacts, put_summary
from engine.store.schema import executions
from engine.store.schema_sessions import sessions
from engine.store.schema_summaries import session_summaries
from engine.store.sessions import lock_session
from engine.store.texts import plain


class UnderWay(NamedTuple):
    """Which summary it is: tenant, session, and id of the job."""

    tenant: str
    session_id: str
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryFacts:
    """A summary that is under way; times in Unix microseconds.

    Attributes:
        tenant: Tenant of the session.
        session_id: The session.
        id: Id of the job: of the execution that makes it.
        request: What the model is asked.
        entries: Ids of the entries that it will stand for.
        created_us: When it was asked for.
    """

    tenant: str
    session_id: str
    id: str
    request: dict[str, Any]
    entries: Sequence[str]
    created_us: int

    @property
    def key(self) -> UnderWay:
        """Which one it is."""
        return UnderWay(self.tenant, self.session_id, self.id)


class SummaryStore:
    """Reads and writes summaries that are under way.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def find(self, session_id: str, *, tenant: str) -> SummaryFacts | None:
        """Return the summary of a session that is under way; None = there is none."""
        return await self.database.run(lambda connection: _read(connection, session_id, tenant))

    async def begin(self, facts: SummaryFacts) -> SummaryFacts:
        """Ask for a summary, unless one of the session is under way; return the one that is."""

        def work(connection: Connection) -> SummaryFacts:
            lock_session(connection, facts.tenant, facts.session_id)
            known = _read(connection, facts.session_id, facts.tenant)
            if known is None:
                connection.execute(insert(session_summaries).values(_values(facts)))
            return known or facts

        return await self.database.run(work, write=True)

    async def due(self, *, now_us: int, limit: int) -> list[UnderWay]:
        """Return which summaries may be started, and those whose execution is over, the oldest first.

        Executions that go on, however many, keep no others back.
        """
        table = session_summaries.c
        execution = select(executions.c.id).where(executions.c.tenant == table.tenant, executions.c.id == table.id)
        over = execution.where(executions.c.settled.is_(True))
        is_due = or_(over.exists(), and_(table.lease_us <= now_us, ~execution.exists()))
        query = select(table.tenant, table.session_id, table.id).where(is_due)
        query = query.order_by(table.created_us, table.id).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [UnderWay(row.tenant, row.session_id, row.id) for row in rows]

    async def claim(self, which: UnderWay, *, now_us: int, until_us: int) -> SummaryFacts | None:
        """Take a summary to start it, so that nobody else does until then; None if somebody else has, or it is over."""
        free = and_(_is(which), session_summaries.c.lease_us <= now_us)
        change = update(session_summaries).where(free).values(lease_us=until_us)

        def work(connection: Connection) -> SummaryFacts | None:
            claimed = connection.execute(change).rowcount
            return _read(connection, which.session_id, which.tenant) if claimed else None

        return await self.database.run(work, write=True)

    async def finish(self, facts: SummaryFacts, summary: EntryFacts, *, now_us: int) -> bool:
        """Put a summary in the place of the entries that it stands for, all in one, unless that was done before.

        Args:
            facts: The summary under way.
            summary: The entry; its content is the text.
            now_us: Unix microseconds.

        Returns:
            False if somebody else was faster, or if the entries are there no more.
        """

        def work(connection: Connection) -> bool:
            lock_session(connection, facts.tenant, facts.session_id)
            if not connection.execute(delete(session_summaries).where(_is(facts.key))).rowcount:
                return False
            if not put_summary(connection, summary, facts.entries):
                return False
            mine = and_(sessions.c.tenant == facts.tenant, sessions.c.id == facts.session_id)
            values = {"summary": plain(str(summary.content)), "updated_us": now_us}
            connection.execute(update(sessions).where(mine).values(values))
            return True

        return await self.database.run(work, write=True)

    async def drop(self, which: UnderWay) -> None:
        """Give a summary up; the entries stay as they are."""
        gone = delete(session_summaries).where(_is(which))
        await self.database.run(lambda connection: connection.execute(gone), write=True)


def _is(which: UnderWay) -> ColumnElement[bool]:
    table = session_summaries.c
    return and_(table.tenant == which.tenant, table.session_id == which.session_id, table.id == which.id)


def _read(connection: Connection, session_id: str, tenant: str) -> SummaryFacts | None:
    table = session_summaries.c
    mine = and_(table.tenant == tenant, table.session_id == session_id)
    row = connection.execute(select(session_summaries).where(mine)).first()
    return None if row is None else _facts(row)


def _values(facts: SummaryFacts) -> dict[str, Any]:
    return {
        "tenant": facts.tenant,
        "session_id": facts.session_id,
        "id": facts.id,
        # escaped, since clients and models send halves of characters that no database takes
        "request": json.dumps(facts.request, separators=(",", ":")),
        "entries": json.dumps(list(facts.entries), separators=(",", ":")),
        "lease_us": 0,
        "created_us": facts.created_us,
    }


def _facts(row: Row[Any]) -> SummaryFacts:
    return SummaryFacts(
        tenant=row.tenant,
        session_id=row.session_id,
        id=row.id,
        request=json.loads(row.request),
        entries=json.loads(row._mapping["entries"]),
        created_us=row.created_us,
    )
