"""What checks of backends found: how they are, since when, and which models they have."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, insert, select, update

from engine.core.values import compact_json
from engine.store.database import Database
from engine.store.registry import bump
from engine.store.schema_models import backend_states, found_models

BackendHealth = Literal["up", "down", "refused"]
MOST_MODELS = 1_000
"""Of one backend; what it lists beyond is not kept."""
MOST_MESSAGE_CHARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedBackend:
    """What one check found.

    Attributes:
        backend: Its name.
        source: Who declared it.
        body: What the worker that looked knows of it; as in everstep.toml.
        state: up, down (in a way that passes), or refused (it answers, but not us).
        latency_us: How long it took to answer; None = it did not.
        error_code: Why it is not up.
        error_message: The same in words.
        missing: Of the declared models those that it does not have.
        models: What it told of each of its models; None = it told nothing, and what is known stays.
    """

    backend: str
    source: str
    body: dict[str, Any]
    state: BackendHealth
    latency_us: int | None = None
    error_code: str = ""
    error_message: str = ""
    missing: Sequence[str] = ()
    models: Mapping[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendState:
    """How a backend is; times in Unix microseconds.

    Attributes:
        backend: Its name.
        source: Who declared it.
        body: What the worker that looked knows of it.
        state: up, down or refused.
        since_us: Since when.
        checked_us: When it was last looked at.
        latency_us: How long it took to answer.
        error_code: Of the last check that failed, also when it is well again.
        error_message: The same in words.
        error_us: When that was.
        failures: Failed checks in a row.
        missing: Of the declared models those that it does not have.
    """

    backend: str
    source: str
    body: dict[str, Any]
    state: BackendHealth
    since_us: int
    checked_us: int
    latency_us: int | None = None
    error_code: str = ""
    error_message: str = ""
    error_us: int | None = None
    failures: int = 0
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundModel:
    """A model that a backend said it has, and what it said of it."""

    backend: str
    model: str
    seen_us: int
    body: dict[str, Any] = field(default_factory=dict)


class BackendStateStore:
    """States of all backends.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def all(self) -> dict[str, BackendState]:
        """Return how all backends are, by name."""
        query = select(backend_states).order_by(backend_states.c.backend)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return {row.backend: _state_of(row) for row in rows}

    async def models(self, backend: str | None = None) -> list[FoundModel]:
        """Return the models that backends, or one of them, said they have."""
        query = select(found_models).order_by(found_models.c.backend, found_models.c.model)
        if backend is not None:
            query = query.where(found_models.c.backend == backend)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [FoundModel(**dict(row._mapping) | {"body": json.loads(row.body)}) for row in rows]

    async def record(self, checks: Sequence[CheckedBackend], *, now_us: int) -> dict[str, BackendState]:
        """Write what checks found; workers are told if it matters to them.

        Returns:
            How the backends are, by name.
        """

        def work(connection: Connection) -> dict[str, BackendState]:
            # first, since it keeps other writers out
            bump(connection)
            has_changed = [_record_one(connection, check, now_us) for check in checks]
            if any(has_changed):
                bump(connection, seen=True)
            names = [check.backend for check in checks]
            rows = connection.execute(select(backend_states).where(backend_states.c.backend.in_(names))).all()
            return {row.backend: _state_of(row) for row in rows}

        return await self.database.run(work, write=True)

    async def keep_only(self, names: Sequence[str]) -> list[str]:
        """Forget all backends but these, and return which were forgotten."""

        def work(connection: Connection) -> list[str]:
            query = select(backend_states.c.backend).where(backend_states.c.backend.not_in(names))
            gone = [row.backend for row in connection.execute(query)]
            if gone:
                bump(connection, seen=True)
                connection.execute(delete(found_models).where(found_models.c.backend.in_(gone)))
                connection.execute(delete(backend_states).where(backend_states.c.backend.in_(gone)))
            return gone

        return await self.database.run(work, write=True)

    async def forget_model(self, backend: str, model: str) -> None:
        """Note that a model is not there any more."""

        def work(connection: Connection) -> None:
            bump(connection, seen=True)
            mine = (found_models.c.backend == backend, found_models.c.model == model)
            connection.execute(delete(found_models).where(*mine))

        await self.database.run(work, write=True)


def _record_one(connection: Connection, check: CheckedBackend, now_us: int) -> bool:
    mine = backend_states.c.backend == check.backend
    known = connection.execute(select(backend_states).where(mine)).one_or_none()
    is_up = check.state == "up"
    values: dict[str, Any] = {
        "source": check.source,
        "body": compact_json(check.body),
        "state": check.state,
        "checked_us": now_us,
        "latency_us": check.latency_us,
        "failures": 0 if is_up else (0 if known is None else known.failures) + 1,
        "missing": compact_json(list(check.missing)),
    }
    if not is_up:
        message = check.error_message[:MOST_MESSAGE_CHARS]
        values |= {"error_code": check.error_code, "error_message": message, "error_us": now_us}
    if known is None or known.state != check.state:
        values["since_us"] = now_us
    if known is None:
        rest = {"backend": check.backend, "error_code": "", "error_message": "", "error_us": None}
        connection.execute(insert(backend_states).values({**rest, **values}))
    else:
        connection.execute(update(backend_states).where(mine).values(values))
    matters = ("source", "body", "state", "missing")
    has_changed = known is None or any(getattr(known, name) != values[name] for name in matters)
    return _record_models(connection, check, now_us) or has_changed


def _record_models(connection: Connection, check: CheckedBackend, now_us: int) -> bool:
    if check.models is None:
        return False
    query = select(found_models.c.model, found_models.c.body).where(found_models.c.backend == check.backend)
    known = {row.model: row.body for row in connection.execute(query)}
    wanted = {name[:255]: compact_json(dict(body)) for name, body in list(check.models.items())[:MOST_MODELS]}
    gone = [name for name in known if name not in wanted]
    fresh = [name for name in wanted if known.get(name) != wanted[name]]
    for names in (gone, [name for name in fresh if name in known]):
        for name in names:
            mine = (found_models.c.backend == check.backend, found_models.c.model == name)
            connection.execute(delete(found_models).where(*mine))
    rows = [{"backend": check.backend, "model": name, "body": wanted[name], "seen_us": now_us} for name in fresh]
    if rows:
        connection.execute(insert(found_models), rows)
    return bool(gone or fresh)


def _state_of(row: Row[*tuple[Any, ...]]) -> BackendState:
    values = dict(row._mapping)
    read = {"body": json.loads(values["body"]), "missing": tuple(json.loads(values["missing"]))}
    return BackendState(**values | read)
