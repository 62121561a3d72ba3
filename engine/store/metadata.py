"""What metadata contains, and pages of small tables (agents, tasks) that are filtered by it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Select
from sqlalchemy.ext.asyncio import AsyncConnection

from engine.core.values import Json


def contains(value: Json, part: Json) -> bool:
    """Whether a JSON value contains another one: objects by their members, everything else by equality."""
    if isinstance(value, dict) and isinstance(part, dict):
        return all(key in value and contains(value[key], item) for key, item in part.items())
    return bool(value == part)


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
