"""How many executions the store holds by status, of all tenants, for the metrics of an installation."""

from __future__ import annotations

from sqlalchemy import func, select

from engine.store.database import Database
from engine.store.schema import executions


async def count_by_status(database: Database) -> dict[str, int]:
    """Return the number of executions of each status that some have.

    Args:
        database: The open store.
    """
    query = select(executions.c.status, func.count().label("n")).group_by(executions.c.status)
    async with database.read() as connection:
        return {row.status: int(row.n) for row in await connection.execute(query)}
