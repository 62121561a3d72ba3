"""Sessions of a worker with MCP servers: one each, opened when it is needed, opened anew when it ended, closed idle."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from engine.core.errors import ToolError
from engine.settings import HttpConfig, McpConfig

if TYPE_CHECKING:
    from engine.control.mcp.connecting import Connection
    from engine.control.mcp.definitions import Listing

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 30.0
STEADY_S = 30.0
"""A session that lived so long has not failed at once, and the next one is opened without a pause."""

log = structlog.get_logger("everstep.mcp")


class McpSessions:
    """The sessions of a worker."""

    def __init__(
        self,
        servers: Mapping[str, McpConfig],
        http: HttpConfig,
        *,
        folder: Path,
        listed: Callable[[str, McpConfig, Listing], None],
    ) -> None:
        """Open none yet.

        Args:
            servers: How the operator registered them, by name.
            http: Which private addresses may be reached.
            folder: The folder of everstep.toml.
            listed: Told what a server has whenever a session was opened or that has changed.
        """
        self._servers = {name: _Server(name, config, http, folder, listed) for name, config in servers.items()}

    @asynccontextmanager
    async def session(self, name: str) -> AsyncIterator[Connection]:
        """Lend the session with a server for one call.

        Raises:
            KeyError: There is no such server.
            ToolError: `tool.unreachable`, `tool.credentials` or `tool.address_refused`; nothing was called.
        """
        server = self._servers[name]
        server.calls += 1
        try:
            yield await server.connection()
        finally:
            server.calls -= 1
            server.rest()

    def names(self) -> list[str]:
        """Return the names of the servers."""
        return sorted(self._servers)

    def end(self, name: str, connection: Connection) -> None:
        """Use a session no more, because its server has forgotten it."""
        self._servers[name].end(connection)

    async def aclose(self) -> None:
        """End all sessions, and the programs that were started for them."""
        await asyncio.gather(*(server.aclose() for server in self._servers.values()))


class _Server:
    """One server and its present session, which a task of its own opens and closes."""

    def __init__(
        self,
        name: str,
        config: McpConfig,
        http: HttpConfig,
        folder: Path,
        listed: Callable[[str, McpConfig, Listing], None],
    ) -> None:
        self.calls = 0
        self._name = name
        self._config = config
        self._http = http
        self._folder = folder
        self._listed = listed
        self._life: _Life | None = None
        self._old: set[asyncio.Task[None]] = set()
        self._failed = 0
        self._not_before = 0.0
        self._idle: asyncio.TimerHandle | None = None

    async def connection(self) -> Connection:
        """Return the open session, or open one.

        Raises:
            ToolError: It cannot be opened, or failed just now.
        """
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._life is None or self._life.over:
            wait_s = self._not_before - time.monotonic()
            if wait_s > 0:
                raise ToolError(
                    f"the MCP server '{self._name}' failed {self._failed} times in a row; it is tried again soon",
                    code="tool.unreachable",
                    retryable=True,
                    details={"retry_after_s": round(wait_s, 3)},
                )
            self._life = _Life()
            # a context of its own, since it serves other calls than the one that happens to open it
            context = contextvars.Context()
            task = asyncio.create_task(self._live(self._life), name=f"mcp-{self._name}", context=context)
            self._old.add(task)
            task.add_done_callback(self._old.discard)
        # shielded: who gives up waiting must not take the session from the others
        return await asyncio.shield(self._life.opened)

    async def _live(self, life: _Life) -> None:
        """Open a session, keep it until it is over, and close it: all in one task, as the SDK wants it."""
        # the SDK takes 0.3 s to import, which only those pay that call such a server
        from engine.control.guard import AddressGuard
        from engine.control.mcp.connecting import connect_server
        from engine.control.mcp.failing import flat

        began = time.monotonic()
        try:
            async with connect_server(
                self._name,
                self._config,
                folder=self._folder,
                guard=AddressGuard(self._http),
                on_changed=life.changed.set,
            ) as connection:
                life.connection = connection
                life.opened.set_result(connection)
                looking = asyncio.create_task(self._look(connection, life), name=f"mcp-list-{self._name}")
                try:
                    await self._last(connection, life)
                finally:
                    looking.cancel()
                    await asyncio.gather(looking, return_exceptions=True)
        except ToolError as error:
            if not life.opened.done():
                self._count_failure(began)
                life.opened.set_exception(error)
                # nobody may be waiting any more
                life.opened.exception()
            else:
                self._count_failure(began)
                log.warning("mcp session broke", server=self._name, reason=error.message)
        except asyncio.CancelledError:
            life.opened.cancel()
            raise
        except BaseException as error:
            self._count_failure(began)
            if not life.opened.done():
                life.opened.set_exception(error)
                life.opened.exception()
            else:
                reasons = ", ".join(type(item).__name__ for item in flat(error))
                log.warning("mcp session broke", server=self._name, reason=reasons)
        finally:
            life.over = True

    async def _last(self, connection: Connection, life: _Life) -> None:
        """Return when the session is over: by its server, or by us when nobody calls any more."""
        began = time.monotonic()
        ended = asyncio.create_task(connection.failures.over.wait())
        closing = asyncio.create_task(life.closing.wait())
        try:
            await asyncio.wait({ended, closing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            closing.cancel()
        life.over = True
        if connection.failures.over.is_set() and not life.closing.is_set():
            self._count_failure(began)
            log.warning("mcp server is gone", server=self._name, reason=connection.mask.text(connection.failures.ended))
        else:
            self._failed = 0

    async def _look(self, connection: Connection, life: _Life) -> None:
        """Tell what the server has, now and when it says that this has changed."""
        from engine.control.mcp.connecting import list_server

        while True:
            life.changed.clear()
            try:
                self._listed(self._name, self._config, await list_server(connection))
            except ToolError as error:
                log.warning("mcp definitions cannot be had", server=self._name, reason=error.message)
            await life.changed.wait()

    def _count_failure(self, began: float) -> None:
        self._failed = 1 if time.monotonic() - began > STEADY_S else self._failed + 1
        # the first time at once: a server that crashed in a call may well serve the next one
        pause_s = 0.0 if self._failed == 1 else min(FIRST_PAUSE_S * 2 ** (self._failed - 2), MAX_PAUSE_S)
        self._not_before = time.monotonic() + pause_s

    def rest(self) -> None:
        """End the session if nobody calls for a while."""
        if self.calls == 0 and self._life is not None and not self._life.over:
            self._idle = asyncio.get_running_loop().call_later(self._config.idle_s, self._life.close)

    def end(self, connection: Connection) -> None:
        """End the session, unless another has taken its place."""
        if self._life is not None and self._life.connection is connection:
            self._life.close()

    async def aclose(self) -> None:
        """End the session and wait until its program has ended."""
        if self._idle is not None:
            self._idle.cancel()
        if self._life is not None:
            self._life.close()
            if not self._life.opened.done():
                for task in self._old:
                    task.cancel()
        await asyncio.gather(*self._old, return_exceptions=True)


class _Life:
    """A session from its opening to its end."""

    def __init__(self) -> None:
        self.connection: Connection | None = None
        self.opened: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self.closing = asyncio.Event()
        self.changed = asyncio.Event()
        self.over = False

    def close(self) -> None:
        """End it; no further call is made in it."""
        self.over = True
        self.closing.set()
