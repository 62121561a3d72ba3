"""Statements that run for many rows at once, handed to the driver without SQLAlchemy's look at each parameter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Delete,
    Dialect,
    Insert,
    Row,
    Select,
    String,
    Table,
    Update,
    any_,
    bindparam,
    text,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import Boolean, TypeEngine

Change = Callable[[Any, Table], ColumnElement[Any]]
"""What a column becomes where a row with the same key is: made of the row that was to be inserted, and the table."""


class _Compiled(NamedTuple):
    """A statement in the words of one database.

    Attributes:
        sql: Its text.
        names: Members of a row in the order of the parameters.
        processors: Places of parameters that must be changed on their way, and how.
    """

    sql: str
    names: tuple[str, ...]
    processors: tuple[tuple[int, Callable[[Any], Any]], ...]


class Bulk:
    """A statement without a result, put together once and run for many rows.

    SQLAlchemy asks for each parameter of each row how it is called and whether it has a default, which for a few
    columns takes longer than the database does. Here rows hold every parameter of the statement, no more is looked at.

    Args:
        statement: The statement by name of the database; a lone one is for all of them.
        columns: The columns that an `INSERT` fills; None = all of the table.
    """

    def __init__(
        self,
        statement: Insert | Update | Delete | Mapping[str, Insert],
        columns: Sequence[str] | None = None,
    ) -> None:
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, _Compiled] = {}

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for rows, each of which holds a value for every parameter; members beyond those do no harm."""
        if not rows:
            return
        compiled = self._compiled.get(connection.dialect.name)
        if compiled is None:
            compiled = self._compiled[connection.dialect.name] = self._compile(connection.dialect)
        pick = itemgetter(*compiled.names)
        values = [pick(row) for row in rows]
        if compiled.processors:
            values = [_processed(row, compiled.processors) for row in values]
        connection.exec_driver_sql(compiled.sql, values)

    def _compile(self, dialect: Dialect) -> _Compiled:
        statement = self._statement if not isinstance(self._statement, Mapping) else self._statement[dialect.name]
        keys = self._columns
        if keys is None and isinstance(statement, Insert):
            keys = [column.name for column in statement.table.columns]
        compiled = statement.compile(dialect=dialect, column_keys=None if keys is None else list(keys))
        names = tuple(compiled.positiontup or ())
        found = [(place, _processor(compiled.binds[name].type, dialect)) for place, name in enumerate(names)]
        return _Compiled(str(compiled), names, tuple((place, change) for place, change in found if change is not None))


def _processor(kind: TypeEngine[Any], dialect: Dialect) -> Callable[[Any], Any] | None:
    # drivers take true and false as they are
    return None if isinstance(kind, Boolean) else kind.dialect_impl(dialect).bind_processor(dialect)


def _processed(row: tuple[Any, ...], processors: Sequence[tuple[int, Callable[[Any], Any]]]) -> tuple[Any, ...]:
    values = list(row)
    for place, change in processors:
        values[place] = change(values[place])
    return tuple(values)


class ById:
    """A query for rows by any number of ids, which SQLAlchemy's `IN` would put together anew for each number.

    Args:
        query: What to read.
        column: The column of the ids.
    """

    def __init__(self, query: Select[Any], column: ColumnElement[str]) -> None:
        self._list = query.where(column.in_(text("SELECT value FROM json_each(:ids)")))
        self._array = query.where(column == any_(bindparam("ids", type_=ARRAY(String))))

    def read(self, connection: Connection, ids: Sequence[str]) -> Iterable[Row[*tuple[Any, ...]]]:
        """Return the rows of these ids, in any order."""
        if connection.dialect.name == "sqlite":
            return connection.execute(self._list, {"ids": json.dumps(ids)})
        return connection.execute(self._array, {"ids": ids})


def upsert(table: Table, changes: Mapping[str, Change] | None) -> Bulk:
    """Return a statement that inserts rows, each with all columns, and changes those that are there.

    Args:
        table: The table.
        changes: By column what it becomes in a row that is there (`given` makes such things); None =
            that row stays as it is.
    """
    keys = [column.name for column in table.primary_key.columns]

    def statement(insert: sqlite.Insert | postgresql.Insert) -> Insert:
        if changes is None:
            return insert.on_conflict_do_nothing(index_elements=keys)
        values = {name: change(insert.excluded, table) for name, change in changes.items()}
        return insert.on_conflict_do_update(index_elements=keys, set_=values)

    return Bulk({"sqlite": statement(sqlite.insert(table)), "postgresql": statement(postgresql.insert(table))})


def replacing(table: Table) -> Bulk:
    """Return a statement that inserts rows and gives those that are there the new values."""
    keys = table.primary_key.columns
    return upsert(table, {column.name: given(column.name) for column in table.c if column.name not in keys})


def given(name: str) -> Change:
    """Return that a column gets the new value."""
    return lambda excluded, table: excluded[name]
