"""Models that backends are to fetch: the queue, how far each is, and what became of those that ended."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, and_, delete, insert, select, tuple_, update

from engine.store.database import Database
from engine.store.locks import lock_row
from engine.store.schema_models import model_pulls

PullState = Literal["queued", "running", "done", "failed", "cancelled"]
PullReason = Literal["asked", "declared"]
OPEN_STATES = ("queued", "running")
AGAIN_US = 3_600_000_000
"""After which a declared model whose fetch failed is fetched again without being asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PullFacts:
    """A model that a backend is to fetch; times in Unix microseconds.

    Attributes:
        id: Made of backend and model.
        backend: The backend.
        model: The model.
        state: How it stands.
        round: How often it was asked for.
        status: What the server does now, in its words.
        done_bytes: How much is there of what it fetches now.
        total_bytes: Of how much; 0 = not known.
        attempts: How often it was begun.
        error_code: Of the last attempt that failed.
        error_message: The same in words.
        reason: Whether somebody asked for it, or it is declared and was missing.
        actor: Who asked for it.
        created_us: When.
        started_us: When it was begun.
        updated_us: When something was last heard of it.
        ended_us: When it ended.
    """

    id: str
    backend: str
    model: str
    state: PullState = "queued"
    round: int = 1
    status: str = ""
    done_bytes: int = 0
    total_bytes: int = 0
    attempts: int = 0
    error_code: str = ""
    error_message: str = ""
    reason: PullReason = "asked"
    actor: str = ""
    created_us: int
    started_us: int | None = None
    updated_us: int
    ended_us: int | None = None


def pull_id(backend: str, model: str) -> str:
    """Return the id of a fetch."""
    return hashlib.sha256(f"{backend}\n{model}".encode()).hexdigest()[:32]


class PullStore:
    """Fetches of all backends.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def ask(
        self, backend: str, model: str, *, reason: PullReason, now_us: int, actor: str = ""
    ) -> PullFacts | None:
        """Put a model into the queue; one that is queued or running already stays as it is.

        Returns:
            The fetch; None if it was declared only, and its last fetch was cancelled, or failed a short time ago.
        """
        fresh = PullFacts(
            id=pull_id(backend, model),
            backend=backend,
            model=model,
            reason=reason,
            actor=actor,
            created_us=now_us,
            updated_us=now_us,
        )

        def work(connection: Connection) -> PullFacts | None:
            known = _locked(connection, fresh.id)
            if known is None:
                connection.execute(insert(model_pulls).values(_row_of(fresh)))
                return fresh
            if known.state in OPEN_STATES:
                return known
            failed_lately = known.state == "failed" and now_us - (known.ended_us or 0) < AGAIN_US
            if reason == "declared" and (known.state == "cancelled" or failed_lately):
                return None
            values = _row_of(fresh) | {"round": known.round + 1}
            connection.execute(update(model_pulls).where(model_pulls.c.id == fresh.id).values(values))
            return _locked(connection, fresh.id)

        return await self.database.run(work, write=True)

    async def begin_next(self, backend: str, *, now_us: int) -> PullFacts | None:
        """Return what a backend is to fetch next, as running: what a lost worker left behind, else the oldest."""

        def work(connection: Connection) -> PullFacts | None:
            lock_row(connection, model_pulls.name, f"queue {backend}")
            waiting = and_(model_pulls.c.backend == backend, model_pulls.c.state.in_(OPEN_STATES))
            # running comes behind queued in the alphabet
            order = (model_pulls.c.state.desc(), model_pulls.c.created_us, model_pulls.c.id)
            row = connection.execute(select(model_pulls).where(waiting).order_by(*order).limit(1)).one_or_none()
            if row is None:
                return None
            values = {"state": "running", "started_us": row.started_us or now_us, "updated_us": now_us}
            connection.execute(update(model_pulls).where(model_pulls.c.id == row.id).values(values))
            return _facts_of(connection.execute(select(model_pulls).where(model_pulls.c.id == row.id)).one())

        return await self.database.run(work, write=True)

    async def note(self, pull: PullFacts, *, now_us: int, **values: Any) -> bool:
        """Write how far a fetch is.

        Args:
            pull: The fetch.
            now_us: Unix microseconds.
            values: Those of `status`, `done_bytes`, `total_bytes`, `attempts`, `error_code`, `error_message` that
                change.

        Returns:
            Whether it is still wanted.
        """
        mine = and_(model_pulls.c.id == pull.id, model_pulls.c.round == pull.round, model_pulls.c.state == "running")
        statement = update(model_pulls).where(mine).values(updated_us=now_us, **values)
        return await self.database.run(lambda connection: connection.execute(statement).rowcount == 1, write=True)

    async def end(
        self, pull: PullFacts, state: PullState, *, now_us: int, error_code: str = "", error_message: str = ""
    ) -> bool:
        """Write what became of a fetch; False if it had ended already."""
        values = {"state": state, "ended_us": now_us, "error_code": error_code, "error_message": error_message[:500]}
        return await self.note(pull, now_us=now_us, **values)

    async def cancel(self, pull: str, *, now_us: int) -> PullFacts | None:
        """Want a fetch no more, whether it has begun or not; None if there is none."""

        def work(connection: Connection) -> PullFacts | None:
            known = _locked(connection, pull)
            if known is not None and known.state in OPEN_STATES:
                values = {"state": "cancelled", "ended_us": now_us, "updated_us": now_us}
                connection.execute(update(model_pulls).where(model_pulls.c.id == pull).values(values))
            return _locked(connection, pull)

        return await self.database.run(work, write=True)

    async def drop_of(self, backend: str) -> None:
        """Forget all fetches of a backend, which is not there any more."""
        statement = delete(model_pulls).where(model_pulls.c.backend == backend)
        await self.database.run(lambda connection: connection.execute(statement), write=True)

    async def find(self, pull: str) -> PullFacts | None:
        """Return a fetch, or None."""
        query = select(model_pulls).where(model_pulls.c.id == pull)
        row = await self.database.run(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _facts_of(row)

    async def page(
        self, *, limit: int, after: tuple[int, str] | None = None, state: str = "", backend: str = ""
    ) -> list[PullFacts]:
        """Return fetches, the latest first; `after` = time and id of the last one of the page before."""
        query = select(model_pulls)
        if state:
            query = query.where(model_pulls.c.state == state)
        if backend:
            query = query.where(model_pulls.c.backend == backend)
        place = tuple_(model_pulls.c.created_us, model_pulls.c.id)
        if after is not None:
            query = query.where(place < tuple_(*after))
        query = query.order_by(model_pulls.c.created_us.desc(), model_pulls.c.id.desc()).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_facts_of(row) for row in rows]

    async def waiting_backends(self) -> list[str]:
        """Return the backends that have something to fetch."""
        query = select(model_pulls.c.backend).where(model_pulls.c.state.in_(OPEN_STATES)).distinct()
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return sorted(row.backend for row in rows)


def _locked(connection: Connection, pull: str) -> PullFacts | None:
    lock_row(connection, model_pulls.name, pull)
    row = connection.execute(select(model_pulls).where(model_pulls.c.id == pull)).one_or_none()
    return None if row is None else _facts_of(row)


def _facts_of(row: Row[*tuple[Any, ...]]) -> PullFacts:
    return PullFacts(**row._mapping)


def _row_of(facts: PullFacts) -> dict[str, Any]:
    return {name: getattr(facts, name) for name in PullFacts.__dataclass_fields__}
