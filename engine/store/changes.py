"""Tells waiting readers that some process wrote to the store: SQLite is looked at every 25 ms, PostgreSQL tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from engine.store import postgres
from engine.store.database import Database

POLL_S = 0.025


class Subscription:
    """One reader's place in the watch; made by `Changes.subscribe`."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.closed = False

    def wake(self) -> None:
        """Let the reader look again."""
        self._event.set()

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a write since the last call.

        Args:
            timeout_s: Longest wait in seconds.

        Returns:
            True after a write or when the watch is closed, False after the time.
        """
        if self.closed:
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
            self._event.clear()
            return True
        return False


class Changes:
    """Watches the store for writes of any process.

    SQLite counts commits of other connections (`PRAGMA data_version`), which one connection of our own reads.
    PostgreSQL notifies one connection of ours of what `Database` wrote anywhere.

    Args:
        database: The open store.
        poll_s: Seconds between two looks; also the shortest time between two wakings.
    """

    def __init__(self, database: Database, poll_s: float = POLL_S) -> None:
        self._database = database
        self._poll_s = poll_s
        self._readers: set[Subscription] = set()
        self._watch: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self._closed = False

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[Subscription]:
        """Take part in the watch for as long as the context is open."""
        reader = Subscription()
        reader.closed = self._closed
        self._readers.add(reader)
        if self._watch is None and not self._closed:
            self._stop = asyncio.Event()
            self._watch = asyncio.create_task(self._look(self._stop), name="store-changes")
        try:
            yield reader
        finally:
            self._readers.discard(reader)
            if not self._readers:
                # told, not cancelled: a cancel in the middle of a look would leave the connection in the air
                self._let_end()

    @property
    def closed(self) -> bool:
        """Whether the process is going down, so that readers should end."""
        return self._closed

    async def close(self) -> None:
        """Wake all readers for the last time and stop looking; afterwards no connection is held."""
        self._closed = True
        for reader in self._readers:
            reader.closed = True
            reader.wake()
        self._let_end()
        # those of readers that have left may still look, and hold the connection
        for watch in list(self._ending):
            await watch

    def _let_end(self) -> None:
        watch, self._watch = self._watch, None
        self._stop.set()
        if watch is not None:
            self._ending.add(watch)
            watch.add_done_callback(self._ending.discard)

    async def _look(self, stop: asyncio.Event) -> None:
        if not self._database.is_sqlite:
            await postgres.listen(self._database.engine, stop, self._wake, pause_s=self._poll_s)
            return
        async with self._database.engine.connect() as connection:
            raw = await connection.get_raw_connection()
            driver = raw.driver_connection
            seen = -1
            while not stop.is_set() and driver is not None:
                # below SQLAlchemy, since an open transaction would freeze the counter
                ((version,),) = await driver.execute_fetchall("PRAGMA data_version")
                if version != seen:
                    seen = version
                    self._wake()
                with suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), self._poll_s)

    def _wake(self) -> None:
        for reader in self._readers:
            reader.wake()
