"""Messages between machines that share a PostgreSQL store: LISTEN and NOTIFY on a connection of their own."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections import deque
from typing import Any

import asyncpg
import structlog

from engine.broker.transport import Heard, Role, Sent

MOST_BYTES = 7_900
"""PostgreSQL takes less than 8,000 bytes."""
MOST_WAITING = 256
"""Messages that wait for the server; beyond it senders are told to come again."""
TOGETHER = 64
"""Messages of one transaction: each commit with a NOTIFY takes a lock that the whole server shares."""
RETRY_S = 1.0
CONNECT_S = 10.0

log = structlog.get_logger(__name__)


class PostgresTransport:
    """Satisfies `Transport`; it connects again when the server was away, and loses what came meanwhile.

    Args:
        dsn: `postgresql://…`.
        role: Who this process is.
    """

    most_bytes = MOST_BYTES

    def __init__(self, dsn: str, role: Role) -> None:
        self.address = ""
        self._dsn = dsn
        self._role = role
        self._heard: Heard | None = None
        self._waiting: deque[tuple[str, str]] = deque()
        self._there = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def open(self, heard: Heard) -> None:
        """Connect and listen.

        Raises:
            OSError: The server cannot be reached.
        """
        self._heard = heard
        address = f"everstep_{self._role}_{uuid.uuid4().hex[:12]}"
        connection = await self._connect(address)
        self.address = address
        self._task = asyncio.create_task(self._run(connection), name="token-notify")

    async def _connect(self, address: str) -> Any:
        assert self._heard is not None
        try:
            connection = await asyncpg.connect(self._dsn, timeout=CONNECT_S)
            for channel in (address, _channel(self._role)):
                await connection.add_listener(channel, self._take)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            raise OSError(f"PostgreSQL does not take part: {error}") from error
        return connection

    def _take(self, connection: Any, pid: int, channel: str, payload: object) -> None:
        del connection, pid, channel
        if self._heard is not None:
            self._heard(str(payload).encode())

    def send(self, address: str, message: bytes) -> Sent:
        """Hand a message to the connection, which sends it soon."""
        if self._task is None:
            return Sent.GONE
        if len(self._waiting) >= MOST_WAITING:
            return Sent.FULL
        self._waiting.append((address, message.decode()))
        self._there.set()
        return Sent.YES

    def send_all(self, message: bytes) -> None:
        """Send to all processes of the other role."""
        self.send(_channel(self._role.other), message)

    async def _run(self, connection: Any) -> None:
        while True:
            try:
                await self._send_waiting(connection)
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                log.warning("PostgreSQL is away: the texts of model calls are not streamed", error=str(error))
            finally:
                # it may be gone already, which is what this is about
                with contextlib.suppress(asyncpg.InterfaceError, OSError):
                    connection.terminate()
            connection = await self._connect_again()

    async def _connect_again(self) -> Any:
        while True:
            await asyncio.sleep(RETRY_S)
            with contextlib.suppress(OSError):
                return await self._connect(self.address)

    async def _send_waiting(self, connection: Any) -> None:
        lost = asyncio.Event()

        def told_of_loss(closed: object) -> None:
            del closed
            lost.set()
            self._there.set()

        connection.add_termination_listener(told_of_loss)
        while not lost.is_set():
            await self._there.wait()
            self._there.clear()
            while self._waiting:
                # messages to a process that is gone reach nobody and cost little: wants end by their time
                some = [self._waiting.popleft() for _ in range(min(TOGETHER, len(self._waiting)))]
                await connection.execute(
                    "SELECT pg_notify(channel, message) FROM unnest($1::text[], $2::text[]) AS t(channel, message)",
                    [channel for channel, _ in some],
                    [message for _, message in some],
                )

    async def close(self) -> None:
        """Close the connection; what still waits is not sent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.address = ""


def _channel(role: Role) -> str:
    return f"everstep_{role}s"
