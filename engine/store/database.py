"""Opens the SQL store: one async engine with the right pragmas, short reads and serialised write transactions."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from engine.core.errors import Unavailable
from engine.store.migrating import bring_to_head

BUSY_TIMEOUT_MS = 10_000

_WRITE = "everstep_write"


def _prepare_sqlite(engine: AsyncEngine) -> None:
    """Give every SQLite connection its pragmas, and let us say when a transaction begins and of what kind."""

    @event.listens_for(engine.sync_engine, "connect")
    def set_pragmas(connection: Any, record: Any) -> None:
        del record
        # the driver's own habit (BEGIN before the first write) makes a read turn into a write in mid-transaction,
        # which SQLite refuses at once, busy_timeout or not, when another process wrote in between
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA synchronous=NORMAL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # a single SELECT sees one state of the store without BEGIN, and every statement is a hop to another thread
        if connection.get_execution_options().get(_WRITE):
            connection.exec_driver_sql("BEGIN IMMEDIATE")


async def _use_wal(engine: AsyncEngine) -> None:
    """Switch a SQLite file to the write-ahead log; the mode stays in the file.

    The switch needs the file for itself and does not honour busy_timeout, so several processes that start at once
    have to try again.
    """
    last: sqlite3.OperationalError | None = None
    for _ in range(200):
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            try:
                # below SQLAlchemy, since the mode cannot change inside a transaction
                await raw.driver_connection.execute_fetchall("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
                last = error
        await asyncio.sleep(0.05)
    raise Unavailable(f"the store {engine.url.database} stays locked by another process", code="store.locked") from last


class Database:
    """One store, as a process sees it.

    Attributes:
        engine: The SQLAlchemy engine; for everything but tests `read` and `write` are enough.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self._writers = engine.execution_options(**{_WRITE: True})
        self._lock = asyncio.Lock()

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is an SQLite file."""
        return self.engine.dialect.name == "sqlite"

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection for reading; each statement sees one state of the store."""
        async with self.engine.connect() as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that may write; committed at its end, rolled back on an error.

        Writers of one process queue here instead of polling for SQLite's only write lock.
        """
        async with self._lock, self._writers.connect() as connection, connection.begin():
            yield connection

    async def close(self) -> None:
        """Close all connections."""
        await self.engine.dispose()


async def open_database(url: str) -> Database:
    """Open a store and bring its tables to the present version.

    Args:
        url: SQLAlchemy URL with an async driver, e.g. `sqlite+aiosqlite:////data/everstep.db`.

    Returns:
        The store; the caller closes it.

    Raises:
        Unavailable: `store.locked` if another process keeps the file locked, `store.newer` if a newer engine made it.
    """
    parsed = make_url(url)
    engine = create_async_engine(parsed)
    database = Database(engine)
    try:
        if database.is_sqlite:
            if parsed.database and parsed.database != ":memory:":
                await asyncio.to_thread(Path(parsed.database).parent.mkdir, parents=True, exist_ok=True)
            _prepare_sqlite(engine)
            await _use_wal(engine)
        await bring_to_head(engine, engine.execution_options(**{_WRITE: True}))
    except BaseException:
        await engine.dispose()
        raise
    return database


async def migrate(url: str) -> None:
    """Bring the tables of a store to the present version; milliseconds when they are there already.

    Raises:
        Unavailable: As `open_database`.
    """
    database = await open_database(url)
    await database.close()
