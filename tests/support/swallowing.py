"""A line to an HTTP server that swallows answers: what was asked for is done, and whoever asked does not hear of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class SwallowingLine:
    """Passes on what clients and server say, but for answers that it was told to swallow.

    Attributes:
        port: Where clients connect.
        swallows: How many answers are still to be swallowed; the connection ends in their place.
        connections: How many connections there were.
    """

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.swallows = 0
        self.connections = 0
        self._server_port = server_port
        self._ends: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[SwallowingLine]:
        """Listen for the length of the block."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for end in self._ends:
                end.close()
            await asyncio.gather(*self._tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        upstream, upward = await asyncio.open_connection("127.0.0.1", self._server_port)
        ends = {writer, upward}
        self._ends |= ends
        both = [self._pass_on(reader, upward, swallows=False), self._pass_on(upstream, writer, swallows=True)]
        _, left = await asyncio.wait([asyncio.create_task(one) for one in both], return_when=asyncio.FIRST_COMPLETED)
        for end in ends:
            end.close()
        await asyncio.gather(*left)
        self._ends -= ends
        self._tasks.discard(task)

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, swallows: bool) -> None:
        with contextlib.suppress(ConnectionError):
            while said := await source.read(65_536):
                if swallows and self.swallows:
                    self.swallows -= 1
                    return
                target.write(said)
                await target.drain()
