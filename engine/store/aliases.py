"""Aliases in the store: names such as `prod` that point to one version of a task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, and_, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.core.errors import Conflict, NotFound
from engine.store.database import Database
from engine.store.locks import lock_definitions
from engine.store.schema import task_aliases, tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class AliasFacts:
    """An alias as it is stored.

    Attributes:
        tenant: Its tenant.
        task_id: The task.
        alias: Its name.
        version: The version it points to.
        updated_us: When it was last moved, Unix microseconds.
    """

    tenant: str
    task_id: str
    alias: str
    version: int
    updated_us: int


def _alias_of(row: Row[*tuple[Any, ...]]) -> AliasFacts:
    return AliasFacts(
        tenant=row.tenant, task_id=row.task_id, alias=row.alias, version=row.version, updated_us=row.updated_us
    )


def _key_of(tenant: str, task_id: str, alias: str) -> Any:
    columns = task_aliases.c
    return and_(columns.tenant == tenant, columns.task_id == task_id, columns.alias == alias)


async def write_alias(connection: AsyncConnection, facts: AliasFacts, *, expect: int | None = None) -> None:
    """Set an alias within a write transaction.

    Args:
        connection: The transaction.
        facts: The alias as it shall be.
        expect: The version it must point to now; 0 = it must not exist; None = whatever it is.

    Raises:
        Conflict: `alias.moved` if it points to another version than expected.
    """
    key = _key_of(facts.tenant, facts.task_id, facts.alias)
    present = (await connection.execute(select(task_aliases.c.version).where(key))).scalar()
    if expect is not None and (present or 0) != expect:
        now = f"points to version {present}" if present else "does not exist"
        wanted = f"to version {expect} was expected" if expect else "none was expected"
        raise Conflict(
            f"the alias '{facts.alias}' {now}; {wanted}",
            code="alias.moved",
            hint="somebody else has moved it; look at the versions and decide again",
            details={"version": present},
        )
    values = {"version": facts.version, "updated_us": facts.updated_us}
    if present is None:
        row = {"tenant": facts.tenant, "task_id": facts.task_id, "alias": facts.alias, **values}
        await connection.execute(insert(task_aliases).values(row))
    else:
        await connection.execute(update(task_aliases).where(key).values(values))


class Aliases:
    """Aliases of all tasks.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def find(self, task_id: str, alias: str, *, tenant: str) -> AliasFacts | None:
        """Return an alias of a task, or None if it has none of that name."""
        query = select(task_aliases).where(_key_of(tenant, task_id, alias))
        async with self.database.read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return None if row is None else _alias_of(row)

    async def list_all(self, *, tenant: str, task_id: str | None = None) -> list[AliasFacts]:
        """Return the aliases of a task, or of all tasks, by task and name."""
        query = select(task_aliases).where(task_aliases.c.tenant == tenant)
        if task_id is not None:
            query = query.where(task_aliases.c.task_id == task_id)
        query = query.order_by(task_aliases.c.task_id, task_aliases.c.alias)
        async with self.database.read() as connection:
            return [_alias_of(row) for row in (await connection.execute(query)).all()]

    async def put(self, facts: AliasFacts, *, expect: int | None = None) -> None:
        """Set an alias.

        Args:
            facts: The alias as it shall be.
            expect: The version it must point to now; 0 = it must not exist; None = whatever it is.

        Raises:
            NotFound: `task.version_not_found` if the task has no such version, or was removed meanwhile.
            Conflict: `alias.moved` if it points to another version than expected.
        """
        version = select(tasks.c.version).where(
            tasks.c.tenant == facts.tenant,
            tasks.c.id == facts.task_id,
            tasks.c.version == facts.version,
            tasks.c.deleted_us.is_(None),
        )
        async with self.database.write() as connection:
            await connection.run_sync(lock_definitions, facts.tenant)
            if (await connection.execute(version)).scalar() is None:
                raise NotFound(
                    f"task {facts.task_id} has no version {facts.version}",
                    code="task.version_not_found",
                    hint="list them with `everstep tasks versions NAME`",
                )
            await write_alias(connection, facts, expect=expect)

    async def remove(self, task_id: str, alias: str, *, tenant: str) -> None:
        """Delete an alias.

        Raises:
            NotFound: `alias.not_found`.
        """
        async with self.database.write() as connection:
            gone = await connection.execute(delete(task_aliases).where(_key_of(tenant, task_id, alias)))
            if gone.rowcount == 0:
                raise NotFound(f"the task has no alias '{alias}'", code="alias.not_found")
