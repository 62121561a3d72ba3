"""Removes every row of executions and leaves a mark that there was one, so that nothing brings it back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from sqlalchemy import Column, Connection, delete, insert, or_, select, update

from engine.store.bulk import ById
from engine.store.database import Database
from engine.store.idempotency import about_executions
from engine.store.locks import lock_executions
from engine.store.schema import executions, idempotency, projection, truth
from engine.store.schema_blobs import purged
from engine.store.schema_doors import bulk_items, schedule_runs

IN_CHUNK = 200
_OWN_KEY = {"executions": "id", "starts": "id", "chat_turns": "id", "session_summaries": "id", "purged": ""}
"""Tables of executions whose column for the id has another name; empty = their rows stay."""

EMPTIED: tuple[tuple[Column[str], dict[str, str | None]], ...] = (
    (bulk_items.c.item_id, {"message": ""}),
    (schedule_runs.c.started_id, {"error": None}),
)
"""Rows that stay, since they say what a job did and what was started; what they quote of an execution goes."""

_PURGED = ById(select(purged.c.id), purged.c.id)


class Purged(NamedTuple):
    """A purge that is under way.

    Attributes:
        id: The execution.
        tenant: Its tenant.
        at_us: When its rows were removed, Unix microseconds.
    """

    id: str
    tenant: str
    at_us: int


class Candidate(NamedTuple):
    """An execution that somebody wants to purge.

    Attributes:
        id: The execution.
        tenant: Its tenant.
        parent_id: What started it; empty = nobody's child.
        settled: Whether its end is stored.
        status: Its status.
        closed_us: When it ended.
    """

    id: str
    tenant: str
    parent_id: str
    settled: bool
    status: str
    closed_us: int | None


_CANDIDATE = tuple(executions.c[name] for name in Candidate._fields)


def buried(connection: Connection, ids: Iterable[str]) -> set[str]:
    """Return those of some executions that were purged."""
    wanted = list(ids)
    return {row[0] for row in _PURGED.read(connection, wanted)} if wanted else set()


def columns_of_executions() -> list[Column[str]]:
    """Return of all tables that hold something of an execution the column that says of which."""
    tables = [table for data in (truth, projection) for table in data.sorted_tables]
    names = [(table, _OWN_KEY.get(table.name, "execution_id")) for table in tables]
    return [table.c[name] for table, name in names if name in table.c]


class PurgeStore:
    """Reads and writes of purges.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def was_purged(self, execution_id: str) -> bool:
        """Whether an execution was purged."""
        return bool(await self.database.run(lambda connection: buried(connection, [execution_id])))

    async def candidates(self, ids: Sequence[str], *, tenant: str) -> list[Candidate]:
        """Return what the store knows of executions of a tenant; others are left out."""
        found: list[Candidate] = []
        for start in range(0, len(ids), IN_CHUNK):
            mine = executions.c.id.in_(ids[start : start + IN_CHUNK])
            query = select(*_CANDIDATE).where(executions.c.tenant == tenant, mine)
            rows = await self.database.run(lambda connection, query=query: connection.execute(query).all())  # type: ignore[misc]
            found += [Candidate(*row) for row in rows]
        return found

    async def below(self, root: Candidate) -> list[Candidate]:
        """Return an execution and all that it started, directly or not, the uppermost first."""
        found, level = {root.id: root}, [root.id]
        while level:
            below: list[Candidate] = []
            for start in range(0, len(level), IN_CHUNK):
                mine = executions.c.parent_id.in_(level[start : start + IN_CHUNK])
                query = select(*_CANDIDATE).where(executions.c.tenant == root.tenant, mine).order_by(executions.c.id)
                rows = await self.database.run(lambda connection, query=query: connection.execute(query).all())  # type: ignore[misc]
                below += [Candidate(*row) for row in rows]
            level = [one.id for one in below if one.id not in found]
            found |= {one.id: one for one in below}
        return list(found.values())

    async def ended_before(self, before_us: int, *, after: str, limit: int) -> list[Candidate]:
        """Return one page, by id, of executions of all tenants that are nobody's children and ended before a time."""
        query = select(*_CANDIDATE).where(
            executions.c.settled.is_(True), executions.c.closed_us < before_us, executions.c.parent_id == ""
        )
        query = query.where(executions.c.id > after).order_by(executions.c.id)
        rows = await self.database.run(lambda connection: connection.execute(query.limit(limit)).all())
        return [Candidate(*row) for row in rows]

    async def bury(self, found: Sequence[Candidate], *, now_us: int) -> None:
        """Mark executions as purged and remove all their rows, in one transaction."""
        await self.database.run(lambda connection: _bury(connection, found, now_us), write=True)

    async def sweep_rows(self, ids: Sequence[str]) -> None:
        """Remove rows that came after the others were removed."""
        await self.database.run(lambda connection: _remove_rows(connection, ids), write=True)

    async def unfinished(self, *, limit: int = 200) -> list[Purged]:
        """Return purges of which something may be left, the oldest first."""
        query = select(purged.c.id, purged.c.tenant, purged.c.at_us).where(purged.c.done_us.is_(None))
        query = query.order_by(purged.c.at_us, purged.c.id).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [Purged(*row) for row in rows]

    async def done(self, execution_id: str, *, now_us: int) -> None:
        """Note that nothing of an execution is left."""
        statement = update(purged).where(purged.c.id == execution_id).values(done_us=now_us)
        await self.database.run(lambda connection: connection.execute(statement), write=True)

    async def settle_files(self) -> None:
        """Write SQLite's log into its file and empty it, since removed rows stand in it; others do that themselves."""
        if self.database.is_sqlite:
            async with self.database.read() as connection:
                await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")


def _bury(connection: Connection, found: Sequence[Candidate], now_us: int) -> None:
    lock_executions(connection, [one.id for one in found])
    known = buried(connection, [one.id for one in found])
    rows = [{"id": one.id, "tenant": one.tenant, "at_us": now_us} for one in found if one.id not in known]
    if rows:
        connection.execute(insert(purged), rows)
    _remove_rows(connection, [one.id for one in found])


def _remove_rows(connection: Connection, ids: Sequence[str]) -> None:
    columns = columns_of_executions()
    for start in range(0, len(ids), IN_CHUNK):
        part = list(ids[start : start + IN_CHUNK])
        for column in columns:
            connection.execute(delete(column.table).where(column.in_(part)))
        for column, values in EMPTIED:
            connection.execute(update(column.table).where(column.in_(part)).values(values))
        # what was answered to a request quotes what was sent, whether or not it names the execution
        connection.execute(delete(idempotency).where(about_executions(part)))
        for some in (part[at : at + 20] for at in range(0, len(part), 20)):
            told = or_(*(idempotency.c.body.contains(one, autoescape=True) for one in some))
            connection.execute(delete(idempotency).where(told))
