"""Real servers on loopback for the tests of adapters: an ASGI app under uvicorn, or bytes as they are."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from typing import Any

import uvicorn

from engine.core.contracts.activities import CallContext, ChatParams
from engine.settings import BackendConfig

CONTEXT = CallContext(tenant="default", execution_id="e1", path="main.0", key="e1/main.0", attempt=1)


class _QuietServer(uvicorn.Server):
    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        return nullcontext()

    async def main_loop(self) -> None:
        # the original sleeps a tenth of a second at a time, which a suite with a server per test would feel
        await self.on_tick(0)
        while not self.should_exit:  # noqa: ASYNC110 - uvicorn tells it by this attribute only
            await asyncio.sleep(0.005)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        for task in list(self.server_state.tasks):
            task.cancel()
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """Serve an ASGI app; yields `http://127.0.0.1:PORT`."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=1)
        server = _QuietServer(config)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:  # noqa: ASYNC110 - uvicorn tells it by this attribute only
            await asyncio.sleep(0.002)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@asynccontextmanager
async def raw_server(*answers: bytes, drop: bool = False) -> AsyncIterator[str]:
    """Answer each request with the given bytes, then close the connection; `drop` resets it instead."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            if length:
                await reader.readexactly(int(length[0].split(b":")[1]))
            for answer in answers:
                writer.write(answer)
                await writer.drain()
            if drop:
                writer.transport.abort()
            writer.close()
            await writer.wait_closed()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


Handler = Callable[[dict[str, Any], bytes], Awaitable[tuple[int, dict[str, str], bytes]]]


def simple_app(handler: Handler) -> Any:
    """Return an ASGI app of one function: (scope, body) -> (status, headers, body)."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        status, headers, answer = await handler(scope, body)
        pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": answer})

    return app


def header(scope: dict[str, Any], name: str) -> str:
    """Return a request header, or an empty text."""
    return next((value.decode() for key, value in scope["headers"] if key.decode() == name), "")


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """Yield a port on which nobody listens, and on which nobody else can for the time being."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def chat_params(text: str = "hello", **changes: Any) -> ChatParams:
    """Return the parameters of a small chat call."""
    values: dict[str, Any] = {
        "context": CONTEXT,
        "messages": [{"role": "user", "content": text}],
        "model": "m",
        "timeout_s": 10.0,
    }
    return ChatParams(**{**values, **changes})


def config(url: str, **changes: Any) -> BackendConfig:
    """Return the configuration of a backend at a server of this module."""
    return BackendConfig(base_url=f"{url}/v1", **changes)
