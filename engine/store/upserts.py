"""Statements that insert rows and change those that are there; each database has its own dialect for them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Executable, Table
from sqlalchemy.dialects import postgresql, sqlite


class Upsert:
    """Inserts rows of a table; built once, since putting statements together takes longer than running them.

    Args:
        table: The table.
        replace: Whether a row with the same key gets the new values; False = it stays as it is.
    """

    def __init__(self, table: Table, *, replace: bool) -> None:
        keys = [column.name for column in table.primary_key.columns]
        others = [column.name for column in table.c if column.name not in keys]
        self._by_dialect: Mapping[str, Executable] = MappingProxyType(
            {
                "sqlite": _statement(sqlite.insert(table), keys, others if replace else []),
                "postgresql": _statement(postgresql.insert(table), keys, others if replace else []),
            }
        )

    def run(self, connection: Connection, rows: list[dict[str, Any]]) -> None:
        """Write rows, each with all its columns and a key of its own."""
        if rows:
            connection.execute(self._by_dialect[connection.dialect.name], rows)


def _statement(insert: sqlite.Insert | postgresql.Insert, keys: list[str], others: list[str]) -> Executable:
    if not others:
        return insert.on_conflict_do_nothing(index_elements=keys)
    return insert.on_conflict_do_update(index_elements=keys, set_={name: insert.excluded[name] for name in others})
