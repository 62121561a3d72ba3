"""Backends and groups that the operator declared by API or CLI, and the marks by which workers notice changes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from engine.core.errors import Conflict, NotFound
from engine.core.values import compact_json
from engine.store.database import Database
from engine.store.locks import lock_row
from engine.store.schema_models import registry_entries, registry_marks

EntryKind = Literal["backend", "group"]
THE_ROW = 1


class Marks(NamedTuple):
    """Counters that are never the same again after a change: of what is declared, and of what was found out."""

    config: int = 0
    seen: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFacts:
    """A backend or a group as it was declared; times in Unix microseconds.

    Attributes:
        kind: Which of both.
        name: Its name.
        position: Which came first.
        body: What a table of everstep.toml says.
        rev: How often it was changed.
        created_us: When it was declared.
        updated_us: When it was last changed.
        actor: Who changed it last.
    """

    kind: EntryKind
    name: str
    position: int
    body: dict[str, Any]
    rev: int
    created_us: int
    updated_us: int
    actor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryChange:
    """What is to become of a backend or a group.

    Attributes:
        kind: Which of both.
        name: Its name.
        body: What it says from now on; None = it is removed.
        is_new: Whether there may be none of that name yet; None = either.
        expect_rev: Its number, if it must not have been changed by others; None = it may.
    """

    kind: EntryKind
    name: str
    body: dict[str, Any] | None
    is_new: bool | None = None
    expect_rev: int | None = None


def bump(connection: Connection, *, config: bool = False, seen: bool = False) -> None:
    """Let workers notice a change; holds off all other writers of the registry until the transaction ends.

    Args:
        connection: A transaction that may write, before it reads what it will write.
        config: Whether what is declared changes.
        seen: Whether what was found out changes.
    """
    lock_row(connection, registry_marks.name, str(THE_ROW))
    mine = registry_marks.c.id == THE_ROW
    if connection.execute(select(registry_marks.c.id).where(mine)).one_or_none() is None:
        connection.execute(insert(registry_marks).values(id=THE_ROW, config=0, seen=0))
    values = {
        "config": registry_marks.c.config + int(config),
        "seen": registry_marks.c.seen + int(seen),
    }
    connection.execute(update(registry_marks).where(mine).values(values))


class RegistryStore:
    """What was declared.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def marks(self) -> Marks:
        """Return the counters of changes."""
        query = select(registry_marks.c.config, registry_marks.c.seen)
        row = await self.database.run(lambda connection: connection.execute(query).one_or_none())
        return Marks() if row is None else Marks(row.config, row.seen)

    async def all(self, kind: EntryKind | None = None) -> list[EntryFacts]:
        """Return what was declared, in its order."""
        query = select(registry_entries).order_by(registry_entries.c.position, registry_entries.c.name)
        if kind is not None:
            query = query.where(registry_entries.c.kind == kind)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [_facts_of(row) for row in rows]

    async def find(self, kind: EntryKind, name: str) -> EntryFacts | None:
        """Return a backend or a group, or None."""
        query = select(registry_entries).where(_one(kind, name))
        row = await self.database.run(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else _facts_of(row)

    async def write(self, changes: Sequence[EntryChange], *, now_us: int, actor: str = "") -> list[EntryFacts]:
        """Do all changes or none.

        Args:
            changes: What is to become of what.
            now_us: Unix microseconds.
            actor: Who wants it.

        Returns:
            What is declared of it afterwards, without what was removed.

        Raises:
            Conflict: `backend.exists`, `group.exists`, or `registry.moved` if somebody else changed it meanwhile.
            NotFound: `backend.not_found`, `group.not_found`.
        """

        def work(connection: Connection) -> list[EntryFacts]:
            bump(connection, config=True)
            for change in changes:
                _write_one(connection, change, now_us, actor)
            rows = [connection.execute(select(registry_entries).where(_one(item.kind, item.name))) for item in changes]
            return [_facts_of(row) for result in rows for row in result]

        return await self.database.run(work, write=True)


def _write_one(connection: Connection, change: EntryChange, now_us: int, actor: str) -> None:
    mine = _one(change.kind, change.name)
    known = connection.execute(select(registry_entries.c.rev).where(mine)).one_or_none()
    if known is None and (change.is_new is False or change.body is None):
        raise not_found(change.kind, change.name)
    if known is not None and change.is_new:
        raise _exists(change.kind, change.name)
    if known is not None and change.expect_rev not in (None, known.rev):
        raise Conflict(
            f"the {change.kind} '{change.name}' was changed by somebody else", code="registry.moved", hint="try again"
        )
    if change.body is None:
        connection.execute(delete(registry_entries).where(mine))
        return
    values = {"body": compact_json(change.body), "updated_us": now_us, "actor": actor}
    if known is not None:
        connection.execute(update(registry_entries).where(mine).values(rev=known.rev + 1, **values))
        return
    last = connection.execute(select(func.max(registry_entries.c.position))).scalar() or 0
    place = {"kind": change.kind, "name": change.name, "position": last + 1}
    connection.execute(insert(registry_entries).values(**place, rev=1, created_us=now_us, **values))


def not_found(kind: EntryKind, name: str, hint: str = "") -> NotFound:
    """Return the error of a backend or a group that is not there."""
    if kind == "group":
        return NotFound(f"there is no group {name[:80]}", code="group.not_found", hint=hint)
    return NotFound(f"there is no backend {name[:80]}", code="backend.not_found", hint=hint)


def _exists(kind: EntryKind, name: str) -> Conflict:
    hint = "change it, or choose another name"
    if kind == "group":
        return Conflict(f"there is already a group '{name}'", code="group.exists", hint=hint)
    return Conflict(f"there is already a backend '{name}'", code="backend.exists", hint=hint)


def _one(kind: str, name: str) -> Any:
    return and_(registry_entries.c.kind == kind, registry_entries.c.name == name)


def _facts_of(row: Row[*tuple[Any, ...]]) -> EntryFacts:
    values = dict(row._mapping)
    return EntryFacts(**values | {"body": json.loads(values["body"])})
