"""Events from outside in the store: what came, what it did, who waits for it; and the hooks by which it comes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, select, tuple_, update

from engine.core.values import Json, compact_json
from engine.store.database import Database
from engine.store.locks import lock_row
from engine.store.rows import event_hash
from engine.store.schema import executions, waits
from engine.store.schema_doors import inbound_events, inbound_hooks

MOST_WAITING = 10_000
"""Executions to which one event goes at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookFacts:
    """A hook by which events come in; times in Unix microseconds.

    Attributes:
        tenant: Whose it is.
        id: Its id, which stands in its address.
        name: What it is for.
        event: Name of the events.
        key_of: Expression over the body that gives an event its key; empty = no key.
        only_if: Expression that must hold of the body; empty = any body.
        kind: How its caller is known: `key`, `github`, `standard`.
        secret: Hash of the key, or the secret of signatures.
        active: Whether it takes anything.
        taken: How many events it took.
        refused: How many requests it refused.
        last_us: When the last one came.
        created_us: When it was made.
        actor: Who made it.
    """

    tenant: str
    id: str
    name: str
    event: str
    key_of: str = ""
    only_if: str = ""
    kind: str = "key"
    secret: str
    active: bool = True
    taken: int = 0
    refused: int = 0
    last_us: int | None = None
    created_us: int
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InboundEvent:
    """An event from outside; times in Unix microseconds.

    Attributes:
        tenant: Whose it is.
        id: Its id; it is taken once.
        name: Its name.
        key: What tells events of one name apart.
        value: What is told about it.
        execution_id: The one execution that it is for; empty = whoever waits for it.
        hook_id: The hook by which it came; empty = somebody sent it.
        actor: Who sent it.
        received_us: When it came.
        done_us: When everything was done that it does; None = something may be left.
        result: What it did: {delivered, started}.
    """

    tenant: str
    id: str
    name: str
    key: Json = None
    value: Json = None
    execution_id: str = ""
    hook_id: str = ""
    actor: str = ""
    received_us: int
    done_us: int | None = None
    result: dict[str, Any] = field(default_factory=dict)


_JSON = ("key", "value", "result")


def _event_of(row: Row[*tuple[Any, ...]]) -> InboundEvent:
    values = dict(row._mapping)
    return InboundEvent(**values | {name: json.loads(values[name]) for name in _JSON})


def _event_row(event: InboundEvent) -> dict[str, Any]:
    values = {name: getattr(event, name) for name in InboundEvent.__dataclass_fields__}
    return values | {name: compact_json(values[name]) for name in _JSON}


def _hook_of(row: Row[*tuple[Any, ...]]) -> HookFacts:
    return HookFacts(**row._mapping)


class HookStore:
    """Hooks and events of all tenants.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- events ----------------------------------------------------------------------------------------------------

    async def put_event(self, event: InboundEvent) -> InboundEvent:
        """Store an event; one of its id that came before is returned instead."""
        mine = and_(inbound_events.c.tenant == event.tenant, inbound_events.c.id == event.id)

        def write(connection: Connection) -> InboundEvent:
            lock_row(connection, inbound_events.name, f"{event.tenant}\n{event.id}")
            known = connection.execute(select(inbound_events).where(mine)).one_or_none()
            if known is not None:
                return _event_of(known)
            connection.execute(insert(inbound_events).values(_event_row(event)))
            return event

        return await self.database.run(write, write=True)

    async def write_result(self, event: InboundEvent, result: dict[str, Any], *, done_us: int | None) -> None:
        """Write what an event did so far, and whether that is all."""
        mine = and_(inbound_events.c.tenant == event.tenant, inbound_events.c.id == event.id)
        values = {"result": compact_json(result), "done_us": done_us}
        statement = update(inbound_events).where(mine).values(values)
        await self.database.run(lambda connection: connection.execute(statement), write=True)

    async def find_event(self, event_id: str, *, tenant: str) -> InboundEvent | None:
        """Return an event, or None."""
        query = select(inbound_events).where(inbound_events.c.tenant == tenant, inbound_events.c.id == event_id)
        row = await self.database.run(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _event_of(row)

    async def events(
        self, *, tenant: str, limit: int, after: tuple[int, str] | None = None, name: str | None = None
    ) -> Sequence[InboundEvent]:
        """Return one page of a tenant's events, the latest first."""
        query = select(inbound_events).where(inbound_events.c.tenant == tenant)
        if name is not None:
            query = query.where(inbound_events.c.name == name)
        if after is not None:
            query = query.where(tuple_(inbound_events.c.received_us, inbound_events.c.id) < tuple_(*after))
        query = query.order_by(inbound_events.c.received_us.desc(), inbound_events.c.id.desc()).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_event_of(row) for row in rows]

    async def unfinished(self, *, before_us: int, limit: int) -> list[InboundEvent]:
        """Return events of all tenants that came before a time, and with which something may be left to do."""
        query = select(inbound_events).where(inbound_events.c.done_us.is_(None))
        query = query.where(inbound_events.c.received_us < before_us)
        query = query.order_by(inbound_events.c.received_us).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_event_of(row) for row in rows]

    async def forget_events(self, *, before_us: int) -> None:
        """Delete events that came before a time."""
        old = delete(inbound_events).where(inbound_events.c.received_us < before_us)
        await self.database.run(lambda connection: connection.execute(old), write=True)

    async def waiting_for(self, name: str, key: Json, *, tenant: str, opened_before_us: int | None = None) -> list[str]:
        """Return executions that wait for an event, those first that have waited longest.

        Args:
            name: Name of the event.
            key: Its key.
            tenant: The tenant.
            opened_before_us: Only waits that were open at this time.
        """
        query = select(waits.c.execution_id).where(
            waits.c.tenant == tenant,
            waits.c.event_hash == event_hash(name, key),
            waits.c.event_hash != "",
            waits.c.closed_seq.is_(None),
        )
        if opened_before_us is not None:
            query = query.where(waits.c.opened_us <= opened_before_us)
        query = query.order_by(waits.c.opened_us, waits.c.execution_id).limit(MOST_WAITING)
        rows = await self.database.run(lambda connection: connection.execute(query).scalars().all())
        return list(dict.fromkeys(rows))

    async def there_are(self, ids: Sequence[str], *, tenant: str) -> set[str]:
        """Return those of some executions that the store knows."""
        query = select(executions.c.id).where(executions.c.tenant == tenant, executions.c.id.in_(ids))
        return set(await self.database.run(lambda connection: connection.execute(query).scalars().all()))

    # --- hooks -----------------------------------------------------------------------------------------------------

    async def add(self, facts: HookFacts) -> HookFacts:
        """Store a hook; one of its id that is there already stays, and is returned."""
        mine = and_(inbound_hooks.c.tenant == facts.tenant, inbound_hooks.c.id == facts.id)

        def write(connection: Connection) -> HookFacts:
            lock_row(connection, inbound_hooks.name, facts.id)
            known = connection.execute(select(inbound_hooks).where(mine)).one_or_none()
            if known is not None:
                return _hook_of(known)
            values = {name: getattr(facts, name) for name in HookFacts.__dataclass_fields__}
            connection.execute(insert(inbound_hooks).values(values))
            return facts

        return await self.database.run(write, write=True)

    async def find(self, hook_id: str, *, tenant: str | None) -> HookFacts | None:
        """Return a hook, or None; whoever calls one names no tenant (None)."""
        query = select(inbound_hooks).where(inbound_hooks.c.id == hook_id)
        if tenant is not None:
            query = query.where(inbound_hooks.c.tenant == tenant)
        row = await self.database.run(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _hook_of(row)

    async def page(self, *, tenant: str, limit: int, after: tuple[int, str] | None = None) -> Sequence[HookFacts]:
        """Return one page of a tenant's hooks, the oldest first."""
        query = select(inbound_hooks).where(inbound_hooks.c.tenant == tenant)
        if after is not None:
            query = query.where(tuple_(inbound_hooks.c.created_us, inbound_hooks.c.id) > tuple_(*after))
        query = query.order_by(inbound_hooks.c.created_us, inbound_hooks.c.id).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_hook_of(row) for row in rows]

    async def change(self, hook_id: str, *, tenant: str, values: dict[str, Any]) -> HookFacts | None:
        """Change members of a hook; None if there is none."""
        mine = and_(inbound_hooks.c.tenant == tenant, inbound_hooks.c.id == hook_id)

        def write(connection: Connection) -> HookFacts | None:
            if values:
                connection.execute(update(inbound_hooks).where(mine).values(values))
            row = connection.execute(select(inbound_hooks).where(mine)).one_or_none()
            return None if row is None else _hook_of(row)

        return await self.database.run(write, write=True)

    async def count(self, hook: HookFacts, *, now_us: int, refused: bool) -> None:
        """Count a request."""
        name = "refused" if refused else "taken"
        values = {name: inbound_hooks.c[name] + 1, "last_us": now_us}
        mine = and_(inbound_hooks.c.tenant == hook.tenant, inbound_hooks.c.id == hook.id)
        statement = update(inbound_hooks).where(mine).values(values)
        await self.database.run(lambda connection: connection.execute(statement), write=True)

    async def remove(self, hook_id: str, *, tenant: str) -> bool:
        """Delete a hook; False if there is none."""
        statement = delete(inbound_hooks).where(inbound_hooks.c.tenant == tenant, inbound_hooks.c.id == hook_id)
        done = await self.database.run(lambda connection: connection.execute(statement).rowcount, write=True)
        return done == 1
