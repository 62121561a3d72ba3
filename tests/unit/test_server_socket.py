"""The socket that the API listens on."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from engine.edge.server import bind
from engine.settings import Settings


async def test_answers_are_sent_at_once_and_wait_for_no_acknowledgement(tmp_path: Path) -> None:
    """With Nagle's algorithm the second part of a small answer waits for the acknowledgement of the first: 40 ms."""
    no_delay: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            inner = transport.get_extra_info("socket")
            no_delay.set_result(inner.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            transport.close()

    listener = bind(Settings(data_dir=tmp_path, port=0))
    server = await asyncio.get_running_loop().create_server(Protocol, sock=listener)
    async with server:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        assert await no_delay != 0
        await reader.read()
        writer.close()
        await writer.wait_closed()
