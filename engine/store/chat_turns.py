"""Keeps requests to sessions from the moment they were taken: what was asked, who works on it, what came of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, func, insert, or_, select, update

from engine.core.errors import NotFound
from engine.store.database import Database
from engine.store.entries import EntryFacts, append_entries
from engine.store.schema import executions
from engine.store.schema_sessions import chat_turns, entries, sessions
from engine.store.sessions import lock_session
from engine.store.texts import plain

ACCEPTED: Final = "accepted"
"""It was taken, and nobody has begun to ask the model."""
RUNNING: Final = "running"
"""Its execution asks the model."""
DONE: Final = "done"
FAILED: Final = "failed"
OPEN: Final = (ACCEPTED, RUNNING)
UNKNOWN_US: Final = 120_000_000
"""How long the store may not know the execution of a turn: who started it may have died before it said so."""

_PLAIN = ("tenant", "id", "session_id", "number", "state", "saved", "lease_us", "actor", "created_us", "updated_us")
_JSON = ("request", "prepared", "answer", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFacts:
    """A request to a session as it is stored; times in Unix microseconds.

    Attributes:
        tenant: Tenant of the session.
        id: Its id, which is also that of the execution that asks the model.
        session_id: The session.
        number: Its place among the session's turns, from 1; 0 = it is not stored yet.
        state: One of ACCEPTED, RUNNING, DONE, FAILED.
        saved: Whether what is said becomes part of the history; such turns run one after another.
        request: What the client asked for.
        prepared: What the model is asked; None = nobody has made it yet.
        answer: What the client is told; None = there is none yet.
        error: {code, message, hint, status}; None = it has not failed.
        lease_us: Whoever is about to begin it has until then.
        actor: Who asked; empty = nobody was asked for a name.
        created_us: When it was taken.
        updated_us: When something of it last changed.
    """

    tenant: str
    id: str
    session_id: str
    number: int = 0
    state: str = ACCEPTED
    saved: bool
    request: dict[str, Any]
    prepared: dict[str, Any] | None = None
    answer: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    lease_us: int = 0
    actor: str = ""
    created_us: int
    updated_us: int

    @property
    def is_open(self) -> bool:
        """Whether something is still to be done for it."""
        return self.state in OPEN


class TurnStore:
    """Reads and writes turns.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def accept(self, facts: TurnFacts) -> TurnFacts:
        """Add a turn behind the others of its session, or return the one that is there under its id.

        Raises:
            NotFound: `session.not_found` if the session was deleted meanwhile.
        """

        def work(connection: Connection) -> TurnFacts:
            lock_session(connection, facts.tenant, facts.session_id)
            mine = and_(sessions.c.tenant == facts.tenant, sessions.c.id == facts.session_id)
            if connection.execute(select(sessions.c.id).where(mine)).first() is None:
                raise NotFound(f"there is no session '{facts.session_id}'", code="session.not_found")
            known = _read(connection, facts.id, facts.tenant)
            if known is not None:
                return known
            others = select(func.max(chat_turns.c.number)).where(_of(facts))
            made = replace(facts, number=(connection.execute(others).scalar() or 0) + 1)
            connection.execute(insert(chat_turns).values(_values(made)))
            return made

        return await self.database.run(work, write=True)

    async def get(self, turn_id: str, *, tenant: str) -> TurnFacts | None:
        """Return a turn; None = there is none."""
        return await self.database.run(lambda connection: _read(connection, turn_id, tenant))

    async def claim(self, turn_id: str, *, tenant: str, now_us: int, until_us: int) -> TurnFacts | None:
        """Take a turn to begin it.

        Args:
            turn_id: The turn.
            tenant: Its tenant.
            now_us: Unix microseconds.
            until_us: Until when nobody else takes it.

        Returns:
            The turn; None if somebody else is about to begin it or has, or if an earlier one must be over first.
        """

        def work(connection: Connection) -> TurnFacts | None:
            claimed = connection.execute(update(chat_turns).where(*free).values(lease_us=until_us))
            return _read(connection, turn_id, tenant) if claimed.rowcount else None

        # a turn that waits is asked for again and again, and a read disturbs no writer
        free = (_is(turn_id, tenant), _may_begin(now_us))
        query = select(chat_turns.c.id).where(*free)
        if await self.database.run(lambda connection: connection.execute(query).first()) is None:
            return None
        return await self.database.run(work, write=True)

    async def due(self, *, now_us: int, limit: int) -> list[tuple[str, str]]:
        """Return tenant and id of turns that could begin, or whose execution is over or gone, the oldest first."""
        mine = (executions.c.tenant == chat_turns.c.tenant, executions.c.id == chat_turns.c.id)
        known = select(executions.c.id).where(*mine)
        over = known.where(executions.c.settled.is_(True)).exists()
        gone = and_(chat_turns.c.updated_us <= now_us - UNKNOWN_US, ~known.exists())
        ended = and_(chat_turns.c.state == RUNNING, or_(over, gone))
        # of the many that are over none is looked at
        query = select(chat_turns.c.tenant, chat_turns.c.id).where(chat_turns.c.state.in_(OPEN))
        query = query.where(or_(_may_begin(now_us), ended))
        query = query.order_by(chat_turns.c.created_us, chat_turns.c.id).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [(row.tenant, row.id) for row in rows]

    async def keep_prepared(self, turn: TurnFacts, prepared: dict[str, Any], *, now_us: int) -> TurnFacts | None:
        """Keep what the model is asked, unless somebody else was faster.

        Returns:
            The turn with what is kept; None = it was deleted.
        """
        first = (_is(turn.id, turn.tenant), chat_turns.c.prepared.is_(None))
        values = {"prepared": _text(prepared), "updated_us": now_us}

        def work(connection: Connection) -> TurnFacts | None:
            connection.execute(update(chat_turns).where(*first).values(values))
            return _read(connection, turn.id, turn.tenant)

        return await self.database.run(work, write=True)

    async def set_running(self, turn: TurnFacts, *, now_us: int) -> None:
        """Note that the execution was started."""
        begun = (_is(turn.id, turn.tenant), chat_turns.c.state == ACCEPTED)
        values = {"state": RUNNING, "lease_us": 0, "updated_us": now_us}
        await self.database.run(
            lambda connection: connection.execute(update(chat_turns).where(*begun).values(values)), write=True
        )

    async def put_off(self, turn: TurnFacts, *, until_us: int) -> None:
        """Let nobody begin a turn until then."""
        still = (_is(turn.id, turn.tenant), chat_turns.c.state == ACCEPTED)
        change = update(chat_turns).where(*still).values(lease_us=until_us)
        await self.database.run(lambda connection: connection.execute(change), write=True)

    async def finish(
        self, turn: TurnFacts, answer: dict[str, Any], said: Sequence[EntryFacts], *, now_us: int
    ) -> TurnFacts | None:
        """Keep the answer and what was said, both or neither, unless that was done before.

        Returns:
            The turn as it is now; None = it was deleted with its session.
        """

        def work(connection: Connection) -> TurnFacts | None:
            lock_session(connection, turn.tenant, turn.session_id)
            values = {"state": DONE, "answer": _text(answer), "lease_us": 0, "updated_us": now_us}
            still = (_is(turn.id, turn.tenant), chat_turns.c.state.in_(OPEN))
            if connection.execute(update(chat_turns).where(*still).values(values)).rowcount:
                if not _was_said(connection, said):
                    append_entries(connection, said)
                mine = and_(sessions.c.tenant == turn.tenant, sessions.c.id == turn.session_id)
                connection.execute(update(sessions).where(mine).values(updated_us=now_us))
            return _read(connection, turn.id, turn.tenant)

        return await self.database.run(work, write=True)

    async def fail(self, turn: TurnFacts, error: dict[str, Any], *, now_us: int) -> TurnFacts | None:
        """Keep why there is no answer, unless the turn has gone on since: whoever is behind the others fails nothing.

        Args:
            turn: The turn, as it was seen by whom it fails.
            error: {code, message, hint, status}.
            now_us: Unix microseconds.

        Returns:
            The turn as it is now; None = it was deleted with its session.
        """
        still = (_is(turn.id, turn.tenant), chat_turns.c.state == turn.state, chat_turns.c.state.in_(OPEN))
        values = {"state": FAILED, "error": _text(error), "lease_us": 0, "updated_us": now_us}

        def work(connection: Connection) -> TurnFacts | None:
            connection.execute(update(chat_turns).where(*still).values(values))
            return _read(connection, turn.id, turn.tenant)

        return await self.database.run(work, write=True)

    async def remove_ended(self, *, before_us: int, limit: int) -> int:
        """Delete turns that were over before a time; return how many. What was said in them stays."""
        old = and_(chat_turns.c.state.in_((DONE, FAILED)), chat_turns.c.updated_us < before_us)
        query = select(chat_turns.c.tenant, chat_turns.c.id).where(old).limit(limit)

        def work(connection: Connection) -> int:
            rows = connection.execute(query).all()
            for row in rows:
                connection.execute(chat_turns.delete().where(_is(row.id, row.tenant)))
            return len(rows)

        return await self.database.run(work, write=True)


# --- rows ------------------------------------------------------------------------------------------------------------


def _is(turn_id: str, tenant: str) -> ColumnElement[bool]:
    return and_(chat_turns.c.tenant == tenant, chat_turns.c.id == turn_id)


def _of(facts: TurnFacts) -> ColumnElement[bool]:
    return and_(chat_turns.c.tenant == facts.tenant, chat_turns.c.session_id == facts.session_id)


def _may_begin(now_us: int) -> ColumnElement[bool]:
    """Return the condition of turns that somebody may begin."""
    before = chat_turns.alias("earlier")
    earlier = select(before.c.id).where(
        before.c.tenant == chat_turns.c.tenant,
        before.c.session_id == chat_turns.c.session_id,
        before.c.number < chat_turns.c.number,
        before.c.saved.is_(True),
        before.c.state.in_(OPEN),
    )
    free = and_(chat_turns.c.state == ACCEPTED, chat_turns.c.lease_us <= now_us)
    return and_(free, or_(chat_turns.c.saved.is_(False), ~earlier.exists()))


def _was_said(connection: Connection, said: Sequence[EntryFacts]) -> bool:
    """Whether entries stand there already: a request came again whose turn is forgotten, while its execution is not."""
    if not said:
        return True
    first = said[0]
    mine = and_(entries.c.tenant == first.tenant, entries.c.session_id == first.session_id, entries.c.id == first.id)
    return connection.execute(select(entries.c.id).where(mine)).first() is not None


def _read(connection: Connection, turn_id: str, tenant: str) -> TurnFacts | None:
    row = connection.execute(select(chat_turns).where(_is(turn_id, tenant))).first()
    return None if row is None else _facts(row)


def _text(value: dict[str, Any] | None) -> str | None:
    # escaped, since clients and models send halves of characters that no database takes
    return None if value is None else json.dumps(value, separators=(",", ":"))


def _values(facts: TurnFacts) -> dict[str, Any]:
    own = {name: getattr(facts, name) for name in _PLAIN}
    return {**own, "actor": plain(facts.actor, 255), **{name: _text(getattr(facts, name)) for name in _JSON}}


def _facts(row: Row[Any]) -> TurnFacts:
    texts = {name: getattr(row, name) for name in _JSON}
    kept: dict[str, Any] = {name: None if text is None else json.loads(text) for name, text in texts.items()}
    return TurnFacts(**{name: getattr(row, name) for name in _PLAIN}, **kept)
