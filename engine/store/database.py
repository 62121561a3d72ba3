"""Opens the SQL store: engines with the right pragmas, short reads and serialised write transactions."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from engine.core.errors import Unavailable
from engine.store.migrating import bring_to_head

BUSY_TIMEOUT_MS = 10_000
THREADS = 4
"""Transactions of `Database.run` on SQLite that run at one time; of writes only one does."""

_WRITE = "everstep_write"

T = TypeVar("T")


def _prepare_sqlite(engine: Engine) -> None:
    """Give every SQLite connection its pragmas, and let us say when a transaction begins and of what kind."""

    @event.listens_for(engine, "connect")
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

    @event.listens_for(engine, "begin")
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
        engine: The SQLAlchemy engine; for everything but tests `read`, `write` and `run` are enough.
    """

    def __init__(self, engine: AsyncEngine, direct: Engine | None = None) -> None:
        """Wrap the engines.

        Args:
            engine: The async one.
            direct: One without the async driver for the same SQLite file, for `run`; None = there is none.
        """
        self.engine = engine
        self._writers = engine.execution_options(**{_WRITE: True})
        self._lock = asyncio.Lock()
        self._direct = direct
        self._direct_writers = direct.execution_options(**{_WRITE: True}) if direct is not None else None
        self._threads = ThreadPoolExecutor(THREADS, "store") if direct is not None else None

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

    async def run(self, work: Callable[[Connection], T], *, write: bool = False) -> T:
        """Run a whole transaction as one ordinary function; for what the worker does all the time.

        With SQLite this is one hop to a thread, where the async driver makes three or four for every statement: a third
        of the CPU time.

        Args:
            work: Does it all; must not keep the connection.
            write: Whether it writes; committed at its end, rolled back on an error.

        Returns:
            What `work` returned.
        """
        engine = self._direct_writers if write else self._direct
        if engine is None:
            async with self.write() if write else self.read() as connection:
                return await connection.run_sync(work)

        def transact() -> T:
            with engine.connect() as connection, connection.begin():
                return work(connection)

        loop = asyncio.get_running_loop()
        if not write:
            return await loop.run_in_executor(self._threads, transact)
        async with self._lock:
            return await loop.run_in_executor(self._threads, transact)

    async def close(self) -> None:
        """Close all connections."""
        if self._direct is not None and self._threads is not None:
            await asyncio.to_thread(self._threads.shutdown)
            self._direct.dispose()
        await self.engine.dispose()


async def open_database(url: str) -> Database:
    """Open a store and bring its tables to the present version.

    Args:
        url: SQLAlchemy URL with an async driver, e.g. `sqlite+aiosqlite:////data/everstep.db`.

    Returns:
        The store; the caller closes it.

    Raises:
        Unavailable: `store.locked` if another process keeps the file locked, `store.newer` if a newer engine made it,
            `store.unreadable` if its folder cannot be made or it is no database.
    """
    parsed = make_url(url)
    engine = create_async_engine(parsed)
    in_file = engine.dialect.name == "sqlite" and parsed.database not in (None, "", ":memory:")
    # connects when it is first used, so after the tables are there
    direct = create_engine(parsed.set(drivername="sqlite")) if in_file else None
    database = Database(engine, direct)
    try:
        if database.is_sqlite:
            _prepare_sqlite(engine.sync_engine)
            if direct is not None:
                _prepare_sqlite(direct)
                await asyncio.to_thread(Path(str(parsed.database)).parent.mkdir, parents=True, exist_ok=True)
            await _use_wal(engine)
        await bring_to_head(engine, engine.execution_options(**{_WRITE: True}))
    except (OSError, sqlite3.DatabaseError, DatabaseError) as error:
        await database.close()
        raise Unavailable(
            f"the store {parsed.database} cannot be used: {getattr(error, 'orig', None) or error}",
            code="store.unreadable",
            hint="look at EVERSTEP_DATA_DIR and EVERSTEP_DATABASE_URL; a damaged file must be put aside by hand",
        ) from error
    except BaseException:
        await database.close()
        raise
    return database


async def migrate(url: str) -> None:
    """Bring the tables of a store to the present version; milliseconds when they are there already.

    Raises:
        Unavailable: As `open_database`.
    """
    database = await open_database(url)
    await database.close()
