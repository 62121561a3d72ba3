"""All rows that are derived from events, as values to compare: as they are stored, and as a rebuild makes them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete

from engine.control.reindex import Reindex, Summary, Wanted
from engine.control.repair import Repair
from engine.control.settling import settle_from_temporal
from engine.store.database import Database, open_database
from engine.store.projection import ProjectionStore
from engine.store.rebuilding import DERIVED
from engine.store.upkeep import Upkeep
from tests.support.lab import Lab
from tests.support.postgres import store_url
from worker import replay_run

Rows = dict[str, dict[str, list[dict[str, Any]]]]
"""By execution and table."""


async def dump(database: Database, ids: Iterable[str] | None = None) -> Rows:
    """Return all rows of all tables that are derived from events, but for `engine.store.rebuilding.NOT_DERIVED`."""
    upkeep = Upkeep(database)
    wanted = list(ids) if ids is not None else await upkeep.ids(limit=1_000_000)
    return {execution_id: await upkeep.rows_of(execution_id) for execution_id in wanted}


async def empty(database: Database) -> None:
    """Delete all rows that are derived from events."""

    def wipe(connection: Connection) -> None:
        for table in DERIVED:
            connection.execute(delete(table))

    await database.run(wipe, write=True)


@contextlib.asynccontextmanager
async def second_store(folder: Path) -> AsyncIterator[ProjectionStore]:
    """Open an empty store beside the laboratory's."""
    database = await open_database(store_url(folder / "second.db"))
    try:
        yield ProjectionStore(database)
    finally:
        await database.close()


def differences(before: Rows, after: Rows) -> list[str]:
    """Return what is not the same, one line for each value."""
    found: list[str] = []
    for execution_id in sorted(before.keys() | after.keys()):
        if execution_id not in before or execution_id not in after:
            found.append(f"{execution_id}: only {'before' if execution_id in before else 'after'}")
            continue
        for table, rows in before[execution_id].items():
            others = after[execution_id][table]
            if len(rows) != len(others):
                found.append(f"{execution_id} {table}: {len(rows)} rows before, {len(others)} after")
            for number, (row, other) in enumerate(zip(rows, others, strict=False)):
                found += [
                    f"{execution_id} {table}[{number}].{name}: {row[name]!r} before, {other[name]!r} after"
                    for name in row
                    if row[name] != other[name]
                ]
    return found


async def settle_all(lab: Lab) -> None:
    """Settle and verify all that has ended, as the repair does."""
    for execution_id in await Upkeep(lab.store.database).ids(limit=1_000_000):
        await settle_from_temporal(lab.client, lab.store, execution_id)
    await Repair(lab.client, lab.store, replay_run).settle_ended()


async def assert_rows_are_those_of_the_histories(lab: Lab, ids: Iterable[str], folder: Path) -> Summary:
    """Rebuild executions from Temporal's histories into a second, empty store, and compare all rows of all tables."""
    wanted = list(ids)
    async with second_store(folder) as second:
        summary = await Reindex(lab.client, second, replay_run).run(Wanted(ids=tuple(wanted)))
        assert summary.failed == []
        assert summary.gone == 0
        found = differences(await dump(lab.store.database, wanted), await dump(second.database, wanted))
    assert found == [], f"{len(found)} differences, such as\n" + "\n".join(found[:20])
    return summary
