"""Lets transactions that read rows and then write them go one after another; on SQLite they do anyway."""

from __future__ import annotations

import zlib
from collections.abc import Iterable

from sqlalchemy import Connection, text

MIGRATIONS = 0x45560001
EXECUTIONS = 0x45560002
DEFINITIONS = 0x45560003
ROWS = 0x45560004
"""First halves of the numbers of advisory locks; others may use such locks in the same database."""

STRIPES = 256
"""Names share so many locks: a batch may touch thousands of executions, the server's table of locks is not larger."""

_LOCK = text(
    "SELECT pg_advisory_xact_lock(:half, wanted.number) FROM unnest(CAST(:numbers AS integer[])) AS wanted (number)"
)


def _lock(connection: Connection, half: int, names: Iterable[str]) -> None:
    if connection.dialect.name != "postgresql":
        return  # BEGIN IMMEDIATE has taken the only write lock there is
    numbers = sorted({zlib.crc32(name.encode()) % STRIPES for name in names})
    if numbers:
        # rising order in every transaction, so that no two wait for each other
        connection.execute(_LOCK, {"half": half, "numbers": numbers})


def lock_executions(connection: Connection, ids: Iterable[str]) -> None:
    """Wait until no other transaction writes rows of these executions, and keep others out until this one ends.

    To be called once in a transaction, before it reads what it will write: every statement sees what was committed
    before it began, so the first read behind the lock is true until the end.

    Args:
        connection: A transaction that may write.
        ids: All executions whose rows it will touch.
    """
    _lock(connection, EXECUTIONS, ids)


def lock_definitions(connection: Connection, tenant: str) -> None:
    """Wait until no other transaction writes agents, tasks or aliases of a tenant, and keep others out until the end.

    Args:
        connection: A transaction that may write.
        tenant: The tenant.
    """
    _lock(connection, DEFINITIONS, [tenant])


def lock_row(connection: Connection, table: str, key: str) -> None:
    """Wait until no other transaction updates or inserts one row, and keep others out until the end.

    Args:
        connection: A transaction that may write.
        table: Name of the table.
        key: The row's key as text.
    """
    _lock(connection, ROWS, [f"{table}:{key}"])


def lock_rows(connection: Connection, table: str, keys: Iterable[str]) -> None:
    """Do what `lock_row` does for several rows, at once and in one order, so that no two wait for each other.

    Args:
        connection: A transaction that may write.
        table: Name of the table.
        keys: The rows' keys as text.
    """
    _lock(connection, ROWS, [f"{table}:{key}" for key in keys])


def lock_migrations(connection: Connection) -> None:
    """Wait until no other process changes the tables, and keep others out until the end.

    Args:
        connection: A transaction that may write.
    """
    _lock(connection, MIGRATIONS, [""])
