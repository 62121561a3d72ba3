"""Pages of small tables (agents, tasks, users) in an order, and filtered by what their metadata contains."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select, Table
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.core.run.tags import Ambiguous
from engine.core.values import Json


def contains(value: Json, part: Any) -> bool:
    """Whether a JSON value contains another one: objects by their members, everything else by equality."""
    if isinstance(part, Ambiguous):
        return value == part.text or contains(value, part.value)
    if isinstance(value, dict) and isinstance(part, dict):
        return all(key in value and contains(value[key], item) for key, item in part.items())
    return bool(value == part)


def ordered(query: Select[Any], table: Table, sort_by: str, descending: bool) -> Select[Any]:
    """Return a query of a table in the order of a list.

    Args:
        query: The query.
        table: The table, with times and ids.
        sort_by: `created_at` or `updated_at`.
        descending: Newest first.
    """
    moment = table.c.updated_us if sort_by == "updated_at" else table.c.created_us
    keys = (moment, table.c.id)
    return query.order_by(*[key.desc() if descending else key.asc() for key in keys])


async def page_of(
    connection: AsyncConnection,
    query: Select[Any],
    *,
    metadata: Mapping[str, Any] | None,
    limit: int,
    offset: int,
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return one page of a query's rows, only those whose `metadata` column contains an object, if one is given.

    The filter runs here and not in SQL, whose JSON operators differ between SQLite and PostgreSQL. Executions, of which
    there are many, are found by their tags instead (engine.store.listing).
    """
    if not metadata:
        return list((await connection.execute(query.limit(limit).offset(offset))).all())
    rows = await connection.execute(query)
    found = [row for row in rows if contains(json.loads(row._mapping["metadata"]), dict(metadata))]
    return found[offset : offset + limit]
