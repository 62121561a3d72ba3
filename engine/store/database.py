"""Opens the SQL store, SQLite or PostgreSQL: short reads, and write transactions that others are told of."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from engine.core.errors import EngineError, InvalidInput, Unavailable
from engine.store import postgres
from engine.store import schema_blobs as schema_blobs  # its tables belong to the store too
from engine.store import schema_conversations as schema_conversations  # and its
from engine.store import schema_docs as schema_docs  # and its
from engine.store import schema_doors as schema_doors  # its tables belong to the store too
from engine.store import schema_files as schema_files  # and its
from engine.store import schema_kept as schema_kept  # and its
from engine.store import schema_limits as schema_limits  # and its
from engine.store import schema_models as schema_models  # and its
from engine.store import schema_resources as schema_resources  # and its
from engine.store import schema_retries as schema_retries  # and its
from engine.store import schema_secrets as schema_secrets  # and its
from engine.store import schema_sessions as schema_sessions  # and its
from engine.store import schema_spending as schema_spending  # and its
from engine.store import schema_summaries as schema_summaries  # and its
from engine.store.full import explain_sqlite
from engine.store.hints import HintingCompiler
from engine.store.migrating import bring_to_head, current_revision

BUSY_TIMEOUT_MS = 10_000
THREADS = 4
"""Transactions of `Database.run` on SQLite that run at one time; of writes only one does."""

TRIES = 3
"""How often `Database.run` begins a transaction that PostgreSQL lost before its end."""

UNREADABLE_HINT = "look at EVERSTEP_DATA_DIR and EVERSTEP_DATABASE_URL; a damaged file must be put aside by hand"

_WRITE = "everstep_write"

T = TypeVar("T")


def _prepare_sqlite(engine: Engine) -> None:
    """Give every SQLite connection its pragmas, and let us say when a transaction begins and of what kind."""
    engine.dialect.statement_compiler = HintingCompiler

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
        # what a row held before it was changed or purged is overwritten, not only forgotten
        cursor.execute("PRAGMA secure_delete=ON")
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
        trouble: Why the last write of this process found no space or a failing disk; None = it did not.
    """

    def __init__(self, engine: AsyncEngine, direct: Engine | None = None) -> None:
        """Wrap the engines.

        Args:
            engine: The async one.
            direct: One without the async driver for the same SQLite file, for `run`; None = there is none.
        """
        self.engine = engine
        self.trouble: Unavailable | None = None
        self._writers = engine.execution_options(**{_WRITE: True})
        # each statement of a read stands for itself on SQLite, so here too: that saves two messages
        self._readers = engine if self.is_sqlite else engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lock = asyncio.Lock()
        self._direct = direct
        self._direct_writers = direct.execution_options(**{_WRITE: True}) if direct is not None else None
        self._threads = ThreadPoolExecutor(THREADS, "store") if direct is not None else None

    @property
    def is_sqlite(self) -> bool:
        """Whether the store is an SQLite file."""
        return self.engine.dialect.name == "sqlite"

    @property
    def place(self) -> str:
        """Which store it is, for people; without a password."""
        return _place_of(self.engine.url)

    @contextmanager
    def _explained(self, *, write: bool = False) -> Iterator[None]:
        """Turn errors of driver and server into ours; for SQLite most stay what they are."""
        try:
            yield
        except Exception as error:
            if isinstance(error, EngineError):
                raise
            if self.is_sqlite:
                meaning: EngineError | None = explain_sqlite(error, self.place)
            else:
                meaning = postgres.explain(error, self.engine.url)
            if isinstance(meaning, Unavailable) and meaning.code in ("store.full", "store.disk"):
                self.trouble = meaning
            if meaning is None:
                raise
            raise meaning from error
        if write:
            self.trouble = None

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection for reading; each statement sees one state of the store.

        Raises:
            Unavailable: `store.unreachable`, `store.busy` if PostgreSQL does not answer; both may be tried again. The
                first is also said when PostgreSQL ends a connection at the moment of its use: only `run` repeats that.
        """
        with self._explained():
            async with self._readers.connect() as connection, connection.begin():
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """Open a transaction that may write; committed at its end, rolled back on an error.

        Writers of one process queue here instead of polling for SQLite's only write lock. On PostgreSQL they run side
        by side: whoever writes what it has read calls `engine.store.locks` first.

        Raises:
            Unavailable: `store.unreachable`, `store.busy` if PostgreSQL does not answer; `store.full`, `store.disk` if
                nothing can be written.
        """
        with self._explained(write=True):
            turn = self._lock if self.is_sqlite else nullcontext()
            async with turn, self._writers.connect() as connection, connection.begin():
                yield connection
                if not self.is_sqlite:
                    await connection.execute(postgres.TELL)

    async def run(self, work: Callable[[Connection], T], *, write: bool = False) -> T:
        """Run a whole transaction as one ordinary function; for what the worker does all the time.

        With SQLite this is one hop to a thread, where the async driver makes three or four for every statement: a third
        of the CPU time. With PostgreSQL a transaction that was lost before its end runs again.

        Args:
            work: Does it all; must not keep the connection, and nothing of a try that failed.
            write: Whether it writes; committed at its end, rolled back on an error.

        Returns:
            What `work` returned.

        Raises:
            Unavailable: `store.unreachable`, `store.busy` if PostgreSQL does not answer; `store.full`, `store.disk` if
                nothing can be written.
        """
        engine = self._direct_writers if write else self._direct
        if engine is None:
            with self._explained(write=write):
                return await self._repeat(work, write)

        def transact() -> T:
            with engine.connect() as connection, connection.begin():
                return work(connection)

        loop = asyncio.get_running_loop()
        with self._explained(write=write):
            if not write:
                return await loop.run_in_executor(self._threads, transact)
            async with self._lock:
                return await loop.run_in_executor(self._threads, transact)

    async def _repeat(self, work: Callable[[Connection], T], write: bool) -> T:
        transaction = self.write if write else self.read
        for tries in range(1, TRIES + 1):
            over = False
            try:
                async with transaction() as connection:
                    result = await connection.run_sync(work)
                    over = True
                return result
            except Exception as error:
                # a connection that is cut while it commits leaves open whether it did: that is for the caller to settle
                if over or tries == TRIES or self.is_sqlite or not postgres.is_cut(error):
                    raise
        raise AssertionError("the last try returns or raises")

    async def close(self) -> None:
        """Close all connections."""
        if self._direct is not None and self._threads is not None:
            await asyncio.to_thread(self._threads.shutdown)
            self._direct.dispose()
        await self.engine.dispose()


def _parse(url: str) -> URL:
    """Read the URL of a store, in any of the forms that people have."""
    try:
        parsed = make_url(url)
        _ = parsed.port
    except (ArgumentError, ValueError):
        # the message must not show the URL: there may be a password in it
        parsed = None
    if parsed is not None and parsed.drivername in ("sqlite", "sqlite+aiosqlite"):
        return parsed.set(drivername="sqlite+aiosqlite")
    if parsed is not None and parsed.drivername in postgres.NAMES:
        return parsed
    raise InvalidInput(
        "EVERSTEP_DATABASE_URL is not the URL of a store" + (f": {parsed.drivername}" if parsed is not None else ""),
        code="store.bad_url",
        hint="postgresql://USER:PASSWORD@HOST:5432/DATABASE or sqlite:////FOLDER/FILE; %40 stands for @ in a password",
    )


async def open_database(url: str) -> Database:
    """Open a store and bring its tables to the present version.

    Args:
        url: `sqlite:////data/everstep.db` or `postgresql://user:password@host/database`; SQLAlchemy's forms with an
            async driver (`sqlite+aiosqlite:`, `postgresql+asyncpg:`) mean the same.

    Returns:
        The store; the caller closes it.

    Raises:
        InvalidInput: `store.bad_url` if it is no such URL.
        Unavailable: `store.locked` if another process keeps the file locked, `store.newer` if a newer engine made it,
            `store.unreadable` if its folder cannot be made or it is no database; of PostgreSQL `store.unreachable`,
            `store.refused`, `store.missing`, `store.read_only`.
    """
    parsed = _parse(url)
    return await (_open_sqlite(parsed) if parsed.drivername.startswith("sqlite") else _open_postgres(parsed))


async def _open_postgres(url: URL) -> Database:
    database = Database(postgres.open_engine(url))
    try:
        with database._explained():
            await bring_to_head(database.engine, database.engine)
    except BaseException:
        await database.close()
        raise
    return database


def _make_file(path: Path) -> None:
    """Make a SQLite file that only its owner can read, since prompts stand in it; its log gets the same mode."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not str(path).startswith("file:"):
        os.close(os.open(path, os.O_RDONLY | os.O_CREAT, 0o600))


async def _open_sqlite(url: URL) -> Database:
    engine = create_async_engine(url)
    in_file = url.database not in (None, "", ":memory:")
    # connects when it is first used, so after the tables are there
    direct = create_engine(url.set(drivername="sqlite")) if in_file else None
    database = Database(engine, direct)
    try:
        _prepare_sqlite(engine.sync_engine)
        if direct is not None:
            _prepare_sqlite(direct)
            await asyncio.to_thread(_make_file, Path(str(url.database)))
        await _use_wal(engine)
        await bring_to_head(engine, engine.execution_options(**{_WRITE: True}))
    except (OSError, sqlite3.DatabaseError, DatabaseError) as error:
        await database.close()
        raise Unavailable(
            f"the store {url.database} cannot be used: {getattr(error, 'orig', None) or error}",
            code="store.unreadable",
            hint=UNREADABLE_HINT,
        ) from error
    except BaseException:
        await database.close()
        raise
    return database


def place_of(url: str) -> str:
    """Say which store a URL names, for people, as `Database.place` does.

    Raises:
        InvalidInput: `store.bad_url`.
    """
    return _place_of(_parse(url))


def _place_of(url: URL) -> str:
    is_sqlite = url.get_backend_name() == "sqlite"
    return f"SQLite {url.database}" if is_sqlite else f"PostgreSQL {postgres.place_of(url)}"


async def look_at(url: str) -> tuple[str, str]:
    """Say which store a URL names and at which revision its tables are, and change nothing.

    Returns:
        Its place for people, and the revision; empty = there are no tables yet.

    Raises:
        InvalidInput: `store.bad_url`.
        Unavailable: As `open_database`.
    """
    parsed = _parse(url)
    if parsed.drivername.startswith("sqlite"):
        database = Database(create_async_engine(parsed))
        if not await asyncio.to_thread(Path(str(parsed.database)).exists):
            return database.place, ""
    else:
        database = Database(postgres.open_engine(parsed))
    try:
        async with database.read() as connection:
            return database.place, await connection.run_sync(current_revision)
    except (sqlite3.DatabaseError, DatabaseError) as error:
        reason = f"{database.place} cannot be used: {getattr(error, 'orig', None) or error}"
        raise Unavailable(reason, code="store.unreadable", hint=UNREADABLE_HINT) from error
    finally:
        await database.close()


async def migrate(url: str) -> None:
    """Bring the tables of a store to the present version; milliseconds when they are there already.

    Raises:
        Unavailable: As `open_database`.
    """
    database = await open_database(url)
    await database.close()
