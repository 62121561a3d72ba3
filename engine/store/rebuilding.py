"""All rows of one execution: read for a comparison, forgotten, or opened again after an end that was taken back."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Table, delete, select, update

from engine.store.schema import attempts, events, execution_tags, executions, waits

DERIVED = (executions, events, execution_tags, attempts, waits)
"""The tables that are derived from events."""

NOT_DERIVED = {
    "stuck": "what Temporal said of an execution at the moment somebody looked",
    "gone_us": "when somebody looked and Temporal no longer had it",
    "checked_events": "a note of the repair, which saves it replays",
}
"""Columns of `executions` that no replay gives back, and why."""

_REOPENED: dict[str, Any] = {
    "settled": False,
    "closed_us": None,
    "output": None,
    "error": None,
    "error_code": "",
    "verified": None,
    "gone_us": None,
    "checked_events": None,
}


def key_of(table: Table) -> str:
    """Return the name of the column that holds the execution's id."""
    return "id" if table is executions else "execution_id"


def rows_of(connection: Connection, execution_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of an execution by table, in the order of their primary keys, without `NOT_DERIVED`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for table in DERIVED:
        columns = [column for column in table.c if column.name not in NOT_DERIVED]
        query = select(*columns).where(table.c[key_of(table)] == execution_id).order_by(*table.primary_key.columns)
        found[table.name] = [dict(row._mapping) for row in connection.execute(query)]
    return found


def forget(connection: Connection, execution_id: str) -> None:
    """Delete all rows of an execution but its events, of which newer ones may have come."""
    for table in DERIVED:
        if table is not events:
            connection.execute(delete(table).where(table.c[key_of(table)] == execution_id))


def reopen(connection: Connection, execution_id: str) -> None:
    """Take back the stored end of an execution; what follows from its events must be made anew after that.

    This is the only place where an end that was stored does not stay: the workflow was reset, or Temporal has again
    what it had lost.
    """
    connection.execute(update(executions).where(executions.c.id == execution_id).values(_REOPENED))
